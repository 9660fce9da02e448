"""One chain file: its records, tables and commits."""
