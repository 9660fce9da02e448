"""Putting restored disks in place of those of a machine."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from pyVmomi import vim

from holdfast.clock import Clock
from holdfast.errors import (
    DiskNotFound,
    HoldfastError,
    MachineNotFound,
    MachineRunning,
    ProviderUnavailable,
    RequestInvalid,
    SnapshotFailed,
)
from holdfast.model.ids import DiskKey, MachineId, TargetId
from holdfast.model.machine import Machine
from holdfast.providers.vsphere import staging
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.datacenters import datacenter_of
from holdfast.providers.vsphere.devices import disk_key, disks_of, files_of
from holdfast.providers.vsphere.disk_rules import reason_to_skip
from holdfast.providers.vsphere.inventory import VSphereInventory
from holdfast.providers.vsphere.names import plain_name
from holdfast.providers.vsphere.properties import Values, extra_of, read, walk
from holdfast.providers.vsphere.snapshot_tree import TREE, foreign, protective
from holdfast.providers.vsphere.target_state import SWAP_KEY, StagedDisk, Swap, TargetState, decode_swap, encode
from holdfast.providers.vsphere.tasks import wait

_PATIENCE_S: Final = 1800.0
_CHANGE: Final = "VirtualMachine.reconfigure"
_RUNNING: Final = (vim.TaskInfo.State.queued, vim.TaskInfo.State.running)
_FACTS: Final = (
    "name",
    "parent",
    "runtime.powerState",
    TREE,
    "config.changeVersion",
    "config.extraConfig",
    "config.hardware.device",
)
_DISK: Final = vim.vm.device.VirtualDisk
_FIRST_DISK: Final = 2000
_FIRST_CONTROLLER: Final = 1000
_BUS: Final = 16


class Swapper:
    """Hands the disks of a target over to the machine that they are for."""

    def __init__(self, connection: Connection, inventory: VSphereInventory, clock: Clock) -> None:
        self._connection = connection
        self._inventory = inventory
        self._clock = clock

    def check_replaceable(self, vm: Any, keys: Sequence[DiskKey]) -> None:
        """Raise `MachineRunning`, `RequestInvalid` or `SnapshotFailed` when a machine cannot get these disks now."""
        values = read(self._connection, vm, *_FACTS)
        _check(values, keys)
        _slots(keys, values.get("config.hardware.device") or ())

    def swap(self, state: TargetState, machine_id: MachineId, holder: Any) -> Machine:
        """Put the disks that ``holder`` holds in place of those of the machine. Idempotent.

        The machine is changed in one reconfiguration. When that is refused, the holder gets its disks back; while it is
        not known how it ended, nobody else gets them.
        """
        vm = self._inventory.managed(machine_id)
        self._settle(vm)
        values = read(self._connection, vm, *_FACTS)
        is_swapped = _is_swapped(values, state.target_id)
        if not is_swapped:
            _check(values, [disk.key for disk in state.disks])
        # Also behind the replacement: a holder that is removed takes the files with it that it still has.
        self._detach(holder, state)
        if not is_swapped:
            try:
                self._attach(vm, state)
            except ProviderUnavailable:
                raise
            except HoldfastError:
                self.give_back(state, holder)
                raise
        self._remove_old_files(vm)
        return self._inventory.described(vm)

    def is_swapped(self, machine_id: MachineId, target_id: TargetId) -> bool:
        """Return whether the last replacement of a machine was that of a target."""
        try:
            vm = self._inventory.managed(machine_id)
        except MachineNotFound:
            return False
        self._settle(vm)
        return _is_swapped(read(self._connection, vm, *_FACTS), target_id)

    def committed(self, target_id: TargetId, machine_id: MachineId) -> Machine:
        """Return the machine whose disks a target has replaced. Raises `RequestInvalid` when it has not."""
        if not self.is_swapped(machine_id, target_id):
            raise RequestInvalid(f"there is no restore target {target_id!r}")
        vm = self._inventory.managed(machine_id)
        self._remove_old_files(vm)
        return self._inventory.described(vm)

    def give_back(self, state: TargetState, holder: Any) -> None:
        """Attach to the holder the disks of a target that it does not have."""
        values = read(self._connection, holder, "config.hardware.device")
        present = {facts.file for facts in disks_of(values.get("config.hardware.device") or ())}
        changes = [
            staging.attached_disk(_own_slot(disk), disk.size_bytes, disk.file, number=number)
            for number, disk in enumerate(state.disks)
            if disk.file and disk.file not in present
        ]
        if changes:
            self._reconfigure(holder, f"attaching the disks of target {state.target_id}", deviceChange=changes)

    def _settle(self, vm: Any) -> None:
        """Wait for changes of the machine that an earlier call of ours may have begun."""
        for task in read(self._connection, vm, "recentTask").get("recentTask") or ():
            with suppress(HoldfastError):  # whoever began it was told; what matters is how the machine is now
                found = read(self._connection, task, "info.state", "info.descriptionId")
                if found.get("info.state") in _RUNNING and found.get("info.descriptionId") == _CHANGE:
                    wait(self._connection, self._clock, task, "waiting for a change that was begun", _PATIENCE_S)

    def _detach(self, holder: Any, state: TargetState) -> None:
        values = read(self._connection, holder, "config.hardware.device")
        disks = [d for d in values.get("config.hardware.device") or () if isinstance(d, _DISK)]
        if disks:
            what = f"detaching the disks of target {state.target_id}"
            self._reconfigure(holder, what, deviceChange=[staging.detached_disk(disk) for disk in disks])

    def _attach(self, vm: Any, state: TargetState) -> None:
        """Replace the disks of a machine that is as it was looked at: whoever changes it in between goes first."""
        values = read(self._connection, vm, *_FACTS)
        _check(values, [disk.key for disk in state.disks])
        devices = values.get("config.hardware.device") or ()
        present = {disk_key(d): d for d in devices if isinstance(d, _DISK)}
        files = {facts.key: facts.file for facts in disks_of(devices)}
        changes, old_files = [], []
        for disk in state.disks:
            if disk.key in present:
                changes.append(staging.detached_disk(present[disk.key]))
                old_files.append(files[disk.key])
        slots = _slots([disk.key for disk in state.disks], devices)
        for number, (disk, slot) in enumerate(zip(state.disks, slots, strict=True)):
            changes.append(staging.attached_disk(slot, disk.size_bytes, disk.file, number=number))
        swap = Swap(target_id=state.target_id, old_files=tuple(old_files))
        what = f"replacing disks of machine {plain_name(values['name'])!r}"
        version = values.get("config.changeVersion") or ""
        self._reconfigure(vm, what, deviceChange=changes, extraConfig=[_option(swap)], changeVersion=version)

    def _remove_old_files(self, vm: Any) -> None:
        """Delete the files that a replacement left without a machine; the plan is the note it left."""
        values = read(self._connection, vm, *_FACTS)
        swap = _swap(values)
        if swap is None or not swap.old_files:
            return
        used = self._used_files(vm, swap.old_files)
        datacenter = datacenter_of(self._connection, values["parent"])
        for file in swap.old_files:
            if file not in used:
                self._delete(file, datacenter)
        done = Swap(target_id=swap.target_id, old_files=())
        self._reconfigure(vm, "noting that the replaced disks are gone", extraConfig=[_option(done)])

    def _used_files(self, vm: Any, files: Sequence[str]) -> set[str]:
        """Return which of these files any machine has, as a disk, below one, or in a snapshot."""
        asked, used = set(files), set[str]()
        for other, values in walk(self._connection, vim.VirtualMachine, ("config.hardware.device", "layoutEx.file")):
            used |= asked & set(files_of(values.get("config.hardware.device") or ()))
            if other != vm:  # the layout of the machine itself may be that of a moment ago
                used |= asked & {one.name for one in values.get("layoutEx.file") or ()}
        return used

    def _delete(self, file: str, datacenter: Any) -> None:
        what = f"deleting the replaced disk {file}"
        disks = self._connection.content.virtualDiskManager
        task = self._connection.call(what, lambda: disks.DeleteVirtualDisk_Task(file, datacenter))
        with suppress(DiskNotFound):  # an earlier attempt deleted it
            wait(self._connection, self._clock, task, what, _PATIENCE_S)

    def _reconfigure(self, vm: Any, what: str, **changes: object) -> None:
        spec = vim.vm.ConfigSpec(**changes)
        task = self._connection.call(what, lambda: vm.ReconfigVM_Task(spec))
        wait(self._connection, self._clock, task, what, _PATIENCE_S)


def _check(values: Values, keys: Sequence[DiskKey]) -> None:
    """Raise an error when a machine cannot get disks with these keys; one that can be waited out is retryable."""
    name = plain_name(values["name"])
    power, states = values.get("runtime.powerState"), vim.VirtualMachine.PowerState
    if power != states.poweredOff:
        how = "suspended" if power == states.suspended else "on"
        raise MachineRunning(f"machine {name!r} is {how}, so its disks cannot be replaced")
    _check_replaced(name, values, keys)
    tree = values.get(TREE)
    if not tree:
        return
    if foreign(tree) or protective(tree):
        raise RequestInvalid(
            f"machine {name!r} has snapshots, so its disks cannot be replaced",
            hint="Remove its snapshots, or restore to a new machine.",
        )
    raise SnapshotFailed(
        f"machine {name!r} has a snapshot of a backup, so its disks cannot be replaced yet",
        hint="Wait until the backup has ended; if its session is over, run `holdfast provider sweep`.",
    )


def _check_replaced(name: str, values: Values, keys: Sequence[DiskKey]) -> None:
    """Raise `RequestInvalid` when what has one of these keys now is no disk that a restore may delete."""
    for disk in disks_of(values.get("config.hardware.device") or ()):
        reason = reason_to_skip(disk) if disk.key in keys else None
        if reason is not None:
            raise RequestInvalid(
                f"disk {disk.key} of machine {name!r} cannot be replaced: {reason}",
                hint="Name the other disks with `--disk`, or restore to a new machine.",
            )


def _swap(values: Values) -> Swap | None:
    text = extra_of(values, SWAP_KEY)
    return None if text is None else decode_swap(text)


def _is_swapped(values: Values, target_id: TargetId) -> bool:
    swap = _swap(values)
    return swap is not None and swap.target_id == target_id


def _option(swap: Swap) -> Any:
    return vim.option.OptionValue(key=SWAP_KEY, value=encode(swap))


def _own_slot(disk: StagedDisk) -> staging.Slot:
    return staging.Slot(controller=disk.controller, unit=disk.unit)


def _slots(keys: Sequence[DiskKey], devices: Sequence[Any]) -> list[staging.Slot]:
    """Return where disks with these keys belong on a machine. Raises `RequestInvalid` when a place is missing."""
    present = {disk_key(device): device for device in devices if isinstance(device, _DISK)}
    taken = {staging.Slot(controller=one.controller, unit=one.unit) for one in disks_of(devices)}
    return [_slot(key, present.get(key), devices, taken) for key in keys]


def _slot(key: DiskKey, present: Any, devices: Sequence[Any], taken: set[staging.Slot]) -> staging.Slot:
    """Return where a disk belongs: in the place of the one it replaces, else where its key says, else in a free place.

    ``taken`` are the places that are not to be had; the disk's own is added to them.
    """
    slot = _wanted_slot(key, present, devices)
    if slot is None or (present is None and slot in taken):
        slot = next(staging.free_slots(devices, taken), None)
    if slot is None:
        raise RequestInvalid("the machine has no SCSI controller with a free place for another disk")
    taken.add(slot)
    return slot


def _wanted_slot(key: DiskKey, present: Any, devices: Sequence[Any]) -> staging.Slot | None:
    if present is not None:
        return staging.Slot(controller=present.controllerKey, unit=present.unitNumber)
    bus, unit = divmod(_number(key) - _FIRST_DISK, _BUS)
    if bus >= 0 and _FIRST_CONTROLLER + bus in {device.key for device in devices}:
        return staging.Slot(controller=_FIRST_CONTROLLER + bus, unit=unit)
    return None


def _number(key: DiskKey) -> int:
    return int(key) if key.isascii() and key.isdigit() else -1
