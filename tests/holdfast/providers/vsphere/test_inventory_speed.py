"""An inventory of hundreds of machines takes seconds and little memory; `make bench` takes the figure of 5,000."""

import time
import tracemalloc
from collections.abc import Iterator
from itertools import islice

import pytest

from holdfast.clock import SystemClock
from holdfast.model.ids import MachineId
from holdfast.providers.vsphere.provider import VSphereProvider
from tests.bench.vsphere import INVENTORY_S_MAX, seconds_to_list
from tests.holdfast.providers.vsphere.bench import settings_of
from workers.vcenter_lab import VCenterAddress, VCenterLab, VCenterSettings

pytestmark = [pytest.mark.vsphere, pytest.mark.slow]

MACHINES = 600
LOOKED_AT = 500
# A fraction of the machines, and four times the time for them: the other test processes of the suite take their share.
# A call for each machine, or a look at all for each, takes longer still.
SECONDS_MAX = 4 * INVENTORY_S_MAX * MACHINES / 5000 + 1
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


def test_hundreds_of_machines_are_listed_in_seconds(address: VCenterAddress) -> None:
    assert seconds_to_list(address, MACHINES) <= SECONDS_MAX


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


def test_one_machine_of_hundreds_is_found_without_a_listing(provider: VSphereProvider) -> None:
    first = next(provider.machines())
    began = time.perf_counter()
    assert provider.machine(MachineId(first.machine_id)).name == first.name
    assert time.perf_counter() - began < 1.0
