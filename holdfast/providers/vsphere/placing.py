"""Where a restored machine goes: folder, resource pool, host and datastore."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from pyVmomi import vim

from holdfast.errors import RequestInvalid, TargetExists
from holdfast.model.machine import Placement
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.datacenters import datacenter_of
from holdfast.providers.vsphere.disk_rules import datastore_of
from holdfast.providers.vsphere.groups import Groups
from holdfast.providers.vsphere.hardware import Hardware
from holdfast.providers.vsphere.names import escaped_name, plain_name
from holdfast.providers.vsphere.properties import read, read_all, walk

_STORE: Final = ("summary.name", "summary.freeSpace", "summary.accessible")


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Managed objects to create a machine in, and the name of a datastore."""

    datacenter: Any
    folder: Any
    pool: Any
    host: Any
    datastore: str
    beside: str = ""
    """Datastore path of the folder that disks go into; empty: that of the new machine."""


def place_beside(connection: Connection, vm: Any, needed_bytes: int) -> Place:
    """Return the place of a machine that exists, for disks that shall replace its own."""
    values = read(connection, vm, "parent", "resourcePool", "runtime.host", "config.files.vmPathName")
    datacenter = datacenter_of(connection, values["parent"])
    files = str(values["config.files.vmPathName"])
    store = datastore_of(files)
    _check_room(connection, datacenter, store, needed_bytes)
    return Place(
        datacenter=datacenter,
        folder=values["parent"],
        pool=values["resourcePool"],
        host=values.get("runtime.host"),
        datastore=store,
        beside=files.rpartition("/")[0],
    )


def place_for(connection: Connection, hardware: Hardware, needed_bytes: int, placement: Placement) -> Place:
    """Return a place for a machine that was captured.

    Without a wish its datastore is the one it had if that has room, else the one with the most room; folder and pool
    are the first of that datacenter, the pool among the hosts that see the datastore. Raises `RequestInvalid` when a
    wish names nothing, or when there is no room.
    """
    stores = list(_stores(connection, placement.datastore))
    if placement.datastore and not stores:
        raise RequestInvalid(f"{connection.endpoint.label} has no datastore {placement.datastore!r}")
    folder = _folder(connection, placement.folder) if placement.folder else None
    home = None if folder is None else datacenter_of(connection, folder)
    roomy = [one for one in stores if one.free_bytes >= needed_bytes and (home is None or one.datacenter == home)]
    if not roomy:
        raise RequestInvalid(
            f"{connection.endpoint.label} has no datastore with {needed_bytes} bytes free for the restored machine",
            hint="Free space, or name another place with `--datastore` or `--folder`.",
        )
    wanted = {disk.datastore for disk in hardware.disks}
    best = max(roomy, key=lambda one: (one.name in wanted, one.free_bytes))
    folders = read(connection, best.datacenter, "vmFolder", "hostFolder")
    return Place(
        datacenter=best.datacenter,
        folder=folders["vmFolder"] if folder is None else folder,
        pool=_pool(connection, folders["hostFolder"], placement.pool, best.store),
        host=None,
        datastore=best.name,
    )


class _Store(msgspec.Struct, frozen=True, kw_only=True):
    """A datastore that can be reached."""

    name: str
    free_bytes: int
    datacenter: Any
    store: Any


def _stores(connection: Connection, wanted: str) -> Iterator[_Store]:
    """Yield the datastores that can be reached, all or those of a name."""
    for datacenter, values in walk(connection, vim.Datacenter, ("datastore",)):
        for store, found in read_all(connection, values.get("datastore") or (), _STORE):
            name, free_bytes = plain_name(found["summary.name"]), int(found.get("summary.freeSpace") or 0)
            if found.get("summary.accessible") and wanted in {"", name}:
                yield _Store(name=name, free_bytes=free_bytes, datacenter=datacenter, store=store)


def _folder(connection: Connection, path: str) -> Any:
    """Return a folder that machines can lie in; a datacenter means the one of all its machines."""
    folder = Groups(connection).folder(path)
    if isinstance(folder, vim.Datacenter):
        return read(connection, folder, "vmFolder")["vmFolder"]
    if "VirtualMachine" not in (read(connection, folder, "childType").get("childType") or ()):
        raise RequestInvalid(f"{connection.endpoint.label}: machines cannot lie in folder {path!r}")
    return folder


def check_name(connection: Connection, folder: Any, name: str) -> None:
    """Raise `TargetExists` when a folder has something of this name."""
    search = connection.content.searchIndex
    found = connection.call(f"looking for {name!r}", lambda: search.FindChild(folder, escaped_name(name)))
    if found is not None:
        raise TargetExists(f"{connection.endpoint.label}: a machine or folder is called {name!r} already")


def _pool(connection: Connection, host_folder: Any, wanted: str, store: Any) -> Any:
    """Return the resource pool of a name below a datacenter's hosts.

    Without a name it is the root pool of the first cluster or host that sees the datastore.
    """
    label = connection.endpoint.label
    if wanted:
        listed = walk(connection, vim.ResourcePool, ("name",), host_folder)
        found = [pool for pool, values in listed if plain_name(values["name"]) == wanted]
        if len(found) != 1:
            raise RequestInvalid(f"{label} has {len(found) or 'no'} resource pool {wanted!r} for the restored machine")
        return found[0]
    computers = walk(connection, vim.ComputeResource, ("name", "resourcePool", "datastore"), host_folder)
    seeing = [values for _, values in computers if store in (values.get("datastore") or ())]
    if not seeing:
        raise RequestInvalid(f"{label} has no cluster or host that sees the datastore for the restored machine")
    return min(seeing, key=lambda values: str(values["name"]))["resourcePool"]


def _check_room(connection: Connection, datacenter: Any, name: str, needed_bytes: int) -> None:
    for _, values in read_all(connection, read(connection, datacenter, "datastore")["datastore"], _STORE):
        if (
            plain_name(values["summary.name"]) == plain_name(name)
            and (values.get("summary.freeSpace") or 0) >= needed_bytes
        ):
            return
    raise RequestInvalid(f"datastore {name} has not the {needed_bytes} bytes free that the restored disks may take")
