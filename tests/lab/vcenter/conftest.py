"""One lab vCenter per test module, and sessions to it."""

from collections.abc import Iterator

import pytest

from tests.lab.vcenter.client import Client
from tests.lab.vcenter.running import lab_in, session_of
from workers.vcenter_lab import VCenterAddress, VCenterLab, VCenterSettings


@pytest.fixture(scope="module")
def lab_settings() -> VCenterSettings:
    """What the inventory holds; a module may ask for another one by a fixture of this name."""
    return VCenterSettings(standalone_hosts=1, clusters=1, machines=2)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, lab_settings: VCenterSettings) -> Iterator[VCenterLab]:
    with lab_in(tmp_path_factory.mktemp("vcenter"), lab_settings) as lab:
        yield lab


@pytest.fixture(scope="module")
def address(lab: VCenterLab) -> VCenterAddress:
    return lab.start()


@pytest.fixture
def vc(address: VCenterAddress) -> Iterator[Client]:
    """A session of the administrator; faults and counters of earlier tests are gone."""
    with session_of(address) as client:
        yield client
