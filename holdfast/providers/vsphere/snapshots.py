"""Snapshots of machines: taking, finding and removing ours.

Ours are known by their description. A snapshot whose creation was never confirmed is found by it too, because a
repeated call waits for whatever still changes the machine's snapshots before it looks.
"""

from contextlib import suppress
from typing import Any, Final

import msgspec
from pyVmomi import vim

from holdfast.clock import Clock
from holdfast.errors import HoldfastError, MachineNotFound, QuiesceFailed, SnapshotFailed, SnapshotRefused
from holdfast.model.ids import MachineId, SnapshotId
from holdfast.model.machine import PowerState, Quiesce, Snapshot, SnapshotOptions
from holdfast.planning.patience import FOLDING, FOLDING_BY_OTHERS
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.frozen import RESTLESS, Frozen, FrozenStates, described, is_restless
from holdfast.providers.vsphere.guards import GuardRules, check_latency, check_snapshot, latency_notes
from holdfast.providers.vsphere.host_clock import clock_notes
from holdfast.providers.vsphere.inventory import VSphereInventory
from holdfast.providers.vsphere.labels import SnapshotLabel, snapshot_description, snapshot_name
from holdfast.providers.vsphere.latency import LatencyMeter
from holdfast.providers.vsphere.machine_view import MachineView, MachineViewer, Patience
from holdfast.providers.vsphere.snapshot_tree import foreign, ours, protective
from holdfast.providers.vsphere.start_watch import IF_IT_WAS_ON
from holdfast.providers.vsphere.tasks import wait

CREATE_PATIENCE_S: Final = 900.0
"""A quiesced snapshot waits for its guest; vSphere itself gives up after 15 minutes."""
REMOVE_PATIENCE_S: Final = FOLDING.total_seconds()
_CONSOLIDATIONS_MAX: Final = 5
_SWITCHING: Final = ""
"""Tag of the snapshot that is taken and removed to switch change tracking on; no caller's tag is empty."""


class SnapshotRules(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator wants of snapshots."""

    guards: GuardRules = GuardRules()
    change_tracking: bool = True
    """Switch change tracking on where it is off and can be."""


class SnapshotKeeper:
    """The snapshots of one vCenter that are ours."""

    def __init__(
        self,
        connection: Connection,
        inventory: VSphereInventory,
        clock: Clock,
        rules: SnapshotRules,
        meter: LatencyMeter,
    ) -> None:
        self._connection = connection
        self._meter = meter
        self._clock = clock
        self._rules = rules
        self._viewer = MachineViewer(connection, inventory, clock)
        self._states = FrozenStates(connection, inventory)

    def create(self, machine_id: MachineId, tag: str, options: SnapshotOptions) -> Snapshot:
        """Freeze a machine, or return the snapshot that carries the tag already."""
        view = self._swept(machine_id, FOLDING_BY_OTHERS.total_seconds())
        known = [(entry, label) for entry, label in ours(view.tree) if label.tag == tag]
        for entry, label in known:
            self._check_rest(view.name, entry, label, options)
        known = [(entry, _if_still_off(label, view.power)) for entry, label in known]
        for snapshot in self._states.of_entries(machine_id, view.vm, known):
            return snapshot
        if protective(view.tree):
            raise SnapshotRefused(
                f"machine {view.name!r} is being rolled back, so it is not frozen",
                hint=f"Wait until it has ended; if its session is over, run `holdfast provider sweep`. {IF_IT_WAS_ON}",
            )
        stores = list(view.datastores())
        check_snapshot(view.name, foreign(view.tree), stores, self._rules.guards)
        latencies = self._meter.of(store.name for store in stores)
        check_latency(view.name, latencies)
        before = self._clock.now()
        label = SnapshotLabel(tag=tag, power=view.power, notes=(*self._track(view), *latency_notes(latencies)))
        label, taken = self._take(view, label, options.quiesce)
        try:
            entry, state, power = self._states.of_tree(machine_id, taken)
        except MachineNotFound as error:
            raise SnapshotFailed(
                f"the snapshot {tag!r} of machine {view.name!r} is gone as soon as it was taken"
            ) from error
        self._check_rest(view.name, entry, label, options)
        frozen = described(machine_id, entry, _if_still_off(label, power), state)
        notes = clock_notes(frozen.created, before, self._clock.now())
        return msgspec.structs.replace(frozen, notes=(*frozen.notes, *notes))

    def of_machine(self, machine_id: MachineId) -> list[Snapshot]:
        """Return our snapshots of a machine, oldest first. Raises `MachineNotFound`."""
        view = self._viewer.settled(machine_id, _patience())
        return self._states.of_entries(machine_id, view.vm, ours(view.tree))

    def seen(self, machine_id: MachineId) -> list[Snapshot]:
        """Return our snapshots of a machine as they are at this moment, whatever is going on with them."""
        view = self._viewer.view(machine_id)
        return self._states.of_entries(machine_id, view.vm, ours(view.tree))

    def remove(self, machine_id: MachineId, snapshot_id: SnapshotId) -> None:
        """Remove a snapshot of ours and fold its data into the disks; nothing happens when it is gone.

        Raises `SnapshotFailed` when files of the snapshot stay behind.
        """
        try:
            found = self._to_remove(machine_id, snapshot_id)
            if found is not None:
                self._removed(found, f"removing snapshot {snapshot_id} of machine {machine_id}")
                self._states.forget(machine_id, snapshot_id)
            self._consolidate(machine_id)
        except MachineNotFound:
            return

    def remove_tagged(self, machine_id: MachineId, tag: str) -> int:
        """Remove our snapshots with a tag and fold their data into the disks; return how many there were.

        A removal that failed takes its snapshot out of the tree and leaves the data, so that is folded even when
        there is no such snapshot. Raises `SnapshotFailed` when files stay behind.
        """
        try:
            view = self._viewer.settled(machine_id, _patience())
            tagged = [entry.snapshot for entry, label in ours(view.tree) if label.tag == tag]
            for snapshot in tagged:
                self._removed(snapshot, f"removing snapshot {snapshot._moId} of machine {view.name!r}")
                self._states.forget(machine_id, snapshot._moId)
            self._consolidate(machine_id)
        except MachineNotFound:
            return 0
        return len(tagged)

    def consolidate(self, machine_id: MachineId) -> None:
        """Fold what a removal has left; nothing happens when nothing is, or the machine is gone."""
        with suppress(MachineNotFound):
            self._consolidate(machine_id)

    def reset_tracking(self, machine_id: MachineId) -> None:
        """Switch change tracking off and on, each made true by a snapshot that is taken and removed.

        Raises `SnapshotRefused` when the machine has snapshots, which keep tracking as it is.
        """
        view = self._swept(machine_id)
        if view.tree:
            raise SnapshotRefused(
                f"machine {view.name!r} has snapshots, so its change tracking cannot be reset",
                hint="Remove them, or wait until its backup has ended.",
            )
        what = f"resetting the change tracking of machine {view.name!r}"
        for is_on in (False, True):
            self._switch_tracking(view.vm, what, is_on=is_on)
            self._cycle(view.vm, what)

    # For restores into the disks of a machine

    def settled(self, machine_id: MachineId) -> MachineView:
        """Look at a machine after what an earlier call of ours began has ended. Raises `MachineNotFound`."""
        return self._swept(machine_id)

    def protect(self, view: MachineView, label: SnapshotLabel) -> None:
        """Take a snapshot that keeps what the disks of a machine hold."""
        check_snapshot(view.name, foreign(view.tree), list(view.datastores()), self._rules.guards)
        self._snapshot(view.vm, label, f"keeping what machine {view.name!r} holds", is_quiesced=False)

    def unprotect(self, machine_id: MachineId, snapshot: Any) -> None:
        """Remove such a snapshot, unless it is None, and fold what was written since into the disks."""
        if snapshot is not None:
            self._removed(snapshot, f"removing what machine {machine_id} held before")
        self._consolidate(machine_id)

    def frozen(self, machine_id: MachineId, snapshot_id: SnapshotId, *, with_files: bool) -> Frozen:
        """Return what a snapshot of ours froze; without the need for its files, as it was seen before.

        Raises `SnapshotNotFound`.
        """
        known = None if with_files else self._states.remembered(machine_id, snapshot_id)
        return known if known is not None else self._states.look(machine_id, snapshot_id)

    # Taking

    def _track(self, view: MachineView) -> tuple[str, ...]:
        """Switch change tracking on where that is wanted and possible; return what stays undone, in words."""
        if not self._rules.change_tracking or view.values.get("config.changeTrackingEnabled"):
            return ()
        if not view.values.get("capability.changeTrackingSupported"):
            return ("changes are not tracked: the machine's hardware version does not support it",)
        if view.tree:
            return ("changes are not tracked: tracking cannot be switched on while the machine has snapshots",)
        what = f"switching change tracking of machine {view.name!r} on"
        try:
            self._switch_tracking(view.vm, what, is_on=True)
        except HoldfastError as error:
            return (f"changes are not tracked: {error.message}",)
        # It takes effect at the next snapshot, whose own change ids belong to the time before.
        self._cycle(view.vm, what)
        return ()

    def _switch_tracking(self, vm: Any, what: str, *, is_on: bool) -> None:
        spec = vim.vm.ConfigSpec(changeTrackingEnabled=is_on)
        task = self._connection.call(what, lambda: vm.ReconfigVM_Task(spec))
        wait(self._connection, self._clock, task, what, CREATE_PATIENCE_S)

    def _swept(self, machine_id: MachineId, removal_s: float = REMOVE_PATIENCE_S) -> MachineView:
        """Look at a machine, without what a call that died while it switched change tracking on has left."""
        counts = self._rules.guards.snapshots_per_datastore_max > 0
        view = self._viewer.settled(machine_id, _patience(removal_s), with_neighbours=counts)
        left = [entry for entry, label in ours(view.tree) if label.tag == _SWITCHING]
        for entry in left:
            self._removed(entry.snapshot, f"removing snapshot {entry.name!r} of machine {view.name!r}")
        return self._viewer.settled(machine_id, _patience(removal_s), with_neighbours=counts) if left else view

    def _cycle(self, vm: Any, what: str) -> None:
        """Take a snapshot and remove it, which makes the machine open its disks anew."""
        label = SnapshotLabel(tag=_SWITCHING, notes=("taken and removed to switch change tracking on",))
        snapshot = self._snapshot(vm, label, what, is_quiesced=False)
        self._removed(snapshot, what)

    def _take(self, view: MachineView, label: SnapshotLabel, quiesce: Quiesce) -> tuple[SnapshotLabel, Any]:
        """Take the snapshot as the policy says; return the label that it got, and it."""
        vm, what = view.vm, f"taking a snapshot of machine {view.name!r}"
        if quiesce is Quiesce.NEVER or label.power is PowerState.OFF:
            return label, self._snapshot(vm, label, what, is_quiesced=False)
        label = msgspec.structs.replace(label, is_rest_asked=True)
        try:
            return label, self._snapshot(vm, label, what, is_quiesced=True)
        except (QuiesceFailed, SnapshotFailed) as error:
            if isinstance(error, SnapshotFailed) and error.is_passing:
                raise  # a vMotion, say: the guest may come to rest at the next attempt
            if quiesce is Quiesce.REQUIRE:
                raise QuiesceFailed(error.message) from error
            notes = (*label.notes, f"crash-consistent: {error.message}")
            label = msgspec.structs.replace(label, notes=notes, is_rest_asked=False)
            return label, self._snapshot(vm, label, what, is_quiesced=False)

    def _snapshot(self, vm: Any, label: SnapshotLabel, what: str, *, is_quiesced: bool) -> Any:
        name, description = snapshot_name(label.tag), snapshot_description(label)
        task = self._connection.call(
            what,
            lambda: vm.CreateSnapshot_Task(name=name, description=description, memory=False, quiesce=is_quiesced),
        )
        return wait(self._connection, self._clock, task, what, CREATE_PATIENCE_S)

    def _check_rest(self, name: str, entry: Any, label: SnapshotLabel, options: SnapshotOptions) -> None:
        """Remove a snapshot for which the guest had to come to rest and did not, and raise `QuiesceFailed`."""
        if options.quiesce is Quiesce.REQUIRE and is_restless(entry, label):
            self._removed(entry.snapshot, f"removing snapshot {entry.snapshot._moId} of machine {name!r}")
            raise QuiesceFailed(f"taking a snapshot of machine {name!r}: {RESTLESS}")

    # Removing

    def _to_remove(self, machine_id: MachineId, snapshot_id: SnapshotId) -> Any:
        """Return a snapshot of ours that may still be there, or None."""
        known = self._states.remembered(machine_id, snapshot_id)
        if known is not None:
            return known.snapshot
        view = self._viewer.settled(machine_id, _patience())
        return next((entry.snapshot for entry, _ in ours(view.tree) if entry.snapshot._moId == snapshot_id), None)

    def _removed(self, snapshot: Any, what: str) -> None:
        try:
            task = self._connection.call(
                what, lambda: snapshot.RemoveSnapshot_Task(removeChildren=False, consolidate=True)
            )
            wait(self._connection, self._clock, task, what, REMOVE_PATIENCE_S)
        except MachineNotFound:
            return  # an earlier call or somebody else removed it

    def _consolidate(self, machine_id: MachineId) -> None:
        """Fold what a removal left behind, for as long as vSphere says that there is something."""
        view = self._viewer.settled(machine_id, _patience())
        what = f"consolidating the disks of machine {view.name!r}"
        for _ in range(_CONSOLIDATIONS_MAX):
            if not view.values.get("runtime.consolidationNeeded"):
                return
            task = self._connection.call(what, view.vm.ConsolidateVMDisks_Task)
            wait(self._connection, self._clock, task, what, REMOVE_PATIENCE_S)
            view = self._viewer.settled(machine_id, _patience())
        raise SnapshotFailed(
            f"the disks of machine {view.name!r} still need consolidation after {_CONSOLIDATIONS_MAX} attempts",
            hint="Look for disks of this machine that are attached to a proxy, detach them, and consolidate again.",
        )


def _if_still_off(label: SnapshotLabel, now: PowerState) -> SnapshotLabel:
    """Return the label of a snapshot whose machine counts as off only if it was off before it, and is now.

    Minutes may pass from the look to the snapshot, and what is left out of a machine that is off has to stay off.
    """
    return label if now is PowerState.OFF else msgspec.structs.replace(label, power=PowerState.ON)


def _patience(removal_s: float = REMOVE_PATIENCE_S) -> Patience:
    return Patience(creation_s=CREATE_PATIENCE_S, removal_s=removal_s)
