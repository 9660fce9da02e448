"""The driver of chains remembers what points must read as, and notices when they do not."""

from pathlib import Path

import pytest

from holdfast.clock import SystemClock
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.plan import ReadMode
from holdfast.model.spans import Span
from holdfast.pipeline.stages import PipeOptions
from holdfast.storage.chains.repository import Repository
from holdfast.storage.intake.lifecycle import StoreOptions
from holdfast.testing.chains import ProtectedMachine, restored
from holdfast.testing.crashfs import CrashFiles


@pytest.fixture
def machine() -> ProtectedMachine:
    repository = Repository.create(Path("/r"), CrashFiles([Path("/")]), "id", SystemClock().now())
    return ProtectedMachine(
        repository, 1, {"a": 4 * PIECE_SIZE, "b": 512}, StoreOptions(unit_size=256 << 10), PipeOptions()
    )


@pytest.mark.parametrize("mode", [ReadMode.CHANGED, ReadMode.COMPARED])
def test_points_read_as_the_disks_were(machine: ProtectedMachine, mode: ReadMode) -> None:
    for start in range(3):
        machine.disks["a"].write(Span(start * PIECE_SIZE, 1024))
        machine.back_up(mode)
    assert machine.differences() == []
    assert [kept.summary.number for kept in machine.kept] == [1, 2, 3]


def test_a_point_that_reads_otherwise_is_named(machine: ProtectedMachine) -> None:
    machine.disks["a"].write(Span(0, 1024))
    machine.back_up()
    machine.kept[0].disks["a"].write(Span(512, 512))
    words = "sector 1 should be version 2 of sector 1 of disk 1 and is version 1 of sector 1 of disk 1"
    assert machine.differences() == [f"point 1, disk a: {words}"]


def test_a_disk_of_another_size_is_named(machine: ProtectedMachine) -> None:
    machine.back_up()
    machine.kept[0].disks["b"].resize(1024)
    assert machine.differences() == ["point 1, disk b: 512 bytes instead of 1024"]


def test_rewinding_forgets_later_points_and_no_change(machine: ProtectedMachine) -> None:
    for start in range(2):
        machine.disks["a"].write(Span(start * PIECE_SIZE, 1024))
        machine.back_up()
    machine.rewind(1)
    assert [kept.summary.number for kept in machine.kept] == [1]
    summary = machine.back_up()
    data = restored(machine.repository, summary.chain, summary.number, "a", None)
    assert machine.disks["a"].difference(0, data) is None
