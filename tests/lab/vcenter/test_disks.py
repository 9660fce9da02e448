"""Disks hold real bytes, which the datastore serves to those who are logged in."""

from pathlib import Path
from typing import Any

import pytest

from tests.lab.vcenter.client import MIB, Client, disks, read, vim, write

pytestmark = pytest.mark.vsphere


@pytest.fixture
def vm(vc: Client) -> Any:
    return vc.machine("DC0_H0_VM0")


def test_a_disk_is_a_sparse_file_of_its_capacity(vc: Client, vm: Any) -> None:
    [disk] = disks(vm.config)
    entry = vc.disk_entry(vm)
    assert entry["file"] == disk.backing.fileName
    stat = Path(entry["path"]).stat()
    assert stat.st_size == disk.capacityInBytes == 64 * MIB
    assert stat.st_blocks * 512 < MIB


def test_a_file_system_written_into_a_disk_is_served_by_ranges(vc: Client, vm: Any) -> None:
    write(vc.running_bytes(vm), 5 * MIB, b"hello" * 1000)
    flat = disks(vm.config)[0].backing.fileName.replace(".vmdk", "-flat.vmdk")
    status, data = vc.fetch(flat, {"Range": f"bytes={5 * MIB}-{5 * MIB + 9}"})
    assert (status, data) == (206, b"hellohello")
    status, data = vc.fetch(flat)
    assert (status, len(data)) == (200, 64 * MIB)


def test_nobody_reads_a_datastore_without_login(vc: Client, vm: Any) -> None:
    flat = disks(vm.config)[0].backing.fileName.replace(".vmdk", "-flat.vmdk")
    status, _ = vc.fetch(flat, is_anonymous=True)
    assert status == 401


def test_the_descriptor_names_the_flat_extent(vc: Client, vm: Any) -> None:
    status, data = vc.fetch(disks(vm.config)[0].backing.fileName)
    assert status == 200
    assert b'VMFS "DC0_H0_VM0-flat.vmdk"' in data


def test_the_browser_tells_the_size_of_the_extent(vc: Client, vm: Any) -> None:
    [store] = vm.datastore
    spec = vim.host.DatastoreBrowser.SearchSpec(
        matchPattern=["*-flat.vmdk"],
        details=vim.host.DatastoreBrowser.FileInfo.Details(
            fileType=True, fileSize=True, fileOwner=False, modification=False
        ),
    )
    task = store.browser.SearchDatastore_Task(datastorePath="[LocalDS_0] DC0_H0_VM0", searchSpec=spec)
    assert [file.fileSize for file in vc.wait(task).file] == [64 * MIB]


def test_an_added_disk_has_bytes_and_an_extended_one_keeps_them(vc: Client, vm: Any) -> None:
    controller = next(d for d in vm.config.hardware.device if isinstance(d, vim.vm.device.VirtualSCSIController))
    disk = vim.vm.device.VirtualDisk(
        key=-1,
        controllerKey=controller.key,
        unitNumber=3,
        capacityInBytes=8 * MIB,
        capacityInKB=8 * 1024,
        backing=vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
            fileName="[LocalDS_0] DC0_H0_VM0/data.vmdk", diskMode="persistent", thinProvisioned=True
        ),
    )
    vc.reconfigure(
        vm, deviceChange=[vim.vm.device.VirtualDeviceSpec(operation="add", fileOperation="create", device=disk)]
    )
    path = vc.running_bytes(vm, 1)
    assert path.stat().st_size == 8 * MIB
    write(path, 0, b"kept")

    added = disks(vm.config)[1]
    added.capacityInBytes, added.capacityInKB = 16 * MIB, 16 * 1024
    vc.reconfigure(vm, deviceChange=[vim.vm.device.VirtualDeviceSpec(operation="edit", device=added)])
    assert path.stat().st_size == 16 * MIB
    assert read(path, 0, 4) == b"kept"

    vc.reconfigure(
        vm,
        deviceChange=[
            vim.vm.device.VirtualDeviceSpec(operation="remove", fileOperation="destroy", device=disks(vm.config)[1])
        ],
    )
    assert not path.exists()
    assert len(disks(vm.config)) == 1


def test_every_property_of_a_machine_can_be_read(vc: Client, vm: Any) -> None:
    for prop in vim.VirtualMachine._GetPropertyList():
        getattr(vm, prop.name)
    assert vm.snapshot is None
    assert vm.runtime.powerState == "poweredOn"
    assert vm.runtime.consolidationNeeded is False


def test_the_version_is_the_one_asked_for(vc: Client) -> None:
    about = vc.content.about
    assert (about.apiVersion, about.version) == ("8.0.3.0", "8.0.3")
    assert about.instanceUuid == vc.address.instance_uuid
