"""Retention of a chain that several machines share: files go as wholes, and no machine loses its newest point."""

from datetime import timedelta

import msgspec
import pytest

from holdfast.errors import PointLocked, RequestInvalid
from holdfast.model.ids import PointId
from holdfast.model.owners import ChainOwner
from holdfast.model.retention import KeepUnit, MarkKind, Method, RetentionOptions, RetentionPolicy, WeeklyRule
from holdfast.planning.retention import Verdict
from holdfast.storage.chains.keeping import change_notes, read_notes
from holdfast.storage.methods.reversing import make_newest_full
from holdfast.storage.methods.synthesis import synthesize
from holdfast.storage.retention.looking import PlanWish, look_at_machine, plan_machine
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.storage.job_days import Days, rule


@pytest.fixture
def days(files: CrashFiles) -> Days:
    return Days(files)


def test_the_points_of_a_session_count_once_and_go_together(days: Days) -> None:
    job = days.job
    days.run(*job.machines)
    days.run(*job.machines)
    days.run(*job.machines, full=True)
    plan = days.plan(rule(1))
    old = [kept.summary.point_id for machine in job.machines for kept in machine.kept[:2]]
    assert [one.verdict for one in plan.judgement.plan.points] == [Verdict.DELETED, Verdict.DELETED, Verdict.KEPT]
    assert sorted(point for step in plan.steps for point in step.points) == sorted(old)
    days.carry_out(plan)
    assert [len(machine.kept) for machine in job.machines] == [1, 1]
    job.check()
    assert days.plan(rule(1)).steps == ()


def test_a_chain_stays_as_long_as_the_newest_point_of_a_machine_is_in_it(days: Days) -> None:
    job = days.job
    days.run(*job.machines)
    days.run(job.a)
    days.run(job.a, full=True)
    days.run(job.a)
    plan = days.plan(rule(1))
    reasons = [(one.verdict, one.reason) for one in plan.judgement.plan.points]
    assert reasons[0] == (Verdict.KEPT, "the newest point of a machine is in its file")
    assert reasons[1][0] is Verdict.DELETED  # an increment of the other machine, on which nothing rests
    days.carry_out(plan)
    job.check()
    assert len(job.b.kept) == 1
    days.run(*job.machines)
    days.carry_out(days.plan(rule(1)))
    job.check()
    assert {kept.summary.chain for machine in job.machines for kept in machine.kept} == {job.a.kept[-1].summary.chain}


def test_a_machine_that_is_gone_keeps_no_chain(days: Days) -> None:
    job = days.job
    days.run(*job.machines)
    days.run(job.a, full=True)
    assert days.plan(rule(1)).steps == ()
    plan = days.plan(rule(1), gone=(job.b.machine_id,))
    assert len(plan.steps) == 1
    days.carry_out(plan)
    assert (len(job.a.kept), len(job.b.kept)) == (1, 0)
    job.check()


def test_a_file_is_locked_as_long_as_any_point_of_it_is(days: Days) -> None:
    job = days.job
    days.run(*job.machines)
    locked = PointId(job.a.kept[0].summary.point_id)
    days.run(*job.machines, full=True)
    folder = job.repository.chain_folder(job.a.kept[0].summary.chain)
    days.plan(rule(5))
    with job.repository.open_chain(job.a.kept[0].summary.chain, None) as chain:
        keys = chain.files[0].keys
        notes = read_notes(job.files, folder, keys).points
        until = days.clock.now() + timedelta(days=9)
        mine = msgspec.structs.replace(notes[0], point_id=locked, locked_until=until)
        change_notes(job.files, folder, keys, lambda known: (*known, mine))
    assert days.plan(rule(1)).steps == ()
    days.clock.moment = until
    plan = days.plan(rule(1))
    assert len(plan.steps) == 1
    days.clock.moment = until - timedelta(days=1)
    with pytest.raises(PointLocked):
        days.carry_out(plan)


def test_retention_that_comes_between_two_machines_costs_no_mark_and_no_lock(days: Days) -> None:
    job = days.job
    policy = RetentionPolicy(keep=1, unit=KeepUnit.POINTS, weekly=WeeklyRule(weeks=9))
    options = RetentionOptions(policy=policy, method=Method.FORWARD, lock_days=3)
    days.run(job.a)
    days.plan(options)
    job.b.sessions, job.b.store = 0, job.store
    assert job.b.back_up().file == job.a.kept[0].summary.file
    days.run(*job.machines, full=True)
    [first, _] = [file.point for chain in days.plan(options).facts for file in chain.files]
    assert [mark.kind for mark in first.marks] == [MarkKind.WEEKLY]
    assert first.locked_until is not None
    assert days.plan(options).steps == ()


def test_what_would_lose_a_machine_is_refused(days: Days) -> None:
    job = days.job
    days.run(*job.machines)
    days.run(job.a)
    name = job.a.kept[0].summary.chain
    folder = job.repository.chain_folder(name)
    with pytest.raises(RequestInvalid, match="shared by several machines: a, b"):
        synthesize(job.repository, name, None)
    with pytest.raises(RequestInvalid, match="shared by several machines"):
        make_newest_full(job.files, folder, None)
    job.check()


def test_the_chains_of_one_machine_are_planned_as_ever(files: CrashFiles) -> None:
    days = Days(files)
    days.job.per_machine()
    days.run(days.job.a)
    days.run(days.job.a, full=True)
    owner = ChainOwner.of_machine(days.job.a.machine_id, "a")
    seen = look_at_machine(days.job.repository, days.job.repository.owner_folder(owner), None)
    plan = plan_machine(seen, PlanWish(options=rule(1), now=days.clock.now(), has_consent=True))
    assert len(plan.steps) == 1
