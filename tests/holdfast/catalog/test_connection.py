"""Addresses, transactions, and how the failures of a database are told."""

import sqlite3
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError
from typing_extensions import override

from holdfast.catalog import connection as module
from holdfast.catalog.connection import (
    Access,
    Database,
    file_of,
    insert_into,
    parse_address,
    shown_address,
)
from holdfast.catalog.database import Catalog
from holdfast.catalog.rows import session_row
from holdfast.catalog.schema import sessions, tasks
from holdfast.clock import SystemClock
from holdfast.errors import CatalogUnavailable, ConfigurationInvalid, ToolMissing
from tests.holdfast.catalog.postgres import Server
from tests.holdfast.catalog.samples import SESSION, TickingClock


@pytest.mark.parametrize(
    "address",
    [
        "",
        "catalog.sqlite",
        "/var/lib/catalog.sqlite",
        "postgresql://user@host:s3cret/catalog",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///c.sqlite?mode=ro",
        "mysql://root:s3cret@host/catalog",
        "nosuch+driver://root:s3cret@host/catalog",
    ],
)
def test_an_address_of_another_kind_is_refused_without_its_password(address: str) -> None:
    with pytest.raises(ConfigurationInvalid) as caught:
        parse_address(address)
    assert "s3cret" not in chain_of(caught.value)
    assert "sqlite:////" in caught.value.hint


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_spelling_of_postgresql_uses_the_same_driver(scheme: str) -> None:
    assert parse_address(f"{scheme}://host/catalog").drivername == "postgresql+psycopg"


def test_postgresql_without_its_driver_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _name: None)
    with pytest.raises(ToolMissing, match=r"host/catalog") as caught:
        parse_address("postgresql://user:s3cret@host/catalog")
    assert "postgres" in caught.value.hint
    assert "s3cret" not in caught.value.message


def test_an_address_is_shown_without_any_password() -> None:
    url = parse_address("postgresql://user:s3cret@host/catalog?sslpassword=s3cret&application_name=x")
    shown = shown_address(url)
    assert "s3cret" not in shown
    assert "user:***@host/catalog" in shown
    assert "application_name=x" in shown


def test_the_file_of_an_address_is_absolute(tmp_path: Path) -> None:
    assert file_of(parse_address(f"sqlite:///{tmp_path}/c.sqlite")) == tmp_path / "c.sqlite"
    assert file_of(parse_address("sqlite:///c.sqlite")) == Path.cwd() / "c.sqlite"
    assert file_of(parse_address("postgresql://host/catalog")) is None


def test_a_path_with_odd_characters_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a b?c%41#d" / "catalog.sqlite"
    path.parent.mkdir()
    database = Database(parse_address("sqlite:///x").set(database=str(path)), Access.CREATE)
    with closing(database), database.writing() as connection:
        connection.exec_driver_sql("CREATE TABLE t (x)")
    assert path.exists()


def test_a_sqlite_catalog_is_safe_by_its_settings(sqlite_emptied: str) -> None:
    database = Database(parse_address(sqlite_emptied), Access.WRITE)
    with closing(database), database.reading() as connection:
        settings = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    full = 2
    assert settings == ["wal", full, 1, 30_000]


def test_a_reading_transaction_sees_one_state(catalog: Catalog) -> None:
    database = catalog._database
    with database.reading() as connection:
        before = connection.execute(sessions.select()).all()
        catalog.sessions.begin(SESSION)
        assert connection.execute(sessions.select()).all() == before == []
    with database.reading() as connection:
        assert len(connection.execute(sessions.select()).all()) == 1


def test_an_error_undoes_the_transaction(catalog: Catalog) -> None:
    with suppress(KeyError), catalog._database.writing() as connection:
        connection.execute(insert_into(connection, sessions).values(session_row(SESSION)))
        raise KeyError
    assert catalog.sessions.list() == ()


def test_a_broken_constraint_is_a_defect_and_not_hidden(catalog: Catalog) -> None:
    orphan = {one.name: 0 if one.name.endswith(("_bytes", "_s")) else "x" for one in tasks.columns}
    insert = tasks.insert().values(orphan)
    with pytest.raises(IntegrityError), catalog._database.writing() as connection:
        connection.execute(insert)


def test_a_locked_catalog_is_unavailable(sqlite_emptied: str, tmp_path: Path) -> None:
    catalog = Catalog.open(sqlite_emptied, SystemClock(), lock_timeout_s=0.05)
    with catalog, holding(tmp_path / "catalog.sqlite", "IMMEDIATE"):
        with pytest.raises(CatalogUnavailable, match="database is locked") as caught:
            catalog.sessions.begin(SESSION)
        assert str(tmp_path) in caught.value.message
        # Readers do not wait for a writer.
        assert catalog.sessions.list() == ()
    with Catalog.open(sqlite_emptied, SystemClock()) as catalog:
        assert catalog.sessions.begin(SESSION) == SESSION


def test_the_switch_to_the_log_waits_for_another_process(sqlite_address: str, tmp_path: Path) -> None:
    with (
        holding(tmp_path / "catalog.sqlite", "EXCLUSIVE"),
        pytest.raises(CatalogUnavailable, match="database is locked"),
    ):
        Catalog.open(sqlite_address, SystemClock(), lock_timeout_s=0.05)


def test_the_switch_to_the_log_goes_on_when_the_other_process_is_done(sqlite_address: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        stack.enter_context(holding(tmp_path / "catalog.sqlite", "EXCLUSIVE"))

        class ReleasingClock(TickingClock):
            """Looked at before each try; ends the lock before the third."""

            looks = 0

            @override
            def monotonic_s(self) -> float:
                self.looks += 1
                if self.looks == 4:
                    stack.close()
                return 0.0

        clock = ReleasingClock()
        Catalog.open(sqlite_address, clock, lock_timeout_s=0.05).close()
    assert clock.looks == 4


@contextmanager
def holding(path: Path, how: str) -> Iterator[None]:
    """Hold a lock of a SQLite file for a block."""
    holder = sqlite3.connect(path, isolation_level=None)
    with closing(holder):
        holder.execute(f"BEGIN {how}")
        yield


@pytest.mark.tools
def test_a_locked_postgresql_catalog_is_unavailable(postgresql_emptied: str) -> None:
    holder = Database(parse_address(postgresql_emptied), Access.WRITE)
    catalog = Catalog.open(postgresql_emptied, SystemClock(), lock_timeout_s=0.05)
    with catalog, closing(holder):
        with holder.writing() as connection:
            connection.exec_driver_sql("LOCK TABLE sessions IN EXCLUSIVE MODE")
            with pytest.raises(CatalogUnavailable, match="lock timeout"):
                catalog.sessions.begin(SESSION)
        assert catalog.sessions.begin(SESSION) == SESSION


@pytest.mark.parametrize(
    "damage, said",
    [
        (b"this is not a database, however long the text is" * 100, "file is not a database"),
        (b"SQLite format 3\0" + bytes(range(256)) * 40, "file is not a database"),
    ],
)
def test_a_file_that_is_no_database_is_unavailable(
    sqlite_address: str, tmp_path: Path, damage: bytes, said: str
) -> None:
    (tmp_path / "catalog.sqlite").write_bytes(damage)
    for opener in (Catalog.open, Catalog.open_read_only):
        with pytest.raises(CatalogUnavailable, match=said):
            opener(sqlite_address, SystemClock())


def test_a_damaged_catalog_is_unavailable(sqlite_emptied: str, tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    content = bytearray(path.read_bytes())
    # Page 1 holds the list of tables; everything behind it becomes noise.
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(CatalogUnavailable, match="malformed"):
        Catalog.open_read_only(sqlite_emptied, SystemClock())


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/unmounted/catalog.sqlite"
    with pytest.raises(CatalogUnavailable, match="unable to open"):
        Catalog.open(address, SystemClock())
    assert not (tmp_path / "unmounted").exists()


@pytest.mark.tools
def test_a_wrong_password_is_told_without_any_password(postgresql_server: Server) -> None:
    address = postgresql_server.address("postgres", password="wr0ng")
    with pytest.raises(CatalogUnavailable, match="password authentication failed") as caught:
        Catalog.open(address, SystemClock())
    assert "wr0ng" not in chain_of(caught.value)


def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    address = f"postgresql://user:s3cret@/catalog?host={tmp_path}"
    with pytest.raises(CatalogUnavailable, match="cannot be used") as caught:
        Catalog.open(address, SystemClock())
    assert "s3cret" not in chain_of(caught.value)


def chain_of(error: BaseException) -> str:
    """Return all that is printed about an error and its causes."""
    return "".join(traceback.format_exception(error))
