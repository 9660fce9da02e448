"""A worker process from start to end: connect, serve until it is told to stop, drain.

A worker needs no order of start: it waits for its server, and work waits for it.
"""

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from temporalio.client import Client

from activities.openers import CatalogOpener, RepositoryOpener
from activities.point_disks import PointDisks
from activities.resources import RepositoryReach
from holdfast.catalog.database import Catalog
from holdfast.clock import Clock, SystemClock
from holdfast.errors import RequestInvalid, ServerUnavailable
from holdfast.model.ids import RepositoryName
from holdfast.pipeline.stages import PipeOptions
from holdfast.pipeline.throttle import Throttle
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from workers.config import Settings
from workers.health import ready_file
from workers.limit_sharing import sharing
from workers.movers import Movers, mover_client
from workers.providers import ProviderPool
from workers.roles import Duty, Role, Tools, enter_workers
from workers.temporal import connect
from workers.temporal_settings import TemporalSettings
from workers.throttling import ThrottleKeeper, limits_of
from workers.throttling_status import StatusFile

ALL: Final = "all"
"""Stands for every role that the configuration names."""

_COMPLAINT_INTERVAL_S: Final = 60.0


async def run_worker(
    settings: Settings, duties: Sequence[Duty], *, file: Path | None = None, ready: Path | None = None
) -> None:
    """Serve until SIGTERM or SIGINT. ``ready`` names a file that is there while the process serves.

    What ``file``, from which the settings are, says about throttling is taken over while it serves.
    """
    async with AsyncExitStack() as stack:
        tools = make_tools(settings, stack)
        status = StatusFile(settings.home, os.getpid())
        stack.enter_context(ThrottleKeeper(tools.throttle, file, _say, status))
        stop = stop_on_signals(stack)
        await serve(settings.temporal, duties, tools, stop=stop, ready=ready)


async def serve(
    temporal: TemporalSettings,
    duties: Sequence[Duty],
    tools: Tools,
    *,
    stop: asyncio.Event,
    ready: Path | None = None,
) -> None:
    """Serve until ``stop`` is set, then let running work end. Returns early when stopped before there is a server."""
    client = await _patient_client(temporal, stop, tools.clock)
    if client is None:
        return
    async with AsyncExitStack() as stack:
        # First in, last out: what has its share ends before the share is given back.
        label = f"{', '.join(map(_label, duties))} at {socket.gethostname()} ({os.getpid()})"
        await stack.enter_async_context(sharing(client, tools.throttle, label, tools.clock, _say))
        served = [RepositoryName(duty.name) for duty in duties if duty.role is Role.REPOSITORY]
        stack.enter_context(tools.movers.serving(served))
        queues = await enter_workers(stack, client, duties, tools)
        stack.enter_context(ready_file(ready, queues, tools.clock))
        for duty in duties:
            _say(f"holdfast worker {_label(duty)} ready (queue {duty.queue})")
        await stop.wait()
        _say("holdfast worker stopping, running work is handed on")


def duties_of(settings: Settings, role: str, name: str | None = None) -> list[Duty]:
    """Return the duties of a role, of one name or of all that the configuration has; ``all`` means every role.

    Raises `RequestInvalid` for an unknown role, and the errors of the configuration for unknown names.
    """
    match role:
        case "all":
            return [duty for known in Role for duty in duties_of(settings, known.value)]
        case Role.CONTROL:
            return [Duty(role=Role.CONTROL)]
        case Role.PROXY:
            proxies = settings.proxies if name is None else (settings.proxy(name),)
            return [Duty(role=Role.PROXY, name=proxy.name, tasks=proxy.tasks) for proxy in proxies]
        case Role.REPOSITORY:
            repositories = settings.repositories if name is None else (settings.repository(name),)
            return [Duty(role=Role.REPOSITORY, name=repository.name) for repository in repositories]
        case _:
            roles = ", ".join([ALL, *(known.value for known in Role)])
            raise RequestInvalid(f"{role!r} is not a role of a worker", hint=f"Roles are: {roles}.")


def make_tools(settings: Settings, stack: AsyncExitStack, clock: Clock | None = None) -> Tools:
    """Return the tools that a configuration describes; leaving ``stack`` closes what they opened."""
    used = clock if clock is not None else SystemClock()
    providers = ProviderPool(settings, used, settings.credentials)
    stack.callback(providers.close)
    repositories = _repository_opener(settings)
    throttle = Throttle(used, limits_of(settings))
    passphrases = settings.credentials.passphrase
    opened = (repositories, passphrases, mover_client(settings, used).line, used, PipeOptions())
    return Tools(
        providers=providers.open,
        repositories=repositories,
        passphrases=passphrases,
        points=PointDisks(*opened, throttle=throttle),
        movers=Movers(settings, repositories, passphrases, used, throttle),
        throttle=throttle,
        reach=_reach(settings, repositories),
        catalog=_catalog_opener(settings, used, stack),
        clock=used,
        clock_bounds=lambda name: settings.repository(name).clock_days,
    )


def stop_on_signals(stack: AsyncExitStack) -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set, until ``stack`` is left."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
        stack.callback(loop.remove_signal_handler, number)
    return stop


def _repository_opener(settings: Settings) -> RepositoryOpener:
    files = HostFiles()

    def opened(name: RepositoryName) -> Repository:
        return Repository.open(settings.repository(name).path, files)

    return opened


def _reach(settings: Settings, repositories: RepositoryOpener) -> RepositoryReach:
    """Return what tells whether a proxy gets at a repository: by its mover, else by the files."""

    def reach(name: RepositoryName) -> None:
        if not settings.repository(name).mover:
            repositories(name)

    return reach


def _catalog_opener(settings: Settings, clock: Clock, stack: AsyncExitStack) -> CatalogOpener:
    """Return a function that opens the catalog at its first call, so that a role without one needs none."""
    lock = threading.Lock()
    opened: list[Catalog] = []

    def catalog() -> Catalog:
        with lock:
            if not opened:
                settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
                opened.append(Catalog.open(settings.catalog_url, clock))
                stack.callback(opened[0].close)
            return opened[0]

    return catalog


async def _patient_client(temporal: TemporalSettings, stop: asyncio.Event, clock: Clock) -> Client | None:
    """Return a client, however long the server takes to come; None when stopped before."""
    complained_s = clock.monotonic_s() - _COMPLAINT_INTERVAL_S
    while not stop.is_set():
        connecting = asyncio.ensure_future(connect(temporal))
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait([connecting, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not connecting.done():
            connecting.cancel()
            await asyncio.wait([connecting])
            return None
        try:
            return connecting.result()
        except ServerUnavailable as error:
            if clock.monotonic_s() - complained_s >= _COMPLAINT_INTERVAL_S:
                complained_s = clock.monotonic_s()
                _say(f"holdfast worker waits: {error.message}")
    return None


def _label(duty: Duty) -> str:
    return duty.role.value if not duty.name else f"{duty.role.value} {duty.name}"


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
