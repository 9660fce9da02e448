"""Leases: a vCenter lets whoever holds one fetch the disks of a snapshot as streams.

A machine is leased once at a time, and its snapshots cannot be removed meanwhile; so all disks that this process reads
share one lease. A lease ends a few minutes after its holder was last heard of. That is also how the lease of a process
that was killed ends: nobody else can end it, because the API lists none.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from pyVmomi import vim

from holdfast.clock import Clock
from holdfast.errors import DiskReadFailed, HoldfastError, MachineNotFound, ProviderUnavailable
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.faults import error_of
from holdfast.providers.vsphere.properties import read

BEAT_S: Final = 30.0
"""How often the vCenter hears that a lease is in use. It wants to at least every few minutes."""
_BEATS_MIN: Final = 4
"""In the time after which a lease ends."""
_PATIENCE_S: Final = 120.0
_PAUSE_S: Final = 0.1
_ANY_HOST: Final = "*"
_HTTPS: Final = 443
_BUSY: Final = (vim.fault.TaskInProgress, vim.fault.InvalidState, vim.fault.FileLocked)


class DiskPlace(msgspec.Struct, frozen=True, kw_only=True):
    """By what a lease knows a disk."""

    name: str
    """Its controller and its number there, such as ``ParaVirtualSCSIController0:0``."""
    among: frozenset[str]
    """The places of all disks of the machine. A lease that names others counts otherwise, and is not believed."""


class DiskAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where the stream of one disk is fetched. It holds for as long as the lease."""

    host: str
    port: int
    path: str
    thumbprint: str
    """Of the host's certificate, as the vCenter tells it; empty when it does not."""


class Lease:
    """One lease of the disks of a snapshot, kept alive by a thread until it is ended."""

    def __init__(self, connection: Connection, clock: Clock, snapshot: Any, beat_s: float = BEAT_S) -> None:
        """Wait until the disks can be read. Raises `DiskReadFailed` while another export of the machine goes on."""
        self._connection = connection
        self._what = f"leasing the disks of snapshot {snapshot._moId}"
        self._ended = threading.Event()
        self.percent = 0
        """How far the reader is; the vCenter shows it at the task."""
        self._lease = self._begin(snapshot)
        try:
            self._info = self._ready(clock)
        except BaseException:
            self._abort()
            raise
        self._beat_s = min(beat_s, max((self._info.leaseTimeout or 0) / _BEATS_MIN, 1.0))
        self._keeper = threading.Thread(target=self._keep_alive, name="vsphere-lease", daemon=True)
        self._keeper.start()

    def address(self, place: DiskPlace) -> DiskAddress:
        """Return where a disk is fetched. Raises `DiskReadFailed` when that is not beyond doubt."""
        devices = [one for one in self._info.deviceUrl or () if one.disk]
        found = {str(one.key).rpartition("/")[2]: one for one in devices}
        if place.name not in found or len(found) != len(devices) or not place.among >= found.keys():
            raise DiskReadFailed(
                f"{self._what}: no disk is known to be at {place.name}: "
                f"the machine has {', '.join(sorted(place.among))}, the lease {', '.join(found) or 'nothing'}"
            )
        return address_of(found[place.name], self._connection.endpoint.host, self._connection.endpoint.port)

    def is_alive(self) -> bool:
        """Return whether the vCenter still knows the lease and lets it be used."""
        if self._ended.is_set():
            return False
        try:
            return bool(self._look("state").get("state") == vim.HttpNfcLease.State.ready)
        except MachineNotFound:
            return False

    def end(self, *, is_good: bool) -> None:
        """Give the machine back. A lease that is gone, or a vCenter that is away, does not matter."""
        self._ended.set()
        self._keeper.join()
        if not is_good:
            self._abort()
            return
        with suppress(HoldfastError):  # it ended by itself, or will
            self._connection.call(f"{self._what}: completing", self._lease.HttpNfcLeaseComplete)

    def _begin(self, snapshot: Any) -> Any:
        try:
            return self._connection.call(self._what, snapshot.ExportSnapshot)
        except HoldfastError as error:
            if not isinstance(error.__cause__, _BUSY):
                raise
            raise DiskReadFailed(
                f"{error.message}: another export of the machine is under way",
                hint="It is tried again. The lease of a process that died ends by itself, usually after five minutes.",
            ) from error

    def _ready(self, clock: Clock) -> Any:
        deadline_s, pause = clock.monotonic_s() + _PATIENCE_S, threading.Event()
        while True:
            values = self._look("state", "error")
            match values.get("state"):
                case vim.HttpNfcLease.State.ready:
                    return self._look("info")["info"]
                case vim.HttpNfcLease.State.initializing:
                    pass
                case _:
                    fault = values.get("error")
                    raise DiskReadFailed(f"{self._what}: it ended") if fault is None else error_of(fault, self._what)
            if clock.monotonic_s() >= deadline_s:
                raise ProviderUnavailable(f"{self._what}: it is not ready after {_PATIENCE_S:.0f} s")
            pause.wait(_PAUSE_S)

    def _look(self, *paths: str) -> dict[str, Any]:
        return read(self._connection, self._lease, *paths)

    def _keep_alive(self) -> None:
        while not self._ended.wait(self._beat_s):
            with suppress(HoldfastError):  # the reader notices when the lease is gone
                self._connection.call(
                    f"{self._what}: telling progress", lambda: self._lease.HttpNfcLeaseProgress(self.percent)
                )

    def _abort(self) -> None:
        with suppress(HoldfastError):  # it ended by itself, or will
            self._connection.call(f"{self._what}: giving it up", self._lease.HttpNfcLeaseAbort)


def address_of(device: Any, host: str, port: int) -> DiskAddress:
    """Return where a device of a lease is fetched; ``*`` stands for the host of the session.

    Raises `DiskReadFailed` for an address that is not of https.
    """
    parts = urlsplit(str(device.url))
    if parts.scheme != "https" or not parts.hostname:
        raise DiskReadFailed(f"the lease gives the address {device.url}, which is not of https")
    is_ours = parts.hostname == _ANY_HOST
    return DiskAddress(
        host=host if is_ours else parts.hostname,
        port=parts.port or (port if is_ours else _HTTPS),
        path=f"{parts.path}?{parts.query}" if parts.query else parts.path,
        thumbprint=device.sslThumbprint or "",
    )


class SharedLease:
    """The lease of a snapshot for all disks of it; made anew when it ended before its time."""

    def __init__(self, make: Callable[[], Lease]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._lease: Lease | None = None
        self._has_failed = False
        self.users = 0

    def address(self, place: DiskPlace) -> DiskAddress:
        """Return where a disk is fetched now. Raises what `Lease` raises."""
        with self._lock:
            if self._lease is not None and not self._lease.is_alive():
                self._drop(is_good=False)
            if self._lease is None:
                self._lease = self._make()
            return self._lease.address(place)

    def tell(self, percent: int) -> None:
        """Remember how far the reading is, in percent of a disk."""
        lease = self._lease
        if lease is not None:
            lease.percent = percent

    def note_failure(self) -> None:
        """Remember that a disk could not be read to its end."""
        self._has_failed = True

    def end(self) -> None:
        """Complete the lease, or abort it when a disk could not be read."""
        with self._lock:
            self._drop(is_good=not self._has_failed)

    def _drop(self, *, is_good: bool) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.end(is_good=is_good)


class Leases:
    """The leases that this process holds, by snapshot."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._lock = threading.Lock()
        self._shared: dict[str, SharedLease] = {}

    def borrow(self, snapshot: Any) -> SharedLease:
        """Return the lease of a snapshot, to be given back."""
        with self._lock:
            found = self._shared.get(snapshot._moId)
            if found is None:
                found = SharedLease(lambda: Lease(self._connection, self._clock, snapshot))
                self._shared[snapshot._moId] = found
            found.users += 1
            return found

    def give_back(self, snapshot: Any, shared: SharedLease) -> None:
        """Take a lease back; the last user ends it."""
        with self._lock:
            shared.users -= 1
            if shared.users:
                return
            del self._shared[snapshot._moId]
            # Within the lock: whoever borrows next must not find the machine still leased.
            shared.end()

    def close(self) -> None:
        """End every lease, also those of disks that nobody closed."""
        with self._lock:
            for shared in self._shared.values():
                shared.note_failure()
                shared.end()
