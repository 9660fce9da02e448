"""Which machines a vCenter has.

A machine is known by ``<uuid of the vCenter>:<instance uuid of the machine>``: it stays when the machine moves to
another host, is renamed or registered again, and differs between a machine and its copy. The managed object id, which
does not stay, is remembered, and looked up anew once the vCenter does not know it any more.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Final, TypeVar

from pyVmomi import vim

from holdfast.errors import MachineInaccessible, MachineNotFound, RequestInvalid
from holdfast.model.ids import MachineId
from holdfast.model.machine import Disk, Machine, PowerState, SkippedDisk
from holdfast.model.selection import Selector
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.devices import disks_of
from holdfast.providers.vsphere.disk_rules import reason_to_skip
from holdfast.providers.vsphere.groups import Groups
from holdfast.providers.vsphere.labels import is_staging
from holdfast.providers.vsphere.names import plain_name
from holdfast.providers.vsphere.properties import PAGE_SIZE, Values, read, read_disks, walk

CONNECTION: Final = "runtime.connectionState"
_NAMES: Final = (
    "name",
    "config.instanceUuid",
    "config.template",
    "summary.config.instanceUuid",
    "summary.config.template",
    CONNECTION,
)
_STATE: Final = ("runtime.powerState", "config.hardware.device", CONNECTION)
_FACTS: Final = tuple(dict.fromkeys((*_NAMES, *_STATE)))
_Listed = tuple[str, str, Any]
"""Name, instance uuid and managed object of a machine."""
_PAGE: Final = 250
"""Machines that are described at once."""
_PAGES_AHEAD: Final = 2
_CONNECTED: Final = vim.VirtualMachine.ConnectionState.connected
_R = TypeVar("_R")


class VSphereInventory:
    """The machines of one vCenter. Templates are not among them: they cannot be snapshotted."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._groups = Groups(connection)
        self._prefix = f"{connection.instance_uuid}:"
        self._known: dict[str, Any] = {}

    def machines(self) -> Iterator[Machine]:
        """Yield every machine, by name and then by id. A machine that disappears meanwhile is left out.

        One that is inaccessible has no disks; raises `MachineInaccessible` behind the last when the identity of some
        is not known either.
        """
        yield from self._all_of(walk(self._connection, vim.VirtualMachine, _NAMES))

    def machine(self, reference: str) -> Machine:
        """Return the machine with this id, or else the only one with this name.

        Raises `MachineNotFound`, `MachineInaccessible` when only its name is known, or `RequestInvalid` when several
        machines have the name.
        """
        try:
            return self.using(MachineId(reference), partial(self._identical, MachineId(reference)))
        except MachineNotFound:
            return self.described(self._by_name(reference))

    def described(self, vm: Any) -> Machine:
        """Return a machine by its managed object. Raises `MachineNotFound`."""
        values = read(self._connection, vm, *_FACTS)
        return self._machine(plain_name(values["name"]), _known_uuid(values), values)

    def members(self, selector: Selector) -> Iterator[Machine]:
        """Yield the machines of a group as `machines` does. Raises `RequestInvalid` when there is no such group."""
        group = self._groups.machines_of(selector)
        yield from self._all_of(self._names_of(list(group)))

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
        """Raise `MachineNotFound` when properties of a machine are not those of the one with this id.

        Raises `MachineInaccessible` when there is a machine without a configuration, which is not gone.
        """
        uuid = values.get("config.instanceUuid")
        if not uuid:
            raise MachineInaccessible(f"machine {plain_name(values.get('name', ''))!r} ({machine_id}) {_why(values)}")
        if self._prefix + uuid != machine_id:
            raise MachineNotFound(f"{self._connection.endpoint.label} has another machine in place of {machine_id}")

    def _identical(self, machine_id: MachineId, vm: Any) -> Machine:
        values = read(self._connection, vm, *_FACTS)
        if not (_is_away(values) and self._prefix + _known_uuid(values) == machine_id):
            self.check_identity(machine_id, values)
        return self._machine(plain_name(values["name"]), _known_uuid(values), values)

    def _all_of(self, found: Iterator[tuple[Any, Values]]) -> Iterator[Machine]:
        nameless: list[str] = []
        yield from self._described(sorted(self._identified(found, nameless), key=lambda one: one[:2]))
        if nameless:
            names = ", ".join(sorted(nameless))
            raise MachineInaccessible(f"{self._connection.endpoint.label} knows only the names of machines: {names}")

    @staticmethod
    def _identified(found: Iterator[tuple[Any, Values]], nameless: list[str]) -> Iterator[_Listed]:
        """Yield the machines that have an identity, and add the names of those that lost it to ``nameless``."""
        for vm, values in found:
            uuid, name = _known_uuid(values), values.get("name", "")
            is_template = values.get("config.template") or values.get("summary.config.template")
            if not name or is_template or is_staging(name):
                continue
            if values.get("config.instanceUuid") or (uuid and _is_away(values)):
                yield plain_name(name), uuid, vm
            elif _is_away(values):  # else it is being made, and has no configuration yet
                nameless.append(plain_name(name))

    def _names_of(self, vms: list[Any]) -> Iterator[tuple[Any, Values]]:
        """Yield the names of machines, leaving out those that are gone."""
        for start in range(0, len(vms), PAGE_SIZE):
            page = vms[start : start + PAGE_SIZE]
            yield from zip(page, self._present(page, _NAMES), strict=True)

    def _described(self, listed: list[_Listed]) -> Iterator[Machine]:
        """Yield machines in the order given; while one page is decoded, the server makes the next ones."""
        coming: deque[Future[list[Machine]]] = deque()
        with ThreadPoolExecutor(_PAGES_AHEAD, thread_name_prefix="vsphere-inventory") as readers:
            for start in range(0, len(listed), _PAGE):
                coming.append(readers.submit(self._page, listed[start : start + _PAGE]))
                if len(coming) > _PAGES_AHEAD:
                    yield from coming.popleft().result()
            while coming:
                yield from coming.popleft().result()

    def _page(self, listed: list[_Listed]) -> list[Machine]:
        """Return the machines of a page, without those that are gone or being removed."""
        found = self._present([vm for _, _, vm in listed], _STATE)
        return [
            self._machine(name, uuid, values)
            for (name, uuid, _), values in zip(listed, found, strict=True)
            if "config.hardware.device" in values or _is_away(values)
        ]

    def _present(self, page: list[Any], paths: Sequence[str]) -> list[Values]:
        """Return properties of machines in their order; those of machines that are gone are empty."""
        try:
            return read_disks(self._connection, page, paths)
        except MachineNotFound:
            if len(page) == 1:
                return [{}]
            middle = len(page) // 2
            return self._present(page[:middle], paths) + self._present(page[middle:], paths)

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
        away: list[str] = []
        listed = self._identified(walk(self._connection, vim.VirtualMachine, _NAMES), away)
        found = [(uuid, vm) for one, uuid, vm in listed if one == name]
        if not found and name in away:
            raise MachineInaccessible(f"{label} knows only the name of machine {name!r}")
        if not found:
            raise MachineNotFound(f"{label} has no machine {name!r}")
        if len(found) > 1:
            ids = ", ".join(sorted(self._prefix + uuid for uuid, _ in found))
            raise RequestInvalid(f"{label} has {len(found)} machines {name!r}", hint=f"Use one of the ids: {ids}.")
        return found[0][1]

    def _machine(self, name: str, uuid: str, values: Values) -> Machine:
        facts = list(disks_of(values.get("config.hardware.device") or ()))
        reasons = [(disk, reason_to_skip(disk)) for disk in facts]
        is_on = values.get("runtime.powerState") != vim.VirtualMachine.PowerState.poweredOff
        skipped = [SkippedDisk(label=disk.label, reason=reason) for disk, reason in reasons if reason]
        if _is_away(values):
            skipped.append(SkippedDisk(label="all disks", reason=f"the machine {_why(values)}"))
        return Machine(
            machine_id=MachineId(self._prefix + uuid),
            name=name,
            power=PowerState.ON if is_on else PowerState.OFF,
            disks=tuple(Disk(key=disk.key, size_bytes=disk.size_bytes) for disk, reason in reasons if reason is None),
            skipped=tuple(skipped),
        )


def _known_uuid(values: Values) -> str:
    """Return the instance uuid of a machine, also of one without a configuration as far as it is remembered."""
    return values.get("config.instanceUuid") or values.get("summary.config.instanceUuid") or ""


def _is_away(values: Values) -> bool:
    """Return whether a machine exists and has no configuration, unlike one that is being made or removed."""
    has_configuration = "config.instanceUuid" in values or "config.hardware.device" in values
    return not has_configuration and values.get(CONNECTION, _CONNECTED) != _CONNECTED


def _why(values: Values) -> str:
    return f"is {values.get(CONNECTION, 'inaccessible')}: vSphere has no configuration of it"
