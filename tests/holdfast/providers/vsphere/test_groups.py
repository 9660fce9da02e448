"""A group of machines is named as people see it in the vSphere Client."""

from collections.abc import Iterator
from typing import Any

import pytest
from pyVmomi import vim

from holdfast.clock import SystemClock
from holdfast.errors import RequestInvalid
from holdfast.model.selection import parse_selector
from holdfast.providers.vsphere.provider import VSphereProvider
from tests.holdfast.providers.vsphere.bench import settings_of
from tests.lab.vcenter.client import Client
from workers.vcenter_lab import VCenterAddress, VCenterLab, VCenterSettings

pytestmark = pytest.mark.vsphere

HOST, POOL = ["DC0_H0_VM0", "DC0_H0_VM1"], ["DC0_C0_RP1_VM0", "DC0_C0_RP1_VM1"]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, lab: VCenterLab) -> Iterator[VCenterAddress]:
    assert lab.address() is None, "the small lab is not started"
    wide = VCenterLab(tmp_path_factory.mktemp("wide"), VCenterSettings(clusters=1, pools=1, machines=2, datastores=2))
    try:
        yield wide.start()
    finally:
        wide.kill()


@pytest.fixture
def provider(address: VCenterAddress) -> Iterator[VSphereProvider]:
    with VSphereProvider(settings_of(address), SystemClock()) as provider:
        yield provider


@pytest.fixture
def folder(vc: Client) -> Iterator[Any]:
    """A folder below a folder, with one machine."""
    root = vc.all(vim.Datacenter)[0].vmFolder
    outer = root.CreateFolder("prod ü")
    inner = outer.CreateFolder("web")
    vm = vc.machine(HOST[0])
    vc.wait(inner.MoveIntoFolder_Task([vm]))
    yield inner
    vc.wait(root.MoveIntoFolder_Task([vm]))
    vc.wait(outer.Destroy_Task())


def members(provider: VSphereProvider, reference: str) -> list[str]:
    return [machine.name for machine in provider.members(parse_selector(reference))]


@pytest.mark.parametrize(
    "reference, expected",
    [
        ("folder:/DC0/vm", sorted(HOST + POOL)),
        ("folder:DC0", sorted(HOST + POOL)),
        ("cluster:DC0_C0", POOL),
        ("cluster:DC0_H0", HOST),
        ("pool:DC0_C0_RP1", POOL),
        ("datastore:LocalDS_0", ["DC0_C0_RP1_VM0", "DC0_H0_VM0"]),
    ],
)
def test_a_group_has_its_machines_by_name(provider: VSphereProvider, reference: str, expected: list[str]) -> None:
    assert members(provider, reference) == expected


@pytest.mark.parametrize("prefix", ["/DC0/vm/", "DC0/vm/", "/", ""])
def test_a_folder_is_named_by_its_whole_path_or_below_the_machines(
    provider: VSphereProvider, folder: Any, prefix: str
) -> None:
    assert folder.name == "web"
    assert members(provider, f"folder:{prefix}prod ü/web") == [HOST[0]]
    assert members(provider, f"folder:{prefix}prod ü") == [HOST[0]]


@pytest.mark.parametrize("written", ["100% prod", "100%25 prod"])
def test_a_folder_may_have_a_percent_sign(provider: VSphereProvider, vc: Client, written: str) -> None:
    made = vc.all(vim.Datacenter)[0].vmFolder.CreateFolder("100% prod")
    assert members(provider, f"folder:{written}") == []
    vc.wait(made.Destroy_Task())


@pytest.mark.parametrize(
    "reference", ["folder:/none", "cluster:none", "pool:none", "datastore:none", "tag:none", "tag:none/none"]
)
def test_an_unknown_group_is_refused(provider: VSphereProvider, reference: str) -> None:
    with pytest.raises(RequestInvalid, match="none"):
        members(provider, reference)


def test_an_ambiguous_name_is_refused(provider: VSphereProvider) -> None:
    with pytest.raises(RequestInvalid, match="has 2 of the name 'pool:Resources'"):
        members(provider, "pool:Resources")
