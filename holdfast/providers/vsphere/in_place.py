"""Restore targets whose disks are those of a machine as it is.

A protective snapshot is taken before anything is written, so that the bytes of that moment stay; its description says
which target it is for, and nothing else is needed to find the target again. What is written goes to the disks that the
machine runs on since. Abandoning goes back to the snapshot and removes it.

A commit leaves a note on the machine first, in the same reconfiguration that switches change tracking off: from there
on it only goes forward. It becomes true with the removal of the snapshot, so that no change id of before is ever good
for a disk that went back in time; then tracking is begun anew.

A machine that was switched on meanwhile has written what nobody else has. It is neither given back nor committed
from then on; which of the two it shall keep is for the operator to say.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from pyVmomi import vim

from holdfast.clock import Clock
from holdfast.errors import ChangeTrackingLost, DiskNotFound, MachineNotFound, MachineRunning, RequestInvalid
from holdfast.model.ids import ChangeId, DiskKey, MachineId, TargetId
from holdfast.model.machine import Choice, Disk, Machine, PowerState, RestoreTarget
from holdfast.model.spans import Span
from holdfast.providers.checks import check_disks, check_in_place, target_id_of
from holdfast.providers.vsphere.changes import FrozenDiskInVSphere, changed_areas
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.devices import disks_of
from holdfast.providers.vsphere.disk_rules import DiskFacts, reason_to_skip
from holdfast.providers.vsphere.inventory import VSphereInventory
from holdfast.providers.vsphere.labels import SnapshotLabel
from holdfast.providers.vsphere.machine_view import MachineView
from holdfast.providers.vsphere.names import plain_name
from holdfast.providers.vsphere.properties import extra_of, read, walk
from holdfast.providers.vsphere.snapshot_tree import TREE, entries, protective
from holdfast.providers.vsphere.snapshots import REMOVE_PATIENCE_S, SnapshotKeeper
from holdfast.providers.vsphere.start_watch import IF_IT_WAS_ON, StartWatch, Watched
from holdfast.providers.vsphere.swapping import Swapper
from holdfast.providers.vsphere.target_state import SWAP_KEY, Swap, decode_swap, encode, in_place, in_place_machine
from holdfast.providers.vsphere.tasks import wait
from holdfast.providers.vsphere.tracking_rules import reason_to_distrust

_DEVICES: Final = "config.hardware.device"
_TRACKED: Final = "config.changeTrackingEnabled"
_PATIENCE_S: Final = 1800.0


class InPlaceTargets:
    """The targets of one vCenter that are made in place."""

    def __init__(
        self, connection: Connection, inventory: VSphereInventory, clock: Clock, keeper: SnapshotKeeper
    ) -> None:
        self._connection = connection
        self._inventory = inventory
        self._clock = clock
        self._keeper = keeper
        self._swapper = Swapper(connection, inventory, clock)
        self._watch = StartWatch(connection, clock)

    def prepare(self, token: str, machine_id: MachineId, disks: Sequence[Disk]) -> RestoreTarget:
        """Take the protective snapshot, or return the target that the token stands for."""
        view = self._keeper.settled(machine_id)
        target = RestoreTarget(
            target_id=in_place(target_id_of(token), machine_id),
            machine_name=view.name,
            disks=tuple(disks),
            replaces=machine_id,
            is_in_place=True,
        )
        held = _held(view, target.target_id)
        is_begun = self._swapper.is_swapped(machine_id, target.target_id)
        if held is not None:
            if held.label.disks != tuple(disk.key for disk in disks):
                raise RequestInvalid(f"target {target.target_id} was prepared for another request by the same token")
            if is_begun or self._watch.state(view.vm, held.label) is not Watched.NOT_YET:
                return target
            # Whether the machine was on since cannot be told, so what it holds now is kept instead.
            self._keeper.unprotect(machine_id, held.snapshot)
            view = self._keeper.settled(machine_id)
        elif is_begun:
            raise RequestInvalid(f"target {target.target_id} is committed already")
        check_disks(target)
        self._check(view)
        present = (one for one in self._disks(view.vm) if reason_to_skip(one) is None)
        check_in_place(view.name, (Disk(key=one.key, size_bytes=one.size_bytes) for one in present), disks)
        label = SnapshotLabel(
            tag=token,
            power=PowerState.OFF,
            target_id=target.target_id,
            disks=tuple(disk.key for disk in disks),
            is_watched=True,
        )
        self._keeper.protect(view, label)
        self._watch.begin(view.vm, target.target_id)
        return target

    def find(self, token: str, machine_id: MachineId) -> TargetId | None:
        """Return the target of a token at a machine, or None."""
        target_id = in_place(target_id_of(token), machine_id)
        return None if self._look(target_id) is None else target_id

    def opened(self, target_id: TargetId, key: DiskKey) -> tuple[Any, DiskFacts]:
        """Return the machine and the disk that it runs on since the snapshot. Raises as the port says."""
        machine_id, view, held = self._required(target_id, key)
        _check_off(view)
        if self._swapper.is_swapped(machine_id, target_id):
            raise RequestInvalid(f"target {target_id} is being committed")
        self._check_never_on(view, held)
        if len(list(entries(view.tree))) > 1:
            raise RequestInvalid(
                f"machine {view.name!r} got a snapshot while it is rolled back",
                hint="Remove the snapshots of others, and run the restore again.",
            )
        facts = next((one for one in self._disks(view.vm) if one.key == key), None)
        if facts is None or not facts.is_child:
            raise DiskNotFound(
                f"disk {key} of machine {view.name!r} is not protected by snapshot {held.snapshot._moId}"
            )
        return view.vm, facts

    def changes(self, target_id: TargetId, key: DiskKey, since: ChangeId) -> Iterator[Span]:
        """Return what changed since then up to the protective snapshot."""
        machine_id, view, held = self._required(target_id, key)
        values = read(self._connection, held.snapshot, _DEVICES)
        facts = next((one for one in disks_of(values.get(_DEVICES) or ()) if one.key == key), None)
        if facts is None:
            raise DiskNotFound(f"target {target_id} has no disk {key!r}")
        reason = reason_to_distrust(since, facts.change_id)
        if reason is not None:
            raise ChangeTrackingLost(f"disk {key} of machine {machine_id}: {reason}")
        disk = FrozenDiskInVSphere(connection=self._connection, machine=view.vm, snapshot=held.snapshot, facts=facts)
        return changed_areas(disk, since)

    def commit(self, target_id: TargetId) -> Machine:
        """Keep what was written, and begin change tracking anew. Idempotent."""
        machine_id = _machine_of(target_id)
        is_noted = self._swapper.is_swapped(machine_id, target_id)
        view = self._keeper.settled(machine_id)
        held = _held(view, target_id)
        if not is_noted:
            if held is None:
                raise RequestInvalid(f"there is no restore target {target_id!r}")
            _check_off(view)
            self._check_never_on(view, held)
            self._begin_commit(view, held)
        self._complete(target_id, held)
        return self._inventory.described(view.vm)

    def abandon(self, target_id: TargetId) -> None:
        """Give the machine back what its disks held; a commit that was begun is completed.

        Raises `RequestInvalid` when the machine was switched on since: what it wrote would be lost.
        """
        found = self._look(target_id)
        if found is None:
            return
        view, held = found
        if self._swapper.is_swapped(_machine_of(target_id), target_id):
            self._complete(target_id, held)
            return
        if self._watch.state(view.vm, held.label) is not Watched.NOT_YET:
            _check_off(view)
            self._check_never_on(view, held)
            self._revert(view, held)
        self._keeper.unprotect(_machine_of(target_id), held.snapshot)

    def decide(self, target_id: TargetId, choice: Choice) -> None:
        """Keep what a machine holds, on or off, or go back, whatever it has written since."""
        found = self._look(target_id)
        if found is None:
            return
        view, held = found
        if self._swapper.is_swapped(_machine_of(target_id), target_id):
            self._complete(target_id, held)
        elif choice is Choice.KEEP:
            self._begin_commit(view, held)
            self._complete(target_id, held)
        else:
            _check_off(view)
            self._revert(view, held)
            self._keeper.unprotect(_machine_of(target_id), held.snapshot)

    def _revert(self, view: MachineView, held: "_Held") -> None:
        what = f"giving machine {view.name!r} back what its disks held"
        task = self._connection.call(what, lambda: held.snapshot.RevertToSnapshot_Task(suppressPowerOn=True))
        wait(self._connection, self._clock, task, what, REMOVE_PATIENCE_S)
        # Before the snapshot goes: without the mark there is nothing to give back any more, and a start harms nothing.
        self._watch.end(view.vm, held.snapshot)

    def pending(self) -> list[RestoreTarget]:
        """Return the targets that were neither committed nor abandoned."""
        found = []
        for vm, values in walk(self._connection, vim.VirtualMachine, ("name", TREE)):
            for _, label in protective(values.get(TREE)):
                name = plain_name(values["name"])
                sizes = {one.key: one.size_bytes for one in self._disks(vm)}
                disks = tuple(Disk(key=DiskKey(key), size_bytes=sizes.get(DiskKey(key), 0)) for key in label.disks)
                target_id = TargetId(label.target_id)
                found.append(
                    RestoreTarget(
                        target_id=target_id,
                        machine_name=name,
                        disks=disks,
                        replaces=in_place_machine(target_id),
                        is_in_place=True,
                        undecided=_why_undecided(name, self._watch.state(vm, label)),
                    )
                )
        return found

    # Committing

    def _begin_commit(self, view: MachineView, held: "_Held") -> None:
        """Note on the machine that there is no way back, and switch change tracking off with the same call."""
        target_id = TargetId(held.label.target_id)
        is_tracked = bool(read(self._connection, view.vm, _TRACKED).get(_TRACKED))
        note = Swap(target_id=target_id, old_files=(), is_tracking_due=is_tracked)
        spec = self._watch.ending(held.snapshot)
        spec.extraConfig.append(_option(note))
        if is_tracked:
            spec.changeTrackingEnabled = False
        self._reconfigure(view.vm, f"keeping what was written to machine {view.name!r}", spec)

    def _complete(self, target_id: TargetId, held: "_Held | None") -> None:
        """Do what is left of a commit that was begun."""
        machine_id = _machine_of(target_id)
        self._keeper.unprotect(machine_id, None if held is None else held.snapshot)
        self._end_commit(machine_id, target_id)

    def _end_commit(self, machine_id: MachineId, target_id: TargetId) -> None:
        """Switch change tracking on again if it was on, and note that nothing is left to do."""
        view = self._keeper.settled(machine_id)
        values = read(self._connection, view.vm, "config.extraConfig")
        text = extra_of(values, SWAP_KEY)
        note = None if text is None else decode_swap(text)
        if note is None or note.target_id != target_id or not note.is_tracking_due:
            return
        if view.tree:
            return  # somebody's snapshot is in the way; tracking stays off until a backup finds it gone
        # Off and on once more in full: nobody promises that a snapshot's removal alone makes the first switch true.
        self._keeper.reset_tracking(machine_id)
        done = vim.vm.ConfigSpec(extraConfig=[_option(Swap(target_id=target_id, old_files=()))])
        self._reconfigure(view.vm, f"noting that machine {view.name!r} is tracked again", done)

    def _reconfigure(self, vm: Any, what: str, spec: Any) -> None:
        task = self._connection.call(what, lambda: vm.ReconfigVM_Task(spec))
        wait(self._connection, self._clock, task, what, _PATIENCE_S)

    # Finding

    def _look(self, target_id: TargetId) -> "tuple[MachineView, _Held] | None":
        """Return the machine of a target and what protects it; None when either is gone."""
        try:
            view = self._keeper.settled(_machine_of(target_id))
        except MachineNotFound:
            return None
        held = _held(view, target_id)
        return None if held is None else (view, held)

    def _required(self, target_id: TargetId, key: DiskKey) -> "tuple[MachineId, MachineView, _Held]":
        machine_id = _machine_of(target_id)
        view = self._keeper.settled(machine_id)
        held = _held(view, target_id)
        if held is None:
            raise RequestInvalid(f"there is no restore target {target_id!r}")
        if key not in held.label.disks:
            raise DiskNotFound(f"target {target_id} has no disk {key!r}")
        return machine_id, view, held

    def _check_never_on(self, view: MachineView, held: "_Held") -> None:
        reason = _why_undecided(view.name, self._watch.state(view.vm, held.label))
        if reason:
            raise RequestInvalid(reason, hint=IF_IT_WAS_ON)

    def _disks(self, vm: Any) -> list[DiskFacts]:
        return list(disks_of(read(self._connection, vm, _DEVICES).get(_DEVICES) or ()))

    def _check(self, view: MachineView) -> None:
        """Raise `MachineRunning` or `RequestInvalid` when a machine cannot be written to now."""
        if any(protective(view.tree)):
            raise RequestInvalid(
                f"machine {view.name!r} is being rolled back by another session",
                hint=f"Wait until it has ended; if it is over, run `holdfast provider sweep`. {IF_IT_WAS_ON}",
            )
        _check_off(view)
        if view.tree:
            raise RequestInvalid(
                f"machine {view.name!r} has snapshots, so it cannot be rolled back",
                hint="Wait until its backup has ended, or remove the snapshots of others.",
            )


class _Held(msgspec.Struct, frozen=True, kw_only=True):
    """The protective snapshot of a target."""

    snapshot: Any
    label: SnapshotLabel


def _held(view: MachineView, target_id: TargetId) -> _Held | None:
    for entry, label in protective(view.tree):
        if label.target_id == target_id:
            return _Held(snapshot=entry.snapshot, label=label)
    return None


def _why_undecided(name: str, watched: Watched) -> str:
    """Return why nobody but the operator can say what a machine shall hold; empty when the snapshot can be used."""
    if watched is Watched.STARTED:
        return f"machine {name!r} was switched on since its rollback began, so going back would lose what it wrote"
    if watched is Watched.UNKNOWN:
        return f"whether machine {name!r} was switched on since its rollback began is not known"
    return ""


def _check_off(view: MachineView) -> None:
    if view.power is not PowerState.OFF:
        raise MachineRunning(f"machine {view.name!r} is on, so its disks cannot be rolled back")


def _machine_of(target_id: TargetId) -> MachineId:
    machine_id = in_place_machine(target_id)
    assert machine_id is not None, "asked for before"
    return machine_id


def _option(note: Swap) -> Any:
    return vim.option.OptionValue(key=SWAP_KEY, value=encode(note))
