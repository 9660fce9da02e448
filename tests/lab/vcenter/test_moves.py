"""Machines that are cloned, that stand on a mounted datastore, and that move to another one."""

from pathlib import Path
from typing import Any

import pytest

from tests.lab.vcenter.client import MIB, Client, areas, chain, disks, read, vim, write
from workers.vcenter_lab import VCenterSettings

pytestmark = pytest.mark.vsphere


@pytest.fixture(scope="module")
def lab_settings() -> VCenterSettings:
    return VCenterSettings(standalone_hosts=1, clusters=0, machines=2, datastores=2)


def store(vc: Client, name: str) -> Any:
    [found] = [s for s in vc.all(vim.Datastore) if s.name == name]
    return found


def relocate(vc: Client, vm: Any, name: str) -> None:
    vc.wait(vm.RelocateVM_Task(spec=vim.vm.RelocateSpec(datastore=store(vc, name))))


def clone(vc: Client, vm: Any, name: str, snapshot: Any = None) -> Any:
    spec = vim.vm.CloneSpec(location=vim.vm.RelocateSpec(), powerOn=False, template=False, snapshot=snapshot)
    return vc.wait(vm.CloneVM_Task(folder=vm.parent, name=name, spec=spec))


def test_a_clone_has_bytes_of_its_own(vc: Client) -> None:
    vm = vc.machine("DC0_H0_VM0")
    write(vc.running_bytes(vm), MIB, b"first")
    taken = vc.snapshot(vm)
    write(vc.running_bytes(vm), MIB, b"later")
    running, frozen = clone(vc, vm, "Running"), clone(vc, vm, "Frozen", taken)
    assert read(vc.running_bytes(running), MIB, 5) == b"later"
    assert read(vc.running_bytes(frozen), MIB, 5) == b"first"
    assert disks(running.config)[0].backing.uuid != disks(vm.config)[0].backing.uuid
    write(vc.running_bytes(running), MIB, b"clone")
    assert read(vc.running_bytes(vm), MIB, 5) == b"later"
    vc.wait(vm.RemoveAllSnapshots_Task())


def test_a_running_machine_moves_with_its_snapshots_and_its_tracking(vc: Client) -> None:
    vm = vc.machine("DC0_H0_VM1")
    source, target = ("LocalDS_1", "LocalDS_0")
    vc.track_changes(vm)
    write(vc.running_bytes(vm), 0, b"frozen")
    taken = vc.snapshot(vm)
    since = disks(taken.config)[0].backing.changeId
    write(vc.running_bytes(vm), 0, b"change")
    old, files = vc.running_bytes(vm), chain(disks(vm.config)[0])
    relocate(vc, vm, target)

    assert [s.name for s in vm.datastore] == [target]
    assert vm.config.files.vmPathName == f"[{target}] DC0_H0_VM1/DC0_H0_VM1.vmx"
    disk = disks(vm.config)[0]
    assert disk.backing.fileName.startswith(f"[{target}] ")
    assert disk.backing.parent.fileName.startswith(f"[{target}] ")
    assert disk.backing.datastore.name == target
    assert chain(disk) == files
    assert not old.exists()
    assert read(vc.running_bytes(vm), 0, 6) == b"change"
    assert read(vc.frozen_bytes(vm, taken), 0, 6) == b"frozen"
    assert (0, 65536) in areas(vm, vc.snapshot(vm, "later"), since)
    vc.wait(vm.RemoveAllSnapshots_Task())
    assert len(chain(disks(vm.config)[0])) == 1
    relocate(vc, vm, source)
    assert read(vc.running_bytes(vm), 0, 6) == b"change"


def test_a_machine_is_registered_from_a_mounted_datastore_and_leaves_it(vc: Client, tmp_path: Path) -> None:
    made = clone(vc, vc.machine("DC0_H0_VM0"), "Published")
    write(vc.running_bytes(made), MIB, b"published")
    home = vc.running_bytes(made).parent
    made.UnregisterVM()
    home.rename(tmp_path / "Published")

    host = vc.machine("DC0_H0_VM0").runtime.host
    spec = vim.host.NasVolume.Specification(
        remoteHost="127.0.0.1", remotePath="/export", localPath=str(tmp_path), accessMode="readWrite", type="NFS"
    )
    mounted = host.configManager.datastoreSystem.CreateNasDatastore(spec)
    pool, folder = vc.machine("DC0_H0_VM0").resourcePool, vc.machine("DC0_H0_VM0").parent
    path = f"[{mounted.name}] Published/Published.vmx"
    vm = vc.wait(folder.RegisterVM_Task(path=path, name="Recovered", asTemplate=False, pool=pool, host=host))
    vc.wait(vm.PowerOnVM_Task())
    assert vc.running_bytes(vm) == tmp_path / "Published" / "Published-flat.vmdk"
    vc.remove(vc.snapshot(vm))

    relocate(vc, vm, "LocalDS_0")
    assert read(vc.running_bytes(vm), MIB, 9) == b"published"
    assert not (tmp_path / "Published").exists()
    assert [s.name for s in vm.datastore] == ["LocalDS_0"]
