"""The ways to read disks, tried without touching a machine: mounted datastores, nbdkit, the file server, leases."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from holdfast.clock import SystemClock
from holdfast.errors import DiskReadFailed, HoldfastError
from holdfast.model.plan import TransportMode
from holdfast.providers.nbd.versions import nbdkit_facts
from holdfast.providers.vsphere import descriptors
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.datacenters import Datacenters
from holdfast.providers.vsphere.disk_rules import path_in_datastore
from holdfast.providers.vsphere.file_server import DatastoreFile, locate
from holdfast.providers.vsphere.hot_add import HotAdd
from holdfast.providers.vsphere.self_test import Finding, failed, ok, warning
from holdfast.providers.vsphere.settings import VSphereSettings

_MAGIC: Final = b"# Disk DescriptorFile"
_VDDK: Final = "vddk"


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """A small file that every datastore with a machine has: the description of a disk."""

    machine: Any
    file: str
    """Datastore path."""


Samples = Mapping[str, Sequence[Sample]]
"""Some files by the name of their datastore."""


def try_ways(
    connection: Connection, settings: VSphereSettings, stores: Sequence[str], samples: Samples
) -> Iterator[Finding]:
    """Yield how each allowed way stands. One that does not work is a warning when another is allowed."""
    for mode in TransportMode:
        check = f"transport {mode}"
        if mode not in settings.transports:
            yield ok(check, "not among `transports` of the provider")
            continue
        match mode:
            case TransportMode.DIRECT:
                yield from _try_direct(settings, stores, samples)
            case TransportMode.HOT_ADD:
                yield _try_hot_add(connection, settings)
            case TransportMode.NETWORK:
                yield _try_network(settings)
            case TransportMode.HTTPS:
                yield from _try_https(connection, settings, stores, samples)
            case TransportMode.LEASE:
                yield ok(check, "needs nothing here; a lease is of a snapshot, so `--machine` tries it")


def _try_direct(settings: VSphereSettings, stores: Sequence[str], samples: Samples) -> Iterator[Finding]:
    if not settings.mounts:
        yield ok("transport direct", "no datastore is mounted here: `mounts` of the provider is empty")
    for store, folder in settings.mounts.items():
        check = f"transport direct, datastore {store}"
        try:
            if store not in stores:
                raise DiskReadFailed(f"the vCenter shows no datastore {store}", hint="Correct the name in `mounts`.")
            if not folder.is_dir():
                raise DiskReadFailed(f"{folder} is no folder", hint="Mount the datastore there, or correct `mounts`.")
            tried = samples.get(store, ())
            for sample in tried[:1]:
                _read_description(folder / path_in_datastore(sample.file))
        except HoldfastError as error:
            yield _trouble(check, error, settings)
        else:
            yield ok(check, f"{folder}, {tried[0].file} is readable" if tried else f"{folder}, no disk there to try")


def _read_description(path: Any) -> None:
    try:
        with path.open("rb") as file:
            text = file.read(len(_MAGIC))
    except OSError as error:
        hint = "Is the right datastore mounted there, and may this account read it?"
        raise DiskReadFailed(f"{path} cannot be read: {error.strerror}", hint=hint) from error
    if text != _MAGIC:
        raise DiskReadFailed(f"{path} is no description of a disk", hint="Is the right datastore mounted there?")


def _try_hot_add(connection: Connection, settings: VSphereSettings) -> Finding:
    """Return whether this host is a machine of the vCenter; nothing is attached."""
    hot_add = HotAdd(settings, connection, SystemClock())
    reason = hot_add.why_not(None)
    if reason:
        return ok("transport hot-add", f"not possible: {reason}")
    places = hot_add.free_places()
    if not places:
        hint = "Add a SCSI controller to the proxy's machine."
        return warning("transport hot-add", "this host is a machine of the vCenter without a free place", hint)
    return ok("transport hot-add", f"this host is a machine of the vCenter with {places} free places for disks")


def _try_network(settings: VSphereSettings) -> Finding:
    check = "transport network"
    library = settings.vddk_library
    parameters = {"libdir": str(library)} if library is not None and settings.nbdkit_plugin[0] == _VDDK else {}
    try:
        facts = nbdkit_facts(settings.nbdkit_plugin, parameters)
    except HoldfastError as error:
        return _trouble(check, error, settings)
    behind = f", library {facts.library}" if facts.library else ""
    return ok(check, f"nbdkit {facts.version}, plugin {facts.plugin} {facts.plugin_version}{behind}")


def _try_https(
    connection: Connection, settings: VSphereSettings, stores: Sequence[str], samples: Samples
) -> Iterator[Finding]:
    datacenters = Datacenters(connection)
    for store in stores:
        check = f"transport https, datastore {store}"
        tried = samples.get(store, ())
        if not tried:
            yield ok(check, "no disk there to try")
            continue
        try:
            yield ok(check, f"{_fetched(connection, datacenters, tried)} is readable")
        except HoldfastError as error:
            yield _trouble(check, error, settings)


def _fetched(connection: Connection, datacenters: Datacenters, tried: Sequence[Sample]) -> str:
    """Return the file of the first sample that can be read; raise the error of the last."""
    last: HoldfastError | None = None
    for sample in tried:
        try:
            wanted = DatastoreFile(datacenter=datacenters.path_of(sample.machine), path=sample.file)
            locate(connection, wanted, descriptors.SIZE_MAX)
        except HoldfastError as error:
            last = error
            continue
        return sample.file
    assert last is not None, "there is a sample"
    raise last


def _trouble(check: str, error: HoldfastError, settings: VSphereSettings) -> Finding:
    if len(settings.transports) > 1:
        return warning(check, error.message, error.hint)
    return failed(check, error)
