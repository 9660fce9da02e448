"""Retention as a worker does it: the plan that was asked for, step by step, resumed and stopped."""

from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from activities.contracts import retention as contract
from activities.contracts.repository import FinishPoint
from activities.retention import RetentionActivities
from holdfast.errors import ClockJumped, PlanChanged, PointNotFound
from holdfast.model.archives import Archive, is_archive
from holdfast.model.ids import MachineId, PointId
from holdfast.model.points import PointSummary
from holdfast.model.retention import KeepUnit, RetentionOptions, RetentionPolicy
from holdfast.planning.retention import Verdict
from holdfast.storage.chains.keeping import peek_notes
from holdfast.storage.chains.last_used import accept_clock
from holdfast.storage.files.immutable import set_immutable
from holdfast.storage.methods.upkeep import ChainUpkeep
from holdfast.storage.retention.looking import look_at_machine
from holdfast.testing.crashfs import CrashFiles
from tests.activities.lab import KEY, STORE, UNIT, Attempt, Lab, failure, run, run_twice
from tests.holdfast.storage.jobs import OWNER, Job

KEEP_ONE = RetentionOptions(policy=RetentionPolicy(keep=1, unit=KeepUnit.POINTS))


class Kept:
    """A machine with three points."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.machine = lab.add_machine()
        self.points = [self.back_up(number) for number in range(3)]
        self.serves = RetentionActivities(lab.open_repository, lab.credentials.passphrase, lab.clock)

    def back_up(self, number: int) -> PointSummary:
        """Change a part of the disk and make a point."""
        with self.lab.provider.disk_paths(self.machine.machine_id)[KEY].open("r+b") as disk:
            disk.seek(number * UNIT)
            disk.write(self.lab.chance.randbytes(UNIT))
        return self.lab.back_up(self.machine, f"s{number}")[1]

    def request(self, **changes: Any) -> contract.PlanRetention:
        given: dict[str, Any] = {"options": KEEP_ONE, "has_consent": True} | changes
        return contract.PlanRetention(
            repository=STORE, machine_id=self.machine.machine_id, machine_name=self.machine.name, **given
        )

    def plan(self, **changes: Any) -> contract.RetentionPlanned:
        return run(self.serves.plan, self.request(**changes))

    def carry_out(self) -> contract.CarryOut:
        [step] = self.plan().steps
        return contract.CarryOut(repository=STORE, step=step)

    def left(self) -> list[str]:
        return [found.point.id for found in self.lab.repository.points()]


@pytest.fixture
def kept(lab: Lab) -> Kept:
    return Kept(lab)


def test_what_is_planned_is_carried_out_and_nothing_is_left_to_do(kept: Kept) -> None:
    planned = kept.plan()
    assert (planned.kept, planned.held) == (1, 0)
    [step] = planned.steps
    assert step.points == (kept.points[0].point_id, kept.points[1].point_id)
    assert [(one.number, one.verdict, one.reason) for one in planned.points] == [
        (1, Verdict.MERGED, "outdated"),
        (2, Verdict.MERGED, "outdated"),
        (3, Verdict.KEPT, "one of the newest 1"),
    ]
    done = run(kept.serves.carry_out, contract.CarryOut(repository=STORE, step=step))
    assert done.moved is not None
    assert done.moved.point_id == kept.points[2].point_id
    assert kept.left() == [kept.points[2].point_id]
    assert kept.plan().steps == ()


def test_the_plan_that_was_shown_is_the_one_that_is_given(kept: Kept) -> None:
    digest = kept.plan().digest
    assert kept.plan(expected=digest).digest == digest


def test_another_plan_than_the_one_that_was_shown_is_refused(kept: Kept) -> None:
    digest = kept.plan().digest
    kept.back_up(3)
    failure(PlanChanged, kept.serves.plan, kept.request(expected=digest))


def test_rules_that_nobody_agreed_to_let_nothing_go_at_once(kept: Kept) -> None:
    planned = kept.plan(has_consent=False)
    assert (planned.kept, planned.held, planned.steps) == (3, 2, ())


def test_points_of_a_machine_that_is_gone_go_as_a_whole_and_are_purged_later(kept: Kept) -> None:
    [step] = kept.plan(is_gone=True).steps
    assert step.into == ""
    run_twice(kept.serves.carry_out, contract.CarryOut(repository=STORE, step=step, grace_days=7))
    assert kept.left() == []
    purge = contract.PurgeRemoved(
        repository=STORE, machine_id=kept.machine.machine_id, machine_name=kept.machine.name, grace_days=0
    )
    assert run(kept.serves.purge, purge).files == 0
    kept.lab.clock._seconds += int(timedelta(days=8).total_seconds())
    purged = run(kept.serves.purge, purge)
    assert (purged.files, purged.freed_bytes > 0) == (3, True)


def removed(kept: Kept) -> str:
    """Remove the newest point; return the chain."""
    point = kept.points[-1]
    folder = kept.lab.repository.chain_folder(point.chain)
    ChainUpkeep(kept.lab.repository.files, folder, None).remove([point.file], kept.lab.clock.now())
    return point.chain


def test_what_was_removed_from_a_chain_is_deleted_before_its_time_when_asked(kept: Kept) -> None:
    chain = removed(kept)
    name, machine_id = kept.machine.name, kept.machine.machine_id
    wish = contract.PurgeRemoved(repository=STORE, machine_id=machine_id, machine_name=name, grace_days=7)
    assert run(kept.serves.purge, wish).files == 0
    assert run(kept.serves.purge, msgspec.structs.replace(wish, chain=chain)).files == 1


def test_what_was_removed_is_taken_back_and_locked(kept: Kept) -> None:
    chain = removed(kept)
    until = kept.lab.clock.now() + timedelta(days=3)
    wish = contract.TakeBack(repository=STORE, chain=chain, until=until)
    assert run(kept.serves.take_back, wish).files == (kept.points[-1].file,)
    assert locked(kept, chain) == {kept.points[-1].point_id: until}
    assert "nothing was removed" in str(failure(PointNotFound, kept.serves.take_back, wish))


def test_an_attempt_after_one_that_died_locks_what_is_back_already(kept: Kept) -> None:
    chain = removed(kept)
    until = kept.lab.clock.now() + timedelta(days=3)
    ChainUpkeep(kept.lab.repository.files, kept.lab.repository.chain_folder(chain), None).take_back()
    begun = contract.TakeBackCursor(files=(kept.points[-1].file,))
    wish = contract.TakeBack(repository=STORE, chain=chain, until=until)
    assert Attempt(begun).run(kept.serves.take_back, wish).files == begun.files
    assert locked(kept, chain) == {kept.points[-1].point_id: until}


def locked(kept: Kept, chain: str) -> dict[PointId, datetime]:
    notes = peek_notes(kept.lab.repository.files, kept.lab.repository.chain_folder(chain))
    return {note.point_id: note.locked_until for note in notes if note.locked_until is not None}


def test_an_expired_archive_is_removed_by_its_own_rules_alone(kept: Kept) -> None:
    snapshot = kept.lab.freeze(kept.machine, "archiving")
    wish = Archive(expires=kept.lab.clock.now() + timedelta(days=1))
    request = msgspec.structs.replace(kept.lab.begin_request(snapshot), archive=wish)
    begun = run(kept.lab.points.begin_point, request)
    assert run(kept.lab.points.begin_point, request).point_id == begun.point_id
    assert (begun.kind, is_archive(begun.chain)) == ("full", True)
    run(kept.lab.transfers.copy_disk, kept.lab.copy_request(snapshot, begun))
    run(kept.lab.points.finish_point, FinishPoint(repository=STORE, point=begun))
    only = RetentionOptions(only_archives=True)
    assert (kept.plan().kept, kept.plan(options=only).steps, kept.plan(options=only).kept) == (1, (), 1)
    kept.lab.clock._seconds += int(timedelta(days=2).total_seconds())
    [step] = kept.plan(options=only).steps
    assert (step.chain, step.points) == (begun.chain, (begun.point_id,))
    run_twice(kept.serves.carry_out, contract.CarryOut(repository=STORE, step=step))
    assert kept.left() == [point.point_id for point in kept.points]
    purge = contract.PurgeRemoved(
        repository=STORE, machine_id=MachineId(""), machine_name="", grace_days=7, only_archives=True
    )
    assert run(kept.serves.purge, purge).files == 0
    kept.lab.clock._seconds += int(timedelta(days=8).total_seconds())
    assert run(kept.serves.purge, purge).files == 1


@pytest.mark.parametrize("jump", [timedelta(days=400), timedelta(days=-2)])
def test_while_the_clock_is_not_believed_nothing_goes_and_points_are_noted(kept: Kept, jump: timedelta) -> None:
    [step] = kept.plan(is_gone=True).steps
    run(kept.serves.carry_out, contract.CarryOut(repository=STORE, step=step, grace_days=1))
    again = [kept.back_up(number) for number in range(3, 6)]
    [step] = kept.plan().steps
    kept.lab.clock._seconds += int(jump.total_seconds())
    last = kept.back_up(6)  # backups go on
    purge = contract.PurgeRemoved(
        repository=STORE, machine_id=kept.machine.machine_id, machine_name=kept.machine.name, grace_days=1
    )
    for _ in range(2):
        failure(ClockJumped, kept.serves.plan, kept.request())
        failure(ClockJumped, kept.serves.carry_out, contract.CarryOut(repository=STORE, step=step))
        failure(ClockJumped, kept.serves.purge, purge)
    assert kept.left() == [point.point_id for point in (*again, last)]
    [chain] = look_at_machine(kept.lab.repository, kept.lab.repository.chain_folder(last.chain).parent, None).chains
    assert last.point_id in {note.point_id for note in chain.notes}
    accept_clock(kept.lab.repository, kept.lab.clock)
    [step] = kept.plan().steps
    run(kept.serves.carry_out, contract.CarryOut(repository=STORE, step=step))
    assert again[0].point_id not in kept.left()
    assert run(kept.serves.purge, purge).files == (3 if jump > timedelta() else 0)


def test_how_far_a_clock_may_be_ahead_is_a_setting_of_the_repository(kept: Kept) -> None:
    patient = RetentionActivities(
        kept.lab.open_repository, kept.lab.credentials.passphrase, kept.lab.clock, lambda _: 45
    )
    kept.plan()
    kept.lab.clock._seconds += int(timedelta(days=31).total_seconds())
    failure(ClockJumped, kept.serves.plan, kept.request())
    assert run(patient.plan, kept.request()).steps


def test_a_backup_counts_as_use_of_the_repository(kept: Kept) -> None:
    kept.plan()
    for number in range(3, 6):
        kept.lab.clock._seconds += int(timedelta(days=10).total_seconds())
        kept.back_up(number)
    assert kept.plan().steps


def test_a_merge_for_a_whole_job_tells_where_the_points_of_all_machines_are(lab: Lab) -> None:
    job = Job(CrashFiles(), None, lab.repository)
    job.run()
    job.change(1)
    newest = [point.point_id for point in job.run()]
    serves = RetentionActivities(lab.open_repository, lab.credentials.passphrase, lab.clock)
    request = contract.PlanRetention(
        repository=STORE,
        machine_id=MachineId(OWNER.owner_id),
        machine_name=OWNER.name,
        options=KEEP_ONE,
        has_consent=True,
    )
    [step] = run(serves.plan, request).steps
    order = contract.CarryOut(repository=STORE, step=step)
    done = run(serves.carry_out, order)
    assert done.moved is not None
    assert run(serves.carry_out, order).moved == done.moved
    assert [*done.moved.others, done.moved.point_id] == newest
    assert {found.point.id for found in lab.repository.points()} == set(newest)


def test_a_step_is_idempotent_and_counts_what_earlier_attempts_moved(kept: Kept) -> None:
    request = kept.carry_out()
    first = Attempt()
    done = first.run(kept.serves.carry_out, request)
    again = Attempt(first.beats[-1]).run(kept.serves.carry_out, request)
    assert again == done
    assert done.moved_bytes > 0


@pytest.mark.parametrize("is_shutdown", [False, True])
def test_a_step_that_is_stopped_leaves_points_that_read_and_goes_on(kept: Kept, is_shutdown: bool) -> None:
    request = kept.carry_out()
    attempt = Attempt()

    def stop(cursor: object) -> None:
        assert isinstance(cursor, contract.CarryOutCursor)
        if cursor.moved_bytes:
            attempt.environment.worker_shutdown() if is_shutdown else attempt.environment.cancel()

    attempt.on_beat = stop
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which of both depends on who asked
        attempt.run(kept.serves.carry_out, request)
    assert caught.value.__class__.__name__ in {"CancelledError", "ApplicationError"}
    assert kept.points[2].point_id in kept.left()
    run(kept.serves.carry_out, request)
    assert kept.left() == [kept.points[2].point_id]


def test_a_session_that_began_earlier_is_the_day_of_its_point(kept: Kept) -> None:
    began = kept.lab.clock.now() - timedelta(days=400)
    kept.plan(point=PointId(kept.points[0].point_id), began=began)
    days = RetentionOptions(policy=RetentionPolicy(keep=100, minimum_points=1))
    assert len(kept.plan(options=days).steps) == 1


def test_a_chain_with_locked_points_takes_further_ones_and_nothing_is_merged(kept: Kept) -> None:
    locked = msgspec.structs.replace(KEEP_ONE, lock_days=3)
    try:
        told = kept.plan(options=locked).locks
        assert told == "locked files are immutable" or told.startswith("locks are kept by retention alone: ")
        kept.back_up(3)
        assert len(kept.left()) == 4
        assert kept.plan(options=locked).steps == ()
    finally:
        for path in kept.lab.root.glob("repository/machines/*/*/*.hfc"):
            set_immutable(path, wanted=False)
