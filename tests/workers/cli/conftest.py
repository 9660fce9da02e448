"""A place without Temporal, and a lab with server and workers for those that need it."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest

from tests.workers.cli.place import Place
from workers.config import Settings
from workers.devserver import DevServerAddress
from workers.health import pollers
from workers.run import duties_of, make_tools, serve
from workers.temporal import connect

LAB_SEED = 7
RUNNING = 'ExecutionStatus = "Running"'


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An installation whose server cannot be reached."""
    return Place(tmp_path)


@pytest.fixture(scope="session")
def lab(dev_server: DevServerAddress, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """An installation with a server, all workers, and one machine called web."""
    place = Place(tmp_path_factory.mktemp("lab"), dev_server.grpc)
    place.add_machine("web", LAB_SEED, 4 << 20)
    with workers(place.settings, "all"):
        wait_until_polled(place.settings, "all")
        yield place


@pytest.fixture(autouse=True)
def quiet_lab(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let sessions that a test stopped or left to themselves end before the next test starts its own.

    Also those that were started while nobody served them, by a test without the lab.
    """
    lab: Place | None = request.getfixturevalue("lab") if "lab" in request.fixturenames else None
    if lab is not None:
        wait_until_quiet(lab.settings)
    yield
    if lab is not None:
        wait_until_quiet(lab.settings)


@contextmanager
def workers(settings: Settings, *roles: str) -> Iterator[None]:
    """Serve roles in a thread of this process while the block runs."""
    started = threading.Event()
    stop: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serving() -> None:
        stop.append((asyncio.get_running_loop(), asyncio.Event()))
        started.set()
        async with AsyncExitStack() as stack:
            duties = [duty for role in roles for duty in duties_of(settings, role)]
            await serve(settings.temporal, duties, make_tools(settings, stack), stop=stop[0][1])

    thread = threading.Thread(target=asyncio.run, args=(serving(),))
    thread.start()
    try:
        assert started.wait(30)
        yield
    finally:
        loop, event = stop[0]
        loop.call_soon_threadsafe(event.set)
        thread.join(60)
        assert not thread.is_alive()


def wait_until_polled(settings: Settings, *roles: str) -> None:
    """Return once the server has heard of the workers, as the doctor needs."""

    async def heard() -> None:
        client = await connect(settings.temporal)
        async with asyncio.timeout(60):
            for role in roles:
                for duty in duties_of(settings, role):
                    while not await pollers(client, duty.queue):  # noqa: ASYNC110 - the server tells nobody
                        await asyncio.sleep(0.05)

    asyncio.run(heard())


def wait_until_quiet(settings: Settings) -> None:
    """Return once no workflow runs any more."""

    async def quiet() -> None:
        client = await connect(settings.temporal)
        async with asyncio.timeout(60):
            while (await client.count_workflows(RUNNING)).count:  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0.1)

    asyncio.run(quiet())
