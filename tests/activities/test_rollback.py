"""Rolling one disk back in place."""

from collections.abc import Callable, Iterator

import msgspec
import pytest
from temporalio.testing import ActivityEnvironment
from typing_extensions import override

from activities.contracts.rollback import DiskRolledBack, RollBackDisk
from activities.contracts.transfer import TransferCursor
from holdfast.errors import ChangeTrackingLost, DiskChanged, OperationInterrupted, RequestInvalid
from holdfast.model.ids import ChangeId, DiskKey, TargetId
from holdfast.model.machine import Machine, RestoreTarget
from holdfast.model.plan import ReadMode
from holdfast.model.points import PointSummary
from holdfast.model.spans import Span
from holdfast.providers.local.hypervisor import LocalProvider
from tests.activities.lab import KEY, PIECE, PROVIDER, STORE, TOKEN, Attempt, Lab, cursors, failure, run, stopping

SIZE = 48 * PIECE + 512


class Untracked(LocalProvider):
    @override
    def target_changes(self, target_id: TargetId, key: DiskKey, since: ChangeId) -> Iterator[Span]:
        raise ChangeTrackingLost("begun anew")


class LosesItsPlace(LocalProvider):
    """Tells the first change and no more."""

    @override
    def target_changes(self, target_id: TargetId, key: DiskKey, since: ChangeId) -> Iterator[Span]:
        yield from list(super().target_changes(target_id, key, since))[:1]
        raise ChangeTrackingLost("no answer for the next window")


class Liar(LocalProvider):
    @override
    def target_changes(self, target_id: TargetId, key: DiskKey, since: ChangeId) -> Iterator[Span]:
        return iter(list(super().target_changes(target_id, key, since))[1:])


class Silent(LocalProvider):
    @override
    def target_changes(self, target_id: TargetId, key: DiskKey, since: ChangeId) -> Iterator[Span]:
        return iter(())


def prepare(lab: Lab, machine: Machine) -> RestoreTarget:
    return lab.provider.prepare_in_place(TOKEN, machine.machine_id, machine.disks)


def request(
    target: RestoreTarget, point: PointSummary, *, compare: bool = True, sample: int = 64 << 20
) -> RollBackDisk:
    return RollBackDisk(
        provider=PROVIDER,
        target_id=target.target_id,
        disk=KEY,
        repository=STORE,
        chain=point.chain,
        number=point.number,
        compare=compare,
        sample_bytes=sample,
    )


def changed(lab: Lab) -> tuple[Machine, bytes, PointSummary, RestoreTarget]:
    """Return a machine that changed at two places since its point, and what the point holds."""
    machine = lab.add_machine(size_bytes=SIZE)
    content = lab.content(machine)
    _, point = lab.back_up(machine)
    lab.overwrite(machine, PIECE, 10)
    lab.overwrite(machine, 44 * PIECE, 10)
    return machine, content, point, prepare(lab, machine)


def rolled_back(lab: Lab, wanted: RollBackDisk, attempt: Attempt | None = None) -> DiskRolledBack:
    return (attempt or Attempt()).run(lab.rollbacks.roll_back_disk, wanted)


def with_provider(lab: Lab, kind: type[LocalProvider]) -> None:
    lab.provider = kind(lab.root / "provider", lab.clock)


def test_only_what_changed_is_written(lab: Lab) -> None:
    machine, content, point, target = changed(lab)
    attempt = Attempt()
    done = rolled_back(lab, request(target, point), attempt)
    assert lab.content(machine) != content, "not before the commit"
    assert lab.content(lab.commit(target)) == content
    assert done.decision.mode is ReadMode.CHANGED
    assert (done.written_bytes, done.figures.stored_bytes) == (2 * PIECE, 2 * PIECE)
    assert done.compared
    assert done.note == ""
    assert cursors(attempt)[-1].committed_bytes == SIZE
    assert {cursor.target_id for cursor in cursors(attempt)} == {target.target_id}


def test_a_second_rollback_gives_the_same_disk(lab: Lab) -> None:
    _, content, point, target = changed(lab)
    for _ in range(2):
        assert rolled_back(lab, request(target, point)).note == ""
    assert lab.content(lab.commit(target)) == content


@pytest.mark.parametrize("provider", [Untracked, LosesItsPlace])
@pytest.mark.parametrize("compare", [True, False])
def test_a_disk_whose_changes_cannot_be_told_is_compared(
    lab: Lab, provider: type[LocalProvider], *, compare: bool
) -> None:
    _, content, point, target = changed(lab)
    with_provider(lab, provider)
    done = rolled_back(lab, request(target, point, compare=compare, sample=0))
    assert lab.content(lab.commit(target)) == content
    assert done.decision.mode is ReadMode.COMPARED
    assert done.note.startswith("compared in full instead of writing only what changed: change tracking was lost")
    assert done.figures.read_bytes >= SIZE
    assert done.written_bytes <= 2 * PIECE


def test_what_a_lying_provider_hides_is_written_in_the_end_and_said(lab: Lab) -> None:
    _, content, point, target = changed(lab)
    with_provider(lab, Liar)
    done = rolled_back(lab, request(target, point))
    assert lab.content(lab.commit(target)) == content
    assert done.note == (
        f"change tracking is not to be believed: {PIECE} bytes differed after the rollback and were written once more"
    )
    assert done.written_bytes == 2 * PIECE


def test_without_the_comparison_samples_find_a_lie(lab: Lab) -> None:
    _, content, point, target = changed(lab)
    with_provider(lab, Liar)
    done = rolled_back(lab, request(target, point, compare=False))
    assert lab.content(lab.commit(target)) == content
    assert done.decision.mode is ReadMode.COMPARED
    assert f"change tracking left a change out, found at offset {PIECE}" in done.note
    assert not done.compared


def test_without_any_comparison_the_provider_is_believed(lab: Lab) -> None:
    _, content, point, target = changed(lab)
    with_provider(lab, Liar)
    done = rolled_back(lab, request(target, point, compare=False, sample=0))
    assert done.decision.mode is ReadMode.CHANGED
    assert lab.content(lab.commit(target)) != content


def test_a_point_without_tracking_is_compared_without_a_warning(lab: Lab) -> None:
    lab.provider = LocalProvider(lab.root / "provider", lab.clock, change_tracking=False)
    _, content, point, target = changed(lab)
    done = rolled_back(lab, request(target, point))
    assert lab.content(lab.commit(target)) == content
    assert (done.decision.mode, done.note) == (ReadMode.COMPARED, "")
    assert done.decision.reason == "the point has no change id"


def test_a_rollback_that_was_interrupted_is_finished_by_the_next_attempt(lab: Lab) -> None:
    machine, content, point, target = changed(lab)
    lab.provider.abandon_target(target.target_id)
    lab.overwrite(machine, 0, SIZE)
    target = prepare(lab, machine)
    wanted = request(target, point)
    attempt = stopping(ActivityEnvironment.worker_shutdown, units=0)
    failure(OperationInterrupted, lab.rollbacks.roll_back_disk, wanted, attempt)
    rolled_back(lab, wanted, Attempt(cursors(attempt)[-1]))
    assert lab.content(lab.commit(target)) == content


def interrupted(lab: Lab, wanted: RollBackDisk, is_time: Callable[[TransferCursor], bool]) -> TransferCursor:
    """Return the last report of an attempt that is stopped when it is time."""
    attempt = Attempt()

    def stop(cursor: object) -> None:
        assert isinstance(cursor, TransferCursor)
        if is_time(cursor):
            attempt.environment.worker_shutdown()

    attempt.on_beat = stop
    failure(OperationInterrupted, lab.rollbacks.roll_back_disk, wanted, attempt)
    return cursors(attempt)[-1]


@pytest.mark.parametrize("is_report_there", [True, False])
def test_a_lie_that_an_attempt_found_and_mended_in_part_is_not_forgotten(lab: Lab, *, is_report_there: bool) -> None:
    machine, content, point, target = changed(lab)
    lab.provider.abandon_target(target.target_id)
    lab.overwrite(machine, 20 * PIECE, 10)
    target = prepare(lab, machine)
    with_provider(lab, Silent)
    wanted = request(target, point, compare=False, sample=1 << 20)  # of pieces 16 to 31
    last = interrupted(lab, wanted, lambda cursor: cursor.reached_bytes >= 32 * PIECE)
    if is_report_there:
        done = rolled_back(lab, wanted, Attempt(last))
        assert f"change tracking left a change out, found at offset {20 * PIECE}" in done.note
    else:
        done = rolled_back(lab, msgspec.structs.replace(wanted, is_again=True))
    assert done.decision.mode is ReadMode.COMPARED
    assert lab.content(lab.commit(target)) == content


def test_what_an_attempt_had_to_write_once_more_is_told_by_the_next(lab: Lab) -> None:
    _, content, point, target = changed(lab)
    with_provider(lab, Liar)
    wanted = request(target, point)
    last = interrupted(lab, wanted, lambda cursor: cursor.repaired_bytes > 0)
    done = rolled_back(lab, wanted, Attempt(last))
    assert done.note.startswith(f"change tracking is not to be believed: {PIECE} bytes differed")
    assert done.written_bytes == 0
    assert lab.content(lab.commit(target)) == content


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


@pytest.mark.parametrize("is_own", [True, False])
def test_only_a_cursor_of_the_same_target_is_gone_by(lab: Lab, *, is_own: bool) -> None:
    machine, content, point, target = changed(lab)
    previous = half_done(machine, target.target_id if is_own else "another")
    rolled_back(lab, request(target, point, compare=False, sample=0), Attempt(previous))
    assert (lab.content(lab.commit(target)) != content) is is_own


def test_a_target_of_another_size_is_refused(lab: Lab) -> None:
    machine, _, point, target = changed(lab)
    lab.provider.abandon_target(target.target_id)
    with lab.disk_path(machine).open("r+b") as disk:
        disk.truncate(SIZE + 512)
    grown = lab.provider.machine(machine.machine_id)
    failed = failure(DiskChanged, lab.rollbacks.roll_back_disk, request(prepare(lab, grown), point))
    assert failed.non_retryable


def test_a_target_that_is_gone_is_refused(lab: Lab) -> None:
    _, _, point, target = changed(lab)
    lab.provider.abandon_target(target.target_id)
    failure(RequestInvalid, lab.rollbacks.roll_back_disk, request(target, point))


def test_a_target_that_began_empty_is_refused(lab: Lab) -> None:
    machine, _, point, target = changed(lab)
    lab.provider.abandon_target(target.target_id)
    empty = run(lab.targets.prepare_target, lab.prepare_request(machine))
    failure(RequestInvalid, lab.rollbacks.roll_back_disk, request(empty, point))
