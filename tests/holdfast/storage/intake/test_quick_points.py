"""The point of a quick backup goes behind what its job has, and goes with the point before it."""

from datetime import timedelta

import pytest

from holdfast.errors import ChainBroken, PointNotFound
from holdfast.model.ids import SessionId
from holdfast.model.points import PointSummary
from holdfast.model.retention import QuickBackup
from holdfast.planning.retention import Verdict
from holdfast.storage.intake.quick_points import begin_quick
from holdfast.storage.retention.carrying_out import StepWorker
from holdfast.testing.chains import ProtectedMachine
from tests.holdfast.storage.aging import age, look, planned, points_rule
from tests.holdfast.storage.conftest import make_machine

QUICK = QuickBackup(timezone="Asia/Tokyo", lock_days=0)


def quickly(machine: ProtectedMachine, quick: QuickBackup = QUICK) -> PointSummary:
    machine.sessions += 1
    session = SessionId(f"session-{machine.sessions}")
    opened = begin_quick(machine.repository, session, machine.snapshot(), machine.store, quick)
    again = begin_quick(machine.repository, session, machine.snapshot(), machine.store, quick)
    assert (again.chain, again.point_id) == (opened.chain, opened.point_id)
    machine.transfer_all(opened)
    return machine.finish(opened)


def test_without_a_full_it_is_refused_and_nothing_is_begun() -> None:
    machine = make_machine({"disk0": 6})
    with pytest.raises(PointNotFound, match="no full that a quick backup could continue: no chain of this machine yet"):
        quickly(machine)
    assert machine.repository.chain_folders() == []


def test_a_chain_that_is_damaged_is_not_begun_anew() -> None:
    machine = make_machine({"disk0": 6})
    summary = machine.back_up()
    machine.back_up()
    machine.repository.files.remove(machine.repository.chain_folder(summary.chain) / summary.file)
    with pytest.raises(ChainBroken):
        quickly(machine)
    assert len(machine.repository.chain_folders()) == 1


def test_it_is_an_increment_that_is_not_counted_and_goes_with_the_point_before_it() -> None:
    machine = make_machine({"disk0": 6})
    clock = age(machine, 2)
    quick = quickly(machine)
    assert quick.kind == "increment"
    age(machine, 1, behind=2)
    first = planned(machine, points_rule(2))
    verdicts = [point.verdict for point in first.judgement.plan.points]
    assert verdicts == [Verdict.MERGED, Verdict.KEPT, Verdict.KEPT, Verdict.KEPT]
    [chain] = look(machine).chains
    [note] = chain.notes
    assert (note.point_id, note.is_quick, note.locked_until) == (quick.point_id, True, None)
    assert note.day == clock.moment.date() + timedelta(days=1)  # in Tokyo it is the next day already
    now = age(machine, 1, behind=3).moment
    second = planned(machine, points_rule(2))
    [step] = second.steps
    assert quick.point_id in step.points
    StepWorker(machine.repository, None, now).run(step, lambda *_: None)
    machine.kept = machine.kept[-2:]
    assert machine.differences() == []
    assert planned(machine, points_rule(2)).steps == ()


def test_it_is_locked_as_its_job_locks_points() -> None:
    machine = make_machine({"disk0": 6})
    clock = age(machine, 1)
    quickly(machine, QuickBackup(lock_days=30))
    age(machine, 3, behind=1)
    [point] = [one for one in planned(machine, points_rule(1)).judgement.plan.points if one.number == 2]
    assert point.verdict is Verdict.KEPT
    assert str((clock.moment + timedelta(days=30)).date()) in point.reason


def test_its_lock_counts_from_the_start_of_its_session_whatever_the_clock_of_the_host_says() -> None:
    machine = make_machine({"disk0": 6})
    machine.back_up()
    began = machine.clock.now() - timedelta(days=300)
    made = quickly(machine, QuickBackup(lock_days=3, began=began))
    [chain] = look(machine).chains
    [note] = chain.notes
    assert note.point_id == made.point_id
    assert note.locked_until == began + timedelta(days=3)
