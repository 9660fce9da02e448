"""The vSphere provider keeps the contract of all providers, over the best way and over the last."""

from collections.abc import Iterator

import msgspec
import pytest

from holdfast.model.plan import TransportMode
from holdfast.testing.providers import ProviderConformance
from tests.holdfast.providers.vsphere.bench import VSphereBench

pytestmark = [pytest.mark.vsphere, pytest.mark.tools("nbdkit")]


class TestVSphereProvider(ProviderConformance):
    pass


class TestVSphereProviderOverLeases(ProviderConformance):
    @pytest.fixture
    def bench(self, bench: VSphereBench) -> Iterator[VSphereBench]:
        """Read over leases; restores go to mounted datastores, and over the network into disks with a snapshot."""
        ways = (TransportMode.LEASE, TransportMode.DIRECT, TransportMode.NETWORK)
        leased = VSphereBench(bench.client, msgspec.structs.replace(bench.settings, transports=ways), bench.seed)
        yield leased
        leased.close()
        assert leased.client.control("GET", "/leases") == []
