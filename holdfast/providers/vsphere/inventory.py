"""Which machines a vCenter has.

A machine is known by ``<uuid of the vCenter>:<instance uuid of the machine>``: it stays when the machine moves to
another host, is renamed or registered again, and differs between a machine and its copy. The managed object id, which
does not stay, is looked up at each use.
"""

from collections.abc import Iterator
from typing import Any, Final

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
from holdfast.providers.vsphere.properties import Values, read, read_all, walk

_NAMES: Final = ("name", "config.instanceUuid", "config.template")
_FACTS: Final = (*_NAMES, "runtime.powerState", "config.hardware.device")


class VSphereInventory:
    """The machines of one vCenter. Templates are not among them: they cannot be snapshotted."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._groups = Groups(connection)
        self._prefix = f"{connection.instance_uuid}:"

    def machines(self) -> Iterator[Machine]:
        """Yield every machine, by name and then by id. A machine that disappears meanwhile is left out."""
        listed = sorted(self._listed(), key=lambda found: found[:2])
        yield from self._described(vm for _, _, vm in listed)

    def machine(self, reference: str) -> Machine:
        """Return the machine with this id, or else the only one with this name.

        Raises `MachineNotFound`, or `RequestInvalid` when several machines have the name.
        """
        vm = self._by_id(reference)
        if vm is None:
            vm = self._by_name(reference)
        return self.described(vm)

    def described(self, vm: Any) -> Machine:
        """Return a machine by its managed object. Raises `MachineNotFound`."""
        return self._machine(read(self._connection, vm, *_FACTS))

    def members(self, selector: Selector) -> Iterator[Machine]:
        """Yield the machines of a group, by name and then by id. Raises `RequestInvalid` when there is none."""
        group = self._groups.machines_of(selector)
        listed = sorted(self._identified(read_all(self._connection, group, _NAMES)), key=lambda found: found[:2])
        yield from self._described(vm for _, _, vm in listed)

    def managed(self, machine_id: MachineId) -> Any:
        """Return the managed object of a machine. Raises `MachineNotFound`."""
        vm = self._by_id(machine_id)
        if vm is None:
            raise MachineNotFound(f"{self._connection.endpoint.label} has no machine {machine_id}")
        return vm

    def _listed(self) -> Iterator[tuple[str, str, Any]]:
        return self._identified(walk(self._connection, vim.VirtualMachine, _NAMES))

    @staticmethod
    def _identified(found: Iterator[tuple[Any, Values]]) -> Iterator[tuple[str, str, Any]]:
        for vm, values in found:
            # A machine that is being made or whose host is away has no configuration yet, and no identity.
            uuid, name = values.get("config.instanceUuid"), values["name"]
            if uuid and not values.get("config.template") and not is_staging(name):
                yield plain_name(name), uuid, vm

    def _described(self, vms: Iterator[Any]) -> Iterator[Machine]:
        for _, values in read_all(self._connection, vms, _FACTS):
            yield self._machine(values)

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
