"""A session is followed through interrupts and through a server that is away."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from temporalio.client import Client

from holdfast.clock import SystemClock
from holdfast.errors import OperationCancelled, ServerUnavailable, SessionNotFound
from holdfast.model.ids import JobName, ProviderName, RepositoryName, SessionId
from tests.workers.cli.conftest import workers
from tests.workers.cli.place import Place
from tests.workers.cli.recording import RecordingDisplay
from workers.cli.following import Followed, Follower, Interrupts, Pace
from workers.cli.starts import backup_start
from workers.devserver import DevServer, DevServerAddress, DevServerSettings
from workers.temporal import connect
from workers.temporal_settings import TemporalSettings
from workflows.messages import BackupRequest, SessionResult

pytestmark = pytest.mark.temporal

QUICK = Pace(look_interval_s=0.1, look_timeout_s=1.5)


@pytest.fixture(scope="module")
def bare(dev_server: DevServerAddress, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place with a server and no workers."""
    return Place(tmp_path_factory.mktemp("bare"), dev_server.grpc)


async def started(client: Client, job: str) -> Followed[SessionResult]:
    """Start a session that finds no proxy and therefore waits."""
    request = BackupRequest(
        job=JobName(job),
        provider=ProviderName("lab"),
        proxy=f"nobody-{job}",
        repository=RepositoryName("main"),
        session_id=SessionId(f"s-{job}"),
    )
    start = backup_start(request)
    handle = await client.start_workflow(
        start.workflow,
        start.request,
        id=start.workflow_id,
        task_queue=start.task_queue,
        search_attributes=start.search_attributes,
    )
    run_id = handle.first_execution_run_id
    return Followed(workflow_id=handle.id, run_id=run_id, result_type=SessionResult, if_stopped="it is undone")


async def test_the_first_interrupt_stops_the_session_and_follows_it_to_its_end(bare: Place) -> None:
    client = await connect(bare.settings.temporal)
    display, interrupts = RecordingDisplay(), Interrupts()
    with workers(bare.settings, "control"):
        followed = await started(client, "first")
        following = asyncio.ensure_future(Follower(client, followed, display, SystemClock()).run(interrupts))
        await display.until(lambda d: any(sight.steps for sight in d.sights))
        interrupts.interrupt()
        with pytest.raises(OperationCancelled, match="backup/first"):
            await following
    assert display.has_told("it is undone")
    assert display.sights[-1].is_closed


async def test_the_second_interrupt_leaves_at_once(bare: Place) -> None:
    client = await connect(bare.settings.temporal)
    display, interrupts = RecordingDisplay(), Interrupts()
    followed = await started(client, "second")
    interrupts.interrupt()
    follower = Follower(client, followed, display, SystemClock())
    following = asyncio.ensure_future(follower.run(interrupts))
    await display.until(lambda d: d.has_told("interrupt again"))
    assert follower._stopping is not None
    await follower._stopping
    interrupts.interrupt()
    with pytest.raises(OperationCancelled, match="goes on being cancelled in the background") as caught:
        await following
    assert "holdfast watch backup/second" in caught.value.hint
    await client.get_workflow_handle(followed.workflow_id).terminate()


async def test_the_terminals_interrupt_is_counted_while_the_block_runs() -> None:
    seen: list[int] = []
    both = asyncio.Event()

    def listen(count: int) -> None:
        seen.append(count)
        if count > 1:
            both.set()

    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0)
        interrupts.listen(listen)
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.wait_for(both.wait(), 10)
    assert seen in ([1, 2], [2])


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[DevServer]:
    """A server that may be killed."""
    server = DevServer(tmp_path / "temporal", DevServerSettings(is_headless=True))
    server.start()
    try:
        yield server
    finally:
        server.kill()


async def test_a_server_that_goes_away_is_waited_for(own_server: DevServer) -> None:
    address = own_server.status().address
    assert address is not None
    client = await connect(TemporalSettings(address=address.grpc))
    display = RecordingDisplay()
    followed = await started(client, "away")
    following = asyncio.ensure_future(Follower(client, followed, display, SystemClock(), QUICK).run(Interrupts()))
    await display.until(lambda d: bool(d.sights))
    await asyncio.to_thread(own_server.kill)
    await display.until(lambda d: d.has_told("does not answer"))
    await asyncio.to_thread(own_server.start)
    await display.until(lambda d: d.has_told("is back"))
    await client.get_workflow_handle(followed.workflow_id).terminate()
    with pytest.raises(OperationCancelled, match="terminated"):
        await following


async def test_patience_with_a_server_has_an_end(own_server: DevServer) -> None:
    address = own_server.status().address
    assert address is not None
    client = await connect(TemporalSettings(address=address.grpc))
    display = RecordingDisplay()
    followed = await started(client, "impatient")
    pace = Pace(look_timeout_s=1.5, patience_s=0.0)
    follower = Follower(client, followed, display, SystemClock(), pace)
    following = asyncio.ensure_future(follower.run(Interrupts()))
    await display.until(lambda d: bool(d.sights))
    await asyncio.to_thread(own_server.kill)
    with pytest.raises(ServerUnavailable, match="has been away") as caught:
        await following
    assert "continues when it is back" in caught.value.hint


async def test_a_workflow_that_is_not_known_is_said(bare: Place) -> None:
    client = await connect(bare.settings.temporal)
    followed = Followed(workflow_id="backup/nothing", result_type=SessionResult, if_stopped="x")
    with pytest.raises(SessionNotFound, match="backup/nothing"):
        await Follower(client, followed, RecordingDisplay(), SystemClock()).run(Interrupts())
