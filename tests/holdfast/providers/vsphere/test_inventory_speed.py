"""An inventory of hundreds of machines takes few calls and little memory; `make bench` takes the time of 5,000."""

import tracemalloc
from collections.abc import Iterator
from itertools import islice

import pytest

from holdfast.clock import SystemClock
from holdfast.model.ids import MachineId
from holdfast.providers.vsphere.provider import VSphereProvider
from tests.holdfast.providers.vsphere.bench import settings_of
from tests.lab.vcenter.client import Client
from tests.lab.vcenter.running import session_of
from workers.vcenter_lab import VCenterAddress, VCenterLab, VCenterSettings

pytestmark = [pytest.mark.vsphere, pytest.mark.slow]

MACHINES = 600
LOOKED_AT = 500
# Pages of hundreds, and what is asked once; a call for each machine would be hundreds.
CALLS_MAX = 20
CALLS_FOR_ONE_MAX = 6
# The names of all are held, and a few pages of 250 machines with their disks.
PEAK_MAX = 32 << 20


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, lab: VCenterLab) -> Iterator[VCenterAddress]:
    assert lab.address() is None, "the small lab is not started"
    large = VCenterLab(tmp_path_factory.mktemp("large"), VCenterSettings(clusters=0, machines=MACHINES))
    try:
        yield large.start()
    finally:
        large.kill()


@pytest.fixture
def provider(address: VCenterAddress) -> Iterator[VSphereProvider]:
    with VSphereProvider(settings_of(address), SystemClock()) as provider:
        yield provider


@pytest.fixture
def client(address: VCenterAddress) -> Iterator[Client]:
    with session_of(address) as client:
        yield client


def calls_since(client: Client) -> int:
    """Return how many calls the server answered since this was asked last."""
    count: int = sum(client.control("GET", "/calls").values())
    client.control("DELETE", "/calls")
    return count


def test_hundreds_of_machines_are_listed_in_a_few_calls(client: Client, provider: VSphereProvider) -> None:
    provider.targets()  # logs in
    calls_since(client)
    assert sum(1 for _ in provider.machines()) == MACHINES
    assert calls_since(client) <= CALLS_MAX


def test_a_listing_holds_one_page_of_descriptions(provider: VSphereProvider) -> None:
    next(provider.machines())  # what is loaded once is loaded
    tracemalloc.start()
    try:
        count = sum(1 for _ in islice(provider.machines(), LOOKED_AT))  # counting memory makes it slow
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == LOOKED_AT
    assert peak <= PEAK_MAX, f"{peak / (1 << 20):.1f} MiB"


def test_one_machine_of_hundreds_is_found_without_a_listing(client: Client, provider: VSphereProvider) -> None:
    first = next(provider.machines())
    calls_since(client)
    assert provider.machine(MachineId(first.machine_id)).name == first.name
    assert calls_since(client) <= CALLS_FOR_ONE_MAX
