"""Which machines a vCenter has.

A machine is known by ``<uuid of the vCenter>:<instance uuid of the machine>``: it stays when the machine moves to
another host, is renamed or registered again, and differs between a machine and its copy. The managed object id, which
does not stay, is remembered, and looked up anew once the vCenter does not know it any more.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any, Final, TypeVar

from pyVmomi import vim

from holdfast.errors import MachineNotFound, RequestInvalid
from holdfast.model.ids import MachineId
from holdfast.model.machine import Disk, Machine, PowerState, SkippedDisk
from holdfast.model.selection import Selector
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.devices import disks_of
from holdfast.providers.vsphere.disk_rules import reason_to_skip
from holdfast.providers.vsphere.groups import Groups
from holdfast.providers.vsphere.labels import is_staging
from holdfast.providers.vsphere.names import plain_name
from holdfast.providers.vsphere.properties import PAGE_SIZE, Values, read, read_all, walk

_NAMES: Final = ("name", "config.instanceUuid", "config.template")
_FACTS: Final = (*_NAMES, "runtime.powerState", "config.hardware.device")
_R = TypeVar("_R")


class VSphereInventory:
    """The machines of one vCenter. Templates are not among them: they cannot be snapshotted."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._groups = Groups(connection)
        self._prefix = f"{connection.instance_uuid}:"
        self._known: dict[str, Any] = {}

    def machines(self) -> Iterator[Machine]:
        """Yield every machine, by name and then by id. A machine that disappears meanwhile is left out."""
        listed = sorted(self._listed(), key=lambda found: found[:2])
        yield from self._described(vm for _, _, vm in listed)

    def machine(self, reference: str) -> Machine:
        """Return the machine with this id, or else the only one with this name.

        Raises `MachineNotFound`, or `RequestInvalid` when several machines have the name.
        """
        try:
            return self.using(MachineId(reference), partial(self._identical, MachineId(reference)))
        except MachineNotFound:
            return self.described(self._by_name(reference))

    def described(self, vm: Any) -> Machine:
        """Return a machine by its managed object. Raises `MachineNotFound`."""
        return self._machine(read(self._connection, vm, *_FACTS))

    def members(self, selector: Selector) -> Iterator[Machine]:
        """Yield the machines of a group, by name and then by id. Raises `RequestInvalid` when there is none."""
        group = self._groups.machines_of(selector)
        listed = sorted(self._identified(read_all(self._connection, group, _NAMES)), key=lambda found: found[:2])
        yield from self._described(vm for _, _, vm in listed)

    def managed(self, machine_id: MachineId) -> Any:
        """Return the managed object of a machine, looked up now. Raises `MachineNotFound`."""
        vm = self._by_id(machine_id)
        if vm is None:
            self._known.pop(machine_id, None)
            raise MachineNotFound(f"{self._connection.endpoint.label} has no machine {machine_id}")
        self._known[machine_id] = vm
        return vm

    def using(self, machine_id: MachineId, look: Callable[[Any], _R]) -> _R:
        """Return what ``look`` finds out about the managed object of a machine, which may be a remembered one.

        ``look`` changes nothing: when it raises `MachineNotFound`, the machine is looked up and ``look`` called again.
        """
        vm = self._known.get(machine_id)
        if vm is not None:
            try:
                return look(vm)
            except MachineNotFound:
                self._known.pop(machine_id, None)
        return look(self.managed(machine_id))

    def check_identity(self, machine_id: MachineId, values: Values) -> None:
        """Raise `MachineNotFound` when properties of a machine are not those of the one with this id."""
        if self._prefix + (values.get("config.instanceUuid") or "") != machine_id:
            raise MachineNotFound(f"{self._connection.endpoint.label} has another machine in place of {machine_id}")

    def _identical(self, machine_id: MachineId, vm: Any) -> Machine:
        values = read(self._connection, vm, *_FACTS)
        self.check_identity(machine_id, values)
        return self._machine(values)

    def _listed(self) -> Iterator[tuple[str, str, Any]]:
        return self._identified(walk(self._connection, vim.VirtualMachine, _NAMES))

    @staticmethod
    def _identified(found: Iterator[tuple[Any, Values]]) -> Iterator[tuple[str, str, Any]]:
        for vm, values in found:
            # A machine that is being made or whose host is away has no configuration yet, and no identity.
            uuid, name = values.get("config.instanceUuid"), values.get("name", "")
            if uuid and name and not values.get("config.template") and not is_staging(name):
                yield plain_name(name), uuid, vm

    def _described(self, vms: Iterator[Any]) -> Iterator[Machine]:
        while page := list(islice(vms, PAGE_SIZE)):
            yield from (self._machine(values) for values in self._present(page))

    def _present(self, page: list[Any]) -> Iterator[Values]:
        """Yield the facts of machines, leaving out those that are gone or are being removed."""
        try:
            found = [values for _, values in read_all(self._connection, page, _FACTS)]
        except MachineNotFound:
            if len(page) == 1:
                return
            middle = len(page) // 2
            yield from self._present(page[:middle])
            yield from self._present(page[middle:])
            return
        yield from (values for values in found if values.get("config.instanceUuid"))

    def _by_id(self, reference: str) -> Any:
        prefix, uuid = reference[: len(self._prefix)], reference[len(self._prefix) :]
        if prefix != self._prefix or not uuid:
            return None
        search = self._connection.content.searchIndex
        return self._connection.call(
            f"looking for machine {reference}",
            lambda: search.FindByUuid(datacenter=None, uuid=uuid, vmSearch=True, instanceUuid=True),
        )

    def _by_name(self, name: str) -> Any:
        label = self._connection.endpoint.label
        found = [(uuid, vm) for listed, uuid, vm in self._listed() if listed == name]
        if not found:
            raise MachineNotFound(f"{label} has no machine {name!r}")
        if len(found) > 1:
            ids = ", ".join(sorted(self._prefix + uuid for uuid, _ in found))
            raise RequestInvalid(f"{label} has {len(found)} machines {name!r}", hint=f"Use one of the ids: {ids}.")
        return found[0][1]

    def _machine(self, values: Values) -> Machine:
        facts = list(disks_of(values.get("config.hardware.device") or ()))
        reasons = [(disk, reason_to_skip(disk)) for disk in facts]
        is_on = values.get("runtime.powerState") != vim.VirtualMachine.PowerState.poweredOff
        return Machine(
            machine_id=MachineId(self._prefix + values["config.instanceUuid"]),
            name=plain_name(values["name"]),
            power=PowerState.ON if is_on else PowerState.OFF,
            disks=tuple(Disk(key=disk.key, size_bytes=disk.size_bytes) for disk, reason in reasons if reason is None),
            skipped=tuple(SkippedDisk(label=disk.label, reason=reason) for disk, reason in reasons if reason),
        )
