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
from holdfast.providers.vsphere.properties import PAGE_SIZE, Values, read, read_disks, walk

_NAMES: Final = ("name", "config.instanceUuid", "config.template")
_STATE: Final = ("runtime.powerState", "config.hardware.device")
_FACTS: Final = (*_NAMES, *_STATE)
_Listed = tuple[str, str, Any]
"""Name, instance uuid and managed object of a machine."""
_PAGE: Final = 250
"""Machines that are described at once."""
_PAGES_AHEAD: Final = 2
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
        yield from self._described(sorted(self._listed(), key=lambda found: found[:2]))

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
        values = read(self._connection, vm, *_FACTS)
        return self._machine(plain_name(values["name"]), _uuid(values), values)

    def members(self, selector: Selector) -> Iterator[Machine]:
        """Yield the machines of a group, by name and then by id. Raises `RequestInvalid` when there is none."""
        group = self._groups.machines_of(selector)
        names = self._names_of(list(group))
        yield from self._described(sorted(self._identified(names), key=lambda found: found[:2]))

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
        if self._prefix + _uuid(values) != machine_id:
            raise MachineNotFound(f"{self._connection.endpoint.label} has another machine in place of {machine_id}")

    def _identical(self, machine_id: MachineId, vm: Any) -> Machine:
        values = read(self._connection, vm, *_FACTS)
        self.check_identity(machine_id, values)
        return self._machine(plain_name(values["name"]), _uuid(values), values)

    def _listed(self) -> Iterator[_Listed]:
        return self._identified(walk(self._connection, vim.VirtualMachine, _NAMES))

    @staticmethod
    def _identified(found: Iterator[tuple[Any, Values]]) -> Iterator[_Listed]:
        for vm, values in found:
            # A machine that is being made or whose host is away has no configuration yet, and no identity.
            uuid, name = values.get("config.instanceUuid"), values.get("name", "")
            if uuid and name and not values.get("config.template") and not is_staging(name):
                yield plain_name(name), uuid, vm

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
        """Return the machines of a page, without those that are gone or have no configuration any more."""
        found = self._present([vm for _, _, vm in listed], _STATE)
        return [
            self._machine(name, uuid, values)
            for (name, uuid, _), values in zip(listed, found, strict=True)
            if "config.hardware.device" in values
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
        found = [(uuid, vm) for listed, uuid, vm in self._listed() if listed == name]
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
        return Machine(
            machine_id=MachineId(self._prefix + uuid),
            name=name,
            power=PowerState.ON if is_on else PowerState.OFF,
            disks=tuple(Disk(key=disk.key, size_bytes=disk.size_bytes) for disk, reason in reasons if reason is None),
            skipped=tuple(SkippedDisk(label=disk.label, reason=reason) for disk, reason in reasons if reason),
        )


def _uuid(values: Values) -> str:
    return values.get("config.instanceUuid") or ""
