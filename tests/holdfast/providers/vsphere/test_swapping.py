"""Restored disks take the place of a machine's own at once, and whatever was cut off is completed or undone."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from holdfast.errors import (
    HoldfastError,
    MachineRunning,
    ProviderUnavailable,
    RequestInvalid,
    SnapshotFailed,
    SourceError,
)
from holdfast.model.ids import DiskKey
from holdfast.model.machine import Disk, Machine, PowerState, RestoreTarget
from holdfast.providers.vsphere.provider import VSphereProvider
from tests.holdfast.providers.vsphere.bench import VSphereBench
from tests.holdfast.providers.vsphere.conftest import SteppingClock
from tests.lab.vcenter.client import disks, vim

pytestmark = pytest.mark.vsphere

MIB = 1 << 20
NEW = b"restored"
BEFORE_THE_SWAP = [("ReconfigVM_Task", "drop", 1), ("ReconfigVM_Task", "drop-after", 1), ("ReconfigVM_Task", "drop", 2)]
BEHIND_THE_SWAP = [
    ("ReconfigVM_Task", "drop-after", 2),
    ("DeleteVirtualDisk_Task", "drop", 1),
    ("DeleteVirtualDisk_Task", "drop-after", 1),
    ("DeleteVirtualDisk_Task", "drop", 2),
    ("DeleteVirtualDisk_Task", "drop-after", 2),
    ("ReconfigVM_Task", "drop", 3),
    ("ReconfigVM_Task", "drop-after", 3),
    ("Destroy_Task", "drop", 1),
    ("Destroy_Task", "drop-after", 1),
]


@pytest.fixture
def machine(bench: VSphereBench) -> Machine:
    machine = bench.make_machine("web", [MIB, 2 * MIB])
    for disk in machine.disks:
        bench.write_live(machine.machine_id, disk.key, 0, b"original")
    return machine


def prepare(bench: VSphereBench, machine: Machine, *more: Disk) -> RestoreTarget:
    """Return a target for the disks of a machine and more, every one of them written."""
    wanted = [*(Disk(key=disk.key, size_bytes=disk.size_bytes) for disk in machine.disks), *more]
    target = bench.provider.prepare_target("token", machine, wanted, machine.machine_id)
    for disk in wanted:
        with bench.provider.open_target(target.target_id, disk.key) as writer:
            writer.write(0, memoryview(NEW))
            writer.flush()
    return target


def store(bench: VSphereBench) -> list[str]:
    """Return everything in the datastore."""
    root = Path(bench.settings.mounts[bench.store])
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def begins(bench: VSphereBench, machine: Machine) -> list[bytes]:
    """Return what the guest finds at the begin of each disk."""
    vm = bench.vm(machine.machine_id)
    keys = [DiskKey(str(disk.key)) for disk in disks(vm.config)]
    return [bench.read_live(machine.machine_id, key)[: len(NEW)] for key in keys]


def devices(bench: VSphereBench, machine: Machine) -> list[tuple[int, int, str]]:
    config = bench.vm(machine.machine_id).config
    return [(disk.key, disk.unitNumber, disk.backing.fileName) for disk in disks(config)]


def rule(bench: VSphereBench, method: str, action: str, **more: Any) -> None:
    bench.client.control("POST", "/faults", {"method": method, "action": action, "times": 1, **more})


def cut_commit(bench: VSphereBench, target: RestoreTarget, method: str, action: str, at: int) -> None:
    rule(bench, method, action, at=at)
    with pytest.raises(ProviderUnavailable):
        bench.provider.commit_target(target.target_id)
    bench.client.control("DELETE", "/faults")


def assert_swapped(bench: VSphereBench, machine: Machine, before: list[str]) -> None:
    assert begins(bench, machine) == [NEW, NEW]
    assert [one.name for one in bench.provider.machines()] == ["web"]
    assert bench.provider.targets() == []
    after = store(bench)
    assert len(after) == len(before), after
    assert {path.partition("/")[0] for path in after} == {path.partition("/")[0] for path in before}


def test_all_disks_are_swapped_in_one_reconfiguration(bench: VSphereBench, machine: Machine) -> None:
    target = prepare(bench, machine)
    old = devices(bench, machine)
    vm = bench.vm(machine.machine_id)
    rule(bench, "ReconfigVM_Task", "delay", machine=vm._moId, at=100)
    rule(bench, "DeleteVirtualDisk_Task", "drop")
    with pytest.raises(ProviderUnavailable):
        bench.provider.commit_target(target.target_id)
    assert bench.client.control("GET", "/faults")[0]["seen"] == 1
    assert begins(bench, machine) == [NEW, NEW]
    assert [one[:2] for one in devices(bench, machine)] == [one[:2] for one in old]
    assert not {one[2] for one in devices(bench, machine)} & {one[2] for one in old}


def test_the_files_of_the_replaced_disks_are_removed(bench: VSphereBench, machine: Machine) -> None:
    before = store(bench)
    target = prepare(bench, machine)
    assert bench.provider.commit_target(target.target_id).machine_id == machine.machine_id
    assert_swapped(bench, machine, before)
    assert not [path for path in before if path.endswith(".vmdk") and path in store(bench)]


@pytest.mark.parametrize("method, action, at", BEFORE_THE_SWAP + BEHIND_THE_SWAP)
def test_a_swap_that_was_cut_off_is_completed_by_the_next_commit(
    bench: VSphereBench, machine: Machine, method: str, action: str, at: int
) -> None:
    before = store(bench)
    target = prepare(bench, machine)
    cut_commit(bench, target, method, action, at)
    for _ in range(2):
        assert bench.provider.commit_target(target.target_id).machine_id == machine.machine_id
    assert_swapped(bench, machine, before)


@pytest.mark.parametrize("method, action, at", BEFORE_THE_SWAP)
def test_a_swap_that_was_cut_off_before_it_happened_is_abandoned_without_a_trace(
    bench: VSphereBench, machine: Machine, method: str, action: str, at: int
) -> None:
    before, old = store(bench), devices(bench, machine)
    target = prepare(bench, machine)
    cut_commit(bench, target, method, action, at)
    bench.provider.abandon_target(target.target_id)
    assert store(bench) == before
    assert devices(bench, machine) == old
    assert begins(bench, machine) == [b"original"] * 2
    assert [one.name for one in bench.provider.machines()] == ["web"]
    assert bench.provider.targets() == []


@pytest.mark.parametrize("method, action, at", BEHIND_THE_SWAP)
def test_a_swap_that_was_cut_off_after_it_happened_is_completed_when_it_is_abandoned(
    bench: VSphereBench, machine: Machine, method: str, action: str, at: int
) -> None:
    before = store(bench)
    target = prepare(bench, machine)
    cut_commit(bench, target, method, action, at)
    bench.provider.abandon_target(target.target_id)
    assert_swapped(bench, machine, before)


def test_a_swap_whose_end_nobody_saw_is_completed(bench: VSphereBench, machine: Machine) -> None:
    before = store(bench)
    target = prepare(bench, machine)
    rule(bench, "ReconfigVM_Task", "hang-after", at=2)
    impatient = VSphereProvider(bench.settings, SteppingClock(600.0))
    with impatient, pytest.raises(ProviderUnavailable, match="has not ended"):
        impatient.commit_target(target.target_id)
    assert bench.provider.commit_target(target.target_id).machine_id == machine.machine_id
    assert_swapped(bench, machine, before)


@pytest.mark.parametrize(
    "action, fault", [("fail-task", "InvalidDeviceSpec"), ("fail-task", "FileLocked"), ("fail", "NoPermission")]
)
def test_a_refused_swap_leaves_the_machine_as_it_was_and_may_be_repeated(
    bench: VSphereBench, machine: Machine, action: str, fault: str
) -> None:
    before = store(bench)
    target = prepare(bench, machine)
    prepared, old = store(bench), devices(bench, machine)
    rule(bench, "ReconfigVM_Task", action, fault=fault, machine=bench.vm(machine.machine_id)._moId)
    with pytest.raises(HoldfastError, match=fault):
        bench.provider.commit_target(target.target_id)
    assert store(bench) == prepared
    assert devices(bench, machine) == old
    assert begins(bench, machine) == [b"original"] * 2
    with bench.provider.open_target(target.target_id, machine.disks[1].key) as disk:
        found = bytearray(len(NEW))
        disk.read_into(0, memoryview(found))
        assert found == NEW
    bench.provider.commit_target(target.target_id)
    assert_swapped(bench, machine, before)


def test_a_refused_swap_is_abandoned_without_a_trace(bench: VSphereBench, machine: Machine) -> None:
    before, old = store(bench), devices(bench, machine)
    target = prepare(bench, machine)
    rule(bench, "ReconfigVM_Task", "fail-task", fault="FileLocked", machine=bench.vm(machine.machine_id)._moId)
    with pytest.raises(HoldfastError, match="FileLocked"):
        bench.provider.commit_target(target.target_id)
    bench.provider.abandon_target(target.target_id)
    assert store(bench) == before
    assert devices(bench, machine) == old


def test_the_disks_of_a_machine_that_is_on_are_not_replaced(bench: VSphereBench, machine: Machine) -> None:
    before, old = store(bench), devices(bench, machine)
    target = prepare(bench, machine)
    bench.provider.set_power(machine.machine_id, PowerState.ON)
    with pytest.raises(MachineRunning, match="'web' is on"):
        bench.provider.commit_target(target.target_id)
    assert devices(bench, machine) == old
    bench.provider.abandon_target(target.target_id)
    with pytest.raises(MachineRunning, match="'web' is on"):
        prepare(bench, machine)
    assert store(bench) == before


def test_the_disks_of_a_suspended_machine_are_not_replaced(bench: VSphereBench, machine: Machine) -> None:
    target = prepare(bench, machine)
    old = devices(bench, machine)
    bench.provider.set_power(machine.machine_id, PowerState.ON)
    bench.client.wait(bench.vm(machine.machine_id).SuspendVM_Task())
    with pytest.raises(MachineRunning, match="'web' is suspended, so its disks cannot be replaced"):
        bench.provider.commit_target(target.target_id)
    assert devices(bench, machine) == old
    bench.provider.set_power(machine.machine_id, PowerState.OFF)
    bench.provider.commit_target(target.target_id)
    assert begins(bench, machine) == [NEW, NEW]


def test_the_disks_of_a_machine_with_snapshots_are_not_replaced(bench: VSphereBench, machine: Machine) -> None:
    target = prepare(bench, machine)
    bench.client.snapshot(bench.vm(machine.machine_id), "by hand")
    with pytest.raises(RequestInvalid, match="'web' has snapshots") as caught:
        bench.provider.commit_target(target.target_id)
    assert caught.value.hint is not None
    bench.provider.abandon_target(target.target_id)
    with pytest.raises(RequestInvalid, match="'web' has snapshots"):
        prepare(bench, machine)


@pytest.mark.parametrize("key, unit", [("2005", 5), ("9000", 2), ("2017", 2), ("scsi0:1", 2)])
def test_an_added_disk_takes_the_place_that_its_key_says_else_a_free_one(
    bench: VSphereBench, machine: Machine, key: str, unit: int
) -> None:
    target = prepare(bench, machine, Disk(key=DiskKey(key), size_bytes=MIB))
    bench.provider.commit_target(target.target_id)
    assert [one[1] for one in devices(bench, machine)] == [0, 1, unit]
    assert begins(bench, machine) == [NEW] * 3


def test_a_disk_without_a_free_place_is_refused_before_anything_is_restored(bench: VSphereBench) -> None:
    machine = bench.make_machine("web", [MIB])
    before = store(bench)
    more = [Disk(key=DiskKey(str(9000 + number)), size_bytes=MIB) for number in range(15)]
    with pytest.raises(RequestInvalid, match="no SCSI controller with a free place"):
        prepare(bench, machine, *more)
    assert store(bench) == before


def test_a_place_that_was_taken_meanwhile_is_missed_at_the_commit(bench: VSphereBench) -> None:
    machine = bench.make_machine("web", [MIB])
    more = [Disk(key=DiskKey(str(9000 + number)), size_bytes=MIB) for number in range(14)]
    target = prepare(bench, machine, *more)
    bench.add_disk(machine.machine_id, MIB)
    before = devices(bench, machine)
    with pytest.raises(RequestInvalid, match="no SCSI controller with a free place"):
        bench.provider.commit_target(target.target_id)
    assert devices(bench, machine) == before
    bench.provider.abandon_target(target.target_id)
    assert len([path for path in store(bench) if path.endswith("-flat.vmdk")]) == 2


def share(bench: VSphereBench, machine: Machine, key: DiskKey, *, sharing: str = "") -> Machine:
    """Give a disk of a machine to another one too."""
    other = bench.make_machine("node2", [MIB])
    device = bench.device(machine.machine_id, key)
    if sharing:
        device.backing.sharing = sharing
        bench.client.reconfigure(bench.vm(machine.machine_id), deviceChange=[edited(device)])
    backing = vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
        fileName=device.backing.fileName, diskMode="persistent", sharing=sharing or None
    )
    added = vim.vm.device.VirtualDisk(key=-5, controllerKey=1000, unitNumber=3, backing=backing)
    change = vim.vm.device.VirtualDeviceSpec(operation="add", device=added)
    bench.client.reconfigure(bench.vm(other.machine_id), deviceChange=[change])
    return other


def edited(device: Any) -> Any:
    return vim.vm.device.VirtualDeviceSpec(operation="edit", device=device)


@pytest.mark.parametrize("is_early", [True, False])
def test_a_disk_that_became_a_shared_one_is_not_replaced(
    bench: VSphereBench, machine: Machine, *, is_early: bool
) -> None:
    key = machine.disks[1].key
    if is_early:
        share(bench, machine, key, sharing="sharingMultiWriter")
        with pytest.raises(RequestInvalid, match=f"disk {key} of machine 'web' cannot be replaced: several machines"):
            prepare(bench, machine)
        assert bench.provider.targets() == []
        return
    target = prepare(bench, machine)
    share(bench, machine, key, sharing="sharingMultiWriter")
    with pytest.raises(RequestInvalid, match="several machines"):
        bench.provider.commit_target(target.target_id)
    assert begins(bench, machine) == [b"original"] * 2
    bench.provider.abandon_target(target.target_id)
    assert begins(bench, machine) == [b"original"] * 2


def test_an_independent_disk_in_the_place_of_a_captured_one_stays(bench: VSphereBench, machine: Machine) -> None:
    device = bench.device(machine.machine_id, machine.disks[0].key)
    device.backing.diskMode = "independent_persistent"
    bench.client.reconfigure(bench.vm(machine.machine_id), deviceChange=[edited(device)])
    with pytest.raises(RequestInvalid, match="it is independent"):
        prepare(bench, machine)


def test_the_file_of_a_replaced_disk_stays_where_another_machine_has_it(bench: VSphereBench, machine: Machine) -> None:
    other = share(bench, machine, machine.disks[1].key)
    file = bench.device(machine.machine_id, machine.disks[1].key).backing.fileName
    gone = bench.device(machine.machine_id, machine.disks[0].key).backing.fileName
    bench.provider.commit_target(prepare(bench, machine).target_id)
    assert begins(bench, machine) == [NEW, NEW]
    assert file in [disk.backing.fileName for disk in disks(bench.vm(other.machine_id).config)]
    assert file.partition("] ")[2] in store(bench)
    assert gone.partition("] ")[2] not in store(bench)


def commit_while(
    bench: VSphereBench, target: RestoreTarget, changed: Any, meanwhile: Callable[[], None]
) -> Future[Any]:
    """Commit, and do something before a machine gets the change that it is sent."""
    rule(bench, "ReconfigVM_Task", "delay", delay_ms=3000, machine=changed._moId)
    with ThreadPoolExecutor(1) as pool:
        committed = pool.submit(bench.provider.commit_target, target.target_id)
        while not bench.client.control("GET", "/faults")[0]["hit"]:
            assert not committed.done()
        meanwhile()
    bench.client.control("DELETE", "/faults")
    return committed


@pytest.mark.parametrize("is_last_moment", [True, False])
def test_a_machine_that_is_switched_on_during_the_commit_keeps_its_disks(
    bench: VSphereBench, machine: Machine, *, is_last_moment: bool
) -> None:
    before, old, target = store(bench), devices(bench, machine), prepare(bench, machine)
    holder = next(vm for vm in bench.client.all(vim.VirtualMachine) if vm.name.startswith("holdfast-restore-"))
    vm = bench.vm(machine.machine_id)
    committed = commit_while(
        bench, target, vm if is_last_moment else holder, lambda: bench.client.wait(vm.PowerOnVM_Task())
    )
    error = committed.exception()
    assert isinstance(error, SourceError)
    assert error.retryable is is_last_moment, "another attempt says that the machine runs"
    assert devices(bench, machine) == old
    with pytest.raises(MachineRunning):
        bench.provider.commit_target(target.target_id)
    bench.provider.set_power(machine.machine_id, PowerState.OFF)
    bench.provider.commit_target(target.target_id)
    assert_swapped(bench, machine, before)


def test_a_commit_waits_for_a_backup_of_the_machine(bench: VSphereBench, machine: Machine) -> None:
    before, target = store(bench), prepare(bench, machine)
    snapshot = bench.provider.create_snapshot(machine.machine_id, "nightly")
    with pytest.raises(SnapshotFailed, match="has a snapshot of a backup") as waiting:
        bench.provider.commit_target(target.target_id)
    assert waiting.value.retryable
    by_hand = bench.client.snapshot(bench.vm(machine.machine_id), "by hand")
    with pytest.raises(RequestInvalid, match="has snapshots"):
        bench.provider.commit_target(target.target_id)
    bench.client.remove(by_hand)
    bench.provider.remove_snapshot(machine.machine_id, snapshot.snapshot_id)
    bench.provider.commit_target(target.target_id)
    assert_swapped(bench, machine, before)
