"""Every way to the newest version ends at the tables the program expects."""

import threading
from contextlib import closing

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect

from holdfast.catalog.connection import Access, Database, parse_address
from holdfast.catalog.database import Catalog
from holdfast.catalog.schema import SCHEMA_VERSION, VERSION_TABLE, metadata
from holdfast.catalog.upgrade import MIGRATIONS, is_current, upgrade, version_of
from holdfast.clock import SystemClock
from holdfast.errors import CatalogUnavailable
from tests.holdfast.catalog.postgres import run_statement


def versions() -> list[str]:
    """Return all versions, oldest first."""
    configuration = Config()
    configuration.set_main_option("script_location", MIGRATIONS)
    configuration.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(configuration).walk_revisions()
    return [script.revision for script in scripts][::-1]


def test_versions_are_one_line_of_growing_numbers_up_to_the_newest() -> None:
    assert versions() == [f"{number:04}" for number in range(1, len(versions()) + 1)]
    assert versions()[-1] == SCHEMA_VERSION


@pytest.mark.parametrize("version", versions())
def test_the_tables_are_the_expected_ones_from_every_version_on(address: str, version: str) -> None:
    upgrade(parse_address(address), lock_timeout_s=1, target=version)
    Catalog.open(address, SystemClock()).close()
    database = Database(parse_address(address), Access.READ)
    options: dict[str, object] = {"version_table": VERSION_TABLE}
    with closing(database), database.reading() as connection:
        assert version_of(connection) == SCHEMA_VERSION
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


def test_an_upgrade_that_fails_leaves_nothing_behind(address: str) -> None:
    # Stands in the way of the last table that version 1 makes.
    run_statement(address, "CREATE TABLE chain_marks (x INTEGER)")
    with pytest.raises(CatalogUnavailable, match="chain_marks"):
        Catalog.open(address, SystemClock())
    database = Database(parse_address(address), Access.READ)
    with closing(database), database.reading() as connection:
        assert inspect(connection).get_table_names() == ["chain_marks"]
    run_statement(address, "DROP TABLE chain_marks")
    with Catalog.open(address, SystemClock()) as catalog:
        assert catalog.sessions.list() == ()


def test_threads_of_one_process_may_open_together(address: str) -> None:
    together = threading.Barrier(4)
    opened: list[str] = []

    def open_once() -> None:
        together.wait()
        with Catalog.open(address, SystemClock()) as catalog:
            opened.append(catalog.summary().schema_version)

    threads = [threading.Thread(target=open_once) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened == [SCHEMA_VERSION] * 4


@pytest.mark.parametrize("version, current", [(None, False), ("0000", False), (SCHEMA_VERSION, True)])
def test_only_the_newest_version_is_current(version: str | None, current: bool) -> None:
    assert is_current(version, "sqlite:///c") is current


@pytest.mark.parametrize("version", ["0003", "9999", "abc"])
def test_a_version_that_is_not_known_is_taken_for_newer(version: str) -> None:
    with pytest.raises(CatalogUnavailable, match=f"sqlite:///c has version {version}"):
        is_current(version, "sqlite:///c")
