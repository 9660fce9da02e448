"""Processes with transfers under one limit keep to it together, whatever becomes of each other and of the keeper."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import pytest
from temporalio.client import Client
from temporalio.worker import Worker

from holdfast.clock import SystemClock
from holdfast.measures import LIMIT_SHARE
from holdfast.model.ids import RepositoryName
from holdfast.pipeline.pace import Pace
from holdfast.pipeline.throttle import Throttle
from holdfast.planning.throttling import Direction, Limits, RepositoryLimits, Transfer
from tests.holdfast.test_measures import Taken, taken
from tests.workers.servers import server_in
from workers.devserver import DevServerAddress
from workers.limit_sharing import LimitSharer, sharing
from workers.loopback import LOOPBACK, free_ports
from workers.temporal import connect
from workers.temporal_settings import TemporalSettings
from workflows import queues
from workflows.limits import ShareLimits

__all__ = ["taken"]

pytestmark = pytest.mark.temporal

CLOCK = SystemClock()
LIMIT = 8_000_000


class Process:
    """What one process shares limits with."""

    def __init__(self, client: Client, repository: str, limit: int = LIMIT) -> None:
        self.client = client
        self.repository = RepositoryName(repository)
        self.throttle = Throttle(CLOCK, self.limits(limit))
        self.said: list[str] = []

    def limits(self, limit: int) -> Limits:
        return Limits(repositories={self.repository: RepositoryLimits(write_bytes_s=limit)})

    @asynccontextmanager
    async def shares(self) -> AsyncIterator[None]:
        async with sharing(self.client, self.throttle, "proxy a", CLOCK, self.said.append):
            yield

    @contextmanager
    def writes(self) -> Iterator[None]:
        transfer = Transfer(repository=self.repository, direction=Direction.WRITE)
        with self.throttle.holding(transfer, Pace(CLOCK)):
            yield

    @property
    def rate(self) -> float:
        return sum(held.rate_bytes_s or 0.0 for held in self.throttle.held())


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> str:
    """A repository of this test alone: the keeper knows it by its name, and lives longer than a test."""
    return str(request.node.name)[:60]


@pytest.fixture(scope="module")
def dev_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServerAddress]:
    """A server of their own: on that of other tests a worker may live which answers where nobody should."""
    with server_in(tmp_path_factory.mktemp("temporal")) as address:
        yield address


@pytest.fixture
async def dev_client(dev_server: DevServerAddress) -> Client:
    return await connect(TemporalSettings(address=dev_server.grpc, namespace=dev_server.namespace))


@pytest.fixture
async def keeper(dev_client: Client) -> AsyncIterator[Client]:
    async with Worker(dev_client, task_queue=queues.CONTROL, workflows=[ShareLimits]):
        yield dev_client


async def comes_about(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not is_so():  # noqa: ASYNC110 - what another thread sets
            await asyncio.sleep(0.02)


async def test_two_processes_write_at_half_each_and_the_one_that_stays_at_all(keeper: Client, repository: str) -> None:
    first, second = Process(keeper, repository), Process(keeper, repository)
    async with first.shares(), AsyncExitStack() as stack:
        with first.writes():
            await comes_about(lambda: first.rate == LIMIT)
            await stack.enter_async_context(second.shares())
            with second.writes():
                assert second.rate <= 1, "it has to wait for what the other gives up"
                await comes_about(lambda: second.rate == LIMIT / 2)
                assert first.rate == LIMIT / 2
                first.throttle.change(first.limits(LIMIT // 2))
                assert first.rate == LIMIT / 4
                await comes_about(lambda: second.rate == LIMIT / 4)
            await stack.aclose()
            await comes_about(lambda: first.rate == LIMIT / 2)
    assert (first.said, second.said) == ([], [])


async def test_shares_are_measured_also_when_they_are_none_any_more(
    keeper: Client, repository: str, taken: Taken
) -> None:
    process = Process(keeper, repository)
    name = f"write limit of repository {repository}"
    async with process.shares():
        with process.writes():
            await comes_about(lambda: taken.of(LIMIT_SHARE, limit=name)[-1:] == [LIMIT])
        await comes_about(lambda: taken.of(LIMIT_SHARE, limit=name)[-1] == 0)


async def test_a_process_gives_back_what_it_has_when_it_ends(keeper: Client, repository: str) -> None:
    first, second = Process(keeper, repository), Process(keeper, repository)
    with first.writes(), second.writes():
        async with first.shares():
            await comes_about(lambda: first.rate == LIMIT)
        async with asyncio.timeout(4), second.shares():
            await comes_about(lambda: second.rate == LIMIT)


async def test_while_nobody_answers_a_process_keeps_what_it_has_and_new_ones_stand_still(
    dev_client: Client, repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.limit_sharing._ANSWER_S", 0.5)
    monkeypatch.setattr("workers.limit_sharing._RENEW_S", 0.1)
    monkeypatch.setattr("workers.limit_sharing._FAREWELL_S", 0.2)
    first, second = Process(dev_client, repository), Process(dev_client, repository)
    with first.writes(), second.writes():
        async with first.shares():
            async with Worker(dev_client, task_queue=queues.CONTROL, workflows=[ShareLimits]):
                await comes_about(lambda: first.rate == LIMIT)
            async with second.shares():
                await comes_about(lambda: bool(first.said and second.said))
                assert (first.rate, second.rate) == (LIMIT, 1)
    assert "keeps the shares of limits that it has, for nobody tells others" in second.said[0]


async def test_who_is_not_answered_asks_again_after_a_while_only(
    dev_client: Client, repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.limit_sharing._ANSWER_S", 0.1)
    monkeypatch.setattr("workers.limit_sharing._COMPLAINT_S", 0.0)
    process = Process(dev_client, repository)
    sharer = LimitSharer(dev_client, process.throttle, "proxy a", CLOCK, process.said.append)
    with process.writes():
        await sharer.look()
        monkeypatch.setattr("workers.limit_sharing._PAUSE_S", 3600.0)
        await sharer.look()
        assert len(process.said) == 1
        monkeypatch.setattr("workers.limit_sharing._PAUSE_S", 0.0)
        await sharer.look()
    assert len(process.said) == 2


async def test_a_process_under_no_limit_says_nothing() -> None:
    nobody = await Client.connect(f"{LOOPBACK}:{free_ports(1)[0]}", lazy=True)
    throttle = Throttle(CLOCK, Limits())
    throttle.share_with_others()
    sharer = LimitSharer(nobody, throttle, "proxy a", CLOCK, pytest.fail)
    await sharer.look()
    await sharer.farewell()
