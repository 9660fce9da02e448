"""The plugin against a real server: nothing in clear, errors found again, histories replay."""

import asyncio
import base64
import itertools
import os
import stat
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle, WorkflowHistory
from temporalio.exceptions import CancelledError
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner, Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from activities.binding import implements, served_by
from activities.boundary import Heartbeat, error_from_failure, resume_cursor
from holdfast.clock import SystemClock
from holdfast.errors import (
    ChainBusy,
    ConfigurationInvalid,
    CredentialMissing,
    HoldfastError,
    OperationCancelled,
    PointNotFound,
    ServerUnavailable,
)
from holdfast.model.session import SessionKind
from tests.workers.told_secret import Cursor, Listen, TellSecret, Told, listen, whisper
from workers.devserver import DevServerAddress
from workers.loopback import free_ports
from workers.payloads import SEALED_ENCODING
from workers.temporal import (
    PASSED_THROUGH,
    connect,
    load_keyring,
    project_plugin,
)
from workers.temporal_settings import PayloadKeyFile, TemporalSettings, TlsFiles
from workflows.search_attributes import Subject, started

SECRET = "the wine is in the cellar"
QUEUE = "gossip"

pytestmark = pytest.mark.temporal


class Gossip:
    """Interrupts itself once, so that a heartbeat and a retry are part of every history."""

    def __init__(self) -> None:
        self.resumed: list[Cursor | None] = []
        self.listening = threading.Event()
        self.never = threading.Event()

    @implements(whisper)
    def whisper(self, request: Told) -> Told:
        cursor = resume_cursor(Cursor)
        self.resumed.append(cursor)
        with Heartbeat(SystemClock()) as heartbeat:
            heartbeat.beat(Cursor(secret=request.secret, step=1))
            heartbeat.beat(Cursor(secret=request.secret, step=2))
            if cursor is None or request.fails_in == "activity":
                message = f"chain c1 is held: {request.secret}"
                raise ChainBusy(message, hint=f"Ask for {request.secret}.")
        return request

    @implements(listen)
    def listen(self, request: Told) -> Told:
        cursor = resume_cursor(Cursor)
        self.resumed.append(cursor)
        self.listening.set()
        if cursor is not None:
            return request
        with Heartbeat(SystemClock()) as heartbeat:
            for step in itertools.count():
                heartbeat.beat(Cursor(secret="", step=step))
                self.never.wait(0.02)
        return request


@pytest.fixture
def keys(tmp_path: Path) -> tuple[PayloadKeyFile, ...]:
    return (key_file(tmp_path / "2026"), key_file(tmp_path / "2025"))


def key_file(path: Path) -> PayloadKeyFile:
    path.write_text(base64.b64encode(os.urandom(32)).decode() + "\n")
    path.chmod(0o600)
    return PayloadKeyFile(key_id=path.name, file=str(path))


def settings_for(server: DevServerAddress, keys: tuple[PayloadKeyFile, ...] = ()) -> TemporalSettings:
    return TemporalSettings(address=server.grpc, namespace=server.namespace, payload_keys=keys)


@asynccontextmanager
async def serving(client: Client, gossip: Gossip) -> AsyncIterator[None]:
    with ThreadPoolExecutor(2) as executor:
        async with Worker(
            client,
            task_queue=QUEUE,
            workflows=[TellSecret, Listen],
            activities=list(served_by(gossip).values()),
            activity_executor=executor,
            max_concurrent_activities=2,
        ):
            yield


async def tell(client: Client, told: Told, name: str) -> WorkflowHandle[TellSecret, Told]:
    handle = await client.start_workflow(
        TellSecret.run,
        told,
        id=f"{name}/{UUID(bytes=os.urandom(16))}",
        task_queue=QUEUE,
        static_summary=f"summary {told.secret}",
        static_details=f"details {told.secret}",
        memo={"note": told.secret},
        search_attributes=started(Subject(kind=SessionKind.BACKUP)),
    )
    await handle.signal(TellSecret.hear, told)
    return handle


async def error_of(handle: WorkflowHandle[TellSecret, Told]) -> HoldfastError | None:
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    return error_from_failure(caught.value)


def shows_secret(history: WorkflowHistory) -> bool:
    return any(SECRET.encode() in event.SerializeToString() for event in history.events)


async def test_with_keys_nothing_in_a_history_is_in_clear_and_it_replays(
    dev_server: DevServerAddress, keys: tuple[PayloadKeyFile, ...]
) -> None:
    settings, gossip = settings_for(dev_server, keys), Gossip()
    client = await connect(settings)
    async with serving(client, gossip):
        told = Told(secret=SECRET)
        handle = await tell(client, told, "sealed")
        assert await handle.result() == told
        assert await handle.query(TellSecret.heard) == [SECRET]
    assert gossip.resumed == [None, Cursor(secret=SECRET, step=2)]
    history = await handle.fetch_history()
    assert not shows_secret(history)
    assert SEALED_ENCODING.encode() in history.events[0].SerializeToString()
    description = await handle.describe()
    assert SECRET.encode() not in description.raw_description.SerializeToString()

    plugin = project_plugin(load_keyring(settings))
    await Replayer(workflows=[TellSecret], plugins=[plugin]).replay_workflow(history)
    without = Replayer(workflows=[TellSecret], plugins=[project_plugin()])
    with pytest.raises(Exception, match=r"sealed|encoding"):
        await without.replay_workflow(history)


async def test_without_keys_the_same_workflow_shows_the_secret(
    dev_server: DevServerAddress,
) -> None:
    client = await connect(settings_for(dev_server))
    async with serving(client, Gossip()):
        handle = await tell(client, Told(secret=SECRET), "clear")
        await handle.result()
    history = await handle.fetch_history()
    assert shows_secret(history)
    await Replayer(workflows=[TellSecret], plugins=[project_plugin()]).replay_workflow(history)


@pytest.mark.parametrize("fails_in, error", [("activity", ChainBusy), ("workflow", PointNotFound)])
async def test_an_error_of_ours_ends_a_workflow_and_is_found_again(
    dev_server: DevServerAddress,
    keys: tuple[PayloadKeyFile, ...],
    fails_in: str,
    error: type[HoldfastError],
) -> None:
    client = await connect(settings_for(dev_server, keys))
    async with serving(client, Gossip()):
        handle = await tell(client, Told(secret=SECRET, fails_in=fails_in), fails_in)
        found = await error_of(handle)
    assert type(found) is error
    assert found.message.endswith(SECRET)
    assert (SECRET in found.hint) is (fails_in == "activity")
    history = await handle.fetch_history()
    assert not shows_secret(history)
    assert error.code.encode() in history.events[-1].SerializeToString()


async def test_after_a_rotation_histories_of_the_old_key_are_still_read(
    dev_server: DevServerAddress, keys: tuple[PayloadKeyFile, ...]
) -> None:
    new, old = keys
    client = await connect(settings_for(dev_server, (old,)))
    handle = await tell(client, Told(secret=SECRET), "rotated")
    rotated = await connect(settings_for(dev_server, (new, old)))
    async with serving(rotated, Gossip()):
        same = rotated.get_workflow_handle_for(TellSecret.run, handle.id)
        assert await same.result() == Told(secret=SECRET)
    with pytest.raises(CredentialMissing, match="2026 is not configured"):
        await handle.result()


async def test_a_cancelled_session_ends_its_activity_at_the_next_beat(
    dev_server: DevServerAddress,
) -> None:
    client, gossip = await connect(settings_for(dev_server)), Gossip()
    async with serving(client, gossip):
        handle = await client.start_workflow(
            Listen.run, Told(secret=""), id=f"cancel/{os.urandom(8).hex()}", task_queue=QUEUE
        )
        await asyncio.to_thread(gossip.listening.wait, 30)
        await handle.cancel()
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()
    assert isinstance(caught.value.cause, CancelledError)
    assert type(error_from_failure(caught.value)) is OperationCancelled
    assert gossip.resumed == [None]


async def test_a_worker_that_goes_down_hands_its_cursor_to_the_next(
    dev_server: DevServerAddress,
) -> None:
    client, first, second = await connect(settings_for(dev_server)), Gossip(), Gossip()
    async with serving(client, first):
        handle = await client.start_workflow(
            Listen.run, Told(secret=""), id=f"shutdown/{os.urandom(8).hex()}", task_queue=QUEUE
        )
        await asyncio.to_thread(first.listening.wait, 30)
    async with serving(client, second):
        assert await handle.result() == Told(secret="")
    assert first.resumed == [None]
    assert [type(cursor) for cursor in second.resumed] == [Cursor]


async def test_a_server_that_does_not_answer_is_reported_in_time() -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    settings = TemporalSettings(address=address, connect_timeout_s=0.5)
    begun = asyncio.get_running_loop().time()
    with pytest.raises(ServerUnavailable, match=f"{address} within 0.5 s"):
        await connect(settings)
    assert asyncio.get_running_loop().time() - begun < 5


async def test_a_server_that_accepts_and_stays_silent_is_reported_in_time() -> None:
    async def stay_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(stay_silent, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        settings = TemporalSettings(address=f"127.0.0.1:{port}", connect_timeout_s=0.5)
        with pytest.raises(ServerUnavailable):
            await connect(settings)


async def test_a_namespace_that_is_not_there_is_a_matter_of_configuration(
    dev_server: DevServerAddress,
) -> None:
    settings = TemporalSettings(address=dev_server.grpc, namespace="nowhere")
    with pytest.raises(ConfigurationInvalid, match="no namespace nowhere"):
        await connect(settings)


def test_the_first_key_of_the_settings_is_the_active_one(
    keys: tuple[PayloadKeyFile, ...],
) -> None:
    ring = load_keyring(TemporalSettings(payload_keys=keys))
    assert ring is not None
    assert ring.active_id == keys[0].key_id
    assert load_keyring(TemporalSettings()) is None


def test_a_key_file_that_everybody_may_read_is_refused(keys: tuple[PayloadKeyFile, ...]) -> None:
    Path(keys[0].file).chmod(0o600 | stat.S_IROTH)
    with pytest.raises(ConfigurationInvalid, match="read by everybody"):
        load_keyring(TemporalSettings(payload_keys=keys))


@pytest.mark.parametrize("content", ["not base64!", base64.b64encode(b"short").decode(), ""])
def test_a_key_file_without_a_key_is_refused(keys: tuple[PayloadKeyFile, ...], content: str) -> None:
    Path(keys[0].file).write_text(content)
    with pytest.raises(ConfigurationInvalid):
        load_keyring(TemporalSettings(payload_keys=keys))


def test_a_missing_key_file_and_a_repeated_key_id_are_refused(
    keys: tuple[PayloadKeyFile, ...],
) -> None:
    with pytest.raises(ConfigurationInvalid, match="listed twice"):
        load_keyring(TemporalSettings(payload_keys=(keys[0], keys[0])))
    Path(keys[0].file).unlink()
    with pytest.raises(CredentialMissing, match="2026"):
        load_keyring(TemporalSettings(payload_keys=keys))


async def test_certificates_are_asked_for_in_pairs_and_must_exist(tmp_path: Path) -> None:
    half = TemporalSettings(tls=TlsFiles(certificate=str(tmp_path / "own.pem")))
    with pytest.raises(ConfigurationInvalid, match="together"):
        await connect(half)
    missing = TemporalSettings(tls=TlsFiles(server_ca=str(tmp_path / "ca.pem")))
    with pytest.raises(CredentialMissing, match=r"ca\.pem"):
        await connect(missing)
    token = TemporalSettings(api_key_file=str(tmp_path / "token"))
    with pytest.raises(CredentialMissing, match="token"):
        await connect(token)


def test_the_sandbox_takes_our_pure_modules_as_they_are() -> None:
    choose = project_plugin().workflow_runner
    assert callable(choose)
    for runner in (None, SandboxedWorkflowRunner()):
        chosen = choose(runner)
        assert isinstance(chosen, SandboxedWorkflowRunner)
        assert set(PASSED_THROUGH) <= chosen.restrictions.passthrough_modules
    unsandboxed = UnsandboxedWorkflowRunner()
    assert choose(unsandboxed) is unsandboxed
