"""The vmx of a machine, registration from it, and what unregistering and destroying leave."""

from pathlib import Path
from typing import Any

import pytest

from tests.lab.vcenter.client import MIB, Client, disks, read, vim, vmodl, write
from workers.vcenter_lab import VCenterLab

pytestmark = pytest.mark.vsphere


@pytest.fixture
def pool(vc: Client) -> Any:
    return vc.machine("DC0_H0_VM1").resourcePool


def folder_of(vc: Client) -> Any:
    [center] = vc.all(vim.Datacenter)
    return center.vmFolder


def create(vc: Client, pool: Any, name: str) -> Any:
    """Create a machine that is off, with one disk, options and two processors."""
    controller = vim.vm.device.ParaVirtualSCSIController(key=1000, busNumber=0, sharedBus="noSharing")
    disk = vim.vm.device.VirtualDisk(
        key=2000,
        controllerKey=1000,
        unitNumber=0,
        capacityInBytes=8 * MIB,
        capacityInKB=8 * 1024,
        backing=vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
            fileName=f"[LocalDS_0] {name}/{name}.vmdk", diskMode="persistent", thinProvisioned=True
        ),
    )
    spec = vim.vm.ConfigSpec(
        name=name,
        guestId="ubuntu64Guest",
        numCPUs=2,
        memoryMB=1024,
        annotation='first line\nsecond | "line"',
        files=vim.vm.FileInfo(vmPathName=f"[LocalDS_0] {name}/{name}.vmx"),
        extraConfig=[vim.option.OptionValue(key="holdfast.Job", value="nightly")],
        deviceChange=[
            vim.vm.device.VirtualDeviceSpec(operation="add", device=controller),
            vim.vm.device.VirtualDeviceSpec(operation="add", fileOperation="create", device=disk),
        ],
    )
    return vc.wait(folder_of(vc).CreateVM_Task(config=spec, pool=pool))


def register(vc: Client, pool: Any, path: str, name: str | None = None, *, template: bool = False) -> Any:
    task = folder_of(vc).RegisterVM_Task(path=path, name=name, asTemplate=template, pool=pool)
    return vc.wait(task)


def nvrams(vm: Any) -> list[str]:
    return [file.name for file in vm.layoutEx.file if file.type == "nvram"]


def identity(vm: Any) -> dict[str, Any]:
    config = vm.config
    [disk] = disks(config)
    return {
        "name": vm.name,
        "uuid": config.uuid,
        "instance": config.instanceUuid,
        "guest": config.guestId,
        "memory": config.hardware.memoryMB,
        "processors": config.hardware.numCPU,
        "annotation": config.annotation,
        "option": {o.key: o.value for o in config.extraConfig}.get("holdfast.Job"),
        "disk": (disk.key, disk.controllerKey, disk.unitNumber, disk.capacityInBytes, disk.backing.fileName),
        "disk uuid": disk.backing.uuid,
        "controllers": [
            (type(d).__name__, d.key) for d in config.hardware.device if isinstance(d, vim.vm.device.VirtualController)
        ],
    }


def test_an_unregistered_machine_comes_back_from_its_vmx(vc: Client, pool: Any) -> None:
    vm = create(vc, pool, "Unregistered")
    write(vc.running_bytes(vm), MIB, b"kept")
    before, path, reference = identity(vm), vm.config.files.vmPathName, vm._moId
    vm.UnregisterVM()
    with pytest.raises(vmodl.fault.ManagedObjectNotFound):
        _ = vm.name
    again = register(vc, pool, path)
    assert again._moId != reference
    assert identity(again) == before
    assert read(vc.running_bytes(again), MIB, 4) == b"kept"
    with pytest.raises(vim.fault.AlreadyExists):
        register(vc, pool, path)
    vc.wait(again.PowerOnVM_Task())
    vc.remove(vc.snapshot(again))
    vc.wait(again.PowerOffVM_Task())
    vc.wait(again.Destroy_Task())


def test_a_machine_is_registered_under_another_name(vc: Client, pool: Any) -> None:
    vm = create(vc, pool, "Renamed")
    path = vm.config.files.vmPathName
    vm.UnregisterVM()
    again = register(vc, pool, path, "Other")
    assert (again.name, again.config.name) == ("Other", "Other")
    vc.wait(again.Rename_Task("Third"))
    assert (again.name, again.summary.config.name) == ("Third", "Third")
    assert nvrams(again) == ["[LocalDS_0] Renamed/Renamed.nvram"]
    home = vc.running_bytes(again).parent
    assert sorted(f.name for f in home.iterdir() if f.suffix == ".nvram") == ["Renamed.nvram"]
    again.UnregisterVM()
    text = (home / "Renamed.vmx").read_text("utf-8")
    assert 'displayName = "Third"' in text
    assert 'nvram = "Renamed.nvram"' in text


def test_the_vmx_names_the_nvram_that_the_machine_has(lab: VCenterLab, vc: Client, pool: Any) -> None:
    spec = vim.vm.ConfigSpec(
        name="Long name",
        guestId="ubuntu64Guest",
        files=vim.vm.FileInfo(vmPathName="[LocalDS_0] short/short.vmx"),
    )
    vm = vc.wait(folder_of(vc).CreateVM_Task(config=spec, pool=pool))
    vc.reconfigure(vm, annotation="writes the vmx")
    [listed] = nvrams(vm)
    home = lab.data / "datastores" / "LocalDS_0" / "short"
    assert f'nvram = "{listed.rpartition("/")[2]}"' in (home / "short.vmx").read_text("utf-8")
    vc.reconfigure(vm, extraConfig=[vim.option.OptionValue(key="nvram", value="other.nvram")])
    assert 'nvram = "other.nvram"' in (home / "short.vmx").read_text("utf-8")


def test_a_copied_vmx_gives_a_machine_of_its_own_identity(vc: Client, pool: Any) -> None:
    vm = create(vc, pool, "Original")
    home = vc.running_bytes(vm).parent
    copy = home.with_name("Copy")
    copy.mkdir()
    for file in home.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    made = register(vc, pool, "[LocalDS_0] Copy/Original.vmx", "Copied")
    assert made.config.uuid == vm.config.uuid
    assert made.config.instanceUuid != vm.config.instanceUuid
    assert disks(made.config)[0].backing.fileName == "[LocalDS_0] Copy/Original.vmdk"


def test_wrong_paths_are_refused(vc: Client, pool: Any) -> None:
    with pytest.raises(vim.fault.NotFound):
        register(vc, pool, "[LocalDS_0] none/none.vmx")
    with pytest.raises(vim.fault.InvalidDatastore):
        register(vc, pool, "[none] none/none.vmx")
    with pytest.raises(vim.fault.InvalidDatastorePath):
        register(vc, pool, "none.vmx")
    with pytest.raises(vmodl.fault.NotSupported):
        register(vc, pool, "[LocalDS_0] none/none.vmx", template=True)


def test_machines_in_places_that_are_not_there_are_refused(vc: Client, pool: Any) -> None:
    folder, files = folder_of(vc), vim.vm.FileInfo
    nowhere = vim.vm.ConfigSpec(name="Lost", files=files(vmPathName="[none]"))
    with pytest.raises(vim.fault.InvalidDatastore):
        vc.wait(folder.CreateVM_Task(config=nowhere, pool=pool))
    backing = vim.vm.device.VirtualEthernetCard.NetworkBackingInfo(deviceName="no such network")
    card = vim.vm.device.VirtualDeviceSpec(
        operation="add", device=vim.vm.device.VirtualVmxnet3(key=-1, backing=backing)
    )
    unplugged = vim.vm.ConfigSpec(name="Lost", files=files(vmPathName="[LocalDS_0]"), deviceChange=[card])
    with pytest.raises(vim.fault.InvalidDeviceBacking):
        vc.wait(folder.CreateVM_Task(config=unplugged, pool=pool))
    with pytest.raises(vim.fault.InvalidDeviceBacking):
        vc.reconfigure(vc.machine("DC0_H0_VM0"), deviceChange=[card])
    assert "Lost" not in [vm.name for vm in vc.all(vim.VirtualMachine)]


def test_destroying_deletes_every_file(vc: Client, pool: Any) -> None:
    vm = create(vc, pool, "Destroyed")
    vc.snapshot(vm)
    home = vc.running_bytes(vm).parent
    assert {"Destroyed.vmx", "Destroyed.nvram", "Destroyed.vmdk", "Destroyed-000001.vmdk"} <= {
        f.name for f in home.iterdir()
    }
    vc.wait(vm.Destroy_Task())
    assert not home.exists()
    assert "Destroyed" not in [found.name for found in vc.all(vim.VirtualMachine)]


def test_a_machine_that_is_on_is_neither_unregistered_nor_destroyed(vc: Client) -> None:
    vm = vc.machine("DC0_H0_VM0")
    with pytest.raises(vim.fault.InvalidPowerState):
        vm.UnregisterVM()
    with pytest.raises(vim.fault.InvalidPowerState):
        vc.wait(vm.Destroy_Task())
    assert Path(vc.disk_entry(vm)["path"]).exists()
