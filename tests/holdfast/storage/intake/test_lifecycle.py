"""A restore point is begun and abandoned; every step may be repeated after a crash."""

from pathlib import Path

import msgspec
import pytest

from holdfast.errors import (
    ChainBusy,
    LimitExceeded,
    PassphraseWrong,
    RepositoryUnavailable,
    RequestInvalid,
)
from holdfast.faults import set_hook
from holdfast.model.ids import DiskKey, MachineId, SessionId, SnapshotId
from holdfast.model.machine import SnapshotDisk
from holdfast.model.points import OpenPoint
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.intake.lifecycle import abandon_session, begin_point
from holdfast.testing.chains import ProtectedMachine
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.storage.conftest import make_machine


class Died(Exception):
    """The process is gone."""


def die_at(name: str) -> None:
    def die(reached: str) -> None:
        if reached == name:
            raise Died

    set_hook(die)


def folder_of(machine: ProtectedMachine, opened: OpenPoint) -> Path:
    return machine.repository.chain_folder(opened.chain)


# -- what is begun --------------------------------------------------


def test_the_first_point_is_a_full_and_the_next_ones_continue_it(machine: ProtectedMachine) -> None:
    made = [machine.back_up() for _ in range(3)]
    assert [(point.kind, point.number) for point in made] == [("full", 1), ("increment", 2), ("increment", 3)]
    assert len({point.chain for point in made}) == 1
    assert machine.differences() == []


def test_a_point_begun_again_by_its_session_is_the_same_point(machine: ProtectedMachine) -> None:
    machine.back_up()
    machine.sessions = 2
    first = machine.begin()
    again = machine.begin()
    assert (again.point_id, again.file, again.parent_number) == (first.point_id, first.file, 1)
    assert again.reason == "begun before and continued"


def test_a_point_begun_again_after_it_was_finished_is_not_begun_anew(
    files: CrashFiles, machine: ProtectedMachine
) -> None:
    # A late second run of an activity must leave nothing behind.
    summary = machine.back_up()
    before = files.paths()
    assert machine.begin().point_id == summary.point_id
    assert files.paths() == before


def test_a_point_of_another_snapshot_is_not_gone_on_with(files: CrashFiles, machine: ProtectedMachine) -> None:
    # Half of the disk would be of one moment and half of another.
    machine.sessions = 1
    first = machine.begin()
    snapshot = msgspec.structs.replace(machine.snapshot(), snapshot_id=SnapshotId("taken again"))
    second = begin_point(machine.repository, SessionId("session-1"), snapshot, machine.store)
    assert second.point_id != first.point_id
    assert second.removed == (first.file,)
    assert not files.exists(folder_of(machine, first) / first.file)


def test_what_other_sessions_left_is_removed_and_told(machine: ProtectedMachine) -> None:
    machine.back_up()
    machine.sessions = 2
    left = machine.begin()
    machine.sessions = 3
    opened = machine.begin()
    assert (opened.removed, opened.number, opened.parent_number) == ((left.file,), 2, 1)


@pytest.mark.parametrize("content", [b"", bytes(8192), bytes(100_000)])
def test_a_file_without_a_first_commit_never_blocks_the_chain(
    files: CrashFiles, machine: ProtectedMachine, content: bytes
) -> None:
    summary = machine.back_up()
    left = machine.repository.chain_folder(summary.chain) / "00000002-increment.hfc"
    files.set_content(left, content)
    assert machine.differences() == []
    machine.sessions = 2
    assert machine.begin().removed == (left.name,)


def test_a_crash_between_making_and_committing_a_file_is_got_over(files: CrashFiles, machine: ProtectedMachine) -> None:
    machine.back_up()
    machine.sessions = 2
    die_at("commit.before_sync")
    try:
        with pytest.raises(Died):
            machine.begin()
    finally:
        set_hook(None)
    assert not files.open_handles
    opened = machine.begin()
    assert opened.removed == ("00000002-increment.hfc",)
    machine.transfer(opened, "disk0")
    machine.finish(opened)
    assert machine.differences() == []


def test_a_full_that_was_asked_for_and_failed_leaves_the_chain_before_it_in_use(machine: ProtectedMachine) -> None:
    machine.back_up()
    machine.sessions = 2
    machine.store = msgspec.structs.replace(machine.store, full=True)
    failed = machine.begin()
    assert (failed.kind, failed.reason) == ("full", "a full was asked for")
    machine.store = msgspec.structs.replace(machine.store, full=False)
    machine.sessions = 3
    opened = machine.begin()
    assert (opened.kind, opened.number, opened.removed) == ("increment", 2, (failed.file,))


def test_a_new_chain_goes_behind_all_others_also_when_older_ones_were_removed(
    files: CrashFiles, machine: ProtectedMachine
) -> None:
    machine.store = msgspec.structs.replace(machine.store, full=True)
    chains = [machine.back_up().chain for _ in range(3)]
    files.drop(machine.repository.chain_folder(chains[0]))
    files.drop(machine.repository.chain_folder(chains[1]))
    del machine.kept[:2]
    assert machine.back_up().chain > chains[2]
    assert machine.repository.find_point("latest").point.session == "session-4"


@pytest.mark.parametrize("change", ["unit size", "on", "off"])
def test_what_cannot_be_continued_begins_a_new_chain_and_says_why(files: CrashFiles, change: str) -> None:
    machine = make_machine({"disk0": 3}, files, "correct horse" if change == "off" else None)
    machine.back_up()
    machine.kept.clear()
    unit_size = 1 << 20 if change == "unit size" else machine.store.unit_size
    passphrase = "correct horse" if change == "on" else None
    machine.store = msgspec.structs.replace(machine.store, unit_size=unit_size, passphrase=passphrase)
    machine.sessions = 5
    opened = machine.begin()
    reason = "the unit size changed to 1048576 bytes" if change == "unit size" else f"encryption was switched {change}"
    assert (opened.kind, opened.reason) == ("full", reason)


def test_another_passphrase_is_refused_unless_a_full_is_asked_for(files: CrashFiles) -> None:
    machine = make_machine({"disk0": 3}, files, "correct horse")
    machine.back_up()
    machine.store = msgspec.structs.replace(machine.store, passphrase="new horse")
    machine.sessions = 2
    with pytest.raises(PassphraseWrong):
        machine.begin()
    machine.store = msgspec.structs.replace(machine.store, full=True)
    assert machine.begin().kind == "full"


def test_a_renamed_machine_keeps_its_chain(machine: ProtectedMachine) -> None:
    first = machine.back_up()
    machine.name = "quite another name"
    assert machine.back_up().chain == first.chain


@pytest.mark.parametrize(
    "name", ["web 01", "../../etc", "", "日本語", "a" * 500, "CON", "x/y\\z", "\0", "name\nwith lines", "-"]
)
def test_a_machine_may_be_called_anything(machine: ProtectedMachine, name: str) -> None:
    machine.name = name
    machine.machine_id = MachineId(f"id of {name}")
    summary = machine.back_up()
    assert machine.differences() == []
    parts = Path(summary.chain).parts
    assert len(parts) == 3
    assert all(len(part) < 64 and part.isascii() for part in parts)


def test_two_machines_of_one_name_have_two_folders(machine: ProtectedMachine) -> None:
    one = machine.back_up()
    machine.machine_id = MachineId("m2")
    assert machine.back_up().chain.split("/")[1] != one.chain.split("/")[1]


@pytest.mark.parametrize(
    "disks, error",
    [
        ([("a", 512), ("a", 1024)], RequestInvalid),
        ([("a", 100)], RequestInvalid),
        ([("a", (64 << 40) + 512)], LimitExceeded),
        ([(f"disk{index}", 512) for index in range(257)], LimitExceeded),
    ],
)
def test_disks_outside_the_limits_are_refused(
    files: CrashFiles, machine: ProtectedMachine, disks: list[tuple[str, int]], error: type[Exception]
) -> None:
    before = files.paths()
    listed = tuple(SnapshotDisk(key=DiskKey(key), size_bytes=size) for key, size in disks)
    snapshot = msgspec.structs.replace(machine.snapshot(), disks=listed)
    with pytest.raises(error):
        begin_point(machine.repository, SessionId("s"), snapshot, machine.store)
    assert files.paths() == before


# -- what is abandoned --------------------------------------------------


def abandon(machine: ProtectedMachine, session: str) -> tuple[str, ...]:
    return abandon_session(machine.repository, SessionId(session), machine.snapshot().machine, machine.store)


def test_an_abandoned_session_leaves_nothing_and_may_be_abandoned_again(
    files: CrashFiles, machine: ProtectedMachine
) -> None:
    machine.back_up()
    before = files.paths()
    machine.sessions = 2
    opened = machine.begin()
    machine.transfer(opened, "disk0")
    assert abandon(machine, "session-2") == (opened.file,)
    assert abandon(machine, "session-2") == ()
    assert files.paths() == before


def test_a_finished_point_is_never_abandoned(machine: ProtectedMachine) -> None:
    machine.back_up()
    assert abandon(machine, "session-1") == ()
    assert machine.differences() == []


def test_a_session_whose_transfer_still_runs_is_not_abandoned(files: CrashFiles, machine: ProtectedMachine) -> None:
    machine.sessions = 1
    opened = machine.begin()
    with ChainWriter.resume(files, folder_of(machine, opened) / opened.file), pytest.raises(ChainBusy):
        abandon(machine, "session-1")


def test_chains_of_other_passphrases_do_not_keep_a_session_from_being_abandoned(files: CrashFiles) -> None:
    machine = make_machine({"disk0": 3}, files, "correct horse")
    machine.back_up()
    machine.store = msgspec.structs.replace(machine.store, passphrase="new horse", full=True)
    machine.sessions = 2
    opened = machine.begin()
    assert abandon(machine, "session-2") == (opened.file,)


# -- where the repository is gone --------------------------------------------------


def test_a_repository_that_is_gone_is_never_taken_for_an_empty_one(
    files: CrashFiles, machine: ProtectedMachine
) -> None:
    machine.back_up()
    machine.sessions = 2
    opened = machine.begin()
    root = machine.repository.root
    kept = {path: files.content(path) for path in files.paths()}
    files.drop(root)
    files.make_folder(root)  # the bare mount point
    for step in (machine.begin, lambda: machine.finish(opened), lambda: abandon(machine, "session-2")):
        with pytest.raises(RepositoryUnavailable):
            step()
    assert files.names(root) == []
    for path, content in kept.items():
        files.make_folder(path.parent)
        files.set_content(path, content)
    assert machine.begin().point_id == opened.point_id


def test_another_repository_in_the_place_is_noticed(files: CrashFiles, machine: ProtectedMachine) -> None:
    machine.back_up()
    marker = machine.repository.root / "repository.json"
    files.set_content(marker, files.content(marker).replace(b'"id"', b'"id"').replace(b':"id"', b':"other"'))
    with pytest.raises(RepositoryUnavailable, match="another repository"):
        machine.begin()
