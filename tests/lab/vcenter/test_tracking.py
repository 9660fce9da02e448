"""Changed-block tracking: ids, windows, what resets it, when a switch takes effect, and lies."""

from typing import Any

import pytest

from tests.lab.vcenter.client import MIB, Client, FileFault, InvalidArgument, areas, disks, read, vim, write

BLOCK = 64 << 10

pytestmark = pytest.mark.vsphere


@pytest.fixture
def vm(vc: Client) -> Any:
    """A machine that is on, is tracked and has no snapshot."""
    found = vc.machine("DC0_H0_VM0")
    if found.runtime.powerState == "poweredOff":
        vc.wait(found.PowerOnVM_Task())
    vc.wait(found.RemoveAllSnapshots_Task())
    vc.track_changes(found)
    return found


def change_id(snapshot: Any) -> str:
    found: str = disks(snapshot.config)[0].backing.changeId
    return found


def test_a_star_lists_what_is_allocated(vc: Client) -> None:
    vm = vc.machine("DC0_H0_VM1")
    vc.track_changes(vm)
    write(vc.running_bytes(vm), 3 * MIB + 100, b"x")
    write(vc.running_bytes(vm), 9 * MIB, b"x" * BLOCK * 2)
    taken = vc.snapshot(vm)
    assert areas(vm, taken, "*") == [(3 * MIB, BLOCK), (9 * MIB, 2 * BLOCK)]


def test_an_id_lists_what_changed_up_to_a_snapshot_and_nothing_else(vc: Client, vm: Any) -> None:
    first = vc.snapshot(vm, "first")
    since = change_id(first)
    assert since.count("/") == 1
    assert len(since.split("/")[0]) == 47
    write(vc.running_bytes(vm), 10 * MIB, b"second")
    vc.remove(first)
    second = vc.snapshot(vm, "second")
    write(vc.running_bytes(vm), 20 * MIB, b"third")
    third = vc.snapshot(vm, "third")

    assert areas(vm, second, since) == [(10 * MIB, BLOCK)]
    assert areas(vm, third, since) == [(10 * MIB, BLOCK), (20 * MIB, BLOCK)]
    assert areas(vm, third, change_id(second)) == [(20 * MIB, BLOCK)]
    assert areas(vm, second, change_id(second)) == []
    assert change_id(second).split("/")[0] == since.split("/")[0]
    assert int(change_id(second).split("/")[1]) > int(since.split("/")[1])


def test_what_is_changed_covers_every_difference(vc: Client, vm: Any, seed: int) -> None:
    import random

    generator = random.Random(seed)
    running = vc.running_bytes(vm)
    old = vc.snapshot(vm, "old")
    before = bytearray(vc.frozen_bytes(vm, old).read_bytes())
    for _ in range(50):
        write(vc.running_bytes(vm), generator.randrange(60 * MIB), generator.randbytes(generator.randrange(1, 5000)))
    new = vc.snapshot(vm, "new")
    frozen = vc.frozen_bytes(vm, new)
    for start, length in areas(vm, new, change_id(old)):
        before[start : start + length] = read(frozen, start, length)
    assert bytes(before) == frozen.read_bytes()
    assert running.name == "DC0_H0_VM0-flat.vmdk"


def test_many_areas_come_in_windows(vc: Client) -> None:
    vm = vc.machine("DC0_C0_RP0_VM1")
    [disk] = disks(vm.config)
    disk.capacityInBytes, disk.capacityInKB = 1 << 30, 1 << 20
    vc.reconfigure(vm, deviceChange=[vim.vm.device.VirtualDeviceSpec(operation="edit", device=disk)])
    vc.track_changes(vm)
    first = vc.snapshot(vm)
    with vc.running_bytes(vm).open("r+b") as stream:
        for block in range(0, 10_000, 2):
            stream.seek(block * BLOCK)
            stream.write(b"x")
    taken = vc.snapshot(vm)
    info = vm.QueryChangedDiskAreas(snapshot=taken, deviceKey=disk.key, startOffset=0, changeId=change_id(first))
    assert len(info.changedArea) == 2000
    assert info.length == 4000 * BLOCK
    assert len(areas(vm, taken, change_id(first))) == 5000


@pytest.mark.parametrize("text", ["", "1", "nonsense/1", "**"])
def test_a_malformed_id_is_an_invalid_argument(vc: Client, vm: Any, text: str) -> None:
    taken = vc.snapshot(vm)
    with pytest.raises(InvalidArgument) as caught:
        areas(vm, taken, text)
    assert caught.value.invalidProperty == "changeId"


def test_ids_of_another_disk_or_of_a_later_moment_are_refused(vc: Client, vm: Any) -> None:
    first, second = vc.snapshot(vm, "first"), vc.snapshot(vm, "second")
    with pytest.raises(FileFault):
        areas(vm, first, change_id(second))
    other = vc.machine("DC0_C0_RP0_VM0")
    vc.track_changes(other)
    taken = vc.snapshot(other)
    with pytest.raises(FileFault):
        areas(vm, second, change_id(taken))


def test_a_wrong_disk_or_offset_is_an_invalid_argument(vc: Client, vm: Any) -> None:
    taken = vc.snapshot(vm)
    for key, offset in ((1, 0), (disks(vm.config)[0].key, 64 * MIB)):
        with pytest.raises(InvalidArgument):
            vm.QueryChangedDiskAreas(snapshot=taken, deviceKey=key, startOffset=offset, changeId="*")


def test_a_running_machine_is_asked_by_snapshot_only(vc: Client, vm: Any) -> None:
    with pytest.raises(InvalidArgument):
        areas(vm, None, "*")


def test_a_machine_that_is_off_can_be_asked_without_snapshot(vc: Client, vm: Any) -> None:
    taken = vc.snapshot(vm)
    since = change_id(taken)
    vc.remove(taken)
    vc.wait(vm.PowerOffVM_Task())
    write(vc.running_bytes(vm), 33 * MIB, b"offline")
    assert (33 * MIB, BLOCK) in areas(vm, None, since)


def test_without_tracking_there_is_no_id_and_no_answer(vc: Client) -> None:
    vm = vc.machine("DC0_C0_RP0_VM0")
    vc.track_changes(vm, enabled=False)
    taken = vc.snapshot(vm)
    assert disks(taken.config)[0].backing.changeId is None
    with pytest.raises(FileFault):
        areas(vm, taken, "*")


def test_a_switch_takes_effect_with_the_next_snapshot(vc: Client) -> None:
    vm = vc.machine("DC0_C0_RP0_VM0")
    vc.wait(vm.RemoveAllSnapshots_Task())
    vc.track_changes(vm, enabled=False)
    vc.remove(vc.snapshot(vm))
    vc.track_changes(vm)
    assert vm.config.changeTrackingEnabled is True
    taken = vc.snapshot(vm)
    assert change_id(taken)


def test_tracking_that_began_beside_a_snapshot_lists_everything(vc: Client) -> None:
    vm = vc.machine("DC0_C0_RP0_VM0")
    vc.wait(vm.RemoveAllSnapshots_Task())
    vc.track_changes(vm, enabled=False)
    vc.snapshot(vm, "foreign")
    vc.track_changes(vm)
    taken = vc.snapshot(vm, "ours")
    assert areas(vm, taken, "*") == [(0, 64 * MIB)]


def power_loss(vc: Client, vm: Any) -> None:
    vc.control("POST", "/power-loss", {"machine": vm.name})
    assert vm.runtime.powerState == "poweredOff"


def revert(vc: Client, vm: Any) -> None:
    vc.wait(vm.snapshot.currentSnapshot.RevertToSnapshot_Task())


def extend(vc: Client, vm: Any) -> None:
    vc.wait(vm.RemoveAllSnapshots_Task())
    [disk] = disks(vm.config)
    disk.capacityInBytes += MIB
    disk.capacityInKB += 1024
    vc.reconfigure(vm, deviceChange=[vim.vm.device.VirtualDeviceSpec(operation="edit", device=disk)])


def disable_and_enable(vc: Client, vm: Any) -> None:
    vc.track_changes(vm, enabled=False)
    vc.remove(vc.snapshot(vm))
    vc.track_changes(vm)


@pytest.mark.parametrize("reset", [power_loss, revert, extend, disable_and_enable])
def test_what_breaks_tracking_makes_old_ids_worthless(vc: Client, vm: Any, reset: Any) -> None:
    taken = vc.snapshot(vm)
    since = change_id(taken)
    reset(vc, vm)
    later = vc.snapshot(vm, "later")
    with pytest.raises(FileFault):
        areas(vm, later, since)
    assert change_id(later).split("/")[0] != since.split("/")[0]
    assert areas(vm, later, change_id(later)) == []


def test_a_clean_power_cycle_keeps_ids(vc: Client, vm: Any) -> None:
    taken = vc.snapshot(vm)
    since = change_id(taken)
    vc.wait(vm.PowerOffVM_Task())
    vc.wait(vm.PowerOnVM_Task())
    write(vc.running_bytes(vm), 40 * MIB, b"later")
    later = vc.snapshot(vm, "later")
    assert (40 * MIB, BLOCK) in areas(vm, later, since)


def test_a_disk_with_a_snapshot_cannot_be_extended(vc: Client, vm: Any) -> None:
    vc.snapshot(vm)
    [disk] = disks(vm.config)
    disk.capacityInBytes += MIB
    disk.capacityInKB += 1024
    with pytest.raises(vim.fault.InvalidDeviceOperation):
        vc.reconfigure(vm, deviceChange=[vim.vm.device.VirtualDeviceSpec(operation="edit", device=disk)])


def test_lies_hide_what_changed(vc: Client, vm: Any) -> None:
    first = vc.snapshot(vm, "first")
    write(vc.running_bytes(vm), 50 * MIB, b"x" * BLOCK * 3)
    second = vc.snapshot(vm, "second")
    hidden = {"start": 50 * MIB + BLOCK, "length": BLOCK}
    lie = {"machine": vm.name, "key": disks(vm.config)[0].key}
    vc.control("POST", "/tracking-lies", lie | {"areas": [hidden]})
    assert areas(vm, second, change_id(first)) == [(50 * MIB, BLOCK), (50 * MIB + 2 * BLOCK, BLOCK)]
    vc.control("POST", "/tracking-lies", lie | {"areas": []})
    assert areas(vm, second, change_id(first)) == [(50 * MIB, 3 * BLOCK)]
