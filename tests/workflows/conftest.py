"""The server that skips time, and a running world of stub activities."""

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from temporalio.api.enums.v1 import EventType, IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from holdfast.model.ids import JobName, ProviderName, RepositoryName, SessionId
from holdfast.model.placement import ProxyLimit, Resources
from tests.workflows.stubs import World
from workers.devserver import DevServer, DevServerSettings
from workers.roles import WORKFLOWS
from workers.temporal import connect, project_plugin
from workers.temporal_settings import TemporalSettings
from workflows import queues
from workflows.backup_job import BackupJob
from workflows.messages import BackupRequest, RestoreRequest, SessionResult, SweepRequest, VerifyRequest
from workflows.search_attributes import SEARCH_ATTRIBUTES


@pytest.fixture(scope="module")
async def skipping() -> AsyncIterator[WorkflowEnvironment]:
    """The time-skipping server, with our search attributes; a session that a failed test left there is alone there."""
    binary = Path(sys.prefix) / "bin" / "temporal-test-server"
    async with await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=str(binary), plugins=[project_plugin()]
    ) as environment:
        types = {key.name: IndexedValueType.ValueType(key.indexed_value_type) for key in SEARCH_ATTRIBUTES}
        await environment.client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(namespace=environment.client.namespace, search_attributes=types)
        )
        yield environment


@pytest.fixture(scope="session")
async def dev_client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """Client of a real development server, for what the time-skipping one does not do."""
    server = DevServer(tmp_path_factory.mktemp("temporal"), DevServerSettings(is_headless=True))
    try:
        address = server.start()
        yield await connect(TemporalSettings(address=address.grpc, namespace=address.namespace))
    finally:
        server.kill()


class Stage(msgspec.Struct, frozen=True):
    """A client, and names that no other test uses."""

    client: Client
    proxy: str
    repository: RepositoryName

    def backup(self, **changes: Any) -> BackupRequest:
        request = BackupRequest(
            job=JobName(f"nightly-{self.proxy}"),
            provider=ProviderName("lab"),
            proxy=self.proxy,
            repository=self.repository,
            session_id=SessionId("s1"),
        )
        return msgspec.structs.replace(request, **changes)

    def restore(self, **changes: Any) -> RestoreRequest:
        request = RestoreRequest(
            session_id=SessionId(f"s-{self.proxy}"),
            repository=self.repository,
            provider=ProviderName("lab"),
            proxy=self.proxy,
            new_name="copy",
        )
        return msgspec.structs.replace(request, **changes)

    def verify(self, **changes: Any) -> VerifyRequest:
        request = VerifyRequest(session_id=SessionId(f"s-{self.proxy}"), repository=self.repository)
        return msgspec.structs.replace(request, **changes)

    def resources(self, *others: str, tasks: int = 2, repository_tasks: int = 4) -> Resources:
        """Return what a session may use: this stage's proxy and others, with so many slots each."""
        names = (self.proxy, *others)
        proxies = tuple(ProxyLimit(name=name, tasks=tasks) for name in names)
        return Resources(proxies=proxies, repository_tasks=repository_tasks)

    def sweep(self, **changes: Any) -> SweepRequest:
        request = SweepRequest(provider=ProviderName("lab"), proxy=self.proxy, session_id=SessionId(f"s-{self.proxy}"))
        return msgspec.structs.replace(request, **changes)

    async def start(self, run: Callable[..., Any], request: Any) -> WorkflowHandle[Any, Any]:
        """Start a session."""
        return await self.client.start_workflow(
            run,
            request,
            id=f"{run.__qualname__}/{secrets.token_hex(4)}",
            task_queue=queues.CONTROL,
            execution_timeout=timedelta(days=30),
        )

    async def run(self, run: Callable[..., Any], request: Any) -> SessionResult:
        """Run a session that succeeds."""
        result = await (await self.start(run, request)).result()
        assert isinstance(result, SessionResult)
        return result

    async def run_backup(self, **changes: Any) -> SessionResult:
        return await self.run(BackupJob.run, self.backup(**changes))

    async def failure(self, run: Callable[..., Any], request: Any) -> WorkflowFailureError:
        """Run a session that does not succeed."""
        handle = await self.start(run, request)
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()
        return caught.value

    @asynccontextmanager
    async def playing(self, world: World, *more: str) -> AsyncIterator[None]:
        """Serve all queues, and ``more``, with the stubs of ``world``."""
        names = [
            queues.CONTROL,
            queues.proxy_queue(self.proxy),
            queues.look_queue(self.proxy),
            queues.transfer_queue(self.proxy),
            queues.repository_queue(self.repository),
            queues.upkeep_queue(self.repository),
            queues.fresh_queue(self.repository),
            queues.chain_queue(self.repository),
            *more,
        ]
        async with AsyncExitStack() as stack:
            for name in names:
                worker = Worker(
                    self.client,
                    task_queue=name,
                    workflows=WORKFLOWS if name == queues.CONTROL else (),
                    activities=world.activities(),
                    max_heartbeat_throttle_interval=timedelta(milliseconds=50),
                )
                await stack.enter_async_context(worker)
            yield


@pytest.fixture
def stage(skipping: WorkflowEnvironment) -> Stage:
    token = secrets.token_hex(4)
    return Stage(skipping.client, f"p{token}", RepositoryName(f"r{token}"))


@pytest.fixture
def dev_stage(dev_client: Client) -> Stage:
    token = secrets.token_hex(4)
    return Stage(dev_client, f"p{token}", RepositoryName(f"r{token}"))


async def details(handle: WorkflowHandle[Any, Any]) -> str:
    """Return the details that Temporal's web pages show of a workflow."""
    metadata: WorkflowMetadata = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    return metadata.current_details


async def happens(handle: WorkflowHandle[Any, Any], kind: EventType.ValueType) -> None:
    """Return when an event of this kind is in the workflow's history."""
    async with asyncio.timeout(60):
        async for event in handle.fetch_history_events(wait_new_event=True):
            if event.event_type == kind:
                return
