"""What a lab that is started again on its folder knows of its machines."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.lab.vcenter.client import MIB, Client, areas, chain, disks, read, vim, write
from tests.lab.vcenter.test_tags import Rest
from workers.vcenter_lab import VCenterLab

pytestmark = pytest.mark.vsphere
CATEGORY = {"name": "backup", "description": "", "cardinality": "SINGLE", "associable_types": ["VirtualMachine"]}


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


@pytest.mark.parametrize("end", [VCenterLab.stop, VCenterLab.kill])
def test_folders_and_pools_are_there_again_with_their_machines(
    lab: VCenterLab, end: Callable[[VCenterLab], bool]
) -> None:
    vc = Client(lab.start())
    tag = end.__name__
    vm = vc.machine("DC0_C0_RP0_VM1")
    top = vc.content.rootFolder.childEntity[0].vmFolder
    prod = top.CreateFolder(name=f"prod-{tag}")
    web = prod.CreateFolder(name="new")
    vc.wait(web.Rename_Task(newName="web"))
    gone = top.CreateFolder(name="gone")
    vc.wait(gone.Destroy_Task())
    vc.wait(web.MoveIntoFolder_Task(list=[vm]))
    share = vim.ResourceAllocationInfo(
        reservation=0, limit=-1, expandableReservation=True, shares=vim.SharesInfo(level="normal", shares=0)
    )
    wanted = vim.ResourceConfigSpec(cpuAllocation=share, memoryAllocation=share)
    silver = vm.resourcePool.owner.resourcePool.CreateResourcePool(name=f"silver-{tag}", spec=wanted)
    gold = silver.CreateResourcePool(name="new", spec=wanted)
    gold.UpdateConfig(name=f"gold-{tag}", config=wanted)
    vc.wait(vm.RelocateVM_Task(spec=vim.vm.RelocateSpec(pool=gold)))
    vc.wait(silver.Destroy_Task())
    before = [gold._moId, web._moId, prod._moId, top._moId]
    vc.close()
    assert end(lab)

    vc = Client(lab.start())
    vm = vc.machine("DC0_C0_RP0_VM1")
    assert [vm.resourcePool._moId, vm.parent._moId, vm.parent.parent._moId, vm.parent.parent.parent._moId] == before
    assert (vm.resourcePool.name, vm.parent.name, vm.parent.parent.name) == (f"gold-{tag}", "web", f"prod-{tag}")
    assert vm in vm.resourcePool.vm
    assert vm in vm.parent.childEntity
    assert vm.resourcePool.owner.resourcePool == vm.resourcePool.parent
    assert "gone" not in [folder.name for folder in vc.all(vim.Folder)]
    assert vm.parent.CreateFolder(name="more")._moId not in before
    vc.close()


def test_tags_and_custom_attributes_are_there_again(lab: VCenterLab) -> None:
    vc = Client(lab.start())
    vm, manager = vc.machine("DC0_H0_VM0"), vc.content.customFieldsManager
    dropped = manager.AddCustomFieldDef(name="Dropped", moType=vim.VirtualMachine)
    field = manager.AddCustomFieldDef(name="Last", moType=vim.VirtualMachine)
    manager.RemoveCustomFieldDef(key=dropped.key)
    manager.RenameCustomFieldDef(key=field.key, name="Last backup")
    manager.SetField(entity=vm, key=field.key, value="yesterday")
    vm.SetCustomValue(key="Last backup", value="today")
    rest = Rest(vc)
    _, category = rest.tagging("POST", "category", CATEGORY)
    _, tag = rest.tagging("POST", "tag", {"name": "daily", "description": "", "category_id": category})
    target = {"object_id": {"type": "VirtualMachine", "id": vm._moId}}
    rest.tagging("POST", f"tag-association/{tag}?action=attach", target)
    vc.close()
    lab.kill()

    vc = Client(lab.start())
    vm, manager, rest = vc.machine("DC0_H0_VM0"), vc.content.customFieldsManager, Rest(vc)
    assert [(known.key, known.name) for known in manager.field] == [(field.key, "Last backup")]
    assert {value.key: value.value for value in vm.customValue} == {field.key: "today"}
    assert [known.key for known in vm.availableField] == [field.key]
    assert manager.AddCustomFieldDef(name="Other", moType=vim.VirtualMachine).key == field.key + 1
    assert rest.tagging("GET", f"category/{category}")[1]["name"] == "backup"
    assert rest.tagging("GET", f"tag/{tag}")[1]["name"] == "daily"
    assert rest.tagging("POST", f"tag-association/{tag}?action=list-attached-objects") == (200, [target["object_id"]])
    assert rest.tagging("POST", f"tag-association/{tag}?action=detach", target)[0] == 204
    vc.close()
    lab.kill()

    vc = Client(lab.start())
    assert Rest(vc).tagging("POST", f"tag-association/{tag}?action=list-attached-objects") == (200, [])
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
