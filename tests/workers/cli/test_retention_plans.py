"""Plans as people and programs read them; nothing is changed by making one."""

import msgspec

from holdfast.model.ids import SessionId
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.storage.jobs import Job
from tests.workers.cli.place import Place
from tests.workers.cli.retained import THREE, protect, rule, tell
from workers.cli.invocation import Flags, Invocation
from workers.cli.retention_plans import chain_jobs, document_of, parts_of, plan_job


def invocation(place: Place) -> Invocation:
    return Invocation(Flags(config=place.config))


def test_every_point_has_its_fate_and_steps_have_bytes(place: Place) -> None:
    rule(place, "points = 1")
    points = protect(place, THREE)
    run = invocation(place)
    found = plan_job(run, run.settings.job("nightly"), SessionId("s"), has_consent=True)
    total = found.total()
    assert (total.kept, total.merged, total.deleted, total.held) == (1, 2, 0, 0)
    assert total.moved_bytes > 0
    [step] = found.machines[0].plan.steps
    assert step.points == tuple(point.point_id for point in points[:2])
    assert found.as_shown(has_consent=True).machines[0].digest == found.machines[0].plan.digest
    assert document_of(found)["digest"] == found.digest
    assert any("merged into 00000001-full.hfc" in part for part in parts_of(found) if isinstance(part, str))


def test_only_jobs_with_retention_are_asked(place: Place) -> None:
    assert chain_jobs(place.settings.jobs) == []
    rule(place, "points = 1")
    assert [job.name for job in chain_jobs(place.settings.jobs)] == ["nightly"]


def test_a_chain_that_machines_share_is_planned_once_and_those_that_are_gone_keep_nothing(place: Place) -> None:
    layout = 'chain = "per-job"\nmethod = "forward"\nactive_full = "saturday"\nschedule'
    place.config.write_text(place.config.read_text().replace("schedule", layout))
    rule(place, "points = 1\ngone_after = 5")
    job = Job(CrashFiles(), None, place.repository)
    tell(place, job.run(), tried_days_ago=9)
    job.a.store = job.b.store = msgspec.structs.replace(job.store, full=True)
    tell(place, [job.a.back_up()], session_id="s2")
    run = invocation(place)
    found = plan_job(run, run.settings.job("nightly"), SessionId("s"), has_consent=True)
    [shown] = found.as_shown(has_consent=True).machines
    assert (shown.machine_id, shown.machine_name, shown.gone) == ("job/nightly", "nightly", (job.b.machine_id,))
    assert [len(step.points) for step in found.machines[0].plan.steps] == [2]
    assert found.request.upkeep.owner == job.store.owner


def test_a_job_that_shares_its_chain_and_has_no_points_has_no_plan(place: Place) -> None:
    layout = 'chain = "per-job"\nmethod = "forward"\nactive_full = "saturday"\nschedule'
    place.config.write_text(place.config.read_text().replace("schedule", layout))
    rule(place, "points = 1")
    tell(place, [])
    run = invocation(place)
    assert plan_job(run, run.settings.job("nightly"), SessionId("s")).machines == ()
