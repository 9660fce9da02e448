"""Disk files without a machine: VirtualDiskManager, FileManager, and disks that come and go."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.vcenter.client import MIB, Client, disks, read, vim, vmodl, write

pytestmark = pytest.mark.vsphere

FileLocked = vim.fault.FileLocked


class Files:
    """The two managers of files, for one datacenter."""

    def __init__(self, vc: Client, root: Path) -> None:
        [self.center] = vc.all(vim.Datacenter)
        self.vc, self.root = vc, root
        self.disks, self.files = vc.content.virtualDiskManager, vc.content.fileManager

    def create(self, name: str, size: int) -> None:
        spec = vim.VirtualDiskManager.FileBackedVirtualDiskSpec(
            capacityKb=size // 1024, diskType="thin", adapterType="lsiLogic"
        )
        self.vc.wait(self.disks.CreateVirtualDisk_Task(name=name, datacenter=self.center, spec=spec))

    def copy(self, source: str, target: str) -> None:
        self.vc.wait(
            self.disks.CopyVirtualDisk_Task(
                sourceName=source, sourceDatacenter=self.center, destName=target, destDatacenter=self.center
            )
        )

    def move(self, source: str, target: str) -> None:
        self.vc.wait(
            self.disks.MoveVirtualDisk_Task(
                sourceName=source, sourceDatacenter=self.center, destName=target, destDatacenter=self.center
            )
        )

    def extend(self, name: str, size: int) -> None:
        self.vc.wait(
            self.disks.ExtendVirtualDisk_Task(
                name=name, datacenter=self.center, newCapacityKb=size // 1024, eagerZero=False
            )
        )

    def delete(self, name: str) -> None:
        self.vc.wait(self.disks.DeleteVirtualDisk_Task(name=name, datacenter=self.center))

    def extent(self, name: str) -> Path:
        return self.root / name.removeprefix("[LocalDS_0] ").replace(".vmdk", "-flat.vmdk")


@pytest.fixture
def files(vc: Client, lab: Any) -> Files:
    return Files(vc, lab.data / "datastores" / "LocalDS_0")


@pytest.fixture
def vm(vc: Client) -> Iterator[Any]:
    """A running machine; what was attached to it is detached afterwards."""
    found = vc.machine("DC0_H0_VM1")
    yield found
    for disk in disks(found.config)[1:]:
        change(vc, found, disk, operation="remove")


def change(vc: Client, vm: Any, disk: Any, **how: Any) -> None:
    vc.reconfigure(vm, deviceChange=[vim.vm.device.VirtualDeviceSpec(device=disk, **how)])


def existing(vm: Any, file: str) -> Any:
    controller = next(d for d in vm.config.hardware.device if isinstance(d, vim.vm.device.VirtualSCSIController))
    backing = vim.vm.device.VirtualDisk.FlatVer2BackingInfo(fileName=file, diskMode="persistent")
    return vim.vm.device.VirtualDisk(key=-1, controllerKey=controller.key, unitNumber=1, backing=backing)


def test_a_disk_is_created_copied_extended_moved_and_deleted(vc: Client, files: Files) -> None:
    home = "[LocalDS_0] DC0_H0_VM1"
    files.create(f"{home}/a.vmdk", 4 * MIB)
    assert files.extent(f"{home}/a.vmdk").stat().st_size == 4 * MIB
    write(files.extent(f"{home}/a.vmdk"), MIB, b"bytes")
    files.copy(f"{home}/a.vmdk", f"{home}/b.vmdk")
    write(files.extent(f"{home}/a.vmdk"), MIB, b"other")
    assert read(files.extent(f"{home}/b.vmdk"), MIB, 5) == b"bytes"

    first, second = (
        files.disks.QueryVirtualDiskUuid(name=f"{home}/{name}.vmdk", datacenter=files.center) for name in "ab"
    )
    assert first != second
    assert len(first) == 47
    files.extend(f"{home}/b.vmdk", 6 * MIB)
    files.move(f"{home}/b.vmdk", f"{home}/c.vmdk")
    assert not files.extent(f"{home}/b.vmdk").exists()
    assert files.extent(f"{home}/c.vmdk").stat().st_size == 6 * MIB
    assert files.disks.QueryVirtualDiskUuid(name=f"{home}/c.vmdk", datacenter=files.center) == second
    for name in ("a", "c"):
        files.delete(f"{home}/{name}.vmdk")
        assert not files.extent(f"{home}/{name}.vmdk").exists()
    with pytest.raises(vim.fault.FileNotFound):
        files.delete(f"{home}/a.vmdk")


def test_names_that_are_taken_or_nowhere_are_refused(vc: Client, files: Files, vm: Any) -> None:
    name = disks(vm.config)[0].backing.fileName
    with pytest.raises(vim.fault.FileAlreadyExists):
        files.create(name, MIB)
    with pytest.raises(vim.fault.FileNotFound):
        files.create("[LocalDS_0] none/a.vmdk", MIB)
    with pytest.raises(vim.fault.InvalidDatastorePath):
        files.create("[none] none/a.vmdk", MIB)
    with pytest.raises(vmodl.fault.InvalidArgument):
        files.create("[LocalDS_0] DC0_H0_VM1/empty.vmdk", 0)


def test_the_disk_of_a_running_machine_is_locked(vc: Client, files: Files, vm: Any) -> None:
    name = disks(vm.config)[0].backing.fileName
    with pytest.raises(FileLocked):
        files.delete(name)
    with pytest.raises(FileLocked):
        files.move(name, "[LocalDS_0] DC0_H0_VM1/moved.vmdk")
    with pytest.raises(FileLocked):
        files.copy(name, "[LocalDS_0] DC0_H0_VM1/copy.vmdk")
    with pytest.raises(FileLocked):
        vc.wait(files.files.DeleteDatastoreFile_Task(name="[LocalDS_0] DC0_H0_VM1", datacenter=files.center))


def test_a_frozen_disk_can_be_copied_while_its_machine_runs(vc: Client, files: Files, vm: Any) -> None:
    write(vc.running_bytes(vm), 0, b"frozen")
    taken = vc.snapshot(vm)
    write(vc.running_bytes(vm), 0, b"change")
    target = "[LocalDS_0] DC0_H0_VM1/frozen.vmdk"
    files.copy(disks(taken.config)[0].backing.fileName, target)
    assert read(files.extent(target), 0, 6) == b"frozen"
    vc.remove(taken)
    files.delete(target)


def test_a_disk_moved_between_machines_keeps_bytes_and_capacity(vc: Client, files: Files, vm: Any) -> None:
    files.create("[LocalDS_0] DC0_H0_VM0/data.vmdk", 12 * MIB)
    write(files.extent("[LocalDS_0] DC0_H0_VM0/data.vmdk"), 0, b"moved")
    target = "[LocalDS_0] DC0_H0_VM1/data.vmdk"
    files.move("[LocalDS_0] DC0_H0_VM0/data.vmdk", target)
    change(vc, vm, existing(vm, target), operation="add")
    attached = disks(vm.config)[1]
    assert attached.capacityInBytes == 12 * MIB
    assert attached.capacityInKB == 12 * 1024
    assert read(vc.running_bytes(vm, 1), 0, 5) == b"moved"

    change(vc, vm, attached, operation="remove")
    assert read(files.extent(target), 0, 5) == b"moved"
    change(vc, vm, existing(vm, target), operation="add")
    change(vc, vm, disks(vm.config)[1], operation="remove", fileOperation="destroy")
    assert not files.extent(target).exists()


def test_a_disk_destroyed_under_a_snapshot_leaves_what_the_snapshot_needs(vc: Client, files: Files, vm: Any) -> None:
    target = "[LocalDS_0] DC0_H0_VM1/under.vmdk"
    files.create(target, MIB)
    change(vc, vm, existing(vm, target), operation="add")
    taken = vc.snapshot(vm)
    running = vc.running_bytes(vm, 1)
    change(vc, vm, disks(vm.config)[1], operation="remove", fileOperation="destroy")
    assert not running.exists()
    assert files.extent(target).exists()
    vc.remove(taken)
    assert len(disks(vm.config)) == 1


def test_files_and_folders_are_moved_and_deleted(vc: Client, files: Files) -> None:
    manager, center = files.files, files.center
    manager.MakeDirectory(name="[LocalDS_0] trash/inner", datacenter=center, createParentDirectories=True)
    (files.root / "trash" / "inner" / "note").write_text("text", "utf-8")
    vc.wait(
        manager.MoveDatastoreFile_Task(
            sourceName="[LocalDS_0] trash/inner",
            sourceDatacenter=center,
            destinationName="[LocalDS_0] kept",
            destinationDatacenter=center,
        )
    )
    assert (files.root / "kept" / "note").read_text("utf-8") == "text"
    vc.wait(manager.DeleteDatastoreFile_Task(name="[LocalDS_0] kept", datacenter=center))
    assert not (files.root / "kept").exists()
    with pytest.raises(vim.fault.FileNotFound):
        vc.wait(manager.DeleteDatastoreFile_Task(name="[LocalDS_0] kept", datacenter=center))
