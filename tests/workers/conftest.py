"""One development server and one lab vCenter for the tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.lab.vcenter.running import lab_in
from tests.workers.servers import server_in
from workers.devserver import DevServerAddress
from workers.vcenter_lab import VCenterAddress, VCenterSettings


@pytest.fixture(scope="session")
def dev_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServerAddress]:
    """Address of a healthy server without web pages."""
    with server_in(tmp_path_factory.mktemp("temporal")) as address:
        yield address


@pytest.fixture(scope="session")
def vcenter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VCenterAddress]:
    """Address of a vCenter with one host and two machines, DC0_H0_VM0 and DC0_H0_VM1, which no test changes."""
    settings = VCenterSettings(standalone_hosts=1, clusters=0, machines=2)
    with lab_in(tmp_path_factory.mktemp("vcenter"), settings) as lab:
        yield lab.start()
