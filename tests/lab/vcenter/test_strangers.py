"""Calls that name objects which are not there end in faults, and the lab goes on."""

from typing import Any

import pytest

from tests.lab.vcenter.client import Client, vim, vmodl

pytestmark = pytest.mark.vsphere

STRANGERS = {
    "host": (vim.HostSystem, "host-99999"),
    "datastore": (vim.Datastore, "datastore-99999"),
    "pool": (vim.ResourcePool, "resgroup-99999"),
    "folder": (vim.Folder, "group-v99999"),
}


def stranger(vc: Client, name: str) -> Any:
    kind, identity = STRANGERS[name]
    return kind(identity, vc.instance._stub)


@pytest.mark.parametrize("name", STRANGERS)
def test_a_machine_is_not_moved_to_where_nothing_is(vc: Client, name: str) -> None:
    vm = vc.machine("DC0_H0_VM0")
    with pytest.raises(vmodl.fault.ManagedObjectNotFound) as caught:
        vc.wait(vm.RelocateVM_Task(spec=vim.vm.RelocateSpec(**{name: stranger(vc, name)})))
    assert caught.value.obj._moId == STRANGERS[name][1]
    vc.remove(vc.snapshot(vm))


def test_other_tasks_are_refused_as_well(vc: Client) -> None:
    vm = vc.machine("DC0_H0_VM0")
    lost = vim.VirtualMachine("vm-99999", vc.instance._stub)
    with pytest.raises(vmodl.fault.ManagedObjectNotFound):
        vc.wait(vm.parent.MoveIntoFolder_Task(list=[lost]))
    location = vim.vm.RelocateSpec(pool=stranger(vc, "pool"))
    with pytest.raises(vmodl.fault.ManagedObjectNotFound):
        vc.wait(
            vm.CloneVM_Task(
                folder=vm.parent, name="c", spec=vim.vm.CloneSpec(location=location, powerOn=False, template=False)
            )
        )


def test_a_call_that_breaks_off_is_a_fault_and_leaves_no_lock(vc: Client) -> None:
    manager = vc.content.customFieldsManager
    field = manager.AddCustomFieldDef(name="Owner", moType=vim.VirtualMachine)
    lost = vim.VirtualMachine("vm-99999", vc.instance._stub)
    with pytest.raises(vmodl.fault.SystemError, match="interface conversion"):
        manager.SetField(entity=lost, key=field.key, value="nobody")
    vm = vc.machine("DC0_H0_VM0")
    manager.SetField(entity=vm, key=field.key, value="me")
    assert "me" in [value.value for value in vm.customValue]
