"""A lab vCenter for the tests of a module, and the bench on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from typing_extensions import override

from holdfast.clock import SystemClock
from holdfast.providers.vsphere import hot_add
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.provider import VSphereProvider
from tests.holdfast.providers.vsphere.bench import VSphereBench, settings_of
from tests.holdfast.providers.vsphere.proxy import Proxy, Restore
from tests.lab.vcenter.client import Client
from tests.lab.vcenter.running import lab_in, session_of
from workers.vcenter_lab import VCenterAddress, VCenterLab, VCenterSettings


class SteppingClock(SystemClock):
    """A clock on which every look at the time takes so long; whoever waits with it soon has waited for hours."""

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s
        self._now_s = 0.0

    @override
    def monotonic_s(self) -> float:
        self._now_s += self._step_s
        return self._now_s


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VCenterLab]:
    """A vCenter with one host and no machines."""
    with lab_in(tmp_path_factory.mktemp("vcenter"), VCenterSettings(clusters=0, machines=0)) as lab:
        yield lab


@pytest.fixture(scope="module")
def address(lab: VCenterLab) -> VCenterAddress:
    return lab.start()


@pytest.fixture
def vc(address: VCenterAddress) -> Iterator[Client]:
    """A session of the operator; faults and counters of earlier tests are gone."""
    with session_of(address) as client:
        yield client


@pytest.fixture
def bench(lab: VCenterLab, address: VCenterAddress, vc: Client, seed: int) -> Iterator[VSphereBench]:
    """An empty vCenter, whose datastores the proxy sees, and which serves disks over the network too."""
    stores = {path.name: path for path in (lab.data / "datastores").iterdir()}
    bench = VSphereBench(vc, settings_of(address, mounts=stores), seed)
    bench.clear()
    try:
        yield bench
    finally:
        bench.close()


@pytest.fixture
def connection(bench: VSphereBench) -> Iterator[Connection]:
    """A session of the provider."""
    with Connection(bench.settings.endpoint) as connection:
        yield connection


@pytest.fixture
def proxy(bench: VSphereBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Proxy:
    devices = tmp_path / "by-id"
    devices.mkdir()
    monkeypatch.setattr(hot_add, "DEVICES", devices)
    return Proxy(bench, devices)


@pytest.fixture
def provider(proxy: Proxy) -> Iterator[VSphereProvider]:
    with VSphereProvider(proxy.settings, SystemClock()) as provider:
        yield provider


@pytest.fixture
def restore(bench: VSphereBench, provider: VSphereProvider) -> Restore:
    return Restore(bench, provider)
