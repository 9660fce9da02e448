"""The scheduler gives what there is, takes back what the dead had, and hands its line on when it begins anew."""

import datetime as dt

import msgspec
import pytest
from temporalio.client import WorkflowExecutionStatus
from temporalio.common import WorkflowIDReusePolicy

from activities.contracts import resources as contract
from holdfast.model.ids import RepositoryName
from holdfast.model.placement import Candidate, Claim, Grant, Held, SlotsState
from tests.workflows.conftest import Stage, details
from tests.workflows.stubs import World, then, until_cancelled
from tests.workflows.test_slots import request
from workflows import options, queues
from workflows.machine_backup import MachineBackup
from workflows.resources import GrantSlots
from workflows.resources import details as details_of

pytestmark = pytest.mark.temporal


@pytest.fixture(autouse=True)
def watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is gone is looked for every second; on a real server, which knows what a termination is."""
    monkeypatch.setattr(options, "RECLAIM_INTERVAL", dt.timedelta(seconds=1))


NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


def claim(ticket: str) -> Claim:
    return Claim(
        ticket=ticket,
        workflow_id="nobody",
        run_id="5f8f7d6e-0000-4000-8000-000000000000",
        candidates=(Candidate(name="a", tasks=1), Candidate(name="b", tasks=1)),
        repository=RepositoryName("vault"),
        repository_tasks=4,
        priority=300,
        asked=NOON,
        what=f"backup of {ticket}",
    )


async def test_what_a_terminated_session_had_goes_to_who_waits(dev_stage: Stage) -> None:
    stage, world = dev_stage, World()
    used = stage.resources(tasks=1)
    copy = world.answers["transfer.copy_disk"]
    world.answers["transfer.copy_disk"] = then(until_cancelled, copy)
    async with stage.playing(world):
        dead = await stage.start(MachineBackup.run, request(stage, world, used))
        await world.until(lambda: world.count("transfer.copy_disk") == 1)
        world.answers["transfer.copy_disk"] = copy
        await dead.terminate()
        heir = await stage.start(MachineBackup.run, request(stage, world, used))
        await heir.result()
        assert (await dead.describe()).status is WorkflowExecutionStatus.TERMINATED
    assert world.count("resources.find_gone") >= 1


async def test_a_line_is_handed_on_and_emptied_when_nobody_is_there(dev_stage: Stage) -> None:
    stage, world = dev_stage, World()
    first = claim("1")
    held = Held(claim=first, grant=Grant(ticket="1", proxy="a", reason="because"), since=NOON)
    state = SlotsState(held=(held,), waiting=(claim("2"), claim("3")))
    async with stage.playing(world):
        handle = await stage.client.start_workflow(
            GrantSlots.run,
            state,
            id=contract.SCHEDULER_ID,
            task_queue=queues.CONTROL,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        )
        # Ticket 2 gets the other proxy, and is not there any more; neither is anybody else.
        assert await handle.result() == SlotsState()
        text = await details(handle)
    assert "waits" not in text


async def test_a_slot_that_was_given_is_told_again_when_it_is_asked_for_again(dev_stage: Stage) -> None:
    stage, world = dev_stage, World()
    used = stage.resources(tasks=1)
    copy = world.answers["transfer.copy_disk"]
    world.answers["transfer.copy_disk"] = then(until_cancelled, copy)
    async with stage.playing(world):
        holder = await stage.start(MachineBackup.run, request(stage, world, used))
        await world.until(lambda: world.count("transfer.copy_disk") == 1)
        scheduler = stage.client.get_workflow_handle(contract.SCHEDULER_ID, result_type=SlotsState)
        [asked] = world.requests("resources.claim")
        await scheduler.signal(contract.CLAIM, asked)
        before = await scheduler.query(GrantSlots.state)
        assert [one.claim.ticket for one in before.held] == [asked.ticket]
        assert before.waiting == ()
        await holder.terminate()
        assert await scheduler.result() == SlotsState()


def test_the_details_say_who_has_what_and_who_waits() -> None:
    held = Held(claim=claim("1"), grant=Grant(ticket="1", proxy="a", reason="direct"), since=NOON)
    other = msgspec.structs.replace(claim("2"), what="restore of db")
    text = details_of([held], [other], NOON + dt.timedelta(seconds=7))
    for words in ("backup of 1", "since\u00a07\u00a0s:\u00a0direct", "restore of db", "a\u00a0or\u00a0b", "waits"):
        assert words in text
