"""What matters of a machine before and after a snapshot, read in one call: it, its datastores and its running tasks."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import msgspec
from pyVmomi import vim

from holdfast.clock import Clock
from holdfast.errors import HoldfastError
from holdfast.model.ids import MachineId
from holdfast.model.machine import PowerState
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.guards import DatastoreFacts
from holdfast.providers.vsphere.inventory import CONNECTION, VSphereInventory
from holdfast.providers.vsphere.names import plain_name
from holdfast.providers.vsphere.properties import Question, Step, Values, ask
from holdfast.providers.vsphere.snapshot_tree import TREE, ours
from holdfast.providers.vsphere.tasks import wait

POWER: Final = "runtime.powerState"
_MACHINE: Final = (
    "name",
    "config.instanceUuid",
    POWER,
    CONNECTION,
    "runtime.consolidationNeeded",
    "datastore",
    TREE,
    "config.changeTrackingEnabled",
    "capability.changeTrackingSupported",
)
_STORE: Final = ("summary.name", "summary.capacity", "summary.freeSpace", "vm")
_TASK: Final = ("info.state", "info.descriptionId")
_OVER: Final = frozenset({vim.TaskInfo.State.success, vim.TaskInfo.State.error})
_CREATIONS: Final = frozenset({"VirtualMachine.createSnapshot", "VirtualMachine.createSnapshotEx"})
_REMOVALS: Final = frozenset(
    f"VirtualMachine.{name}"
    for name in (
        "removeSnapshot",
        "removeAllSnapshots",
        "consolidateVMDisks",
        "consolidateDisks",
        "revertToSnapshot",
        "revertToCurrentSnapshot",
    )
)


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long tasks are waited for after which the snapshots of a machine are others than before."""

    creation_s: float
    removal_s: float


class MachineView(msgspec.Struct, frozen=True, kw_only=True):
    """A machine at one moment."""

    vm: Any
    values: Values
    answers: dict[Any, Values]
    """Properties of everything that was read with it."""

    @property
    def name(self) -> str:
        """Return its name as people wrote it."""
        return plain_name(self.values["name"])

    @property
    def tree(self) -> Any:
        """Return its snapshots."""
        return self.values.get(TREE)

    @property
    def power(self) -> PowerState:
        """Return whether it runs."""
        return power_in(self.values)

    @property
    def changing(self) -> dict[Any, str]:
        """Return the tasks that are changing its snapshots, and what each does."""
        tasks = ((one, values) for one, values in self.answers.items() if isinstance(one, vim.Task))
        return {
            task: values["info.descriptionId"]
            for task, values in tasks
            if values.get("info.descriptionId") in _CREATIONS | _REMOVALS and values.get("info.state") not in _OVER
        }

    def datastores(self) -> Iterator[DatastoreFacts]:
        """Yield its datastores; snapshots on them are counted among the machines that were read."""
        for store in self.values.get("datastore") or ():
            values = self.answers.get(store, {})
            trees = (self.answers.get(vm, {}).get(TREE) for vm in values.get("vm") or ())
            yield DatastoreFacts(
                name=values.get("summary.name", ""),
                capacity_bytes=values.get("summary.capacity", 0),
                free_bytes=values.get("summary.freeSpace", 0),
                snapshots=sum(bool(ours(tree)) for tree in trees if tree),
            )


def power_in(values: Values) -> PowerState:
    """Return whether a machine with these properties runs."""
    is_off = values.get(POWER) == vim.VirtualMachine.PowerState.poweredOff
    return PowerState.OFF if is_off else PowerState.ON


class MachineViewer:
    """Looks at machines."""

    def __init__(self, connection: Connection, inventory: VSphereInventory, clock: Clock) -> None:
        self._connection = connection
        self._inventory = inventory
        self._clock = clock

    def view(self, machine_id: MachineId, *, with_neighbours: bool = False) -> MachineView:
        """Look at a machine, and if asked at the snapshots of all machines that share a datastore with it.

        Raises `MachineNotFound`.
        """

        def look(vm: Any) -> MachineView:
            answers = ask(self._connection, *_questions(vm, with_neighbours=with_neighbours))
            values = answers[vm]
            self._inventory.check_identity(machine_id, values)
            return MachineView(vm=vm, values=values, answers=answers)

        return self._inventory.using(machine_id, look)

    def settled(self, machine_id: MachineId, patience: Patience, *, with_neighbours: bool = False) -> MachineView:
        """Look at a machine after what an earlier call of ours began has ended. Raises `MachineNotFound`.

        A task that has not ended within the patience is left alone: vSphere does one thing at a time to the snapshots
        of a machine and refuses another meanwhile, so whoever goes on is told when it was too early.
        """
        view = self.view(machine_id, with_neighbours=with_neighbours)
        if not view.changing:
            return view
        for task, description in view.changing.items():
            what = f"waiting for what is changing the snapshots of machine {view.name!r}"
            patience_s = patience.creation_s if description in _CREATIONS else patience.removal_s
            with suppress(HoldfastError):  # whoever began it was told; what matters is how the machine is now
                wait(self._connection, self._clock, task, what, patience_s)
        return self.view(machine_id, with_neighbours=with_neighbours)


def _questions(vm: Any, *, with_neighbours: bool) -> Iterator[Question]:
    kind = vim.VirtualMachine
    steps = (Step(kind=kind, path="datastore"), Step(kind=kind, path="recentTask"))
    yield Question(start=vm, steps=steps, wanted={kind: _MACHINE, vim.Datastore: _STORE, vim.Task: _TASK})
    if with_neighbours:
        beside = Step(kind=kind, path="datastore", then=(Step(kind=vim.Datastore, path="vm"),))
        yield Question(start=vm, steps=(beside,), wanted={kind: (TREE,)})
