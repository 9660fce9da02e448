"""Restoring one disk to a target."""

import msgspec
import pytest
from temporalio.testing import ActivityEnvironment

from activities.contracts.transfer import TransferCursor
from holdfast.errors import (
    ChainBroken,
    DiskChanged,
    OperationInterrupted,
    PointNotFound,
    RequestInvalid,
    RestoredBytesDiffer,
)
from holdfast.model.machine import Disk, Machine
from tests.activities.lab import KEY, PIECE, Attempt, Lab, cursors, failure, run, stopping, without_times

SIZE = 48 * PIECE + 512


def test_a_restore_writes_the_point_and_compares_it(lab: Lab) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    content = lab.content(machine)
    _, point = lab.back_up(machine)
    lab.overwrite(machine, 0, SIZE)
    target = lab.prepare(machine)
    attempt = Attempt()
    restored = attempt.run(lab.transfers.restore_disk, lab.restore_request(target, point))
    assert restored.compared
    assert restored.figures.processed_bytes == SIZE
    assert cursors(attempt)[-1].committed_bytes == SIZE
    assert {cursor.target_id for cursor in cursors(attempt)} == {target.target_id}
    assert lab.content(lab.commit(target)) == content


def test_a_second_restore_gives_the_same_reply(lab: Lab) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    _, point = lab.back_up(machine)
    target = lab.prepare(machine)
    request = lab.restore_request(target, point)
    first, second = (run(lab.transfers.restore_disk, request) for _ in range(2))
    assert without_times(second) == without_times(first)
    assert lab.content(lab.commit(target)) == lab.content(machine)


@pytest.mark.parametrize("compare", [True, False])
def test_only_a_comparison_finds_a_target_that_does_not_keep_what_was_written(lab: Lab, *, compare: bool) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    _, point = lab.back_up(machine)
    target = lab.prepare(machine)
    attempt = Attempt()

    def spoil(cursor: object) -> None:
        assert isinstance(cursor, TransferCursor)
        if cursor.reached_bytes > PIECE:
            with lab.target_disk().open("r+b") as disk:
                disk.write(b"spoilt")

    attempt.on_beat = spoil
    request = lab.restore_request(target, point, compare=compare)
    if compare:
        failed = failure(RestoredBytesDiffer, lab.transfers.restore_disk, request, attempt)
        assert failed.message.endswith("offset 0")
        assert failed.non_retryable
    else:
        assert not attempt.run(lab.transfers.restore_disk, request).compared


def test_a_restore_that_was_interrupted_is_finished_by_the_next_attempt(lab: Lab) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    _, point = lab.back_up(machine)
    target = lab.prepare(machine)
    request = lab.restore_request(target, point)
    attempt = stopping(ActivityEnvironment.worker_shutdown, units=0)
    failure(OperationInterrupted, lab.transfers.restore_disk, request, attempt)
    last = cursors(attempt)[-1]
    assert last.committed_bytes == 0, "nothing was flushed yet"
    restored = Attempt(last).run(lab.transfers.restore_disk, request)
    assert last.reached_bytes > 0
    assert restored.figures.resent_bytes == 0, "what was written is found, and not written again"
    assert restored.equal_bytes > 0
    assert lab.content(lab.commit(target)) == lab.content(machine)


def half_done(machine: Machine, target_id: str) -> TransferCursor:
    done = 8 * PIECE
    return TransferCursor(
        machine=machine.name,
        disk=KEY,
        size_bytes=SIZE,
        committed_bytes=done,
        reached_bytes=done,
        target_id=target_id,
    )


def test_a_restore_goes_on_behind_what_its_target_has_flushed(lab: Lab) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    _, point = lab.back_up(machine)
    target = lab.prepare(machine)
    previous = half_done(machine, target.target_id)
    Attempt(previous).run(lab.transfers.restore_disk, lab.restore_request(target, point, compare=False))
    content = lab.content(lab.commit(target))
    assert content[8 * PIECE :] == lab.content(machine)[8 * PIECE :]
    assert not any(content[: 8 * PIECE]), "the part that was done is not written again"


def test_a_cursor_of_another_target_is_not_gone_by(lab: Lab) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    _, point = lab.back_up(machine)
    target = lab.prepare(machine)
    previous = half_done(machine, "another")
    Attempt(previous).run(lab.transfers.restore_disk, lab.restore_request(target, point))
    assert lab.content(lab.commit(target)) == lab.content(machine)


def test_a_target_of_another_size_is_refused(lab: Lab) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    _, point = lab.back_up(machine)
    larger = msgspec.structs.replace(machine, disks=(Disk(key=KEY, size_bytes=SIZE + 512),))
    request = lab.restore_request(lab.prepare(larger), point)
    failure(DiskChanged, lab.transfers.restore_disk, request)


def test_only_a_complete_point_of_a_chain_of_the_repository_is_restored(lab: Lab) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    _, point = lab.back_up(machine)
    unfinished = lab.begun(machine, "s2").point
    request = lab.restore_request(lab.prepare(machine), point)
    failure(PointNotFound, lab.transfers.restore_disk, msgspec.structs.replace(request, number=unfinished.number))
    outside = msgspec.structs.replace(request, chain="../../..")
    failure(RequestInvalid, lab.transfers.restore_disk, outside)
    gone = msgspec.structs.replace(request, chain="machines/a-00000000/000001-00000000")
    failure(ChainBroken, lab.transfers.restore_disk, gone)
