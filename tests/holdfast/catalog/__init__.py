"""Tests of the catalog, on SQLite and on a PostgreSQL server they start."""
