"""What snapshots froze: the configurations of machines at those moments.

The key, size and change id of a disk in a snapshot never change, and are remembered. The names of its files do, when
another snapshot is removed or the machine moves to another datastore, so whoever reads files looks anew.
"""

import threading
from collections.abc import Iterable
from datetime import UTC
from typing import Any, Final

import msgspec
from pyVmomi import vim

from holdfast.errors import MachineNotFound, SnapshotNotFound
from holdfast.model.ids import ChangeId, MachineId, SnapshotId
from holdfast.model.machine import Disk, Machine, PowerState, SkippedDisk, Snapshot, SnapshotDisk
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.devices import disks_of
from holdfast.providers.vsphere.disk_rules import DiskFacts, reason_to_skip
from holdfast.providers.vsphere.hardware import CAPTURED, captured
from holdfast.providers.vsphere.inventory import VSphereInventory
from holdfast.providers.vsphere.labels import SnapshotLabel
from holdfast.providers.vsphere.machine_view import POWER, power_in
from holdfast.providers.vsphere.names import plain_name
from holdfast.providers.vsphere.networks import portgroup_names
from holdfast.providers.vsphere.properties import Question, Step, Values, ask, read
from holdfast.providers.vsphere.snapshot_tree import TREE, ours

RESTLESS: Final = "the guest did not come to rest, probably because its tools do not run"
REMEMBERED_MAX: Final = 1024
"""Snapshots of which the configuration is remembered, about 10 KiB each."""


class Frozen(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of a machine in a snapshot of ours."""

    machine: Any
    machine_id: MachineId
    snapshot: Any
    tag: str
    name: str
    disks: tuple[DiskFacts, ...]
    configuration: dict[str, str]


class FrozenStates:
    """Reads configurations of snapshots, and remembers the latest."""

    def __init__(self, connection: Connection, inventory: VSphereInventory) -> None:
        self._connection = connection
        self._inventory = inventory
        self._lock = threading.Lock()
        self._known: dict[tuple[MachineId, str], Frozen] = {}

    def remembered(self, machine_id: MachineId, snapshot_id: SnapshotId) -> Frozen | None:
        """Return a snapshot of ours that was seen and not forgotten; it may be gone."""
        with self._lock:
            return self._known.get((machine_id, snapshot_id))

    def forget(self, machine_id: MachineId, snapshot_id: SnapshotId) -> None:
        """Forget a snapshot."""
        with self._lock:
            self._known.pop((machine_id, snapshot_id), None)

    def look(self, machine_id: MachineId, snapshot_id: SnapshotId) -> Frozen:
        """Return a snapshot of ours as it is now. Raises `SnapshotNotFound`."""
        snapshot = self._connection.reference(vim.vm.Snapshot, snapshot_id)
        try:
            return self.of_tree(machine_id, snapshot)[1]
        except MachineNotFound as error:
            self.forget(machine_id, snapshot_id)
            raise SnapshotNotFound(f"machine {machine_id} has no snapshot {snapshot_id}: {error.message}") from error

    def of_tree(self, machine_id: MachineId, snapshot: Any) -> tuple[Any, Frozen, PowerState]:
        """Return, in one call, the entry of a snapshot of ours, its configuration, and the machine's power now.

        Raises `MachineNotFound` when the machine has no such snapshot.
        """
        question = Question(
            start=snapshot,
            steps=(Step(kind=vim.vm.Snapshot, path="vm"),),
            wanted={vim.vm.Snapshot: CAPTURED, vim.VirtualMachine: ("config.instanceUuid", POWER, TREE)},
        )
        answers = ask(self._connection, question)
        for vm, values in answers.items():
            if not isinstance(vm, vim.VirtualMachine):
                continue
            self._inventory.check_identity(machine_id, values)
            for entry, label in ours(values.get(TREE)):
                if entry.snapshot == snapshot:
                    state = self._remember(machine_id, vm, (snapshot, label.tag), answers[snapshot])
                    return entry, state, power_in(values)
        raise MachineNotFound(f"{self._connection.endpoint.label}: {snapshot._moId} is none of ours")

    def of_entries(self, machine_id: MachineId, vm: Any, found: Iterable[tuple[Any, SnapshotLabel]]) -> list[Snapshot]:
        """Return the snapshots of these entries of a machine's tree, reading those that are not remembered.

        A snapshot that disappears meanwhile is left out.
        """
        states = ((entry, label, self._state(machine_id, vm, (entry.snapshot, label.tag))) for entry, label in found)
        return [described(machine_id, entry, label, state) for entry, label, state in states if state is not None]

    def _state(self, machine_id: MachineId, vm: Any, tagged: tuple[Any, str]) -> Frozen | None:
        """Return a snapshot that is remembered or can be read, or None when it is gone."""
        snapshot = tagged[0]
        known = self.remembered(machine_id, snapshot._moId)
        if known is not None:
            return known
        try:
            return self._remember(machine_id, vm, tagged, read(self._connection, snapshot, *CAPTURED))
        except MachineNotFound:
            return None

    def _remember(self, machine_id: MachineId, vm: Any, tagged: tuple[Any, str], values: Values) -> Frozen:
        snapshot, tag = tagged
        devices = values.get("config.hardware.device") or ()
        found = Frozen(
            machine=vm,
            machine_id=machine_id,
            snapshot=snapshot,
            tag=tag,
            name=plain_name(values["config.name"]),
            disks=tuple(disks_of(devices)),
            configuration=captured(values, portgroup_names(self._connection, devices)),
        )
        with self._lock:
            self._known.pop((machine_id, snapshot._moId), None)
            self._known[machine_id, snapshot._moId] = found  # as the latest
            while len(self._known) > REMEMBERED_MAX:
                del self._known[next(iter(self._known))]
        return found


def described(machine_id: MachineId, entry: Any, label: SnapshotLabel, state: Frozen) -> Snapshot:
    """Return a snapshot of ours as the port has it."""
    facts = [(disk, reason_to_skip(disk)) for disk in state.disks]
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
            name=state.name,
            power=label.power,
            disks=tuple(Disk(key=disk.key, size_bytes=disk.size_bytes) for disk in disks),
            configuration=state.configuration,
            skipped=tuple(SkippedDisk(label=disk.label, reason=reason) for disk, reason in facts if reason),
        ),
        notes=(*label.notes, f"crash-consistent: {RESTLESS}") if is_restless(entry, label) else label.notes,
    )


def is_restless(entry: Any, label: SnapshotLabel) -> bool:
    """Return whether the guest was asked to come to rest and vSphere went on without."""
    return label.is_rest_asked and not entry.quiesced


def _change_id(disk: DiskFacts) -> ChangeId | None:
    return None if disk.change_id is None else ChangeId(disk.change_id)
