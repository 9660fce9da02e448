"""The catalog: one database, opened to write or to read."""

from contextlib import closing
from types import TracebackType
from typing import Self

import msgspec
from sqlalchemy import URL, false, func, select

from holdfast.catalog.connection import LOCK_TIMEOUT_S, Access, Database, file_of, parse_address
from holdfast.catalog.point_table import PointTable
from holdfast.catalog.protected import ProtectedTable
from holdfast.catalog.schema import SCHEMA_VERSION, restore_points, session_events, sessions, tasks
from holdfast.catalog.session_table import SessionTable
from holdfast.catalog.upgrade import is_current, upgrade, version_of
from holdfast.clock import Clock
from holdfast.errors import CatalogUnavailable


class CatalogSummary(msgspec.Struct, frozen=True, kw_only=True):
    """How a catalog stands."""

    address: str
    """Without the password."""
    engine: str
    """``sqlite`` or ``postgresql``."""
    schema_version: str
    sessions: int
    tasks: int
    events: int
    points: int
    writable: bool
    """Whether a change would succeed now; the catalog itself may be open for reading only."""
    obstacle: str = ""
    """Why it is not writable."""


class Catalog:
    """An open catalog. Safe for several threads, beside other processes; `close` it at the end."""

    def __init__(self, url: URL, database: Database, clock: Clock) -> None:
        self._url = url
        self._database = database
        self.sessions = SessionTable(database, clock)
        self.points = PointTable(database, clock)
        self.protected = ProtectedTable(database)

    @classmethod
    def open(cls, address: str, clock: Clock, *, lock_timeout_s: float = LOCK_TIMEOUT_S) -> Self:
        """Open the catalog at ``address``, make it if there is none, and upgrade an older one.

        The folder of a SQLite file must be there. Raises `CatalogUnavailable`, or
        `ConfigurationInvalid` for an address that is none.
        """
        url = parse_address(address)
        database = Database(url, Access.CREATE, lock_timeout_s=lock_timeout_s)
        try:
            database.use_write_ahead_log(clock)
            with database.reading() as connection:
                version = version_of(connection)
            if not is_current(version, database.address):
                upgrade(url, lock_timeout_s=lock_timeout_s)
        except BaseException:
            database.close()
            raise
        return cls(url, database, clock)

    @classmethod
    def open_read_only(cls, address: str, clock: Clock, *, lock_timeout_s: float = LOCK_TIMEOUT_S) -> Self:
        """Open the catalog at ``address`` as it is: never made, never upgraded, never changed.

        Raises `CatalogUnavailable` also when there is no catalog yet or when it has an older
        version.
        """
        url = parse_address(address)
        database = Database(url, Access.READ, lock_timeout_s=lock_timeout_s)
        try:
            _check_readable(url, database)
        except BaseException:
            database.close()
            raise
        return cls(url, database, clock)

    def summary(self) -> CatalogSummary:
        """Count what the catalog holds and try whether it can be changed."""
        counted = {
            "sessions": sessions,
            "tasks": tasks,
            "events": session_events,
            "points": restore_points,
        }
        with self._database.reading() as connection:
            version = version_of(connection)
            counts = {
                name: connection.scalar(select(func.count()).select_from(table)) or 0 for name, table in counted.items()
            }
        obstacle = self._obstacle()
        return CatalogSummary(
            address=self._database.address,
            engine=self._database.engine_name,
            schema_version=version or "",
            writable=not obstacle,
            obstacle=obstacle,
            **counts,
        )

    def _obstacle(self) -> str:
        """Return why a change would fail now, or nothing; the one tried touches no row."""
        lock_timeout_s = self._database.lock_timeout_s
        database = Database(self._url, Access.WRITE, lock_timeout_s=lock_timeout_s)
        try:
            with closing(database), database.writing() as connection:
                connection.execute(sessions.update().values(outcome="").where(false()))
        except CatalogUnavailable as error:
            return error.message
        return ""

    def close(self) -> None:
        """Close all connections. Idempotent."""
        self._database.close()

    def __enter__(self) -> Self:
        """Enter a block that closes the catalog at its end."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the catalog."""
        self.close()


def _check_readable(url: URL, database: Database) -> None:
    path = file_of(url)
    version = None
    if path is None or path.exists():
        with database.reading() as connection:
            version = version_of(connection)
    if version is None:
        message = f"there is no catalog at {database.address} yet"
        raise CatalogUnavailable(message, hint="A control worker makes the catalog when it starts.")
    if not is_current(version, database.address):
        message = f"the catalog {database.address} has version {version}, older than {SCHEMA_VERSION}"
        raise CatalogUnavailable(message, hint="A control worker of this version upgrades the catalog when it starts.")
