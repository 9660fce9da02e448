"""A workflow id stands for what is started by hand and for what a schedule starts."""

import asyncio
from collections.abc import Iterator

import pytest
from temporalio.client import Schedule, ScheduleActionStartWorkflow, ScheduleSpec

from activities.runs import FoundRun, latest, running
from tests.workers.servers import server_in
from workers.devserver import DevServerAddress
from workers.temporal import connect
from workers.temporal_settings import TemporalSettings

pytestmark = pytest.mark.temporal

NAME = "backup/it's nightly"
NOBODY = "nobody"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServerAddress]:
    with server_in(tmp_path_factory.mktemp("temporal")) as address:
        yield address


async def test_a_run_is_found_by_the_id_of_its_session_whoever_started_it(address: DevServerAddress) -> None:
    client = await connect(TemporalSettings(address=address.grpc, namespace=address.namespace))
    assert await running(client, NAME) == ()
    assert await latest(client, NAME) is None
    action = ScheduleActionStartWorkflow("Session", id=NAME, task_queue=NOBODY)
    schedule = await client.create_schedule("job", Schedule(action=action, spec=ScheduleSpec()))
    for other in (f"{NAME}-2", f"{NAME}-2026-11-22T22:00:00Z-machine"):
        await client.start_workflow("Session", id=other, task_queue=NOBODY)
    await schedule.trigger()
    found: tuple[FoundRun, ...] = ()
    async with asyncio.timeout(60):
        while not (found := await running(client, NAME)):  # noqa: ASYNC110 - visibility tells nobody
            await asyncio.sleep(0.05)
    [scheduled] = found
    assert scheduled.workflow_id.startswith(f"{NAME}-20")
    by_hand = await client.start_workflow("Session", id=NAME, task_queue=NOBODY)
    assert [run.workflow_id for run in await running(client, NAME)] == [scheduled.workflow_id, NAME]
    assert await latest(client, NAME) == scheduled
    await client.get_workflow_handle(scheduled.workflow_id).terminate()
    await by_hand.terminate()
    async with asyncio.timeout(60):
        while await running(client, NAME):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.05)
    newest = await latest(client, NAME)
    assert newest is not None
    assert (newest.workflow_id, newest.is_running) == (NAME, False)
