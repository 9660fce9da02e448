"""The migrations of the catalog and the environment Alembic runs them in."""
