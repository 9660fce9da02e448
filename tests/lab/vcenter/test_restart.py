"""What a lab that is started again on its folder knows of its machines."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.lab.vcenter.client import MIB, Client, areas, chain, disks, read, vim, write
from workers.vcenter_lab import VCenterLab

pytestmark = pytest.mark.vsphere


def view(vc: Client) -> list[tuple[Any, ...]]:
    return [
        (vm._moId, vm.name, vm.config.uuid, vm.config.instanceUuid, vm.runtime.powerState, vm.runtime.host._moId)
        for vm in vc.all(vim.VirtualMachine)
    ]


def prepare(vc: Client, vm: Any) -> tuple[Any, str]:
    """Give a machine options, tracking and a snapshot; return the snapshot and its change id."""
    vc.reconfigure(vm, extraConfig=[vim.option.OptionValue(key="holdfast.Job", value="nightly")])
    vc.track_changes(vm)
    write(vc.running_bytes(vm), MIB, b"frozen")
    taken = vc.snapshot(vm, "before")
    write(vc.running_bytes(vm), MIB, b"change")
    return taken, disks(taken.config)[0].backing.changeId


@pytest.mark.parametrize("end", [VCenterLab.stop, VCenterLab.kill])
def test_machines_disks_snapshots_and_tracking_are_there_again(
    lab: VCenterLab, end: Callable[[VCenterLab], bool]
) -> None:
    vc = Client(lab.start())
    name = "DC0_H0_VM0" if end is VCenterLab.stop else "DC0_H0_VM1"
    vm = vc.machine(name)
    taken, since = prepare(vc, vm)
    before, files = view(vc), chain(disks(vm.config)[0])
    vc.close()
    assert end(lab)

    vc = Client(lab.start())
    assert view(vc) == before
    vm = vc.machine(name)
    assert chain(disks(vm.config)[0]) == files
    assert {o.key: o.value for o in vm.config.extraConfig}["holdfast.Job"] == "nightly"
    [node] = vm.snapshot.rootSnapshotList
    assert (node.name, node.snapshot._moId) == ("before", taken._moId)
    assert read(vc.frozen_bytes(vm, node.snapshot), MIB, 6) == b"frozen"
    assert read(vc.running_bytes(vm), MIB, 6) == b"change"

    later = vc.snapshot(vm, "after")
    assert areas(vm, later, since) == [(MIB, 64 << 10)]
    nodes = vm.snapshot.rootSnapshotList[0]
    assert nodes.childSnapshotList[0].id != nodes.id
    vc.wait(vm.RemoveAllSnapshots_Task())
    assert chain(disks(vm.config)[0]) == [f"{name}.vmdk"]
    assert read(vc.running_bytes(vm), MIB, 6) == b"change"
    vc.close()


def test_an_attached_disk_and_its_redo_log_are_there_again(lab: VCenterLab) -> None:
    vc = Client(lab.start())
    vm, proxy = vc.machine("DC0_H0_VM0"), vc.machine("DC0_H0_VM1")
    taken = vc.snapshot(vm)
    controller = next(d for d in proxy.config.hardware.device if isinstance(d, vim.vm.device.VirtualSCSIController))
    backing = vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
        fileName=disks(taken.config)[0].backing.fileName, diskMode="independent_nonpersistent"
    )
    disk = vim.vm.device.VirtualDisk(key=-1, controllerKey=controller.key, unitNumber=1, backing=backing)
    vc.reconfigure(proxy, deviceChange=[vim.vm.device.VirtualDeviceSpec(operation="add", device=disk)])
    redo = vc.running_bytes(proxy, 1)
    write(redo, 0, b"redo")
    vc.close()
    lab.kill()

    vc = Client(lab.start())
    vm, proxy = vc.machine("DC0_H0_VM0"), vc.machine("DC0_H0_VM1")
    assert vc.running_bytes(proxy, 1) == redo
    with pytest.raises(vim.fault.FileLocked):
        vc.wait(vm.RemoveAllSnapshots_Task())
    [_, attached] = disks(proxy.config)
    vc.reconfigure(proxy, deviceChange=[vim.vm.device.VirtualDeviceSpec(operation="remove", device=attached)])
    assert not redo.exists()
    vc.wait(vm.ConsolidateVMDisks_Task())
    assert len(chain(disks(vm.config)[0])) == 1
    vc.close()


def test_accounts_may_do_again_what_they_might(lab: VCenterLab) -> None:
    vc = Client(lab.start())
    vc.control("POST", "/users", {"name": "backup@vsphere.local", "password": "secret"})
    manager = vc.content.authorizationManager
    role = manager.AddAuthorizationRole(name="Backup", privIds=["VirtualMachine.State.CreateSnapshot"])
    rule = vim.AuthorizationManager.Permission(
        principal="backup@vsphere.local", group=False, roleId=role, propagate=True
    )
    manager.SetEntityPermissions(entity=vc.content.rootFolder, permission=[rule])
    vc.close()
    lab.kill()

    limited = Client(lab.start(), "backup@vsphere.local", "secret")
    limited.snapshot(limited.machine("DC0_H0_VM0"))
    with pytest.raises(vim.fault.NoPermission):
        limited.wait(limited.machine("DC0_H0_VM0").RemoveAllSnapshots_Task())
    limited.close()
    vc = Client(lab.start())
    assert vc.content.authorizationManager.AddAuthorizationRole(name="Other", privIds=[]) == role + 1
    vc.wait(vc.machine("DC0_H0_VM0").RemoveAllSnapshots_Task())
    vc.close()


def test_a_machine_that_was_destroyed_stays_away(lab: VCenterLab) -> None:
    vc = Client(lab.start())
    vm = vc.machine("DC0_C0_RP0_VM0")
    vc.wait(vm.PowerOffVM_Task())
    vc.wait(vm.Destroy_Task())
    vc.close()
    lab.kill()
    vc = Client(lab.start())
    assert "DC0_C0_RP0_VM0" not in [found.name for found in vc.all(vim.VirtualMachine)]
    vc.close()
