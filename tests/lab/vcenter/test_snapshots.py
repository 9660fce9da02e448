"""Snapshots freeze bytes, name files as ESXi does, fold back when removed, and revert."""

from typing import Any

import pytest

from tests.lab.vcenter.client import MIB, Client, chain, disks, read, vim, vmodl, write

pytestmark = pytest.mark.vsphere


@pytest.fixture
def vm(vc: Client) -> Any:
    """A machine that is on and has no snapshot."""
    found = vc.machine("DC0_H0_VM0")
    if found.runtime.powerState == "poweredOff":
        vc.wait(found.PowerOnVM_Task())
    vc.wait(found.RemoveAllSnapshots_Task())
    return found


def names(tree: list[Any]) -> list[Any]:
    return [[node.name, names(node.childSnapshotList)] for node in tree]


def test_a_snapshot_freezes_the_bytes_and_the_machine_goes_on_in_a_child(vc: Client, vm: Any) -> None:
    before = vc.running_bytes(vm)
    write(before, MIB, b"before")
    writer = before.open("r+b", buffering=0)
    taken = vc.snapshot(vm)

    [running], [frozen] = disks(vm.config), disks(taken.config)
    assert chain(running) == ["DC0_H0_VM0-000001.vmdk", "DC0_H0_VM0.vmdk"]
    assert chain(frozen) == ["DC0_H0_VM0.vmdk"]
    assert running.backing.uuid == frozen.backing.uuid
    # Whoever had the disk open goes on writing to what runs.
    writer.seek(MIB)
    writer.write(b"after!")
    writer.close()
    assert read(vc.running_bytes(vm), MIB, 6) == b"after!"
    assert read(vc.frozen_bytes(vm, taken), MIB, 6) == b"before"
    assert vc.fetch(frozen.backing.fileName.replace(".vmdk", "-flat.vmdk"), {"Range": "bytes=1048576-1048581"}) == (
        206,
        b"before",
    )

    vc.remove(taken)
    [disk] = disks(vm.config)
    assert chain(disk) == ["DC0_H0_VM0.vmdk"]
    assert read(vc.running_bytes(vm), MIB, 6) == b"after!"
    assert vm.snapshot is None


def test_the_extent_of_a_child_is_not_served_as_a_flat_file(vc: Client, vm: Any) -> None:
    vc.snapshot(vm)
    extent = disks(vm.config)[0].backing.fileName.replace(".vmdk", "-sesparse.vmdk")
    assert vc.fetch(extent)[0] == 500
    assert vc.fetch(extent.replace("-sesparse", "-flat"))[0] == 404


def test_removing_the_lower_of_two_keeps_the_bytes_of_the_upper(vc: Client, vm: Any) -> None:
    write(vc.running_bytes(vm), 0, b"1")
    first = vc.snapshot(vm, "first")
    write(vc.running_bytes(vm), 0, b"2")
    second = vc.snapshot(vm, "second")
    write(vc.running_bytes(vm), 0, b"3")
    assert chain(disks(vm.config)[0]) == ["DC0_H0_VM0-000002.vmdk", "DC0_H0_VM0-000001.vmdk", "DC0_H0_VM0.vmdk"]
    assert names(vm.snapshot.rootSnapshotList) == [["first", [["second", []]]]]

    vc.remove(first)
    assert chain(disks(vm.config)[0]) == ["DC0_H0_VM0-000002.vmdk", "DC0_H0_VM0.vmdk"]
    assert chain(disks(second.config)[0]) == ["DC0_H0_VM0.vmdk"]
    assert read(vc.frozen_bytes(vm, second), 0, 1) == b"2"
    assert read(vc.running_bytes(vm), 0, 1) == b"3"
    assert vm.snapshot.currentSnapshot == second


def test_removing_with_children_folds_everything(vc: Client, vm: Any) -> None:
    first = vc.snapshot(vm, "first")
    second = vc.snapshot(vm, "second")
    write(vc.running_bytes(vm), 0, b"now")
    vc.remove(first, children=True)
    assert vm.snapshot is None
    assert chain(disks(vm.config)[0]) == ["DC0_H0_VM0.vmdk"]
    assert read(vc.running_bytes(vm), 0, 3) == b"now"
    with pytest.raises(vmodl.fault.ManagedObjectNotFound):
        _ = second.config


def test_removing_all_folds_everything(vc: Client, vm: Any) -> None:
    for name in ("a", "b", "c"):
        vc.snapshot(vm, name)
    write(vc.running_bytes(vm), 0, b"all")
    vc.wait(vm.RemoveAllSnapshots_Task())
    assert vm.snapshot is None
    assert chain(disks(vm.config)[0]) == ["DC0_H0_VM0.vmdk"]
    assert read(vc.running_bytes(vm), 0, 3) == b"all"


def test_revert_brings_the_bytes_back_and_turns_the_machine_off(vc: Client, vm: Any) -> None:
    write(vc.running_bytes(vm), 0, b"old")
    taken = vc.snapshot(vm, "old")
    write(vc.running_bytes(vm), 0, b"new")
    vc.wait(taken.RevertToSnapshot_Task())
    assert read(vc.running_bytes(vm), 0, 3) == b"old"
    assert vm.runtime.powerState == "poweredOff"
    assert chain(disks(vm.config)[0])[1:] == ["DC0_H0_VM0.vmdk"]
    # What is written now leaves the snapshot as it was.
    write(vc.running_bytes(vm), 0, b"alt")
    assert read(vc.frozen_bytes(vm, taken), 0, 3) == b"old"
    vc.wait(vm.RevertToCurrentSnapshot_Task())
    assert read(vc.running_bytes(vm), 0, 3) == b"old"


def test_a_branch_keeps_the_file_that_both_children_need(vc: Client, vm: Any) -> None:
    write(vc.running_bytes(vm), 0, b"root")
    root = vc.snapshot(vm, "root")
    write(vc.running_bytes(vm), 0, b"left")
    left = vc.snapshot(vm, "left")
    vc.wait(root.RevertToSnapshot_Task())
    write(vc.running_bytes(vm), 0, b"rght")
    right = vc.snapshot(vm, "right")
    assert names(vm.snapshot.rootSnapshotList) == [["root", [["left", []], ["right", []]]]]
    vc.remove(root)
    assert read(vc.frozen_bytes(vm, left), 0, 4) == b"left"
    assert read(vc.frozen_bytes(vm, right), 0, 4) == b"rght"
    assert vm.runtime.consolidationNeeded is False
    vc.remove(left)
    vc.remove(right)
    assert chain(disks(vm.config)[0]) == ["DC0_H0_VM0.vmdk"]
    assert read(vc.running_bytes(vm), 0, 4) == b"rght"


def test_an_independent_disk_is_left_out(vc: Client, vm: Any) -> None:
    other = vc.machine("DC0_H0_VM1")
    [disk] = disks(other.config)
    disk.backing.diskMode = "independent_persistent"
    vc.reconfigure(other, deviceChange=[vim.vm.device.VirtualDeviceSpec(operation="edit", device=disk)])
    vc.snapshot(other)
    assert chain(disks(other.config)[0]) == ["DC0_H0_VM1.vmdk"]


def test_a_quiesced_snapshot_needs_running_tools(vc: Client, vm: Any) -> None:
    vc.snapshot(vm, "with", quiesce=True)
    assert vm.snapshot.rootSnapshotList[0].quiesced is True
    vc.wait(vm.RemoveAllSnapshots_Task())
    vc.control("POST", "/tools", {"machine": vm.name, "running": False})
    vc.snapshot(vm, "without", quiesce=True)
    vc.control("POST", "/tools", {"machine": vm.name, "running": True})
    assert vm.snapshot.rootSnapshotList[0].quiesced is False


def test_a_snapshot_can_be_renamed(vc: Client, vm: Any) -> None:
    taken = vc.snapshot(vm, "old")
    taken.RenameSnapshot(name="new", description="why")
    [node] = vm.snapshot.rootSnapshotList
    assert (node.name, node.description) == ("new", "why")


def test_a_task_names_its_machine_and_its_work(vc: Client, vm: Any) -> None:
    task = vm.CreateSnapshot_Task(name="t", description="", memory=False, quiesce=False)
    vc.wait(task)
    info = task.info
    assert (info.entity, info.descriptionId) == (vm, "VirtualMachine.createSnapshot")
    assert task in vm.recentTask
    assert len([t for t in vm.recentTask if "napshot" in t.info.descriptionId and t.info.key == info.key]) == 1
