"""A Temporal server, a lab vCenter and an installation between them, all workers in this process; one per module."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest
from temporalio.client import Client

from tests.lab.vcenter.running import lab_in
from tests.scenarios.vsphere.stage import Stage
from workers.devserver import DevServer, DevServerSettings
from workers.loopback import free_ports
from workers.roles import enter_workers
from workers.run import ALL, duties_of, make_tools
from workers.temporal import connect
from workers.temporal_settings import TemporalSettings
from workers.vcenter_lab import VCenterLab, VCenterSettings


@pytest.fixture(scope="module")
async def temporal(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    server = DevServer(tmp_path_factory.mktemp("temporal"), DevServerSettings(is_headless=True))
    try:
        address = server.start()
        yield await connect(TemporalSettings(address=address.grpc, namespace=address.namespace))
    finally:
        server.kill()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VCenterLab]:
    """A vCenter with one host, two datastores and no machines, at the same port also when it is started again."""
    [port] = free_ports(1)
    settings = VCenterSettings(clusters=0, machines=0, datastores=2, port=port)
    with lab_in(tmp_path_factory.mktemp("vcenter"), settings) as lab:
        lab.start()
        yield lab


@pytest.fixture(scope="module")
async def installation(
    temporal: Client, lab: VCenterLab, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    """One for all tests: a worker that leaves a queue may take a task with it until that task's time is over."""
    root = tmp_path_factory.mktemp("site")
    stage = Stage(temporal, lab, root)
    async with AsyncExitStack() as stack:
        stack.callback(stage.close)
        settings = stage.settings
        await enter_workers(stack, temporal, duties_of(settings, ALL), make_tools(settings, stack))
        yield stage


@pytest.fixture
def stage(installation: Stage) -> Iterator[Stage]:
    """The installation with a vCenter that is well."""
    installation.heal()
    yield installation
    installation.heal()
