"""One lab vCenter per test module, and sessions to it."""

from collections.abc import Iterator

import pytest

from holdfast.errors import ToolMissing
from tests.lab.vcenter.client import Client
from workers.vcenter_lab import VCenterAddress, VCenterLab, VCenterSettings, build


@pytest.fixture(scope="module")
def lab_settings() -> VCenterSettings:
    """What the inventory holds; a module may ask for another one by a fixture of this name."""
    return VCenterSettings(standalone_hosts=1, clusters=1, machines=2)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, lab_settings: VCenterSettings) -> Iterator[VCenterLab]:
    try:
        build()
    except ToolMissing as missing:
        pytest.skip(f"the lab vCenter cannot be built here: {missing.message}. {missing.hint}")
    lab = VCenterLab(tmp_path_factory.mktemp("vcenter"), lab_settings)
    try:
        yield lab
    finally:
        lab.kill()


@pytest.fixture(scope="module")
def address(lab: VCenterLab) -> VCenterAddress:
    return lab.start()


@pytest.fixture
def vc(address: VCenterAddress) -> Iterator[Client]:
    """A session of the administrator; faults and counters of earlier tests are gone."""
    client = Client(address)
    client.control("DELETE", "/faults")
    try:
        yield client
    finally:
        client.control("DELETE", "/faults")
        client.close()
