"""Changing a chain by hand: what is refused at once, what a worker does, and how it is stopped."""

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client, WorkflowHandle

from holdfast.errors import (
    ChainBusy,
    CredentialMissing,
    OperationCancelled,
    PointNotFound,
    RequestInvalid,
    ServerUnavailable,
)
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.storage.jobs import Job
from tests.workers.cli.conftest import workers
from tests.workers.cli.place import Place, call, one_document
from tests.workers.cli.stored import back_up
from workers.devserver import DevServerAddress
from workers.temporal import connect
from workflows.queues import MACHINE_UPKEEP

_Handle = WorkflowHandle[Any, Any]


def test_a_machine_without_points_is_refused(place: Place) -> None:
    document = place.json("compact", "--machine", "mail", status=PointNotFound.exit_status)
    assert "mail has no finished restore point" in document["error"]["message"]


def test_without_a_server_nothing_is_changed(place: Place) -> None:
    back_up(place, 1, b"a" * 512)
    assert place.json("compact", "--machine", "web 01", status=ServerUnavailable.exit_status)["error"]


def test_a_chain_that_machines_share_is_left_as_it_is(place: Place) -> None:
    Job(CrashFiles(), None, place.repository).run()
    document = place.json("compact", "--machine", "a", "--synthetic-full", status=RequestInvalid.exit_status)
    assert "which several machines share" in document["error"]["message"]


def test_a_chain_that_machines_share_is_compacted_for_its_job(place: Place) -> None:
    Job(CrashFiles(), None, place.repository).run()
    document = place.json("compact", "--machine", "a", status=RequestInvalid.exit_status)
    assert "which several machines share" in document["error"]["message"]
    place.config.write_text(place.config.read_text().replace("schedule", 'chain = "per-job"\nschedule'))
    assert place.json("compact", "--machine", "a", status=ServerUnavailable.exit_status)["error"]


@pytest.mark.temporal
def test_the_newest_point_becomes_a_full_by_hand(lab: Place) -> None:
    for _ in range(2):
        lab.json("backup", "--machine", "web")
    before = lab.json("points", "--machine", "web")["points"][-1]
    document = lab.json("compact", "--machine", "web", "--synthetic-full")
    [[name, words]] = document["lines"]
    assert name == "Method"
    now = lab.json("points", "--machine", "web")["points"][-1]
    assert (now["kind"], now["chain"] != before["chain"] or before["kind"] == "full") == ("full", True)
    assert "it was asked for" in words
    assert lab.json("verify", "latest", "--machine", "web", "--offline")["report"]["damages"] == []


@pytest.mark.temporal
def test_a_change_that_fails_ends_with_the_status_of_its_error(lab: Place) -> None:
    lab.json("backup", "--machine", "web")
    here = lab.root / "here"  # a home with a credential that the workers do not have
    config = lab.root / "here.toml"
    config.write_text(lab.config.read_text().replace('home = "home"', 'home = "here"'))
    (here / "credentials").mkdir(parents=True)
    file = here / "credentials" / "elsewhere"
    file.touch(0o600)
    file.write_text("secret\n")
    words = ("compact", "--machine", "web", "--credential", "elsewhere", "--config", str(config), "--json")
    document = one_document(call(*words), CredentialMissing.exit_status)
    assert document["error"]["code"] == "credential-missing"
    assert (document["lines"], len(document["notes"])) == ([], 1)


@pytest.fixture
def alone(dev_server: DevServerAddress, tmp_path: Path) -> Place:
    """A place with a server, a machine with a point, and a repository that no worker serves."""
    place = Place(tmp_path, dev_server.grpc)
    text = place.config.read_text().replace('name = "main"', 'name = "alone"')
    place.config.write_text(text.replace('repository = "main"', 'repository = "alone"'))
    back_up(place, 1, b"a" * 512)
    return place


@contextmanager
def meanwhile(place: Place, act: Callable[[_Handle], Awaitable[None]]) -> Iterator[None]:
    """Do something with the upkeep in this place as soon as it runs."""

    async def acting() -> None:
        client = await connect(place.settings.temporal)
        async with asyncio.timeout(60):
            handle = await running(client)
        await act(handle)

    thread = threading.Thread(target=asyncio.run, args=(acting(),))
    thread.start()
    try:
        yield
    finally:
        thread.join(60)


async def running(client: Client) -> _Handle:
    """Return the upkeep in the repository that nobody serves, once it runs."""
    while True:
        async for found in client.list_workflows('ExecutionStatus = "Running"'):
            if found.id.startswith(f"{MACHINE_UPKEEP}alone/"):
                return client.get_workflow_handle(found.id)
        await asyncio.sleep(0.1)


async def terminate(handle: _Handle) -> None:
    await handle.terminate("by a test")


async def interrupt_once_looked_at(handle: _Handle) -> None:
    """Send the interrupt of a terminal once the workflow has waited for the worker of its repository for some looks."""
    async with asyncio.timeout(60):
        while not (await handle.describe()).raw_description.pending_activities:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.1)
    await asyncio.sleep(3)
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.temporal
def test_what_is_terminated_is_told_as_such_also_to_who_watches(alone: Place) -> None:
    with meanwhile(alone, terminate):
        document = alone.json("compact", "--machine", "web 01", status=OperationCancelled.exit_status)
    assert (document["error"]["code"], document["run_id"] is None) == ("cancelled", False)
    ids = alone.json("compact", "--machine", "web 01", "--detach")
    assert ids["workflow_id"] == document["workflow_id"]
    again = alone.json("compact", "--machine", "web 01", status=ChainBusy.exit_status)
    assert f"holdfast watch {ids['workflow_id']}" in again["error"]["hint"]
    with meanwhile(alone, terminate):
        watched = alone.json("watch", ids["workflow_id"], status=OperationCancelled.exit_status)
    assert "terminated" in watched["error"]["message"]


@pytest.mark.temporal
def test_an_interrupt_asks_it_to_stop_and_it_says_what_it_waits_for(alone: Place) -> None:
    with workers(alone.settings, "control"), meanwhile(alone, interrupt_once_looked_at):
        result = alone.run("compact", "--machine", "web 01")
    assert result.exit_code == OperationCancelled.exit_status, result.output
    assert "chains.compact: waiting for a worker" in result.stderr
    assert "stopping the session: the chain stays readable" in result.stderr
