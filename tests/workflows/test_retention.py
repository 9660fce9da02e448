"""A retention session: the machines that were shown with their digests, or all of the job."""

from datetime import date

import msgspec
import pytest

from activities.contracts import retention as contract
from holdfast.errors import ClockJumped, PlanChanged
from holdfast.model.ids import JobName, MachineId, SessionId
from holdfast.model.owners import ChainOwner
from holdfast.model.retention import RetentionOptions
from holdfast.model.session import Outcome, SessionKind
from tests.workflows.conftest import Stage, details
from tests.workflows.stubs import World
from workflows.messages import Retained, RetentionRequest, ShownPlan, UpkeepOptions
from workflows.retention import RetainPoints

pytestmark = pytest.mark.temporal

RULES = UpkeepOptions(retention=RetentionOptions(gone_after_days=14))


def request_for(stage: Stage, *machines: ShownPlan, has_consent: bool = False) -> RetentionRequest:
    return RetentionRequest(
        job=JobName("nightly"),
        repository=stage.repository,
        upkeep=RULES,
        machines=machines,
        has_consent=has_consent,
        session_id=SessionId("s1"),
    )


def shown(name: str, digest: str) -> ShownPlan:
    return ShownPlan(machine_id=MachineId(f"id-{name}"), machine_name=name, digest=digest)


async def test_what_was_shown_is_what_is_asked_for(stage: Stage) -> None:
    world = World()
    async with stage.playing(world):
        plans = [shown("web", "d1"), shown("db", "d2")]
        result = await stage.run(RetainPoints.run, request_for(stage, *plans, has_consent=True))
    asked = {one.machine_name: one for one in world.requests("retention.plan")}
    assert {name: one.expected for name, one in asked.items()} == {"web": "d1", "db": "d2"}
    assert all(one.has_consent and not one.is_gone for one in asked.values())
    assert result.session.kind is SessionKind.RETENTION
    assert result.retained == Retained(kept=2)
    assert world.count("retention.find_machines") == 0


async def test_a_clock_that_jumped_is_said_once_with_its_code_and_what_to_do(stage: Stage) -> None:
    world = World()
    world.fail("retention.plan", ClockJumped("the clock is 400 days ahead"))
    async with stage.playing(world):
        result = await stage.run(RetainPoints.run, request_for(stage, shown("web", "d1"), shown("db", "d2")))
    assert result.session.outcome is Outcome.WARNING
    [note] = result.session.notes
    assert note.startswith(f"clock-jumped in repository {stage.repository}: the clock is 400 days ahead; ")
    assert "`holdfast retention clock --accept`" in note
    assert world.count("retention.purge") == 0


async def test_archives_that_were_removed_stay_while_the_clock_is_not_believed(stage: Stage) -> None:
    world = World()
    world.fail("retention.purge", ClockJumped("the clock is behind"))
    rules = UpkeepOptions(retention=RetentionOptions(only_archives=True))
    async with stage.playing(world):
        request = msgspec.structs.replace(request_for(stage, shown("web", "d1")), upkeep=rules)
        result = await stage.run(RetainPoints.run, request)
    assert result.session.outcome is Outcome.WARNING
    assert [note.split(":")[0] for note in result.session.notes] == [f"clock-jumped in repository {stage.repository}"]


async def test_what_else_keeps_archives_from_being_purged_fails_the_session(stage: Stage) -> None:
    world = World()
    world.fail("retention.purge", PlanChanged("anything"))
    rules = UpkeepOptions(retention=RetentionOptions(only_archives=True))
    async with stage.playing(world):
        request = msgspec.structs.replace(request_for(stage, shown("web", "d1")), upkeep=rules)
        await stage.failure(RetainPoints.run, request)


async def test_a_machine_whose_plan_changed_is_left_alone_and_the_others_are_not(stage: Stage) -> None:
    world = World()
    world.fail("retention.plan", PlanChanged("the plan is another"), where=lambda one: one.machine_name == "web")
    async with stage.playing(world):
        result = await stage.run(RetainPoints.run, request_for(stage, shown("web", "d1"), shown("db", "d2")))
    assert result.session.outcome is Outcome.WARNING
    assert result.session.notes == ("retention of web: the plan is another",)
    assert result.retained == Retained(kept=1)


async def test_a_scheduled_run_looks_after_all_machines_of_the_job(stage: Stage) -> None:
    world = World()
    machines = tuple(
        contract.JobMachine(
            machine_id=MachineId(f"id-{name}"), machine_name=name, last_tried=date(2026, 1, 2), is_gone=name == "old"
        )
        for name in ("old", "web")
    )
    world.answers["retention.find_machines"] = lambda _: contract.MachinesFound(machines=machines)
    async with stage.playing(world):
        handle = await stage.start(RetainPoints.run, request_for(stage))
        await handle.result()
        text = await details(handle)
    asked = {one.machine_name: one.is_gone for one in world.requests("retention.plan")}
    assert asked == {"old": True, "web": False}
    assert "Retention: 2 kept, of 2 machines" in text
    [find] = world.requests("retention.find_machines")
    assert (find.gone_after_days, find.only_gone) == (14, False)


async def test_a_chain_that_machines_share_is_looked_after_once_also_as_it_was_shown(stage: Stage) -> None:
    world = World()
    gone = contract.JobMachine(
        machine_id=MachineId("id-old"), machine_name="old", last_tried=date(2026, 1, 2), is_gone=True
    )
    world.answers["retention.find_machines"] = lambda _: contract.MachinesFound(machines=(gone,))
    owner = ChainOwner.of_job(JobName("nightly"))
    upkeep = msgspec.structs.replace(RULES, owner=owner)
    scheduled = msgspec.structs.replace(request_for(stage), upkeep=upkeep)
    plan = ShownPlan(
        machine_id=MachineId(owner.owner_id), machine_name=owner.name, digest="d1", gone=(MachineId("id-a"),)
    )
    as_shown = msgspec.structs.replace(request_for(stage, plan), upkeep=upkeep, session_id=SessionId("s2"))
    async with stage.playing(world):
        await stage.run(RetainPoints.run, scheduled)
        await stage.run(RetainPoints.run, as_shown)
    asked = [(one.machine_id, one.gone, one.expected) for one in world.requests("retention.plan")]
    assert asked == [("job/nightly", ("id-old",), ""), ("job/nightly", ("id-a",), "d1")]
