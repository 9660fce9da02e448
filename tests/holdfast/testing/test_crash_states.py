"""Every state a crash may leave is among those enumerated, and no other."""

import random
from pathlib import Path

from holdfast.errors import SyncFailed
from holdfast.testing.crash_states import CrashState, crash_states
from holdfast.testing.crashfs import SECTOR, CrashFiles

FOLDER = Path("/f")
A = FOLDER / "a"


def prepared() -> CrashFiles:
    files = CrashFiles([Path("/"), FOLDER])
    handle = files.create(A)
    handle.write(0, [b"." * SECTOR])
    handle.sync()
    handle.close()
    return files.copy()


def states_of(base: CrashFiles, files: CrashFiles) -> list[CrashState]:
    return list(crash_states(base, files.events, random.Random(1)))


def contents(states: list[CrashState], path: Path = A) -> set[bytes]:
    return {files.content(path) for files in (state.files() for state in states) if files.exists(path)}


def test_writes_that_were_not_flushed_are_lost_or_kept_in_any_combination() -> None:
    base = prepared()
    files = base.copy()
    handle = files.open(A, write=True)
    for at in range(3):
        handle.write(at * SECTOR, [bytes([65 + at]) * SECTOR])
    found = contents(states_of(base, files))
    assert {content[::SECTOR].rstrip(b"\0") for content in found} >= {
        b".", b"A", b".B", b"AB", b".\0C", b"A\0C", b".BC", b"ABC"
    }  # fmt: skip


def test_what_was_flushed_is_in_every_later_state() -> None:
    base = prepared()
    files = base.copy()
    handle = files.open(A, write=True)
    handle.write(0, [b"B" * SECTOR])
    handle.sync()
    files.mark("told")
    handle.write(SECTOR, [b"C" * SECTOR])
    after = [state for state in states_of(base, files) if state.told]
    assert after
    assert {content[:SECTOR] for content in contents(after)} == {b"B" * SECTOR}


def test_the_newest_write_may_be_torn_at_a_sector() -> None:
    base = prepared()
    files = base.copy()
    files.open(A, write=True).write(0, [b"B" * 4 * SECTOR])
    found = contents(states_of(base, files))
    assert b"B" * SECTOR in found
    assert b"." * SECTOR + b"B" * 3 * SECTOR in found
    assert all(set(content[at : at + SECTOR]) <= {66} for content in found for at in range(SECTOR, len(content), SECTOR)
               if any(content[at : at + SECTOR]))  # fmt: skip


def test_a_name_counts_when_its_folder_was_flushed() -> None:
    base = prepared()
    files = base.copy()
    files.replace(FOLDER / "b", b"new")
    states = states_of(base, files)
    assert {state.files().exists(FOLDER / "b") for state in states} == {True, False}
    assert contents(states, FOLDER / "b") == {b"new"}
    assert states[-1].files().exists(FOLDER / "b")


def test_a_replaced_file_is_the_old_or_the_new_one() -> None:
    base = prepared()
    files = base.copy()
    files.replace(A, b"new")
    assert contents(states_of(base, files)) == {b"." * SECTOR, b"new"}


def test_a_removed_file_may_come_back_until_the_folder_is_flushed() -> None:
    base = prepared()
    files = base.copy()
    files.remove(A)
    states = states_of(base, files)
    assert {state.files().exists(A) for state in states} == {True, False}
    assert not states[-1].files().exists(A)


def test_what_a_failed_flush_dropped_is_gone_though_a_later_flush_succeeds() -> None:
    base = prepared()
    files = base.copy()
    files.fail_sync = lambda number, waiting: (1,) if number == 1 and waiting == 2 else None
    handle = files.open(A, write=True)
    handle.write(0, [b"B" * SECTOR])
    handle.write(SECTOR, [b"C" * SECTOR])
    failures = 0
    try:
        handle.sync()
    except SyncFailed:
        failures += 1
    again = files.open(A, write=True)
    assert again.read(0, 1) == b"B", "until the crash reads go on showing it"
    again.sync()
    assert failures == 1
    assert states_of(base, files)[-1].files().content(A) == b"." * SECTOR + b"C" * SECTOR


def test_a_crashed_file_system_holds_no_locks_and_no_handles() -> None:
    base = prepared()
    files = base.copy()
    assert files.open_lock(FOLDER / "lock").lock()
    for state in states_of(base, files):
        assert not state.files().open_handles
        assert state.files().open_lock(FOLDER / "lock").lock()


def test_more_writes_than_can_be_combined_are_sampled() -> None:
    base = prepared()
    files = base.copy()
    handle = files.open(A, write=True)
    for at in range(12):
        handle.write(at * SECTOR, [bytes([65 + at]) * SECTOR])
    states = states_of(base, files)
    assert 100 < len(states) < 1000
    found = {content[::SECTOR] for content in contents(states)}
    assert b"ABCDEFGHIJKL" in found
    assert any(b"\0" in content.rstrip(b"\0") for content in found)
