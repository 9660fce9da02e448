"""A restored machine goes where it was wished, else where it was, else where there is room."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyVmomi import vim

from holdfast.clock import SystemClock
from holdfast.errors import RequestInvalid, TargetExists
from holdfast.model.ids import DiskKey
from holdfast.model.machine import ANYWHERE, Disk, Machine, Placement
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.hardware import CapturedDisk, Hardware
from holdfast.providers.vsphere.names import escaped_name
from holdfast.providers.vsphere.placing import Place, check_name, place_beside, place_for
from holdfast.providers.vsphere.provider import VSphereProvider
from tests.holdfast.providers.vsphere.bench import settings_of
from tests.lab.vcenter.client import Client, disks
from workers.vcenter_lab import VCenterAddress, VCenterLab, VCenterSettings

pytestmark = pytest.mark.vsphere

MIB, GIB = 1 << 20, 1 << 30
ROOM = 3 << 40
STORES = ("LocalDS_0", "LocalDS_1", "LocalDS_2")
NAMES = ["web", "a/b", "100%", "%2f", "back\\slash", "é ü"]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, lab: VCenterLab) -> Iterator[VCenterAddress]:
    """A host and a cluster, which see three datastores of `ROOM`: the lab gives 1 TiB for each host."""
    assert lab.address() is None, "the small lab is not started"
    wide = VCenterLab(tmp_path_factory.mktemp("wide"), VCenterSettings(clusters=1, pools=2, machines=0, datastores=3))
    try:
        yield wide.start()
    finally:
        wide.kill()


@pytest.fixture
def connection(address: VCenterAddress) -> Iterator[Connection]:
    with Connection(settings_of(address).endpoint) as connection:
        yield connection


@pytest.fixture
def root(vc: Client) -> Any:
    return vc.all(vim.Datacenter)[0].vmFolder


@pytest.fixture
def folder(root: Any, vc: Client) -> Iterator[Any]:
    """A folder below a folder."""
    outer = root.CreateFolder("50% prod/ü")
    yield outer.CreateFolder("web")
    vc.wait(outer.Destroy_Task())


@pytest.fixture
def used(vc: Client, root: Any) -> Iterator[None]:
    """Little is free in the first datastore, most in the last."""
    made = [machine(vc, root, name, size) for name, size in zip(STORES, (3000 * GIB, 8 * GIB), strict=False)]
    yield
    for vm in made:
        vc.wait(vm.Destroy_Task())


def machine(vc: Client, folder: Any, store: str, size_bytes: int, name: str = "") -> Any:
    backing = vim.vm.device.VirtualDisk.FlatVer2BackingInfo(fileName="", diskMode="persistent", thinProvisioned=True)
    disk: Any = vim.vm.device.VirtualDisk(key=-1, controllerKey=-100, unitNumber=0, backing=backing)
    disk.capacityInBytes, disk.capacityInKB = size_bytes, size_bytes // 1024
    controller = vim.vm.device.ParaVirtualSCSIController(key=-100, busNumber=0, sharedBus="noSharing")
    spec = vim.vm.ConfigSpec(
        name=escaped_name(name or f"on {store}"),
        guestId="otherGuest64",
        files=vim.vm.FileInfo(vmPathName=f"[{store}]"),
        deviceChange=[
            vim.vm.device.VirtualDeviceSpec(operation="add", device=controller),
            vim.vm.device.VirtualDeviceSpec(operation="add", fileOperation="create", device=disk),
        ],
    )
    return vc.wait(folder.CreateVM_Task(spec, vc.all(vim.ResourcePool)[0]))


def captured(*stores: str) -> Hardware:
    return Hardware(
        disks=tuple(
            CapturedDisk(
                key=DiskKey(str(2000 + unit)), label="", controller=1000, unit=unit, is_thin=True, datastore=store
            )
            for unit, store in enumerate(stores)
        )
    )


def placed(connection: Connection, store: str = "", needed_bytes: int = MIB, **wishes: str) -> Place:
    return place_for(connection, captured(store), needed_bytes, Placement(**wishes))  # type: ignore[arg-type]


@pytest.mark.usefixtures("used")
@pytest.mark.parametrize(
    "captured_store, needed_bytes, expected",
    [
        ("LocalDS_0", GIB, "LocalDS_0"),
        ("LocalDS_1", GIB, "LocalDS_1"),
        ("LocalDS_0", 100 * GIB, "LocalDS_2"),
        ("LocalDS_1", 3070 * GIB, "LocalDS_2"),
        ("elsewhere", GIB, "LocalDS_2"),
        ("", GIB, "LocalDS_2"),
    ],
)
def test_the_captured_datastore_is_taken_if_it_has_room_else_the_one_with_most(
    connection: Connection, captured_store: str, needed_bytes: int, expected: str
) -> None:
    assert placed(connection, captured_store, needed_bytes).datastore == expected


@pytest.mark.usefixtures("used")
def test_of_several_captured_datastores_the_one_with_most_room_is_taken(connection: Connection) -> None:
    assert place_for(connection, captured("LocalDS_0", "LocalDS_1"), MIB, ANYWHERE).datastore == "LocalDS_1"


@pytest.mark.usefixtures("used")
def test_without_room_a_machine_is_refused(connection: Connection) -> None:
    with pytest.raises(RequestInvalid, match=f"no datastore with {ROOM + 1} bytes free") as caught:
        placed(connection, "LocalDS_0", ROOM + 1)
    assert caught.value.hint == "Free space, or name another place with `--datastore` or `--folder`."
    with pytest.raises(RequestInvalid, match="bytes free"):
        placed(connection, "LocalDS_2", 100 * GIB, datastore="LocalDS_0")


def test_without_wishes_a_machine_lies_in_the_folder_and_pool_of_the_first_host(
    connection: Connection, root: Any
) -> None:
    place = placed(connection)
    assert place.folder._moId == root._moId
    assert place.pool.owner.name == "DC0_C0"
    assert place.pool.name == "Resources"
    assert place.beside == ""


@pytest.mark.parametrize(
    "path", ["50% prod%2fü/web", "/50% prod%2fü/web/", "50%25 prod%2fü/web", "/DC0/vm/50%25 prod%2fü/web"]
)
def test_a_wished_folder_is_named_by_its_whole_path_or_below_the_machines(
    connection: Connection, folder: Any, path: str
) -> None:
    assert placed(connection, folder=path).folder._moId == folder._moId


@pytest.mark.parametrize("path", ["DC0", "/DC0/vm"])
def test_a_wished_datacenter_is_the_folder_of_its_machines(connection: Connection, root: Any, path: str) -> None:
    assert placed(connection, folder=path).folder._moId == root._moId


def test_a_wished_pool_and_datastore_are_taken(connection: Connection) -> None:
    place = placed(connection, "LocalDS_0", pool="DC0_C0_RP2", datastore="LocalDS_1")
    assert place.pool.name == "DC0_C0_RP2"
    assert place.datastore == "LocalDS_1"


@pytest.fixture
def own_store(vc: Client, tmp_path: Path) -> Iterator[str]:
    """A datastore that the single host sees, and the cluster does not."""
    [host] = [one for one in vc.all(vim.HostSystem) if one.name == "DC0_H0"]
    volume = vim.host.NasVolume.Specification(
        remoteHost="files", remotePath="/one", localPath=str(tmp_path), accessMode="readWrite"
    )
    store = host.configManager.datastoreSystem.CreateNasDatastore(volume)
    yield store.name
    vc.wait(store.Destroy_Task())


@pytest.fixture
def elsewhere(vc: Client) -> Iterator[str]:
    """The path of a folder in a datacenter without hosts."""
    center = vc.content.rootFolder.CreateDatacenter("DC9")
    far = center.vmFolder.CreateFolder("far")
    yield "DC9/vm/far"
    vc.wait(far.Destroy_Task())
    vc.wait(center.Destroy_Task())


def test_the_host_of_a_machine_sees_its_datastore(connection: Connection, own_store: str) -> None:
    assert placed(connection, needed_bytes=0, datastore=own_store).pool.owner.name == "DC0_H0"


def test_a_pool_and_a_datastore_that_its_hosts_do_not_see_are_refused(connection: Connection, own_store: str) -> None:
    expected = f"no host of resource pool 'DC0_C0_RP1' sees datastore '{own_store}'"
    with pytest.raises(RequestInvalid, match=re.escape(expected)):
        placed(connection, needed_bytes=0, pool="DC0_C0_RP1", datastore=own_store)
    assert placed(connection, own_store, 0, pool="DC0_C0_RP1").datastore in STORES


def test_of_pools_of_one_name_the_one_whose_hosts_see_the_datastore_is_meant(
    connection: Connection, own_store: str
) -> None:
    place = placed(connection, needed_bytes=0, pool="Resources", datastore=own_store)
    assert place.pool.owner.name == "DC0_H0"


def test_a_folder_of_another_datacenter_than_the_datastore_or_the_pool_is_refused(
    connection: Connection, elsewhere: str
) -> None:
    expected = f"datastore 'LocalDS_0' is not in the datacenter of folder '{elsewhere}'"
    with pytest.raises(RequestInvalid, match=expected):
        placed(connection, folder=elsewhere, datastore="LocalDS_0")
    expected = f"no host of resource pool 'DC0_C0_RP1' sees any datastore of the datacenter of folder '{elsewhere}'"
    with pytest.raises(RequestInvalid, match=expected):
        placed(connection, folder=elsewhere, pool="DC0_C0_RP1")


@pytest.mark.parametrize(
    "wish, message",
    [
        ({"folder": "none"}, "has no folder 'none'"),
        ({"folder": "DC0/host"}, "machines cannot lie in folder 'DC0/host'"),
        ({"pool": "none"}, "has no resource pool 'none'"),
        ({"pool": "Resources"}, "has 2 resource pool 'Resources'"),
        ({"datastore": "none"}, "has no datastore 'none'"),
    ],
)
def test_a_wish_that_names_nothing_or_several_is_refused(
    connection: Connection, wish: dict[str, Any], message: str
) -> None:
    with pytest.raises(RequestInvalid, match=message):
        placed(connection, **wish)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_taken_is_refused(connection: Connection, vc: Client, folder: Any, name: str) -> None:
    here = connection.reference(vim.Folder, folder._moId)
    check_name(connection, here, name)
    made = machine(vc, folder, STORES[0], MIB, name)
    with pytest.raises(TargetExists, match="is called"):
        check_name(connection, here, name)
    vc.wait(made.Destroy_Task())


@pytest.mark.parametrize("name", NAMES[:3])
def test_a_restore_under_a_taken_name_is_refused_and_leaves_nothing(
    address: VCenterAddress, vc: Client, root: Any, name: str
) -> None:
    taken = machine(vc, root, STORES[0], MIB, name)
    with VSphereProvider(settings_of(address), SystemClock()) as provider:
        [found] = provider.machines()
        assert found.name == name
        shape = Machine(machine_id=found.machine_id, name=name, power=found.power, disks=found.disks, configuration={})
        wanted = [Disk(key=DiskKey("2000"), size_bytes=MIB)]
        with pytest.raises(TargetExists):
            provider.prepare_target("token", shape, wanted, None)
        assert provider.targets() == []
        assert [one.name for one in provider.machines()] == [name]
    vc.wait(taken.Destroy_Task())


def test_disks_that_replace_others_lie_beside_the_machine(connection: Connection, vc: Client, folder: Any) -> None:
    vm = machine(vc, folder, STORES[1], MIB, "100% web")
    place = place_beside(connection, connection.reference(vim.VirtualMachine, vm._moId), MIB)
    assert place.folder._moId == folder._moId
    assert place.pool._moId == vm.resourcePool._moId
    assert place.datastore == STORES[1]
    assert f"{place.beside}/" in disks(vm.config)[0].backing.fileName
    with pytest.raises(RequestInvalid, match=f"datastore {STORES[1]} has not the {ROOM + 1} bytes free"):
        place_beside(connection, connection.reference(vim.VirtualMachine, vm._moId), ROOM + 1)
    vc.wait(vm.Destroy_Task())
