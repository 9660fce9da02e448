"""Disks served by nbdkit, whose plugin speaks to the hypervisor."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from typing_extensions import override

from holdfast.clock import Clock
from holdfast.errors import DiskReadFailed
from holdfast.model.plan import Transport
from holdfast.model.spans import Span
from holdfast.providers.nbd.served import ServedDisk
from holdfast.providers.nbd.server import ServerPlan
from holdfast.providers.nbd.vddk import VddkDisk, vddk_parameters
from holdfast.providers.ports import OpenedTarget
from holdfast.providers.vsphere.changes import FrozenDiskInVSphere
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.disk_rules import DiskFacts
from holdfast.providers.vsphere.settings import VSphereSettings

_Allocated = Callable[[], Iterator[Span]]


class NetworkDisks:
    """Starts one nbdkit for each disk; it ends with the disk."""

    def __init__(self, settings: VSphereSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock

    def open(self, disk: FrozenDiskInVSphere, transport: Transport, allocated: _Allocated) -> "NetworkDisk":
        """Open a frozen disk for reading."""
        plan = self._plan(disk.connection, disk.machine, disk.snapshot, disk.facts)
        return NetworkDisk(plan, self._clock, transport, allocated)

    def open_target(self, connection: Connection, machine: Any, facts: DiskFacts) -> OpenedTarget:
        """Open a disk of a machine that is off for writing."""
        return _NetworkTarget(self._plan(connection, machine, None, facts), clock=self._clock)

    def _plan(self, connection: Connection, machine: Any, snapshot: Any, facts: DiskFacts) -> ServerPlan:
        endpoint, library = connection.endpoint, self._settings.vddk_library
        disk = VddkDisk(
            libdir="" if library is None else str(library),
            server=endpoint.host,
            port=endpoint.port,
            user=endpoint.user,
            thumbprint=connection.thumbprint_sha1,
            vm=machine._moId,
            snapshot=None if snapshot is None else snapshot._moId,
            file=facts.file,
        )
        return ServerPlan(
            plugin=self._settings.nbdkit_plugin,
            parameters=vddk_parameters(disk),
            secrets={"password": endpoint.password()},
            is_read_only=snapshot is not None,
        )


class NetworkDisk(ServedDisk):
    """A frozen disk; what was ever written to it is asked of change tracking first, which is much faster."""

    def __init__(self, plan: ServerPlan, clock: Clock, transport: Transport, allocated: _Allocated) -> None:
        super().__init__(plan, clock=clock)
        self.transport = transport
        self.place = ""
        self.remarks: Sequence[str] = ()
        self._allocated = allocated

    @override
    def allocated_spans(self) -> Iterator[Span]:
        """Yield, sorted, what may hold anything but zeros."""
        if self._lost:
            raise DiskReadFailed(f"listing the spans of {self._name}: {self._lost}")
        whole = Span(0, self.size_bytes)
        told = self._allocated()
        first = next(told, None)
        if first == whole:
            yield from super().allocated_spans()
        elif first is not None:
            yield first
            yield from told


class _NetworkTarget(ServedDisk):
    """A disk that nbdkit writes; see `OpenedTarget`."""

    transport: Transport | None = None
