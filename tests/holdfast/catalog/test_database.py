"""Opening a catalog: first, again, together, read only, after a crash, of another version."""

import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from holdfast.catalog.database import Catalog
from holdfast.catalog.schema import SCHEMA_VERSION, VERSION_TABLE
from holdfast.clock import SystemClock
from holdfast.errors import CatalogUnavailable
from holdfast.model.ids import SessionId
from tests.holdfast.catalog.postgres import run_statement
from tests.holdfast.catalog.samples import ENDED, POINT, SESSION, TASK, TickingClock

ROOT = Path(__file__).parents[3]
ENDLESS = 1_000_000


@contextmanager
def writer(address: str, name: str, sessions: int, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Start a writer process and wait until it is ready; kill it at the end of the block."""
    command = [sys.executable, "-m", "tests.holdfast.catalog.writer", address, name, str(sessions)]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert lines_of(process, 1) == ["ready"]
            yield process
        finally:
            process.kill()


def set_version(version: str) -> str:
    return f"UPDATE {VERSION_TABLE} SET version_num = '{version}'"  # noqa: S608 - ours


def lines_of(process: subprocess.Popen[str], count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline().strip() for _ in range(count)]


def start(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def test_what_was_recorded_is_there_after_opening_again(address: str, clock: TickingClock) -> None:
    with Catalog.open(address, clock) as catalog:
        catalog.sessions.begin(SESSION)
        catalog.points.record(POINT)
    with Catalog.open(address, clock) as catalog:
        assert catalog.sessions.list() == (SESSION,)
        assert catalog.points.list() == (POINT,)


def test_reading_only_sees_everything_and_changes_nothing(address: str, clock: TickingClock) -> None:
    with Catalog.open(address, clock) as writable:
        writable.sessions.begin(SESSION)
    with Catalog.open_read_only(address, clock) as catalog:
        assert catalog.sessions.get(SESSION.session_id) == SESSION
        with pytest.raises(CatalogUnavailable):
            catalog.sessions.finish(ENDED)
        assert catalog.sessions.get(SESSION.session_id) == SESSION


def test_reading_only_makes_no_catalog(address: str, clock: TickingClock) -> None:
    for _ in range(2):
        with pytest.raises(CatalogUnavailable, match=r"there is no catalog at .* yet"):
            Catalog.open_read_only(address, clock)


def test_an_empty_file_is_no_catalog_yet(sqlite_address: str, tmp_path: Path, clock: TickingClock) -> None:
    (tmp_path / "catalog.sqlite").touch()
    with pytest.raises(CatalogUnavailable, match="yet"):
        Catalog.open_read_only(sqlite_address, clock)
    with Catalog.open(sqlite_address, clock) as catalog:
        assert catalog.sessions.list() == ()


def test_a_newer_catalog_is_refused_and_left_alone(address: str, clock: TickingClock) -> None:
    with Catalog.open(address, clock) as catalog:
        catalog.sessions.begin(SESSION)
    run_statement(address, set_version("9999"))
    for opener in (Catalog.open, Catalog.open_read_only):
        with pytest.raises(CatalogUnavailable, match="version 9999, newer than") as caught:
            opener(address, clock)
        assert caught.value.hint.endswith("or a later one.")
    run_statement(address, set_version(SCHEMA_VERSION))
    with Catalog.open(address, clock) as catalog:
        assert catalog.sessions.list() == (SESSION,)


def test_an_older_catalog_is_not_upgraded_by_a_reader(address: str, clock: TickingClock) -> None:
    Catalog.open(address, clock).close()
    run_statement(address, set_version("0000"))
    with pytest.raises(CatalogUnavailable, match="version 0000, older than") as caught:
        Catalog.open_read_only(address, clock)
    assert "upgrades" in caught.value.hint


def test_the_summary_counts_and_shows_no_password(catalog: Catalog) -> None:
    catalog.sessions.begin(SESSION)
    catalog.sessions.record_task(TASK)
    catalog.sessions.add_note(SESSION.session_id, "one")
    catalog.sessions.add_note(SESSION.session_id, "two")
    catalog.points.record(POINT)
    summary = catalog.summary()
    assert summary.schema_version == SCHEMA_VERSION
    assert (summary.sessions, summary.tasks, summary.events, summary.points) == (1, 1, 2, 1)
    assert (summary.writable, summary.obstacle) == (True, "")
    assert summary.address.startswith(summary.engine)
    assert "s3cret" not in repr(summary)


def test_the_summary_of_a_reader_tells_whether_others_could_write(sqlite_emptied: str, clock: TickingClock) -> None:
    with Catalog.open_read_only(sqlite_emptied, clock, lock_timeout_s=0.05) as catalog:
        assert catalog.summary().writable
        holder = sqlite3.connect(sqlite_emptied.removeprefix("sqlite:///"))
        with closing(holder):
            holder.execute("BEGIN IMMEDIATE")
            summary = catalog.summary()
    assert not summary.writable
    assert summary.obstacle.endswith("database is locked")


def test_four_processes_open_a_fresh_catalog_together_and_lose_nothing(
    address: str, child_environment: dict[str, str], clock: TickingClock
) -> None:
    names, sessions = "abcd", 8
    with (
        writer(address, names[0], sessions, child_environment) as first,
        writer(address, names[1], sessions, child_environment) as second,
        writer(address, names[2], sessions, child_environment) as third,
        writer(address, names[3], sessions, child_environment) as fourth,
    ):
        writers = (first, second, third, fourth)
        for process in writers:
            start(process)
        for name, process in zip(names, writers, strict=True):
            assert lines_of(process, sessions) == [f"{name}-{n}" for n in range(sessions)]
            assert process.wait() == 0
    with Catalog.open(address, clock) as catalog:
        expected = {f"{name}-{n}" for name in names for n in range(sessions)}
        assert {session.session_id for session in catalog.sessions.list()} == expected
        summary = catalog.summary()
        assert (summary.tasks, summary.events) == (32, 32)


def test_a_killed_writer_loses_nothing_it_committed(
    address: str, child_environment: dict[str, str], clock: TickingClock, seed: int
) -> None:
    draw = random.Random(seed)
    committed: set[str] = set()
    for attempt in range(4):
        # The first one dies while it makes the catalog or soon after.
        count = draw.randrange(12) if attempt else 0
        with writer(address, f"w{attempt}", ENDLESS, child_environment) as process:
            start(process)
            committed.update(lines_of(process, count))
            process.send_signal(signal.SIGKILL)
            rest = process.communicate()[0].splitlines()
            # A last line without its end may have been cut by the kill.
            committed.update(rest[:-1])
        with Catalog.open(address, clock) as catalog:
            for session_id in committed:
                assert catalog.sessions.get(SessionId(session_id)).notes == (f"note {session_id.partition('-')[2]}",)
    assert committed


def test_an_upgrade_waits_for_another_process(sqlite_address: str) -> None:
    holder = sqlite3.connect(sqlite_address.removeprefix("sqlite:///"), isolation_level=None)
    with closing(holder):
        holder.execute("PRAGMA journal_mode=WAL")
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(CatalogUnavailable, match="database is locked"):
            Catalog.open(sqlite_address, SystemClock(), lock_timeout_s=0.05)
    Catalog.open(sqlite_address, SystemClock(), lock_timeout_s=0.05).close()
