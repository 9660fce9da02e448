"""The version of a database, and the way to the newest one.

All migrations of one upgrade run in a single transaction under a lock of the whole database:
several processes may open a fresh database together, and one that dies halfway leaves the version
it found. There is no way back, so an older program refuses a newer database instead of guessing.
"""

from contextlib import closing
from threading import Lock

from sqlalchemy import URL, Connection, inspect, text

from holdfast.catalog.connection import Access, Database
from holdfast.catalog.rows import NEWER_HINT
from holdfast.catalog.schema import SCHEMA_VERSION, VERSION_TABLE
from holdfast.errors import CatalogUnavailable

MIGRATIONS = "holdfast.catalog:migrations"
"""Package and folder of the migrations, as Alembic spells it."""

_LOCK_KEY = int.from_bytes(b"Holdfast", "big")
"""Of the advisory lock in PostgreSQL; any number no other program uses."""

_one_at_a_time = Lock()
"""Alembic keeps the running migration in variables of its modules."""


def version_of(connection: Connection) -> str | None:
    """Return the version of the database, None when it holds no catalog."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    version: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608 - our constant
    return version


def is_current(version: str | None, address: str) -> bool:
    """Return whether ``version`` needs no upgrade; raise `CatalogUnavailable` if it is too new."""
    if version is not None and version > SCHEMA_VERSION:
        message = f"the catalog {address} has version {version}, newer than {SCHEMA_VERSION}"
        raise CatalogUnavailable(message, hint=NEWER_HINT)
    return version == SCHEMA_VERSION


def upgrade(url: URL, *, lock_timeout_s: float, target: str = "head") -> None:
    """Bring the database to version ``target``; nothing happens when another process was faster."""
    # SQLite changes a table by copying it; with foreign keys on, dropping the old one would empty
    # the tables that refer to it.
    database = Database(url, Access.CREATE, lock_timeout_s=lock_timeout_s, foreign_keys=False)
    with closing(database), _one_at_a_time, database.writing() as connection:
        if database.engine_name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        if is_current(version_of(connection), database.address):
            return
        _migrate(connection, target)
        if database.engine_name == "sqlite":
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
            assert broken is None, f"the upgrade to {target} broke a reference: {broken}"


def _migrate(connection: Connection, target: str) -> None:
    # Late, because reading a catalog needs no Alembic, and the command line should start quickly.
    from alembic import command
    from alembic.config import Config

    configuration = Config()
    configuration.set_main_option("script_location", MIGRATIONS)
    configuration.set_main_option("path_separator", "os")
    configuration.attributes["connection"] = connection
    command.upgrade(configuration, target)
