"""A worker process: duties of a configuration, its tools, and serving from start to end."""

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest

from holdfast.clock import SystemClock
from holdfast.errors import ConfigurationInvalid, RepositoryNotFound, RequestInvalid
from holdfast.model.ids import ProviderName, RepositoryName
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from workers.config import ProxySettings, Settings
from workers.devserver import DevServerAddress
from workers.loopback import LOOPBACK, free_ports
from workers.provider_settings import LocalProviderSettings
from workers.repository_settings import RepositorySettings
from workers.roles import Duty, Role
from workers.run import ALL, duties_of, make_tools, serve, stop_on_signals
from workers.temporal_settings import TemporalSettings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path / "home",
        providers=(LocalProviderSettings(name=ProviderName("lab"), path=tmp_path / "lab"),),
        repositories=(RepositorySettings(name=RepositoryName("main"), path=tmp_path / "repository"),),
        proxies=(ProxySettings(name="p1", tasks=3), ProxySettings(name="p2")),
    )


def test_a_role_without_a_name_means_all_of_the_configuration(settings: Settings) -> None:
    assert duties_of(settings, "control") == [Duty(role=Role.CONTROL)]
    assert duties_of(settings, "proxy") == [
        Duty(role=Role.PROXY, name="p1", tasks=3),
        Duty(role=Role.PROXY, name="p2", tasks=2),
    ]
    assert duties_of(settings, ALL) == [duty for role in Role for duty in duties_of(settings, role.value)]


def test_a_name_means_one(settings: Settings) -> None:
    assert duties_of(settings, "proxy", "p1") == [Duty(role=Role.PROXY, name="p1", tasks=3)]
    assert duties_of(settings, "repository", "main") == [Duty(role=Role.REPOSITORY, name="main")]


@pytest.mark.parametrize(
    "role, name, error",
    [
        ("proxy", "p9", ConfigurationInvalid),
        ("repository", "other", RepositoryNotFound),
        ("boss", None, RequestInvalid),
    ],
)
def test_what_the_configuration_does_not_have_is_refused(
    settings: Settings, role: str, name: str | None, error: type[Exception]
) -> None:
    with pytest.raises(error):
        duties_of(settings, role, name)


def test_the_tools_open_what_the_configuration_names(settings: Settings, tmp_path: Path) -> None:
    clock = SystemClock()
    LocalProvider.create(tmp_path / "lab", clock)
    Repository.create(settings.repositories[0].path, HostFiles(), "ab" * 16, clock.now())
    tools = make_tools(settings, AsyncExitStack(), clock)
    assert list(tools.providers(ProviderName("lab")).machines()) == []
    assert list(tools.repositories(RepositoryName("main")).points()) == []
    assert tools.passphrases(None) is None
    assert tools.clock is clock


async def test_the_catalog_is_opened_when_it_is_needed_and_then_once(settings: Settings) -> None:
    async with AsyncExitStack() as stack:
        tools = make_tools(settings, stack)
        assert not settings.home.exists()
        assert tools.catalog() is tools.catalog()
        assert settings.home.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signals_stop_a_worker_while_it_listens(number: signal.Signals) -> None:
    async with AsyncExitStack() as stack:
        stop = stop_on_signals(stack)
        os.kill(os.getpid(), number)
        async with asyncio.timeout(60):
            await stop.wait()
    is_taken = asyncio.get_running_loop().remove_signal_handler(number)
    assert not is_taken


async def test_a_worker_that_waits_for_its_server_can_be_stopped(
    settings: Settings, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    nobody = TemporalSettings(address=f"{LOOPBACK}:{free_ports(1)[0]}", connect_timeout_s=0.2)
    stop, ready = asyncio.Event(), tmp_path / "ready"
    async with AsyncExitStack() as stack:
        tools = make_tools(settings, stack)
        serving = asyncio.create_task(serve(nobody, [Duty(role=Role.CONTROL)], tools, stop=stop, ready=ready))
        async with asyncio.timeout(60):
            while "holdfast worker waits: no Temporal server" not in capfd.readouterr().err:  # noqa: ASYNC110 - a pipe
                await asyncio.sleep(0.02)
            assert not ready.exists()
            stop.set()
            await serving


@pytest.mark.temporal
async def test_a_worker_is_ready_while_it_serves(
    settings: Settings, dev_server: DevServerAddress, tmp_path: Path
) -> None:
    temporal = msgspec.structs.replace(settings.temporal, address=dev_server.grpc)
    stop, ready = asyncio.Event(), tmp_path / "ready"
    async with AsyncExitStack() as stack:
        tools, duties = make_tools(settings, stack), duties_of(settings, "proxy", "p1")
        serving = asyncio.create_task(serve(temporal, duties, tools, stop=stop, ready=ready))
        async with asyncio.timeout(60):
            while not await asyncio.to_thread(ready.exists):  # noqa: ASYNC110 - a file tells nobody
                await asyncio.sleep(0.02)
            stop.set()
            await serving
    assert not ready.exists()
