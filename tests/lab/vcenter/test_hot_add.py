"""Disks of one machine attached to another: locks, redo logs, and what a wrong order leaves behind."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.vcenter.client import MIB, Client, chain, disks, read, vim, write

FileLocked = vim.fault.FileLocked

pytestmark = pytest.mark.vsphere


@pytest.fixture
def vm(vc: Client) -> Iterator[Any]:
    """A running machine without snapshots."""
    found = vc.machine("DC0_H0_VM0")
    yield found
    vc.control("DELETE", "/locks", {"machine": found.name})
    vc.wait(found.RemoveAllSnapshots_Task())


@pytest.fixture
def proxy(vc: Client) -> Iterator[Any]:
    """A running machine to which disks are attached; afterwards it has only its own."""
    found = vc.machine("DC0_H0_VM1")
    yield found
    for disk in disks(found.config)[1:]:
        detach(vc, found, disk)


def attach(vc: Client, proxy: Any, file: str, mode: str = "independent_nonpersistent") -> Any:
    """Attach an existing file by name alone and return the disk."""
    controller = next(d for d in proxy.config.hardware.device if isinstance(d, vim.vm.device.VirtualSCSIController))
    disk = vim.vm.device.VirtualDisk(
        key=-1,
        controllerKey=controller.key,
        unitNumber=len(disks(proxy.config)),
        backing=vim.vm.device.VirtualDisk.FlatVer2BackingInfo(fileName=file, diskMode=mode),
    )
    vc.reconfigure(proxy, deviceChange=[vim.vm.device.VirtualDeviceSpec(operation="add", device=disk)])
    [attached] = [d for d in disks(proxy.config) if d.backing.fileName == file]
    return attached


def detach(vc: Client, proxy: Any, disk: Any) -> None:
    vc.reconfigure(proxy, deviceChange=[vim.vm.device.VirtualDeviceSpec(operation="remove", device=disk)])


def needs_consolidation(vm: Any) -> bool:
    needed: bool = vm.runtime.consolidationNeeded
    return needed


def test_the_frozen_parent_can_be_attached_and_shows_the_frozen_bytes(vc: Client, vm: Any, proxy: Any) -> None:
    write(vc.running_bytes(vm), 0, b"frozen")
    taken = vc.snapshot(vm)
    write(vc.running_bytes(vm), 0, b"change")
    [source] = disks(taken.config)
    attached = attach(vc, proxy, source.backing.fileName)
    assert attached.capacityInBytes == source.capacityInBytes == 64 * MIB
    assert attached.backing.uuid == source.backing.uuid

    seen = vc.running_bytes(proxy, 1)
    assert ".REDO_" in seen.name
    assert read(seen, 0, 6) == b"frozen"
    write(seen, 0, b"guests")
    assert read(vc.frozen_bytes(vm, taken), 0, 6) == b"frozen"
    detach(vc, proxy, attached)
    assert not seen.exists()
    vc.remove(taken)
    assert not needs_consolidation(vm)


def test_the_running_disk_of_another_machine_is_locked(vc: Client, vm: Any, proxy: Any) -> None:
    for mode in ("independent_nonpersistent", "persistent"):
        with pytest.raises(FileLocked) as caught:
            attach(vc, proxy, disks(vm.config)[0].backing.fileName, mode)
        assert caught.value.file == disks(vm.config)[0].backing.fileName


def test_a_frozen_parent_is_not_opened_for_writing(vc: Client, vm: Any, proxy: Any) -> None:
    taken = vc.snapshot(vm)
    with pytest.raises(FileLocked):
        attach(vc, proxy, disks(taken.config)[0].backing.fileName, "persistent")


def test_a_file_that_is_not_there_is_not_found(vc: Client, proxy: Any) -> None:
    with pytest.raises(vim.fault.FileNotFound):
        attach(vc, proxy, "[LocalDS_0] none/none.vmdk")


def test_a_snapshot_removed_before_its_disk_is_detached_leaves_work(vc: Client, vm: Any, proxy: Any) -> None:
    taken = vc.snapshot(vm)
    write(vc.running_bytes(vm), 0, b"newest")
    attached = attach(vc, proxy, disks(taken.config)[0].backing.fileName)
    with pytest.raises(FileLocked):
        vc.remove(taken)
    assert vm.snapshot is None
    assert needs_consolidation(vm)
    assert vm.summary.runtime.consolidationNeeded is True
    assert len(chain(disks(vm.config)[0])) == 2
    with pytest.raises(FileLocked):
        vc.wait(vm.ConsolidateVMDisks_Task())

    detach(vc, proxy, attached)
    vc.wait(vm.ConsolidateVMDisks_Task())
    assert not needs_consolidation(vm)
    assert chain(disks(vm.config)[0]) == ["DC0_H0_VM0.vmdk"]
    assert read(vc.running_bytes(vm), 0, 6) == b"newest"


def test_removal_without_consolidation_leaves_the_chain(vc: Client, vm: Any) -> None:
    vc.remove(vc.snapshot(vm), consolidate=False)
    assert vm.snapshot is None
    assert needs_consolidation(vm)
    vc.wait(vm.ConsolidateVMDisks_Task())
    assert not needs_consolidation(vm)
    assert len(chain(disks(vm.config)[0])) == 1


def test_a_disk_locked_by_somebody_unknown_can_be_frozen_no_more(vc: Client, vm: Any) -> None:
    locked = vc.control("POST", "/locks", {"machine": vm.name})
    assert locked == ["[LocalDS_0] DC0_H0_VM0/DC0_H0_VM0.vmdk"]
    with pytest.raises(FileLocked):
        vc.snapshot(vm)
    assert vm.snapshot is None
    vc.control("DELETE", "/locks", {"machine": vm.name})
    vc.snapshot(vm)


def test_the_disk_of_a_machine_that_is_off_can_be_written_by_another(vc: Client, vm: Any, proxy: Any) -> None:
    vc.wait(vm.PowerOffVM_Task())
    attached = attach(vc, proxy, disks(vm.config)[0].backing.fileName, "persistent")
    write(vc.running_bytes(proxy, 1), MIB, b"restored")
    with pytest.raises(FileLocked):
        vc.wait(vm.PowerOnVM_Task())
    detach(vc, proxy, attached)
    vc.wait(vm.PowerOnVM_Task())
    assert read(vc.running_bytes(vm), MIB, 8) == b"restored"
    assert Path(vc.disk_entry(vm)["path"]).name == "DC0_H0_VM0-flat.vmdk"
