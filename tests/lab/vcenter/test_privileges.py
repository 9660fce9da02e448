"""Accounts that may do some things: a missing privilege is named, a granted one suffices."""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.lab.vcenter.client import MIB, Client, SoapStubAdapter, disks, vim

pytestmark = pytest.mark.vsphere

NoPermission = vim.fault.NoPermission


class Limited:
    """An account with one role on one object, and a session of it."""

    def __init__(self, admin: Client, on: Any, *privileges: str, propagate: bool = True) -> None:
        self.admin, self.on = admin, on
        self.manager = admin.content.authorizationManager
        admin.control("POST", "/users", {"name": "backup@vsphere.local", "password": "secret"})
        self.role = self.manager.AddAuthorizationRole(name="Backup", privIds=list(privileges))
        permission = vim.AuthorizationManager.Permission(
            principal="VSPHERE.LOCAL\\backup", group=False, roleId=self.role, propagate=propagate
        )
        self.manager.SetEntityPermissions(entity=on, permission=[permission])
        self.vc = Client(admin.address, "backup@vsphere.local", "secret")

    def machine(self, name: str) -> Any:
        return self.vc.machine(name)

    def close(self) -> None:
        self.vc.close()
        self.manager.RemoveEntityPermission(entity=self.on, user="VSPHERE.LOCAL\\backup", isGroup=False)
        self.manager.RemoveAuthorizationRole(roleId=self.role, failIfUsed=False)


Maker = Callable[..., Limited]


@pytest.fixture
def limited(vc: Client) -> Iterator[Maker]:
    made: list[Limited] = []

    def make(*privileges: str, on: Any = None, propagate: bool = True) -> Limited:
        made.append(Limited(vc, on or vc.content.rootFolder, *privileges, propagate=propagate))
        return made[-1]

    yield make
    for account in made:
        account.close()


def missing(call: Callable[[], Any]) -> tuple[Any, str]:
    with pytest.raises(NoPermission) as caught:
        call()
    return caught.value.object, caught.value.privilegeId


def test_a_snapshot_needs_its_privileges(limited: Maker) -> None:
    account = limited("VirtualMachine.State.CreateSnapshot")
    vm = account.machine("DC0_H0_VM0")
    taken = account.vc.snapshot(vm)
    assert missing(lambda: account.vc.remove(taken)) == (vm, "VirtualMachine.State.RemoveSnapshot")
    assert missing(vm.RemoveAllSnapshots_Task) == (vm, "VirtualMachine.State.RemoveSnapshot")
    clean(account.admin, vm.name)


def clean(vc: Client, name: str) -> None:
    vc.wait(vc.machine(name).RemoveAllSnapshots_Task())


def reconfigure(account: Limited, vm: Any, **values: Any) -> Callable[[], Any]:
    return lambda: account.vc.reconfigure(vm, **values)


def test_each_kind_of_reconfiguration_needs_its_privilege(limited: Maker) -> None:
    account = limited("VirtualMachine.Config.Annotation")
    vm = account.machine("DC0_H0_VM0")
    account.vc.reconfigure(vm, annotation="allowed")
    assert missing(reconfigure(account, vm, changeTrackingEnabled=True))[1] == "VirtualMachine.Config.ChangeTracking"
    assert missing(reconfigure(account, vm, annotation="x", name="y"))[1] == "VirtualMachine.Config.Rename"
    option = vim.option.OptionValue(key="a.b", value="c")
    assert missing(reconfigure(account, vm, extraConfig=[option]))[1] == "VirtualMachine.Config.AdvancedConfig"

    disk = disks(vm.config)[0]
    spec = vim.vm.device.VirtualDeviceSpec
    for how, name in (
        ({"operation": "add"}, "AddExistingDisk"),
        ({"operation": "add", "fileOperation": "create"}, "AddNewDisk"),
        ({"operation": "remove"}, "RemoveDisk"),
        ({"operation": "edit"}, "DiskExtend"),
    ):
        needed = {missing(reconfigure(account, vm, deviceChange=[spec(device=disk, **how)]))[1]}
        assert needed <= {f"VirtualMachine.Config.{name}", "Datastore.AllocateSpace"}


def test_power_and_inventory_need_their_privileges(limited: Maker) -> None:
    account = limited("VirtualMachine.Inventory.Register")
    vm = account.machine("DC0_H0_VM0")
    assert missing(vm.PowerOffVM_Task)[1] == "VirtualMachine.Interact.PowerOff"
    assert missing(vm.PowerOnVM_Task)[1] == "VirtualMachine.Interact.PowerOn"
    assert missing(vm.UnregisterVM)[1] == "VirtualMachine.Inventory.Unregister"
    assert missing(vm.Destroy_Task)[1] == "VirtualMachine.Inventory.Delete"
    [center] = account.vc.all(vim.Datacenter)
    folder, pool = center.vmFolder, vm.resourcePool
    spec = vim.vm.ConfigSpec(name="x", files=vim.vm.FileInfo(vmPathName="[LocalDS_0]"))
    assert missing(lambda: folder.CreateVM_Task(config=spec, pool=pool)) == (folder, "VirtualMachine.Inventory.Create")
    register = {"path": "[LocalDS_0] x/x.vmx", "asTemplate": False, "pool": pool}
    assert missing(lambda: folder.RegisterVM_Task(**register)) == (pool, "Resource.AssignVMToPool")


def test_files_of_datastores_need_their_privileges(limited: Maker) -> None:
    account = limited("Datastore.Browse")
    [center] = account.vc.all(vim.Datacenter)
    [store] = account.vc.all(vim.Datastore)
    manager, files = account.vc.content.virtualDiskManager, account.vc.content.fileManager
    name = "[LocalDS_0] DC0_H0_VM0/x.vmdk"
    spec = vim.VirtualDiskManager.FileBackedVirtualDiskSpec(capacityKb=1024, diskType="thin", adapterType="lsiLogic")
    create = {"name": name, "datacenter": center, "spec": spec}
    assert missing(lambda: manager.CreateVirtualDisk_Task(**create)) == (store, "Datastore.FileManagement")
    delete = {"name": "[LocalDS_0] DC0_H0_VM0", "datacenter": center}
    assert missing(lambda: files.DeleteDatastoreFile_Task(**delete)) == (store, "Datastore.FileManagement")
    flat = disks(account.machine("DC0_H0_VM0").config)[0].backing.fileName.replace(".vmdk", "-flat.vmdk")
    status, data = account.vc.fetch(flat, {"Range": f"bytes=0-{MIB - 1}"})
    assert (status, len(data)) == (206, MIB)


def test_a_datastore_that_may_not_be_browsed_is_forbidden(limited: Maker) -> None:
    account = limited("VirtualMachine.State.CreateSnapshot")
    status, _ = account.vc.fetch("[LocalDS_0] DC0_H0_VM0/DC0_H0_VM0.vmdk")
    assert status == 403


def test_the_nearest_permission_counts(limited: Maker, vc: Client) -> None:
    near = vc.machine("DC0_H0_VM1")
    account = limited("VirtualMachine.State.CreateSnapshot")
    nothing = vim.AuthorizationManager.Permission(
        principal="backup@vsphere.local", group=False, roleId=-2, propagate=True
    )
    account.manager.SetEntityPermissions(entity=near, permission=[nothing])
    assert missing(lambda: account.vc.snapshot(account.machine("DC0_H0_VM1")))[0]._moId == near._moId
    account.manager.RemoveEntityPermission(entity=near, user="backup@vsphere.local", isGroup=False)
    account.vc.snapshot(account.machine("DC0_H0_VM1"))
    clean(vc, "DC0_H0_VM1")


def test_a_permission_that_does_not_propagate_stays_where_it_is(limited: Maker) -> None:
    account = limited("VirtualMachine.State.CreateSnapshot", propagate=False)
    assert missing(lambda: account.vc.snapshot(account.machine("DC0_H0_VM0")))[1].endswith("CreateSnapshot")


def test_a_session_is_told_what_its_user_may_do(limited: Maker) -> None:
    account = limited("VirtualMachine.State.CreateSnapshot")
    vm, ids = account.machine("DC0_H0_VM0"), ["VirtualMachine.State.CreateSnapshot", "VirtualMachine.Interact.PowerOn"]
    manager = account.vc.content.authorizationManager
    key = account.vc.content.sessionManager.currentSession.key
    [answer] = manager.HasPrivilegeOnEntities(entity=[vm], sessionId=key, privId=ids)
    assert [(p.privId, p.isGranted) for p in answer.privAvailability] == list(zip(ids, [True, False], strict=True))
    [result] = manager.FetchUserPrivilegeOnEntities(entities=[vm], userName="VSPHERE.LOCAL\\backup")
    assert ids[0] in result.privileges
    assert ids[1] not in result.privileges
    key = account.admin.content.sessionManager.currentSession.key
    [answer] = account.manager.HasPrivilegeOnEntities(entity=[vm], sessionId=key, privId=ids)
    assert all(p.isGranted for p in answer.privAvailability)


def test_a_wrong_password_is_refused(vc: Client) -> None:
    vc.control("POST", "/users", {"name": "somebody", "password": "right"})
    parts = urlsplit(vc.address.url)
    stub = SoapStubAdapter(
        host=parts.hostname, port=parts.port, path="/sdk", sslContext=vc.tls, version=vc.instance._stub.version
    )
    try:
        sessions = vim.ServiceInstance("ServiceInstance", stub).content.sessionManager
        with pytest.raises(vim.fault.InvalidLogin):
            sessions.Login("somebody@vsphere.local", "wrong", None)
        sessions.Login("somebody@vsphere.local", "right", None)
        sessions.Logout()
    finally:
        stub.DropConnections()
