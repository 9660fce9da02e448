"""Inventory and snapshots; served by proxies."""

import msgspec
from temporalio import activity

from holdfast.model.ids import MachineId, ProviderName
from holdfast.model.machine import Machine, Snapshot, SnapshotOptions

MACHINES_PER_SESSION_MAX = 1000
"""Machines of one session; more belong into several jobs."""


class FindMachines(msgspec.Struct, frozen=True, kw_only=True):
    """Which machines a job means: references as `holdfast.model.selection` reads them, none for all machines."""

    provider: ProviderName
    references: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()


class MachinesFound(msgspec.Struct, frozen=True, kw_only=True):
    """The machines, in a stable order, each once."""

    machines: tuple[Machine, ...]
    missing: tuple[str, ...] = ()
    """References that match no machine, or several where one is meant, with the reason; the session reports them."""
    problems: tuple[str, ...] = ()
    """Why some machines of the provider could not be described; they are not among ``machines``."""
    notes: tuple[str, ...] = ()
    """Exclusions that mean nothing; what they should leave out is not left out."""


class CreateSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Freeze a machine. ``tag`` names the session and makes a second call harmless."""

    provider: ProviderName
    machine_id: MachineId
    tag: str
    options: SnapshotOptions = SnapshotOptions()


class RemoveSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Remove the snapshot of a machine that carries ``tag``, whether or not its creation was ever confirmed."""

    provider: ProviderName
    machine_id: MachineId
    tag: str


class SnapshotRemoved(msgspec.Struct, frozen=True, kw_only=True):
    """How many snapshots were removed: 0 or 1."""

    removed: int
    waited_s: float = 0.0
    """How long the removal waited for a slow datastore."""
    waited_for: str = ""


@activity.defn(name="snapshot.find_machines")
def find_machines(request: FindMachines) -> MachinesFound:
    """Expand the references of a job into machines."""
    raise AssertionError(request)


@activity.defn(name="snapshot.create")
def create_snapshot(request: CreateSnapshot) -> Snapshot:
    """Freeze a machine; idempotent by tag."""
    raise AssertionError(request)


@activity.defn(name="snapshot.remove")
def remove_snapshot(request: RemoveSnapshot) -> SnapshotRemoved:
    """Remove a snapshot; idempotent."""
    raise AssertionError(request)
