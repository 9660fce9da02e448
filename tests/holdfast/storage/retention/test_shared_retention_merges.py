"""Merges in a chain that several machines share: each keeps its last point, unless it is gone."""

import msgspec
import pytest

from holdfast.errors import ChainBroken, PlanChanged
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.spans import Span
from holdfast.storage.health.folder import rebuild_file
from holdfast.storage.methods.compacting import compact, looseness
from holdfast.storage.retention.looking import PlanWish, look_at_machine, plan_machine
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.storage.job_days import Days, forever, numbers
from tests.holdfast.storage.jobs import OWNER


@pytest.fixture
def days(files: CrashFiles) -> Days:
    return Days(files)


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
