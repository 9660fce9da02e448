"""The vSphere provider: the port of `holdfast.providers.ports` over one vCenter."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Self

from pyVmomi import vim

from holdfast.clock import Clock
from holdfast.errors import (
    ChangeTrackingLost,
    DiskNotFound,
    DiskReadFailed,
    MachineInaccessible,
    MachineNotFound,
    RequestInvalid,
    SnapshotFailed,
    SnapshotNotFound,
)
from holdfast.model.ids import ChangeId, DiskKey, MachineId, SnapshotId, TargetId
from holdfast.model.latency import DatastoreLatency
from holdfast.model.machine import (
    ANYWHERE,
    AS_IT_IS,
    AttachedDisk,
    Choice,
    Disk,
    Machine,
    Placement,
    PowerState,
    RestoreTarget,
    Snapshot,
    SnapshotOptions,
)
from holdfast.model.machine_files import MachineFile, MachineFiles, PlacedFiles
from holdfast.model.placement import DiskWay
from holdfast.model.selection import Selector
from holdfast.model.spans import Span
from holdfast.providers.ports import OpenedTarget, SourceDisk
from holdfast.providers.vsphere.changes import FrozenDiskInVSphere, changed_areas
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.datacenters import Datacenters
from holdfast.providers.vsphere.devices import disks_of
from holdfast.providers.vsphere.disk_rules import reason_to_skip
from holdfast.providers.vsphere.frozen import Frozen
from holdfast.providers.vsphere.guards import GuardRules
from holdfast.providers.vsphere.hot_add import HotAdd
from holdfast.providers.vsphere.in_place import InPlaceTargets
from holdfast.providers.vsphere.inventory import VSphereInventory
from holdfast.providers.vsphere.latency import LatencyMeter
from holdfast.providers.vsphere.lease import Leases
from holdfast.providers.vsphere.lease_disk import LeaseDisks
from holdfast.providers.vsphere.machine_files import NvramPlacer, captured_files
from holdfast.providers.vsphere.names import plain_name
from holdfast.providers.vsphere.network_disk import NetworkDisks
from holdfast.providers.vsphere.open_snapshots import machines_with_ours
from holdfast.providers.vsphere.properties import read
from holdfast.providers.vsphere.reading import DiskOpener
from holdfast.providers.vsphere.settings import VSphereSettings
from holdfast.providers.vsphere.snapshots import SnapshotKeeper, SnapshotRules
from holdfast.providers.vsphere.target_state import in_place_machine
from holdfast.providers.vsphere.targets import TargetStore
from holdfast.providers.vsphere.tasks import wait
from holdfast.providers.vsphere.tracking_rules import reason_to_distrust
from holdfast.providers.vsphere.writing import DiskWriters

_POWER_PATIENCE_S = 300.0
_LATELY_S = 2.0
"""How long the names of a snapshot's files are good without another look; who reads them looks again at the end."""
_STATES = {
    PowerState.ON: vim.VirtualMachine.PowerState.poweredOn,
    PowerState.OFF: vim.VirtualMachine.PowerState.poweredOff,
}


class VSphereProvider:
    """The machines of one vCenter, or of one host. It is reached at the first use; one session serves all threads."""

    def __init__(self, settings: VSphereSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._parts: _Parts | None = None

    def close(self) -> None:
        """Log out. Idempotent."""
        with self._lock:
            parts, self._parts = self._parts, None
        if parts is not None:
            parts.leases.close()
            parts.connection.close()

    def __enter__(self) -> Self:
        """Return the provider."""
        return self

    def __exit__(self, *_: object) -> None:
        """Log out."""
        self.close()

    @property
    def _open(self) -> "_Parts":
        with self._lock:
            if self._parts is None:
                self._parts = _Parts(self._settings, self._clock)
            return self._parts

    # Inventory

    def machines(self) -> Iterator[Machine]:
        """Yield every machine, by name and then by id."""
        return self._open.inventory.machines()

    def machine(self, reference: str) -> Machine:
        """Return the machine with this id, or else the only one with this name."""
        return self._open.inventory.machine(reference)

    def members(self, selector: Selector) -> Iterator[Machine]:
        """Yield the machines of a folder, cluster, pool, datastore or tag."""
        return self._open.inventory.members(selector)

    def set_power(self, machine_id: MachineId, power: PowerState) -> None:
        """Switch the machine on, or off without asking its guest; nothing happens when it is so already.

        A suspended machine is neither: switched on it resumes, switched off it loses what was suspended.
        """
        parts = self._open
        vm = parts.inventory.managed(machine_id)
        values = read(parts.connection, vm, "name", "runtime.powerState")
        if values.get("runtime.powerState") == _STATES[power]:
            return
        what = f"switching machine {plain_name(values['name'])!r} {power}"
        switch = vm.PowerOffVM_Task if power is PowerState.OFF else vm.PowerOnVM_Task
        wait(parts.connection, self._clock, parts.connection.call(what, switch), what, _POWER_PATIENCE_S)

    def ways(self, machine_id: MachineId) -> tuple[DiskWay, ...]:
        """Return the best way to each disk that snapshots protect, as its file is now."""
        parts = self._open
        vm = parts.inventory.managed(machine_id)
        devices = read(parts.connection, vm, "config.hardware.device").get("config.hardware.device") or ()
        protected = [facts for facts in disks_of(devices) if reason_to_skip(facts) is None]
        return tuple(parts.opener.best_way(facts, vm) for facts in protected)

    def why_not_attached(self, machine_id: MachineId) -> str:
        """Return why disks of a machine cannot be attached to this host, for hot-add; empty when they can."""
        parts = self._open
        return parts.hot_add.why_not(parts.inventory.managed(machine_id))

    # Snapshots

    def create_snapshot(self, machine_id: MachineId, tag: str, options: SnapshotOptions = AS_IT_IS) -> Snapshot:
        """Freeze all disks of the machine; returns the first call's snapshot for the same tag."""
        return self._open.keeper.create(machine_id, tag, options)

    def snapshots(self, machine_id: MachineId) -> list[Snapshot]:
        """Return our snapshots of the machine, oldest first."""
        try:
            return self._open.keeper.of_machine(machine_id)
        except MachineNotFound:
            return []

    def open_snapshots(self) -> Iterator[Snapshot]:
        """Yield every snapshot of ours, machine by machine; nothing that is under way is waited for."""
        for machine_id in machines_with_ours(self._open.connection):
            with suppress(MachineNotFound, MachineInaccessible):  # the next sweep finds what is left there
                yield from self._open.keeper.seen(machine_id)

    def remove_snapshot(self, machine_id: MachineId, snapshot_id: SnapshotId) -> None:
        """Remove a snapshot and fold its data into the disks; nothing happens when it is gone already."""
        parts = self._open
        with suppress(SnapshotNotFound, MachineNotFound):
            parts.hot_add.release_all(lambda: parts.keeper.frozen(machine_id, snapshot_id, with_files=True).disks)
        parts.keeper.remove(machine_id, snapshot_id)

    def remove_tagged(self, machine_id: MachineId, tag: str) -> int:
        """Remove our snapshots with this tag and fold all their data into the disks; return how many there were."""
        parts = self._open
        parts.hot_add.release_tagged(tag)
        try:
            return parts.keeper.remove_tagged(machine_id, tag)
        except SnapshotFailed:
            # Perhaps a disk was attached to another proxy since all machines were looked at.
            if not parts.hot_add.release_tagged(tag, looks_anew=True):
                raise
            return parts.keeper.remove_tagged(machine_id, tag)

    def open_disk(self, machine_id: MachineId, snapshot_id: SnapshotId, key: DiskKey) -> SourceDisk:
        """Open a frozen disk over the best way that works."""
        parts = self._open
        lately = parts.checked_lately(snapshot_id)
        if lately is not None:
            # The next disk of the machine. One that has moved meanwhile is looked up anew.
            with suppress(DiskReadFailed):
                return parts.opener.open(_disk_of(parts, lately, key))
        return parts.opener.open(self._frozen(parts, machine_id, snapshot_id, key, with_files=True))

    def disk_place(self, machine_id: MachineId, snapshot_id: SnapshotId, key: DiskKey) -> str:
        """Return the frozen file: another name or datastore after a move, or after a snapshot below was removed."""
        parts = self._open
        state = parts.keeper.frozen(machine_id, snapshot_id, with_files=True)
        parts.checked = (state, self._clock.monotonic_s())
        return _disk_of(parts, state, key).facts.file

    def changed_spans(
        self, machine_id: MachineId, snapshot_id: SnapshotId, key: DiskKey, since: ChangeId
    ) -> Iterator[Span]:
        """Return what vSphere says changed since then. Raises `ChangeTrackingLost` at the call or while iterating."""
        disk = self._frozen(self._open, machine_id, snapshot_id, key, with_files=False)
        reason = reason_to_distrust(since, disk.facts.change_id)
        if reason is not None:
            raise ChangeTrackingLost(f"disk {key} of machine {machine_id}: {reason}")
        return changed_areas(disk, since)

    def disk_latency(self, machine_id: MachineId, snapshot_id: SnapshotId, key: DiskKey) -> DatastoreLatency | None:
        """Return how busy the datastore of a frozen disk is; None where latency is not controlled."""
        if self._settings.latency.is_off:
            return None
        parts = self._open
        disk = self._frozen(parts, machine_id, snapshot_id, key, with_files=False)
        return next(iter(parts.meter.of([disk.facts.datastore])), None)

    def reset_tracking(self, machine_id: MachineId) -> None:
        """Switch change tracking off and on again."""
        self._open.keeper.reset_tracking(machine_id)

    def machine_files(self, machine_id: MachineId, snapshot_id: SnapshotId) -> MachineFiles:
        """Return vmx, vmxf and nvram of the machine, as far as the file server gives them."""
        parts = self._open
        state = parts.keeper.frozen(machine_id, snapshot_id, with_files=True)
        return captured_files(parts.connection, parts.datacenters, state.machine)

    # Restore targets

    def prepare_target(
        self,
        token: str,
        machine: Machine,
        disks: Sequence[Disk],
        replaces: MachineId | None,
        placement: Placement = ANYWHERE,
    ) -> RestoreTarget:
        """Make a machine with empty disks, or return the target that was made for the token."""
        return self._open.targets.prepare(token, machine, disks, replaces, placement)

    def find_target(self, token: str, replaces: MachineId | None) -> TargetId | None:
        """Return the target that was prepared for a token, or None."""
        parts = self._open
        found = None if replaces is None else parts.in_place.find(token, replaces)
        return parts.targets.find(token) if found is None else found

    def prepare_in_place(self, token: str, machine_id: MachineId, disks: Sequence[Disk]) -> RestoreTarget:
        """Keep what the disks of a machine hold in a snapshot, or return the target that was made for the token."""
        parts = self._open
        parts.writers.check_in_place()
        return parts.in_place.prepare(token, machine_id, disks)

    def shares_blocks(self, machine_id: MachineId, disks: Sequence[Disk]) -> bool:
        """Return False: what is written behind a protective snapshot is written once more when that is removed."""
        del machine_id, disks
        return False

    def target_changes(self, target_id: TargetId, key: DiskKey, since: ChangeId) -> Iterator[Span]:
        """Return what vSphere says changed up to that snapshot. Raises as `changed_spans` does."""
        if in_place_machine(target_id) is None:
            raise RequestInvalid(f"target {target_id} began empty, so nothing is known of its changes")
        return self._open.in_place.changes(target_id, key, since)

    def open_target(self, target_id: TargetId, key: DiskKey) -> OpenedTarget:
        """Open a disk of a target for writing."""
        parts = self._open
        if in_place_machine(target_id) is not None:
            return parts.writers.open_in_place(*parts.in_place.opened(target_id, key))
        return parts.writers.open(parts.targets.opened(target_id, key))

    def place_machine_files(self, target_id: TargetId, files: Sequence[MachineFile]) -> PlacedFiles:
        """Give the new machine the captured nvram."""
        parts = self._open
        vm = parts.targets.new_machine(target_id)
        return PlacedFiles() if vm is None else parts.nvram.place(vm, files)

    def commit_target(self, target_id: TargetId) -> Machine:
        """Name the new machine, hand the disks over to the one they are for, or keep what was written into its own."""
        return self._open.store_of(target_id).commit(target_id)

    def abandon_target(self, target_id: TargetId) -> None:
        """Remove a target; nothing happens when it is gone or was committed."""
        self._open.store_of(target_id).abandon(target_id)

    def decide_target(self, target_id: TargetId, choice: Choice) -> None:
        """End a target as the operator has chosen."""
        parts = self._open
        if in_place_machine(target_id) is None:
            parts.targets.abandon(target_id)
        else:
            parts.in_place.decide(target_id, choice)

    def targets(self) -> list[RestoreTarget]:
        """Return the targets that were neither committed nor abandoned."""
        parts = self._open
        return [*parts.targets.pending(), *parts.in_place.pending()]

    # Attached disks

    def attached_disks(self) -> list[AttachedDisk]:
        """Return every disk of ours that is attached to a proxy."""
        return self._open.hot_add.attached_disks()

    def detach_disk(self, attached: AttachedDisk) -> None:
        """Detach a listed disk from its proxy, and fold what it kept a removal from folding."""
        parts = self._open
        with suppress(MachineNotFound):
            parts.hot_add.detach_from(parts.inventory.managed(attached.machine_id), attached)
        if attached.source:
            parts.keeper.consolidate(attached.source)

    @staticmethod
    def _frozen(
        parts: "_Parts", machine_id: MachineId, snapshot_id: SnapshotId, key: DiskKey, *, with_files: bool
    ) -> FrozenDiskInVSphere:
        return _disk_of(parts, parts.keeper.frozen(machine_id, snapshot_id, with_files=with_files), key)


def _disk_of(parts: "_Parts", state: Frozen, key: DiskKey) -> FrozenDiskInVSphere:
    for facts in state.disks:
        if facts.key == key:
            return FrozenDiskInVSphere(
                connection=parts.connection,
                machine=state.machine,
                snapshot=state.snapshot,
                facts=facts,
                tag=state.tag,
                machine_id=state.machine_id,
            )
    raise DiskNotFound(f"snapshot {state.snapshot._moId} of machine {state.name!r} has no disk {key!r}")


class _Parts:
    """What works once there is a session."""

    def __init__(self, settings: VSphereSettings, clock: Clock) -> None:
        self._clock = clock
        self.checked: tuple[Frozen, float] | None = None
        self.connection = Connection(settings.endpoint)
        self.inventory = VSphereInventory(self.connection)
        guards = GuardRules(
            free_space_min_percent=settings.free_space_min_percent,
            snapshots_per_datastore_max=settings.snapshots_per_datastore_max,
            is_foreign_refused=settings.is_foreign_refused,
        )
        rules = SnapshotRules(guards=guards, change_tracking=settings.change_tracking)
        self.meter = LatencyMeter(self.connection, clock, settings.latency)
        self.keeper = SnapshotKeeper(self.connection, self.inventory, clock, rules, self.meter)
        self.targets = TargetStore(self.connection, self.inventory, clock)
        self.in_place = InPlaceTargets(self.connection, self.inventory, clock, self.keeper)
        network = NetworkDisks(settings, clock)
        self.hot_add = HotAdd(settings, self.connection, clock)
        self.writers = DiskWriters(settings, self.connection, network, self.hot_add)
        self.leases = Leases(self.connection, clock)
        leased = LeaseDisks(self.connection, self.leases)
        self.datacenters = Datacenters(self.connection)
        self.nvram = NvramPlacer(self.connection, self.datacenters, clock)
        self.opener = DiskOpener(settings, self.datacenters, network, self.hot_add, leased)

    def checked_lately(self, snapshot_id: SnapshotId) -> Frozen | None:
        """Return what a snapshot froze when it was looked at a moment ago, at the end of the copy of a disk."""
        if self.checked is None:
            return None
        state, looked_s = self.checked
        is_it = state.snapshot._moId == snapshot_id and self._clock.monotonic_s() - looked_s <= _LATELY_S
        return state if is_it else None

    def store_of(self, target_id: TargetId) -> TargetStore | InPlaceTargets:
        """Return whose target it is."""
        return self.targets if in_place_machine(target_id) is None else self.in_place
