"""A disk is compared with the point where that pays, and what is equal is not written."""

from collections.abc import Callable

import msgspec
import pytest

from activities.contracts.transfer import DiskRestored, RestoreDisk, TransferCursor
from activities.metering import TaskMeter
from activities.restoring import DiskWriting, Told
from holdfast.errors import OperationInterrupted
from holdfast.model.ids import MachineId
from holdfast.model.machine import Machine, RestoreTarget
from holdfast.model.points import PointSummary
from holdfast.pipeline.pace import Pace
from tests.activities.lab import KEY, PIECE, TOKEN, Attempt, Lab

SIZE = 48 * PIECE + 512


def disks_of(lab: Lab) -> tuple[Machine, PointSummary, RestoreTarget]:
    machine = lab.add_machine(size_bytes=SIZE)
    _, point = lab.back_up(machine)
    return machine, point, lab.prepare(machine)


def begun(request: RestoreDisk) -> RestoreDisk:
    return msgspec.structs.replace(request, begins_with_content=True)


def told(lab: Lab, request: RestoreDisk, beat: Callable[[TransferCursor], None], *, is_later: bool) -> Told:
    return Told(beat, TaskMeter("restore", request.repository, lab.clock), Pace(lab.clock), is_later)


def written(lab: Lab, request: RestoreDisk, previous: TransferCursor | None, *, is_later: bool) -> DiskRestored:
    """Run an attempt without an activity around it."""
    with (
        lab.repository.open_chain(request.chain, None) as chain,
        lab.provider.open_target(request.target_id, KEY) as target,
    ):
        writing = DiskWriting(request, chain.disk(request.number, KEY), target, previous)
        return writing.run(lab.clock, told(lab, request, lambda _: None, is_later=is_later))


def test_a_first_attempt_at_an_empty_disk_does_not_look_at_it(lab: Lab) -> None:
    _, point, target = disks_of(lab)
    done = written(lab, lab.restore_request(target, point), None, is_later=False)
    assert (done.compared_bytes, done.equal_bytes, done.written_bytes) == (0, 0, SIZE)
    assert done.compared


def test_an_attempt_that_was_cut_off_loses_nothing_of_what_it_wrote(lab: Lab) -> None:
    """Nothing was flushed, and the last report is older than the last byte."""
    machine, point, target = disks_of(lab)
    request = lab.restore_request(target, point)
    reports: list[TransferCursor] = []

    class CutOff(Exception):
        pass

    def die(cursor: TransferCursor) -> None:
        reports.append(cursor)
        if cursor.reached_bytes >= 40 * PIECE:
            raise CutOff

    with (
        lab.repository.open_chain(request.chain, None) as chain,
        lab.provider.open_target(request.target_id, KEY) as disk,
        pytest.raises(CutOff),
    ):
        DiskWriting(request, chain.disk(request.number, KEY), disk, None).run(
            lab.clock, told(lab, request, die, is_later=False)
        )
    last = reports[-1]
    assert last.committed_bytes == 0
    stale = reports[0]
    done = written(lab, request, stale, is_later=True)
    assert done.figures.resent_bytes == 0
    # The hole in the middle is written as a hole without a look.
    content = lab.content(machine)
    zeros = sum(not any(content[at : at + PIECE]) for at in range(0, SIZE, PIECE)) * PIECE
    assert done.equal_bytes + done.written_bytes <= SIZE
    assert done.written_bytes <= SIZE - last.reached_bytes + zeros
    assert done.equal_bytes >= last.reached_bytes - zeros
    assert lab.content(lab.commit(target)) == content


def test_a_later_attempt_that_knows_of_no_report_looks_from_the_front(lab: Lab) -> None:
    machine, point, target = disks_of(lab)
    request = lab.restore_request(target, point)
    written(lab, request, None, is_later=False)
    again = written(lab, request, None, is_later=True)
    assert again.equal_bytes == again.compared_bytes > 0
    assert lab.content(lab.commit(target)) == lab.content(machine)


def test_what_was_reported_and_is_lost_is_written_and_counts_as_resent(lab: Lab) -> None:
    machine, point, target = disks_of(lab)
    previous = TransferCursor(
        machine=machine.name,
        disk=KEY,
        size_bytes=SIZE,
        committed_bytes=0,
        reached_bytes=8 * PIECE,
        target_id=target.target_id,
    )
    done = written(lab, lab.restore_request(target, point), previous, is_later=True)
    assert done.figures.resent_bytes == 8 * PIECE
    assert lab.content(lab.commit(target)) == lab.content(machine)


def test_a_disk_that_begins_with_content_gets_what_differs(lab: Lab) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    content = lab.content(machine)
    _, point = lab.back_up(machine)
    lab.overwrite(machine, 5 * PIECE, 10)
    lab.overwrite(machine, SIZE - 5, 5)
    target = lab.provider.prepare_in_place(TOKEN, machine.machine_id, machine.disks)
    attempt = Attempt()
    request = begun(lab.restore_request(target, point))
    done = attempt.run(lab.transfers.restore_disk, request)
    assert (done.compared_bytes, done.written_bytes) == (SIZE, PIECE + 512)
    assert done.equal_bytes == SIZE - done.written_bytes
    assert lab.content(lab.commit(target)) == content


def test_a_disk_of_another_machine_becomes_that_of_the_point(lab: Lab) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    _, point = lab.back_up(machine)
    other = lab.add_machine("other", size_bytes=SIZE)
    target = lab.provider.prepare_in_place(TOKEN, MachineId(other.machine_id), other.disks)
    done = Attempt().run(lab.transfers.restore_disk, begun(lab.restore_request(target, point)))
    assert 0 < done.equal_bytes < SIZE, "both have a hole in the middle"
    assert lab.content(lab.commit(target)) == lab.content(machine)


def test_what_stops_it_passes_through(lab: Lab) -> None:
    _, point, target = disks_of(lab)

    def stop(_: TransferCursor) -> None:
        raise OperationInterrupted("the worker is shutting down")

    request = lab.restore_request(target, point)
    with (
        lab.repository.open_chain(request.chain, None) as chain,
        lab.provider.open_target(request.target_id, KEY) as disk,
        pytest.raises(OperationInterrupted),
    ):
        DiskWriting(request, chain.disk(request.number, KEY), disk, None).run(
            lab.clock, told(lab, request, stop, is_later=True)
        )
