"""Connections to the catalog's database, and the translation of its errors.

SQLite: write-ahead log, every commit on stable storage, foreign keys on. A writing transaction
takes the write lock at its start, because a reader that becomes a writer halfway is refused without
waiting. PostgreSQL: pooled connections that are tested before use.

Everything foreign that goes wrong here becomes `CatalogUnavailable` with the address, never with
the password. Broken constraints are the exception: they are a defect of ours and stay what they
are.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from threading import Event
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as NoFreeConnection
from sqlalchemy.pool import ConnectionPoolEntry

from holdfast.clock import Clock
from holdfast.errors import CatalogUnavailable, ConfigurationInvalid, ToolMissing

LOCK_TIMEOUT_S = 30.0
"""How long a transaction waits for others before it gives up."""

_SERVER_TIMEOUTS = {
    "connect_timeout": 10,
    "tcp_user_timeout": 30_000,
    "keepalives_idle": 20,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
"""How soon a silent PostgreSQL server is given up; libpq's names, in s, the second one in ms."""
_RETRY_PAUSE_S = 0.02
_BEGIN = "catalog_begin"
_SECRETS = frozenset({"password", "sslpassword"})


_ADDRESS_HINT = "Use `sqlite:////path/of/catalog.sqlite` or `postgresql://user:password@host/database`."


class Access(StrEnum):
    """What a connection may do; the values are SQLite's names for it."""

    CREATE = "rwc"
    WRITE = "rw"
    READ = "ro"


class Database:
    """A pool of connections. Safe to use from several threads; `close` it at the end."""

    def __init__(
        self,
        url: URL,
        access: Access,
        *,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
        foreign_keys: bool = True,
    ) -> None:
        self.address = shown_address(url)
        self.engine_name = url.get_backend_name()
        self.lock_timeout_s = lock_timeout_s
        self._reader: Engine
        self._writer: Engine
        if self.engine_name == "sqlite":
            self._engine = _sqlite_engine(url, access, lock_timeout_s, foreign_keys=foreign_keys)
            self._reader = self._engine
            self._writer = self._engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})
        else:
            self._engine = _postgresql_engine(url)
            self._reader = self._engine.execution_options(postgresql_readonly=True, isolation_level="REPEATABLE READ")
            self._writer = self._reader if access is Access.READ else self._engine

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Enter a transaction that sees one state of the database and changes nothing."""
        with self._translated(), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Enter a transaction that is committed at the end of the block, or undone by an error."""
        with self._translated(), self._writer.begin() as connection:
            if self.engine_name == "postgresql":
                connection.execute(text(f"SET LOCAL lock_timeout = {int(self.lock_timeout_s * 1000)}"))
            yield connection

    def use_write_ahead_log(self, clock: Clock) -> None:
        """Switch a SQLite file to its write-ahead log: readers and a writer work side by side.

        SQLite refuses the switch at once, without its usual waiting, while another process uses the
        file.
        """
        if self.engine_name != "sqlite":
            return
        deadline = clock.monotonic_s() + self.lock_timeout_s
        with self._translated():
            while not self._has_switched(is_last_try=clock.monotonic_s() >= deadline):
                Event().wait(_RETRY_PAUSE_S)

    def _has_switched(self, *, is_last_try: bool) -> bool:
        engine = self._engine.execution_options(**{_BEGIN: None})
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        except DBAPIError as error:
            if is_last_try or "locked" not in str(error.orig):
                raise
            return False
        return True

    def close(self) -> None:
        """Close all connections. Idempotent."""
        self._engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except (DBAPIError, NoFreeConnection) as error:
            raise CatalogUnavailable(f"the catalog {self.address} cannot be used: {_reason(error)}") from error


def parse_address(address: str) -> URL:
    """Return the parts of a catalog's address; raise `ConfigurationInvalid` if it is none."""
    try:
        url = make_url(address)
        backend = url.get_backend_name()
    except (ArgumentError, ValueError):
        message = "the catalog's address is not of the form engine://place"
        # Without the cause, which may quote a piece of the password.
        raise ConfigurationInvalid(message, hint=_ADDRESS_HINT) from None
    if backend in {"postgresql", "postgres"}:
        if find_spec("psycopg") is None:
            message = f"no driver of PostgreSQL is installed for the catalog {shown_address(url)}"
            raise ToolMissing(message, hint="Install Holdfast with its extra `postgres`.")
        return url.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        message = f"the catalog {shown_address(url)} is in an unknown kind of database"
        raise ConfigurationInvalid(message, hint=_ADDRESS_HINT)
    if url.database in {None, "", ":memory:"} or url.query:
        message = f"the catalog {shown_address(url)} is not a plain path of a file"
        raise ConfigurationInvalid(message, hint=_ADDRESS_HINT)
    return url.set(drivername="sqlite")


def shown_address(url: URL) -> str:
    """Return the address as it may be printed: without any password."""
    shown = url.update_query_dict({key: "***" for key in url.query if key.lower() in _SECRETS})
    return shown.render_as_string(hide_password=True)


def insert_into(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Return the insert of the connection's engine; both have the same ``on_conflict`` clauses."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def file_of(url: URL) -> Path | None:
    """Return the absolute path of a SQLite catalog, None for another engine."""
    return Path(str(url.database)).absolute() if url.get_backend_name() == "sqlite" else None


def _sqlite_engine(url: URL, access: Access, lock_timeout_s: float, *, foreign_keys: bool) -> Engine:
    path = quote(str(file_of(url)))
    engine = create_engine(
        URL.create("sqlite", database=f"file:{path}", query={"mode": access.value, "uri": "true"}),
        # Without an isolation level the driver starts no transactions; `begin` below does.
        connect_args={"timeout": lock_timeout_s, "isolation_level": None},
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA foreign_keys={'ON' if foreign_keys else 'OFF'}")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        statement = connection.get_execution_options().get(_BEGIN, "BEGIN")
        if statement is not None:
            connection.exec_driver_sql(statement)

    return engine


def _postgresql_engine(url: URL) -> Engine:
    bounds = {name: value for name, value in _SERVER_TIMEOUTS.items() if name not in url.query}
    return create_engine(url, connect_args=bounds, pool_pre_ping=True, hide_parameters=True)


def _reason(error: Exception) -> str:
    """Return the first line of what the driver said."""
    said = str(getattr(error, "orig", None) or error).strip()
    return said.splitlines()[0].rstrip(".") if said else type(error).__name__
