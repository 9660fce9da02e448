"""The local provider: the port of `holdfast.providers.ports` over a folder of this host."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import Self

import msgspec

from holdfast.clock import Clock
from holdfast.errors import MachineNotFound, QuiesceFailed, RequestInvalid, SnapshotNotFound
from holdfast.model.ids import ChangeId, DiskKey, MachineId, SnapshotId, TargetId
from holdfast.model.latency import DatastoreLatency
from holdfast.model.machine import (
    ANYWHERE,
    AS_ANOTHER,
    AS_IT_IS,
    AttachedDisk,
    Choice,
    Disk,
    Machine,
    Placement,
    PowerState,
    Quiesce,
    RestoreTarget,
    Snapshot,
    SnapshotOptions,
)
from holdfast.model.machine_files import MachineFile, MachineFiles, PlacedFiles
from holdfast.model.placement import DiskWay
from holdfast.model.plan import TransportMode
from holdfast.model.selection import Selector
from holdfast.model.spans import Span
from holdfast.providers.checks import target_id_of
from holdfast.providers.local.locks import INVENTORY, WAIT_S, Locks
from holdfast.providers.local.machines import Machines, Registered
from holdfast.providers.local.registration import NewMachine, register
from holdfast.providers.local.replacement import refuse_unfinished
from holdfast.providers.local.root import Root
from holdfast.providers.local.snapshots import SnapshotStore
from holdfast.providers.local.sweeping import Sweeper
from holdfast.providers.local.targets import TargetFile, TargetStore
from holdfast.providers.ports import OpenedTarget, SourceDisk
from holdfast.providers.raw_disks import FrozenDisk


class LocalProvider:
    """A folder that behaves as a hypervisor.

    Any number of processes of one host may use one folder at once. Every call first makes sure that
    the folder is there and is still the same one, and raises `ProviderUnavailable` otherwise: a
    vanished mount never looks like an empty hypervisor.

    An operation that needs a machine for itself waits up to ``lock_wait_s`` for another one to end.
    """

    def __init__(self, root: Path, clock: Clock, *, change_tracking: bool = True, lock_wait_s: float = WAIT_S) -> None:
        self._root = Root(root)
        self._locks = Locks(self._root.locks, clock, lock_wait_s)
        self._machines = Machines(self._root)
        self._snapshots = SnapshotStore(self._root, clock, change_tracking=change_tracking)
        self._targets = TargetStore(self._root, self._machines, clock)

    @classmethod
    def create(cls, root: Path, clock: Clock, *, change_tracking: bool = True) -> Self:
        """Make the folder, which is empty or does not exist yet, and return its provider.

        Nothing happens when it was made before.
        """
        Root(root).create()
        return cls(root, clock, change_tracking=change_tracking)

    # Inventory

    def add_machine(
        self,
        name: str,
        disks: Mapping[DiskKey, Path],
        power: PowerState = PowerState.OFF,
        *,
        copy: bool = False,
    ) -> Machine:
        """Register a machine whose raw disks exist, and return it.

        The disks are used where they are, or with ``copy`` copied into the machine's folder; nobody
        may write to them meanwhile. Raises `TargetExists` when the name is taken.
        """
        self._root.check()
        with self._locks.hold(INVENTORY, "the inventory"):
            new = NewMachine(name=name, disks=disks, power=power, copy=copy)
            return register(self._root, self._machines, new)

    def machines(self) -> Iterator[Machine]:
        """Yield every machine in the order of the folders, then raise if one could not be read."""
        self._root.check()
        return self._machines.machines()

    def machine(self, reference: str) -> Machine:
        """Return the machine with this id, or else the only one with this name."""
        self._root.check()
        return self._machines.describe(self._machines.find(reference))

    def members(self, selector: Selector) -> Iterator[Machine]:
        """Raise `RequestInvalid`: a folder of machines has no parts that could be named."""
        raise RequestInvalid(f"the local provider has no {selector.kind}s", hint="Name its machines one by one.")

    def disk_paths(self, reference: str) -> dict[DiskKey, Path]:
        """Return where the live disks of the machine with this id or name are."""
        self._root.check()
        record = self._machines.find(reference)
        return {entry.key: self._machines.disk_path(record, entry) for entry in record.file.disks}

    def ways(self, machine_id: MachineId) -> tuple[DiskWay, ...]:
        """Return the one way there is: disks are files or devices of this host."""
        return tuple(_way(key, path) for key, path in self.disk_paths(machine_id).items())

    def set_power(self, machine_id: MachineId, power: PowerState) -> None:
        """Note in the machine's file that it is on or off."""
        self._root.check()
        with self._machine_lock(machine_id):
            refuse_unfinished(self._root, machine_id)
            record = self._machines.with_id(machine_id)
            if record.file.power is not power:
                file = msgspec.structs.replace(record.file, power=power)
                self._machines.save(Registered(record.folder, file))

    # Snapshots

    def create_snapshot(self, machine_id: MachineId, tag: str, options: SnapshotOptions = AS_IT_IS) -> Snapshot:
        """Freeze all disks of the machine; returns the first call's snapshot for the same tag."""
        self._root.check()
        with self._machine_lock(machine_id):
            existing = self._snapshots.tagged(machine_id, tag)
            if existing is not None:
                return existing
            refuse_unfinished(self._root, machine_id)
            record = self._machines.with_id(machine_id)
            machine = self._machines.describe(record)
            paths = {e.key: self._machines.disk_path(record, e) for e in record.file.disks}
            return self._snapshots.create(machine, paths, tag, _notes(machine, options))

    def snapshots(self, machine_id: MachineId) -> list[Snapshot]:
        """Return the snapshots of the machine, oldest first."""
        self._root.check()
        return self._snapshots.of_machine(machine_id)

    def open_snapshots(self) -> Iterator[Snapshot]:
        """Yield every snapshot, machine by machine, also of machines that are gone."""
        self._root.check()
        return self._snapshots.all()

    def remove_snapshot(self, machine_id: MachineId, snapshot_id: SnapshotId) -> None:
        """Remove a snapshot; nothing happens when it is gone already."""
        self._root.check()
        self._snapshots.remove(machine_id, snapshot_id)

    def remove_tagged(self, machine_id: MachineId, tag: str) -> int:
        """Remove the snapshots with this tag; return how many there were."""
        tagged = [found for found in self.snapshots(machine_id) if found.tag == tag]
        for found in tagged:
            self.remove_snapshot(machine_id, found.snapshot_id)
        return len(tagged)

    def open_disk(self, machine_id: MachineId, snapshot_id: SnapshotId, key: DiskKey) -> SourceDisk:
        """Open a frozen disk. Raises `SnapshotNotFound`, `DiskNotFound` or `DiskReadFailed`."""
        self._root.check()
        try:
            return self._snapshots.open_disk(machine_id, snapshot_id, key)
        except SnapshotNotFound:
            self._root.check()  # gone with the mount is another matter than gone
            raise

    def disk_place(self, machine_id: MachineId, snapshot_id: SnapshotId, key: DiskKey) -> str:
        """Return nothing: files of a snapshot are copies of our own, which nobody moves."""
        self._check_snapshot(machine_id, snapshot_id)
        return ""

    def changed_spans(
        self, machine_id: MachineId, snapshot_id: SnapshotId, key: DiskKey, since: ChangeId
    ) -> Iterator[Span]:
        """Return what may differ between ``since`` and the snapshot.

        Raises `ChangeTrackingLost` from the call, not from the iteration.
        """
        self._root.check()
        try:
            return self._snapshots.changed_spans(machine_id, snapshot_id, key, since)
        except SnapshotNotFound:
            self._root.check()
            raise

    def disk_latency(self, machine_id: MachineId, snapshot_id: SnapshotId, key: DiskKey) -> DatastoreLatency | None:
        """Return None: nobody measures a folder."""
        del machine_id, snapshot_id, key
        return None

    def machine_files(self, machine_id: MachineId, snapshot_id: SnapshotId) -> MachineFiles:
        """Return the machine's own file, ``machine.json``, as it is now."""
        self._check_snapshot(machine_id, snapshot_id)
        return self._machines.own_files(machine_id)

    def _check_snapshot(self, machine_id: MachineId, snapshot_id: SnapshotId) -> None:
        self._root.check()
        if all(found.snapshot_id != snapshot_id for found in self._snapshots.of_machine(machine_id)):
            self._root.check()  # gone with the mount is another matter than gone
            raise SnapshotNotFound(f"machine {machine_id} has no snapshot {snapshot_id}")

    def reset_tracking(self, machine_id: MachineId) -> None:
        """Forget what is known of changes of the machine's disks."""
        self._root.check()
        with self._machine_lock(machine_id):
            self._snapshots.forget_tracking(machine_id)

    def attached_disks(self) -> list[AttachedDisk]:
        """Return nothing: files are read where they are."""
        return []

    def detach_disk(self, attached: AttachedDisk) -> None:
        """Do nothing: no disk is ever attached."""

    # Restore targets

    def prepare_target(
        self,
        token: str,
        machine: Machine,
        disks: Sequence[Disk],
        replaces: MachineId | None,
        placement: Placement = ANYWHERE,
    ) -> RestoreTarget:
        """Make empty disks to restore into, or return the target that was made for the token."""
        if placement.identity != AS_ANOTHER:
            raise RequestInvalid("machines of the local provider have neither MAC addresses nor a uuid to keep")
        if placement != ANYWHERE:
            raise RequestInvalid("the local provider has one place for machines", hint="Leave the placement out.")
        self._root.check()
        with self._locks.hold(INVENTORY, "the inventory"):
            return self._targets.prepare(token, machine, disks, replaces)

    def find_target(self, token: str, replaces: MachineId | None) -> TargetId | None:
        """Return the target that was prepared for a token and not committed, or None."""
        self._root.check()
        with ExitStack() as locks:
            if replaces is not None:
                with suppress(MachineNotFound):
                    locks.enter_context(self._machine_lock(replaces))
            locks.enter_context(self._locks.hold(INVENTORY, "the inventory"))
            file = self._targets.load(target_id_of(token))
        return None if file is None or file.committed is not None else file.target.target_id

    def prepare_in_place(self, token: str, machine_id: MachineId, disks: Sequence[Disk]) -> RestoreTarget:
        """Copy disks of the machine, sharing blocks where the file system can, or return the token's target."""
        self._root.check()
        with self._machine_lock(machine_id):
            refuse_unfinished(self._root, machine_id)
            inventory = self._locks.hold(INVENTORY, "the inventory")
            return self._targets.prepare_in_place(token, machine_id, disks, inventory)

    def shares_blocks(self, machine_id: MachineId, disks: Sequence[Disk]) -> bool:
        """Return whether copies of the disks in the provider's folder share their blocks."""
        self._root.check()
        return self._targets.shares_blocks(machine_id, disks)

    def target_changes(self, target_id: TargetId, key: DiskKey, since: ChangeId) -> Iterator[Span]:
        """Return what may differ; the whole allocated part of the target's disk is read for that.

        Raises `ChangeTrackingLost` from the call, not from the iteration.
        """
        self._root.check()
        machine_id, path = self._targets.in_place(target_id, key)
        with self._machine_lock(machine_id), FrozenDisk(path) as disk:
            return self._snapshots.changes_of(machine_id, key, disk, since)

    def open_target(self, target_id: TargetId, key: DiskKey) -> OpenedTarget:
        """Open a disk of a target for writing."""
        self._root.check()
        return self._targets.open(target_id, key)

    def place_machine_files(self, target_id: TargetId, files: Sequence[MachineFile]) -> PlacedFiles:
        """Place nothing: a machine of this provider has one file, which says who it is."""
        self._root.check()
        self._targets.uncommitted(target_id)
        return PlacedFiles()

    def commit_target(self, target_id: TargetId) -> Machine:
        """Switch the restored disks in, all or none, and return the machine."""
        self._root.check()
        file = self._targets.required(target_id)
        with self._target_locks(file):
            file = self._targets.required(target_id)
            if file.target.replaces is None:
                record = self._targets.commit_new(file)
            else:
                record = self._targets.commit_replacing(file)
        return self._machines.describe(record)

    def abandon_target(self, target_id: TargetId) -> None:
        """Remove a target; nothing happens when it is gone or was committed.

        A commit that has begun to change the machine cannot be taken back and is completed instead.
        """
        self._root.check()
        file = self._targets.load(target_id)
        if file is None:
            return
        with self._target_locks(file):
            file = self._targets.load(target_id)
            if file is not None:
                self._targets.abandon(file)

    def decide_target(self, target_id: TargetId, choice: Choice) -> None:
        """Abandon a target: it is written beside the machine, which keeps what it has either way."""
        del choice
        self.abandon_target(target_id)

    def targets(self) -> list[RestoreTarget]:
        """Return the targets that were neither committed nor abandoned."""
        self._root.check()
        return self._targets.pending()

    # Upkeep

    def sweep(self) -> list[str]:
        """Complete interrupted commits and remove what dead operations left; return what was done.

        What a living operation works on is left alone. Snapshots and targets that are complete
        stay: they belong to whoever made them.
        """
        self._root.check()
        return Sweeper(root=self._root, locks=self._locks, machines=self._machines, targets=self._targets).sweep()

    def _machine_lock(self, machine_id: MachineId) -> AbstractContextManager[None]:
        # Looking the machine up first also proves that the id can be the name of a file.
        label = self._machines.with_id(machine_id).label
        return self._locks.hold(machine_id, label)

    def _target_locks(self, file: TargetFile) -> AbstractContextManager[None]:
        """Hold the inventory while a machine appears, the machine while its disks change."""
        replaced = file.target.replaces
        if replaced is None:
            return self._locks.hold(INVENTORY, "the inventory")
        return self._locks.hold(replaced, f"machine {replaced}")


def _notes(machine: Machine, options: SnapshotOptions) -> tuple[str, ...]:
    """Return what a snapshot lacks of what was asked: nobody here can ask a guest to come to rest."""
    if options.quiesce is Quiesce.NEVER or machine.power is PowerState.OFF:
        return ()
    if options.quiesce is Quiesce.REQUIRE:
        raise QuiesceFailed(f"machine {machine.name!r} runs, and the local provider cannot quiesce guests")
    return ("crash-consistent: the local provider cannot quiesce guests",)


def _way(key: DiskKey, path: Path) -> DiskWay:
    if os.access(path, os.R_OK):
        return DiskWay(disk=key, mode=TransportMode.DIRECT, reason="the disk is on this host")
    return DiskWay(disk=key, mode=None, reason=f"{path} cannot be read on this host")
