"""An attempt that comes late does nothing to the point of another session under the same file and number."""

from contextlib import ExitStack

import pytest

from holdfast.clock import SystemClock
from holdfast.errors import PointNotFound
from holdfast.model.machine_files import MachineFile
from holdfast.model.points import OpenPoint
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.intake.finishing import finish_point
from holdfast.storage.intake.opening import DiskOpener
from holdfast.storage.points.begun_point import begun_point
from holdfast.storage.points.point_files import put_files
from holdfast.testing.chains import ProtectedMachine, place_of


def two_sessions(machine: ProtectedMachine) -> tuple[OpenPoint, OpenPoint]:
    """Return the point of a session that was given up, and the one that another began in its place."""
    machine.back_up()
    machine.sessions += 1
    first = machine.begin()
    machine.sessions += 1
    second = machine.begin()
    assert (first.file, first.number) == (second.file, second.number)
    return first, second


def writer_of(machine: ProtectedMachine, opened: OpenPoint) -> ChainWriter:
    return ChainWriter.resume(machine.repository.files, machine.repository.chain_file(opened.chain, opened.file))


def test_a_late_attempt_writes_no_disk_and_no_file_and_finishes_nothing(machine: ProtectedMachine) -> None:
    first, second = two_sessions(machine)
    path = machine.repository.chain_file(second.chain, second.file)
    before = machine.repository.files.read(path)
    opener = DiskOpener(machine.repository, None, SystemClock(), machine.pipe)
    with pytest.raises(PointNotFound, match="another session"), ExitStack() as stack:
        opener.open(place_of(first, "disk0"), stack)
    with writer_of(machine, second) as writer, pytest.raises(PointNotFound, match="another session"):
        put_files(writer, first.number, [MachineFile(name="web.vmx", content=b"late")], first.point_id)
    with pytest.raises(PointNotFound, match="another session"):
        finish_point(machine.repository, first, None)
    assert machine.repository.files.read(path) == before
    machine.transfer_all(second, at_once=True)
    machine.finish(second)
    with pytest.raises(PointNotFound, match="another session"):
        finish_point(machine.repository, first, None)
    assert machine.differences() == []


def test_what_an_earlier_version_wrote_down_names_a_point_by_its_number_alone(machine: ProtectedMachine) -> None:
    _, second = two_sessions(machine)
    with writer_of(machine, second) as writer:
        found = begun_point(writer.contents, second.number)
        assert found is not None
        assert found.id == second.point_id
        assert begun_point(writer.contents, 99, second.point_id) is None
