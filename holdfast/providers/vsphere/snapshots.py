"""Snapshots of machines: taking, finding and removing ours.

Ours are known by their description. A snapshot whose creation was never confirmed is found by it too, because a
repeated call waits for whatever snapshot task of the machine still runs before it looks.
"""

from collections.abc import Iterator
from datetime import UTC
from typing import Any, Final

import msgspec
from pyVmomi import vim

from holdfast.clock import Clock
from holdfast.errors import HoldfastError, MachineNotFound, QuiesceFailed, SnapshotFailed, SnapshotNotFound
from holdfast.model.ids import ChangeId, MachineId, SnapshotId
from holdfast.model.machine import (
    Disk,
    Machine,
    PowerState,
    Quiesce,
    SkippedDisk,
    Snapshot,
    SnapshotDisk,
    SnapshotOptions,
)
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.devices import disks_of
from holdfast.providers.vsphere.disk_rules import DiskFacts, reason_to_skip
from holdfast.providers.vsphere.guards import DatastoreFacts, GuardRules, check_snapshot
from holdfast.providers.vsphere.hardware import CAPTURED, captured
from holdfast.providers.vsphere.inventory import VSphereInventory
from holdfast.providers.vsphere.labels import (
    SnapshotLabel,
    read_description,
    snapshot_description,
    snapshot_name,
)
from holdfast.providers.vsphere.names import plain_name
from holdfast.providers.vsphere.properties import Values, read, read_all
from holdfast.providers.vsphere.tasks import running_tasks, wait

CREATE_PATIENCE_S: Final = 900.0
"""A quiesced snapshot waits for its guest; vSphere itself gives up after 15 minutes."""
REMOVE_PATIENCE_S: Final = 4 * 3600.0
"""Folding a large delta into its disk takes hours on a busy datastore."""
_CONSOLIDATIONS_MAX: Final = 5

_RESTLESS: Final = "the guest did not come to rest, probably because its tools do not run"

_TREE: Final = "snapshot.rootSnapshotList"
_MACHINE: Final = ("name", "runtime.powerState", "datastore", _TREE, "recentTask", "config.changeTrackingEnabled",
                   "capability.changeTrackingSupported")  # fmt: skip
_STORE: Final = ("summary.name", "summary.capacity", "summary.freeSpace", "vm")
_CREATIONS: Final = ("VirtualMachine.createSnapshot", "VirtualMachine.createSnapshotEx")


class SnapshotRules(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator wants of snapshots."""

    guards: GuardRules = GuardRules()
    change_tracking: bool = True
    """Switch change tracking on where it is off and can be."""


class SnapshotKeeper:
    """The snapshots of one vCenter that are ours."""

    def __init__(self, connection: Connection, inventory: VSphereInventory, clock: Clock, rules: SnapshotRules) -> None:
        self._connection = connection
        self._inventory = inventory
        self._clock = clock
        self._rules = rules

    def create(self, machine_id: MachineId, tag: str, options: SnapshotOptions) -> Snapshot:
        """Freeze a machine, or return the snapshot that carries the tag already."""
        vm = self._inventory.managed(machine_id)
        self._settle(vm)
        values = read(self._connection, vm, *_MACHINE)
        for entry, label in _ours(values.get(_TREE)):
            if label.tag == tag:
                self._check_rest(plain_name(values["name"]), entry, label, options)
                return self._described(machine_id, entry, label)
        name = plain_name(values["name"])
        self._check(name, values)
        notes = self._track(vm, name, values)
        label = SnapshotLabel(tag=tag, power=_power(values), notes=notes)
        label = self._take(vm, name, label, options.quiesce)
        for entry, found in _ours(read(self._connection, vm, _TREE).get(_TREE)):
            if found == label:
                self._check_rest(name, entry, label, options)
                return self._described(machine_id, entry, label)
        raise SnapshotFailed(f"the snapshot {tag!r} of machine {name!r} is gone as soon as it was taken")

    def of_machine(self, machine_id: MachineId) -> list[Snapshot]:
        """Return our snapshots of a machine, oldest first. Raises `MachineNotFound`."""
        values = read(self._connection, self._inventory.managed(machine_id), _TREE)
        ours = sorted(_ours(values.get(_TREE)), key=lambda found: found[0].id)
        return [self._described(machine_id, entry, label) for entry, label in ours]

    def remove(self, machine_id: MachineId, snapshot_id: SnapshotId) -> None:
        """Remove a snapshot of ours and fold its data into the disks; nothing happens when it is gone.

        Raises `SnapshotFailed` when files of the snapshot stay behind.
        """
        try:
            vm = self._inventory.managed(machine_id)
        except MachineNotFound:
            return
        self._settle(vm)
        values = read(self._connection, vm, "name", _TREE)
        for entry, _ in _ours(values.get(_TREE)):
            if entry.snapshot._moId == snapshot_id:
                what = f"removing snapshot {snapshot_id} of machine {plain_name(values['name'])!r}"
                self._removed(entry.snapshot, what)
                break
        self._consolidate(vm, plain_name(values["name"]))

    def config(self, machine_id: MachineId, snapshot_id: SnapshotId) -> tuple[Any, Any, list[DiskFacts]]:
        """Return the machine, the snapshot and its frozen disks. Raises `SnapshotNotFound`."""
        vm = self._inventory.managed(machine_id)
        for entry, _ in _ours(read(self._connection, vm, _TREE).get(_TREE)):
            if entry.snapshot._moId == snapshot_id:
                values = self._frozen(entry.snapshot)
                return vm, entry.snapshot, list(disks_of(values.get("config.hardware.device") or ()))
        raise SnapshotNotFound(f"machine {machine_id} has no snapshot {snapshot_id}")

    # Taking

    def _settle(self, vm: Any) -> None:
        """Wait for snapshot tasks of the machine that an earlier call of ours may have begun."""
        for task in running_tasks(self._connection, vm, _CREATIONS):
            try:
                wait(self._connection, self._clock, task, "waiting for a snapshot that was begun", CREATE_PATIENCE_S)
            except HoldfastError:
                continue  # whoever began it was told; what matters is whether it is there now

    def _check(self, name: str, values: Values) -> None:
        foreign = [entry.name for entry in _entries(values.get(_TREE)) if read_description(entry.description) is None]
        stores = list(self._datastores(values.get("datastore") or ()))
        check_snapshot(name, foreign, stores, self._rules.guards)

    def _datastores(self, stores: Any) -> Iterator[DatastoreFacts]:
        for _, values in read_all(self._connection, stores, _STORE):
            yield DatastoreFacts(
                name=values.get("summary.name", ""),
                capacity_bytes=values.get("summary.capacity", 0),
                free_bytes=values.get("summary.freeSpace", 0),
                snapshots=self._count(values.get("vm") or ()),
            )

    def _count(self, machines: Any) -> int:
        """Return how many machines of a datastore have a snapshot of ours."""
        if not self._rules.guards.snapshots_per_datastore_max:
            return 0
        trees = (values.get(_TREE) for _, values in read_all(self._connection, machines, (_TREE,)))
        return sum(any(True for _ in _ours(tree)) for tree in trees)

    def _track(self, vm: Any, name: str, values: Values) -> tuple[str, ...]:
        """Switch change tracking on where that is wanted and possible; return what stays undone, in words."""
        if not self._rules.change_tracking or values.get("config.changeTrackingEnabled"):
            return ()
        if not values.get("capability.changeTrackingSupported"):
            return ("changes are not tracked: the machine's hardware version does not support it",)
        if values.get(_TREE):
            return ("changes are not tracked: tracking cannot be switched on while the machine has snapshots",)
        what = f"switching change tracking of machine {name!r} on"
        spec = vim.vm.ConfigSpec(changeTrackingEnabled=True)
        try:
            task = self._connection.call(what, lambda: vm.ReconfigVM_Task(spec))
            wait(self._connection, self._clock, task, what, CREATE_PATIENCE_S)
        except HoldfastError as error:
            return (f"changes are not tracked: {error.message}",)
        # It takes effect at the next snapshot, whose own change ids belong to the time before.
        self._cycle(vm, what)
        return ()

    def _cycle(self, vm: Any, what: str) -> None:
        """Take a snapshot and remove it, which makes the machine open its disks anew."""
        label = SnapshotLabel(tag="", notes=("taken and removed to switch change tracking on",))
        snapshot = self._snapshot(vm, label, what, is_quiesced=False)
        self._removed(snapshot, what)

    def _take(self, vm: Any, name: str, label: SnapshotLabel, quiesce: Quiesce) -> SnapshotLabel:
        """Take the snapshot as the policy says; return the label that it got."""
        what = f"taking a snapshot of machine {name!r}"
        if quiesce is Quiesce.NEVER or label.power is PowerState.OFF:
            self._snapshot(vm, label, what, is_quiesced=False)
            return label
        label = msgspec.structs.replace(label, is_rest_asked=True)
        try:
            self._snapshot(vm, label, what, is_quiesced=True)
        except (QuiesceFailed, SnapshotFailed) as error:
            if quiesce is Quiesce.REQUIRE:
                raise QuiesceFailed(error.message) from error
            notes = (*label.notes, f"crash-consistent: {error.message}")
            label = msgspec.structs.replace(label, notes=notes, is_rest_asked=False)
            self._snapshot(vm, label, what, is_quiesced=False)
        return label

    def _snapshot(self, vm: Any, label: SnapshotLabel, what: str, *, is_quiesced: bool) -> Any:
        name, description = snapshot_name(label.tag), snapshot_description(label)
        task = self._connection.call(
            what,
            lambda: vm.CreateSnapshot_Task(name=name, description=description, memory=False, quiesce=is_quiesced),
        )
        return wait(self._connection, self._clock, task, what, CREATE_PATIENCE_S)

    def _check_rest(self, name: str, entry: Any, label: SnapshotLabel, options: SnapshotOptions) -> None:
        """Remove a snapshot for which the guest had to come to rest and did not, and raise `QuiesceFailed`."""
        if options.quiesce is Quiesce.REQUIRE and _is_restless(entry, label):
            what = f"removing snapshot {entry.snapshot._moId} of machine {name!r}"
            self._removed(entry.snapshot, what)
            raise QuiesceFailed(f"taking a snapshot of machine {name!r}: {_RESTLESS}")

    # Describing

    def _described(self, machine_id: MachineId, entry: Any, label: SnapshotLabel) -> Snapshot:
        values = self._frozen(entry.snapshot)
        facts = [(disk, reason_to_skip(disk)) for disk in disks_of(values.get("config.hardware.device") or ())]
        disks = [disk for disk, reason in facts if reason is None]
        return Snapshot(
            snapshot_id=SnapshotId(entry.snapshot._moId),
            machine_id=machine_id,
            tag=label.tag,
            created=entry.createTime.astimezone(UTC),
            disks=tuple(
                SnapshotDisk(key=disk.key, size_bytes=disk.size_bytes, change_id=_change_id(disk)) for disk in disks
            ),
            machine=Machine(
                machine_id=machine_id,
                name=plain_name(values["config.name"]),
                power=label.power,
                disks=tuple(Disk(key=disk.key, size_bytes=disk.size_bytes) for disk in disks),
                configuration=captured(values),
                skipped=tuple(SkippedDisk(label=disk.label, reason=reason) for disk, reason in facts if reason),
            ),
            notes=(*label.notes, f"crash-consistent: {_RESTLESS}") if _is_restless(entry, label) else label.notes,
        )

    def _frozen(self, snapshot: Any) -> Values:
        return read(self._connection, snapshot, *CAPTURED)

    # Removing

    def _removed(self, snapshot: Any, what: str) -> None:
        task = self._connection.call(what, lambda: snapshot.RemoveSnapshot_Task(removeChildren=False, consolidate=True))
        try:
            wait(self._connection, self._clock, task, what, REMOVE_PATIENCE_S)
        except MachineNotFound:
            return  # somebody else removed it meanwhile

    def _consolidate(self, vm: Any, name: str) -> None:
        """Fold what a removal left behind, for as long as vSphere says that there is something."""
        what = f"consolidating the disks of machine {name!r}"
        for _ in range(_CONSOLIDATIONS_MAX):
            if not read(self._connection, vm, "runtime.consolidationNeeded").get("runtime.consolidationNeeded"):
                return
            task = self._connection.call(what, vm.ConsolidateVMDisks_Task)
            wait(self._connection, self._clock, task, what, REMOVE_PATIENCE_S)
        raise SnapshotFailed(
            f"the disks of machine {name!r} still need consolidation after {_CONSOLIDATIONS_MAX} attempts",
            hint="Look for disks of this machine that are attached to a proxy, detach them, and consolidate again.",
        )


def _is_restless(entry: Any, label: SnapshotLabel) -> bool:
    """Return whether the guest was asked to come to rest and vSphere went on without."""
    return label.is_rest_asked and not entry.quiesced


def _power(values: Values) -> PowerState:
    is_off = values.get("runtime.powerState") == vim.VirtualMachine.PowerState.poweredOff
    return PowerState.OFF if is_off else PowerState.ON


def _change_id(disk: DiskFacts) -> ChangeId | None:
    return None if disk.change_id is None else ChangeId(disk.change_id)


def _ours(tree: Any) -> Iterator[tuple[Any, SnapshotLabel]]:
    for entry in _entries(tree):
        label = read_description(entry.description)
        if label is not None:
            yield entry, label


def _entries(tree: Any) -> Iterator[Any]:
    """Yield every snapshot of a tree; a tree may be deeper than Python likes to recurse."""
    left = list(tree or ())
    while left:
        entry = left.pop()
        yield entry
        left.extend(entry.childSnapshotList or ())
