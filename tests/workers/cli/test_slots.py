"""Who has a slot and who waits can be looked at."""

import asyncio

import msgspec
import pytest

from activities.contracts import resources
from holdfast.clock import SystemClock
from holdfast.errors import ServerUnavailable
from holdfast.model.ids import RepositoryName
from holdfast.model.placement import Candidate, Claim, SlotsState
from tests.workers.cli.place import Place
from workers.temporal import connect
from workflows import queues
from workflows.resources import GrantSlots

ASKER = "asker"


def claim(ticket: str, tasks: int) -> Claim:
    """Return a claim of the workflow ``asker``."""
    return Claim(
        ticket=ticket,
        workflow_id=ASKER,
        run_id="",
        candidates=(Candidate(name="north", tasks=tasks, reason="direct"), Candidate(name="south", tasks=0)),
        repository=RepositoryName("vault"),
        repository_tasks=4,
        priority=300,
        asked=SystemClock().now(),
        what=f"backup of {ticket}",
    )


async def asked(place: Place, *claims: Claim) -> None:
    client = await connect(place.settings.temporal)
    # Any workflow that stays will do.
    await client.start_workflow(GrantSlots.run, SlotsState(waiting=claims[1:]), id=ASKER, task_queue=queues.CONTROL)
    handle = await client.start_workflow(
        GrantSlots.run,
        SlotsState(waiting=claims[1:]),
        id=resources.SCHEDULER_ID,
        task_queue=queues.CONTROL,
        start_signal=resources.CLAIM,
        start_signal_args=[claims[0]],
    )
    async with asyncio.timeout(60):
        while not (await handle.query(GrantSlots.state)).held:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)


async def given_back(place: Place, *tickets: str) -> None:
    client = await connect(place.settings.temporal)
    handle = client.get_workflow_handle(resources.SCHEDULER_ID)
    for ticket in tickets:
        await handle.signal(resources.RELEASE, resources.Release(ticket=ticket))
    await handle.result()
    await client.get_workflow_handle(ASKER).terminate()


def test_without_a_server_nothing_is_known(place: Place) -> None:
    assert place.run("slots").exit_code == ServerUnavailable.exit_status


@pytest.mark.temporal
def test_slots_are_listed_with_who_waits(lab: Place) -> None:
    asyncio.run(asked(lab, claim("web", 1), claim("db", 0)))
    document = lab.json("slots")
    told = lab.run("slots").stdout
    asyncio.run(given_back(lab, "web", "db"))
    state = msgspec.convert(document, SlotsState)
    assert [(held.claim.what, held.grant.proxy) for held in state.held] == [("backup of web", "north")]
    assert [waiting.what for waiting in state.waiting] == ["backup of db"]
    assert "direct; 0 of 1 slots were taken" in told
    assert "north or south" in told
    assert "waits" in told
    assert lab.json("slots") == {"held": [], "waiting": []}
    assert "nobody has a slot" in lab.run("slots").stdout
