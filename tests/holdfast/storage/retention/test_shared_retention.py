"""Retention of a chain that several machines share: files go as wholes, and no machine loses its newest point."""

from datetime import timedelta

import msgspec
import pytest

from holdfast.errors import ChainBroken, PlanChanged, PointLocked, RequestInvalid
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.ids import MachineId, PointId
from holdfast.model.owners import ChainOwner
from holdfast.model.retention import KeepUnit, MarkKind, Method, RetentionOptions, RetentionPolicy, WeeklyRule
from holdfast.model.spans import Span
from holdfast.planning.retention import Verdict
from holdfast.storage.chains.keeping import change_notes, read_notes
from holdfast.storage.health.folder import rebuild_file
from holdfast.storage.methods.compacting import compact, looseness
from holdfast.storage.methods.reversing import make_newest_full
from holdfast.storage.methods.synthesis import synthesize
from holdfast.storage.retention.carrying_out import StepWorker
from holdfast.storage.retention.looking import MachinePlan, PlanWish, look_at_machine, plan_machine, take_note
from holdfast.testing.chains import ProtectedMachine
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.storage.aging import FIRST_DAY, DayClock
from tests.holdfast.storage.jobs import OWNER, Job


def rule(keep: int, method: Method = Method.FORWARD) -> RetentionOptions:
    return RetentionOptions(policy=RetentionPolicy(keep=keep, unit=KeepUnit.POINTS), method=method)


def forever(keep: int) -> RetentionOptions:
    return rule(keep, Method.FOREVER)


class Days:
    """A job over days; ``full`` on a day begins a new chain."""

    def __init__(self, files: CrashFiles) -> None:
        self.job, self.clock, self.day = Job(files), DayClock(), 0
        for machine in self.job.machines:
            machine.clock = self.clock

    def run(self, *machines: ProtectedMachine, full: bool = False) -> None:
        self.clock.moment = FIRST_DAY + timedelta(days=self.day)
        self.day += 1
        self.job.change(self.day % 7)
        for machine in machines:
            machine.sessions = self.day - 1
            machine.store = msgspec.structs.replace(self.job.store, full=full)
            machine.back_up()

    def plan(self, options: RetentionOptions, gone: tuple[MachineId, ...] = ()) -> MachinePlan:
        seen = look_at_machine(self.job.repository, self.job.repository.owner_folder(OWNER), None)
        wish = PlanWish(options=options, now=self.clock.now(), has_consent=True, gone=gone)
        plan = plan_machine(seen, wish)
        take_note(self.job.repository, seen, plan, wish)
        return plan

    def carry_out(self, plan: MachinePlan) -> None:
        for step in plan.steps:
            StepWorker(self.job.repository, None, self.clock.now()).run(step, lambda _files, _bytes: None)
            for machine in self.job.machines:
                machine.kept = [kept for kept in machine.kept if kept.summary.point_id not in step.points]


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


def numbers(job: Job) -> list[list[int]]:
    return [[kept.summary.number for kept in machine.kept] for machine in job.machines]


def test_increments_of_a_job_are_merged_and_each_machine_keeps_what_is_not_outdated(days: Days) -> None:
    job = days.job
    for _ in range(4):
        days.run(*job.machines)
    plan = days.plan(forever(2))
    [step] = plan.steps
    assert (step.into, len(step.files), len(step.points), step.let_go) == ("00000001-full.hfc", 2, 4, ())
    days.carry_out(plan)
    assert numbers(job) == [[5, 7], [6, 8]]
    job.check()
    assert days.plan(forever(2)).steps == ()
    days.run(*job.machines)
    days.carry_out(days.plan(forever(1)))
    assert numbers(job) == [[9], [10]]
    job.check()


def test_a_merge_leaves_a_machine_that_failed_its_newest_point(days: Days) -> None:
    job = days.job
    days.run(*job.machines)
    days.run(job.a)
    days.run(*job.machines)
    days.run(job.a)
    days.run(job.a)
    plan = days.plan(forever(1))
    assert [len(step.points) for step in plan.steps] == [5]
    days.carry_out(plan)
    assert numbers(job) == [[7], [5]]
    job.check()
    days.run(*job.machines)  # whose increment rests on a point of the full
    job.check()
    days.carry_out(days.plan(forever(1)))
    assert numbers(job) == [[8], [9]]
    job.check()


def test_a_merge_lets_go_of_a_machine_that_is_gone(days: Days) -> None:
    job = days.job
    days.run(*job.machines)
    days.run(*job.machines)
    days.run(job.a)
    days.run(job.a)
    plan = days.plan(forever(1), gone=(job.b.machine_id,))
    assert [step.let_go for step in plan.steps] == [(job.b.kept[-1].summary.point_id,)]
    assert plan.digest != days.plan(forever(1)).digest
    days.carry_out(plan)
    assert numbers(job) == [[6], []]
    job.check()


def test_a_machine_that_is_gone_stays_while_a_file_that_stays_has_its_point(days: Days) -> None:
    job = days.job
    days.run(*job.machines)
    days.run(job.a)
    days.run(*job.machines)
    days.carry_out(days.plan(forever(2), gone=(job.b.machine_id,)))
    assert numbers(job) == [[3, 4], [2, 5]]
    job.check()


def test_compacting_gives_back_what_a_machine_that_is_gone_had(days: Days) -> None:
    job = days.job
    days.run(*job.machines)
    for _ in range(3):
        days.run(job.a)
    days.carry_out(days.plan(forever(2), gone=(job.b.machine_id,)))
    days.run(*job.machines)  # it is back, and is read whole
    days.carry_out(days.plan(forever(1)))
    folder = job.repository.chain_folder(job.a.kept[0].summary.chain)
    with job.repository.open_chain(job.a.kept[0].summary.chain, None) as chain:
        found = looseness(chain)
    assert found is not None
    compact(job.files, folder, None, commit_bytes=256 << 10)
    job.check()
    with job.repository.open_chain(job.a.kept[0].summary.chain, None) as chain:
        now = looseness(chain)
    assert now is not None
    assert (now.needed_bytes, now.file_bytes < found.file_bytes) == (found.needed_bytes, True)


def test_a_point_that_another_rests_on_by_now_is_not_let_go(days: Days) -> None:
    job = days.job
    days.run(*job.machines)
    days.run(job.a)
    days.run(job.a)
    plan = days.plan(forever(1), gone=(job.b.machine_id,))
    days.run(*job.machines)
    with pytest.raises(ChainBroken, match="should go with its machine b, which has point 6 by now"):
        days.carry_out(plan)
    job.check()


def test_a_session_that_goes_on_after_a_merge_of_its_file_begins_another(days: Days) -> None:
    job = days.job
    days.run(*job.machines)
    days.run(job.a)
    days.carry_out(days.plan(forever(1)))
    assert numbers(job) == [[3], [2]]
    job.b.sessions = job.a.sessions - 1
    made = job.b.back_up()
    assert (made.file, made.number) == ("00000004-increment.hfc", 4)
    job.check()
    days.carry_out(days.plan(forever(1)))
    assert numbers(job) == [[3], [4]]
    job.check()


def test_a_machine_that_comes_back_to_its_session_after_a_merge_stores_what_the_full_forgot(days: Days) -> None:
    job = days.job
    days.run(*job.machines)
    days.run(job.a)
    days.carry_out(days.plan(forever(1), gone=(job.b.machine_id,)))
    job.b.rewind(0)
    job.b.sessions, job.b.store = job.a.sessions - 1, job.store
    assert job.b.back_up().file == "00000004-increment.hfc"
    job.check()


def test_stricter_rules_about_machines_that_are_gone_wait_for_consent(days: Days) -> None:
    job = days.job
    days.run(*job.machines)
    days.carry_out(days.plan(forever(1)))
    days.run(job.a)
    options = msgspec.structs.replace(forever(1), gone_after_days=1)
    seen = look_at_machine(job.repository, job.repository.owner_folder(OWNER), None)
    wish = PlanWish(options=options, now=days.clock.now(), gone=(job.b.machine_id,))
    newest = job.b.kept[-1].summary.point_id
    plan = plan_machine(seen, wish)
    assert newest not in {point for step in plan.steps for point in step.points}
    assert plan.judgement.held == (newest,)
    agreed = plan_machine(seen, msgspec.structs.replace(wish, has_consent=True))
    assert [step.let_go for step in agreed.steps] == [(newest,)]
    known = plan_machine(msgspec.structs.replace(seen, rules=options), wish)
    assert [step.let_go for step in known.steps] == [(newest,)]


def test_a_merge_that_would_take_a_point_which_the_plan_keeps_is_refused(days: Days) -> None:
    job = days.job
    days.run(*job.machines)
    days.run(job.a)
    plan = days.plan(forever(1))
    job.b.sessions, job.b.store = job.a.sessions - 1, job.store
    job.b.back_up()
    with pytest.raises(PlanChanged, match="point 2 of b would go with the merge"):
        days.carry_out(plan)
    job.check()
    days.carry_out(days.plan(forever(1)))
    assert numbers(job) == [[3], [4]]
    job.check()


def test_a_full_with_an_older_point_is_rebuilt_whatever_its_machine_began_since(days: Days) -> None:
    job = days.job
    days.run(*job.machines)
    days.run(job.a)
    job.b.sessions, job.b.store = 2, job.store
    job.b.disks["disk0"].zero(Span(0, 2 * PIECE_SIZE))
    job.b.transfer(job.b.begin(), "disk0")
    job.abandon(job.b)
    days.run(job.a)
    days.carry_out(days.plan(forever(1)))
    assert numbers(job) == [[5], [2]]
    folder = job.repository.chain_folder(job.a.kept[-1].summary.chain)
    rebuild_file(job.files, folder, "00000001-full.hfc", None)
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
