"""Catalogs of the tests: each test with `address` or `catalog` runs on both engines."""

import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from holdfast.catalog.database import Catalog
from holdfast.catalog.schema import metadata
from tests.holdfast.catalog.postgres import Server, run_statement, running_server
from tests.holdfast.catalog.samples import TickingClock

ENGINES = ("sqlite", pytest.param("postgresql", marks=pytest.mark.tools))

_numbers = count(1)


@pytest.fixture(scope="session")
def postgresql_server(require_tool: Callable[[str], Path]) -> Iterator[Server]:
    """The PostgreSQL server of this session."""
    # Debian keeps the programs of each version in a folder that is on nobody's PATH.
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    programs = require_tool(str(installed[-1]) if installed else "initdb").parent
    with running_server(programs) as server:
        yield server


@pytest.fixture
def sqlite_address(tmp_path: Path) -> str:
    """Where a SQLite catalog may be made."""
    return f"sqlite:///{tmp_path / 'catalog.sqlite'}"


@pytest.fixture
def postgresql_address(postgresql_server: Server) -> Iterator[str]:
    """An empty PostgreSQL database."""
    with postgresql_server.database(f"empty{next(_numbers)}") as address:
        yield address


@pytest.fixture(params=ENGINES)
def address(request: pytest.FixtureRequest) -> str:
    """Where a catalog may be made; once on each engine."""
    found: str = request.getfixturevalue(f"{request.param}_address")
    return found


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty catalog to copy, because migrating takes longer than most tests."""
    path = tmp_path_factory.mktemp("catalog") / "catalog.sqlite"
    Catalog.open(f"sqlite:///{path}", TickingClock()).close()
    return path


@pytest.fixture
def sqlite_emptied(migrated_sqlite: Path, sqlite_address: str, tmp_path: Path) -> str:
    """A SQLite catalog without any sessions."""
    shutil.copy(migrated_sqlite, tmp_path)
    return sqlite_address


@pytest.fixture(scope="session")
def migrated_postgresql(postgresql_server: Server) -> Iterator[str]:
    """A catalog that many tests use one after the other."""
    with postgresql_server.database("migrated") as address:
        Catalog.open(address, TickingClock()).close()
        yield address


@pytest.fixture
def postgresql_emptied(migrated_postgresql: str) -> str:
    """A PostgreSQL catalog without any sessions; emptied, because making one takes longer."""
    tables = ", ".join(table.name for table in metadata.sorted_tables)
    run_statement(migrated_postgresql, f"TRUNCATE {tables}")
    return migrated_postgresql


@pytest.fixture
def clock() -> TickingClock:
    """A clock that a test can foretell."""
    return TickingClock()


@pytest.fixture(params=ENGINES)
def catalog(request: pytest.FixtureRequest, clock: TickingClock) -> Iterator[Catalog]:
    """An open, empty catalog; once on each engine."""
    with Catalog.open(request.getfixturevalue(f"{request.param}_emptied"), clock) as opened:
        yield opened
