"""A restore point is finished, once, and reads as the disks were, whatever happened in between."""

from pathlib import Path

import msgspec
import pytest

from holdfast.errors import (
    ChainBroken,
    FileDamaged,
    PointNotFound,
    RequestInvalid,
)
from holdfast.faults import set_hook
from holdfast.formats.magic import PIECE_SIZE, SUPERBLOCK_SIZE
from holdfast.model.points import OpenPoint
from holdfast.model.spans import Span
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chains.metadata import METADATA_NAME, read_metadata
from holdfast.storage.intake.finishing import finish_point
from holdfast.testing.chains import ProtectedMachine
from holdfast.testing.crashfs import CrashFiles
from holdfast.testing.disks import PatternedDisk


class Died(Exception):
    """The process is gone."""


def die_at(name: str) -> None:
    def die(reached: str) -> None:
        if reached == name:
            raise Died

    set_hook(die)


def folder_of(machine: ProtectedMachine, opened: OpenPoint) -> Path:
    return machine.repository.chain_folder(opened.chain)


# -- what is finished --------------------------------------------------


def test_a_point_with_a_disk_left_over_is_not_finished(machine: ProtectedMachine) -> None:
    machine.sessions = 1
    opened = machine.begin()
    with pytest.raises(RequestInvalid, match="is at piece 0 of 6, the point is not complete"):
        machine.finish(opened)
    machine.transfer(opened, "disk0")
    machine.finish(opened)
    assert machine.differences() == []


def test_finishing_twice_is_finishing_once(files: CrashFiles, machine: ProtectedMachine) -> None:
    summary = machine.back_up()
    path = machine.repository.chain_folder(summary.chain) / summary.file
    before = files.content(path)
    assert machine.finish(machine.begin()) == msgspec.structs.replace(summary)
    assert files.content(path) == before


@pytest.mark.parametrize(
    "name", ["commit.before_sync", "commit.before_flip", "commit.flipped", "commit.done", "finish.completed"]
)
def test_a_crash_inside_finishing_is_got_over_by_finishing_again(
    files: CrashFiles, machine: ProtectedMachine, name: str
) -> None:
    machine.back_up()
    machine.disks["disk0"].write(Span(0, 1024))
    machine.sessions = 2
    opened = machine.begin()
    machine.transfer(opened, "disk0")
    die_at(name)
    try:
        with pytest.raises(Died):
            machine.finish(opened)
    finally:
        set_hook(None)
    assert not files.open_handles
    summary = machine.finish(machine.begin())
    path = machine.repository.chain_folder(summary.chain) / summary.file
    with ChainFile.open(files, path) as file:
        assert file.complete_slots == 2
        metadata = read_metadata(files, path.parent, file.keys)
    assert metadata is not None
    assert [point.complete for point in metadata.points] == [True, True]
    assert machine.differences() == []


def test_a_point_completed_by_a_session_that_died_is_made_safe_before_it_is_continued(
    files: CrashFiles, machine: ProtectedMachine
) -> None:
    # Complete in one superblock only, and missing from the metadata: nobody was told, yet it is whole.
    machine.sessions = 1
    opened = machine.begin()
    machine.transfer(opened, "disk0")
    die_at("commit.done")
    try:
        with pytest.raises(Died):
            machine.finish(opened)
    finally:
        set_hook(None)
    path = folder_of(machine, opened) / opened.file
    with ChainFile.open(files, path) as file:
        assert (file.is_complete, file.complete_slots) == (True, 1)
    machine.sessions = 2
    assert machine.begin().parent_number == 1
    with ChainFile.open(files, path) as file:
        assert file.complete_slots == 2


@pytest.mark.parametrize("slot", [0, 1])
def test_a_lost_superblock_of_a_finished_file_is_written_again_and_ends_no_chain(
    files: CrashFiles, machine: ProtectedMachine, slot: int
) -> None:
    summary = machine.back_up()
    path = machine.repository.chain_folder(summary.chain) / summary.file
    data = bytearray(files.content(path))
    data[slot * SUPERBLOCK_SIZE : (slot + 1) * SUPERBLOCK_SIZE] = bytes(SUPERBLOCK_SIZE)
    files.set_content(path, bytes(data))
    assert machine.back_up().kind == "increment"
    with ChainFile.open(files, path) as file:
        assert file.complete_slots == 2
    assert machine.differences() == []


def test_a_point_whose_parent_went_missing_is_not_called_complete(files: CrashFiles, machine: ProtectedMachine) -> None:
    summary = machine.back_up()
    machine.sessions = 2
    opened = machine.begin()
    machine.transfer(opened, "disk0")
    files.drop(folder_of(machine, opened) / summary.file)
    with pytest.raises(ChainBroken):
        machine.finish(opened)
    with ChainFile.open(files, folder_of(machine, opened) / opened.file) as file:
        assert not file.is_complete


def test_finishing_does_not_bless_a_file_that_was_rolled_back_meanwhile(
    files: CrashFiles, machine: ProtectedMachine
) -> None:
    summary = machine.back_up()
    path = machine.repository.chain_folder(summary.chain) / summary.file
    first_commit = [e for e in files.events if e.path == path and e.kind == "write"][:2]
    machine.back_up()
    machine.sessions = 3
    opened = machine.begin()
    machine.transfer(opened, "disk0")
    early = bytearray(1 << 15)
    for event in first_commit:
        early[event.offset : event.offset + len(event.data)] = event.data
    files.set_content(path, bytes(early))
    with pytest.raises(ChainBroken):
        machine.finish(opened)
    files.set_content(folder_of(machine, opened) / METADATA_NAME, files.content(path)[:0])
    with pytest.raises(ChainBroken):
        machine.finish(opened)


def test_damaged_metadata_is_replaced_when_a_point_is_finished(files: CrashFiles, machine: ProtectedMachine) -> None:
    machine.back_up()
    machine.sessions = 2
    opened = machine.begin()
    machine.transfer(opened, "disk0")
    path = folder_of(machine, opened) / METADATA_NAME
    files.set_content(path, files.content(path)[:-1])
    machine.finish(opened)
    machine.sessions = 3
    machine.begin()


def test_a_point_whose_file_is_gone_says_so(files: CrashFiles, machine: ProtectedMachine) -> None:
    machine.sessions = 1
    opened = machine.begin()
    files.drop(folder_of(machine, opened) / opened.file)
    with pytest.raises(PointNotFound, match="is gone"):
        finish_point(machine.repository, opened, None)


# -- disks that change --------------------------------------------------


@pytest.mark.parametrize("size", [512, PIECE_SIZE - 512, PIECE_SIZE, 3 * PIECE_SIZE + 512, 9 * PIECE_SIZE - 512])
def test_a_disk_that_was_cut_or_grew_reads_as_it_is(machine: ProtectedMachine, size: int) -> None:
    machine.back_up()
    disk = machine.disks["disk0"]
    disk.resize(size)
    machine.back_up()
    disk.resize(7 * PIECE_SIZE + 1024)
    machine.back_up()
    disk.write(Span(size // 2 // 512 * 512, 512))
    machine.back_up()
    assert machine.differences() == []


def test_disks_that_come_and_go_are_in_the_points_they_were_there_for(machine: ProtectedMachine) -> None:
    machine.back_up()
    added = machine.disks["added"] = PatternedDisk(77, 3 * PIECE_SIZE)
    added.write(Span(512, 2 * PIECE_SIZE))
    machine.back_up()
    gone = machine.disks.pop("disk0")
    machine.back_up()
    machine.disks["disk0"] = gone
    gone.write(Span(0, PIECE_SIZE))
    machine.back_up()
    assert machine.differences() == []
    stored = [[disk.key for disk in found.point.disks] for found in machine.repository.points()]
    assert stored == [["disk0"], ["disk0", "added"], ["added"], ["added", "disk0"]]


def test_a_machine_without_disks_has_points_too(machine: ProtectedMachine) -> None:
    machine.disks.clear()
    assert [machine.back_up().size_bytes for _ in range(2)] == [0, 0]


def test_a_damaged_newest_file_stops_the_chain_and_not_the_reading(
    files: CrashFiles, machine: ProtectedMachine
) -> None:
    machine.back_up()
    summary = machine.back_up()
    path = machine.repository.chain_folder(summary.chain) / summary.file
    data = bytearray(files.content(path))
    data[20] ^= 1
    data[SUPERBLOCK_SIZE + 20] ^= 1
    files.set_content(path, bytes(data))
    machine.sessions = 3
    with pytest.raises(FileDamaged, match=summary.file):
        machine.begin()
    del machine.kept[1:]
    assert machine.differences() == []
