"""Signs of life: the file of a process that serves, and who polls a queue."""

import asyncio
import os
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from temporalio.client import Client

from holdfast.clock import SystemClock
from holdfast.errors import ServerUnavailable
from workers.config import Settings
from workers.devserver import DevServer, DevServerAddress, DevServerSettings
from workers.health import Poller, Readiness, pollers, ready_file
from workers.roles import Duty, Role, enter_workers
from workers.run import make_tools
from workers.temporal import connect
from workers.temporal_settings import TemporalSettings


def test_the_file_is_there_while_the_block_runs_and_tells_who_serves_what(tmp_path: Path) -> None:
    path, clock = tmp_path / "ready", SystemClock()
    with ready_file(path, ["proxy.p1", "proxy.p1.transfer"], clock):
        content = msgspec.json.decode(path.read_bytes(), type=Readiness)
        assert content.pid == os.getpid()
        assert content.queues == ("proxy.p1", "proxy.p1.transfer")
        assert abs(clock.now() - content.since) < timedelta(minutes=1)
        assert [entry.name for entry in tmp_path.iterdir()] == ["ready"]
    assert list(tmp_path.iterdir()) == []


def test_the_file_goes_away_with_an_error_too(tmp_path: Path) -> None:
    path = tmp_path / "ready"
    with pytest.raises(ServerUnavailable), ready_file(path, [], SystemClock()):
        raise ServerUnavailable("gone")
    assert not path.exists()


def test_the_file_of_a_killed_process_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "ready"
    path.write_text("of another life")
    with ready_file(path, [], SystemClock()):
        assert msgspec.json.decode(path.read_bytes(), type=Readiness).pid == os.getpid()
    assert not path.exists()


def test_without_a_path_there_is_no_file(tmp_path: Path) -> None:
    with ready_file(None, [], SystemClock()):
        assert list(tmp_path.iterdir()) == []


@pytest.mark.temporal
async def test_a_worker_is_seen_at_its_queue_and_nobody_at_another(
    dev_server: DevServerAddress, tmp_path: Path
) -> None:
    client = await connect(TemporalSettings(address=dev_server.grpc))
    duty = Duty(role=Role.PROXY, name="health")
    async with AsyncExitStack() as stack:
        await enter_workers(stack, client, [duty], make_tools(Settings(home=tmp_path), stack))
        found = await first_pollers(client, duty.queue)
    assert found[0].identity.startswith(f"{os.getpid()}@")
    assert abs(SystemClock().now() - found[0].last_seen) < timedelta(minutes=5)
    assert await pollers(client, "proxy.nobody") == ()


@pytest.mark.temporal
async def test_a_server_that_is_gone_is_named(tmp_path: Path) -> None:
    server = DevServer(tmp_path, DevServerSettings(is_headless=True))
    try:
        address = await asyncio.to_thread(server.start)
        client = await connect(TemporalSettings(address=address.grpc))
        await asyncio.to_thread(server.kill)
        with pytest.raises(ServerUnavailable, match="queue control cannot be looked at"):
            await pollers(client, "control")
    finally:
        await asyncio.to_thread(server.kill)


async def first_pollers(client: Client, queue: str) -> tuple[Poller, ...]:
    async with asyncio.timeout(60):
        while not (found := await pollers(client, queue)):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.05)
    return found
