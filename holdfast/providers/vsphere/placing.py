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
    wish names nothing, when two do not go together, or when there is no room.
    """
    label = connection.endpoint.label
    stores = list(_stores(connection, placement.datastore))
    if placement.datastore and not stores:
        raise RequestInvalid(f"{label} has no datastore {placement.datastore!r}")
    folder = _folder(connection, placement.folder) if placement.folder else None
    if folder is not None:
        stores = _stores_of_folder(connection, folder, stores, placement)
    pool = _pool(connection, stores, placement) if placement.pool else None
    if pool is not None:
        stores = [one for one in stores if one.store in pool.stores]
    roomy = [one for one in stores if one.free_bytes >= needed_bytes]
    if not roomy:
        raise RequestInvalid(
            f"{label} has no datastore with {needed_bytes} bytes free for the restored machine",
            hint="Free space, or name another place with `--datastore` or `--folder`.",
        )
    wanted = {disk.datastore for disk in hardware.disks}
    best = max(roomy, key=lambda one: (one.name in wanted, one.free_bytes))
    folders = read(connection, best.datacenter, "vmFolder", "hostFolder")
    return Place(
        datacenter=best.datacenter,
        folder=folders["vmFolder"] if folder is None else folder,
        pool=_root_pool(connection, folders["hostFolder"], best) if pool is None else pool.pool,
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


def _stores_of_folder(connection: Connection, folder: Any, stores: list[_Store], placement: Placement) -> list[_Store]:
    """Return the datastores of a wished folder's datacenter. Raises `RequestInvalid` when the wished one is not."""
    home = datacenter_of(connection, folder)
    found = [one for one in stores if one.datacenter == home]
    if placement.datastore and not found:
        raise RequestInvalid(
            f"{connection.endpoint.label}: datastore {placement.datastore!r} is not in the datacenter of folder "
            f"{placement.folder!r}"
        )
    return found


class _Pool(msgspec.Struct, frozen=True, kw_only=True):
    """A resource pool, and the datastores that the hosts behind it see."""

    pool: Any
    stores: tuple[Any, ...]


def _pool(connection: Connection, stores: list[_Store], placement: Placement) -> _Pool:
    """Return the wished resource pool, the one whose hosts see any of the datastores when several have the name.

    Raises `RequestInvalid` when there is none, several, or when it does not go together with another wish.
    """
    label, wanted = connection.endpoint.label, placement.pool
    named = list(_pools(connection, wanted))
    usable = [one for one in named if any(store.store in one.stores for store in stores)]
    if named and not usable:
        other = f"datastore {placement.datastore!r}" if placement.datastore else "any datastore"
        if placement.folder and not placement.datastore:
            other = f"any datastore of the datacenter of folder {placement.folder!r}"
        raise RequestInvalid(
            f"{label}: no host of resource pool {wanted!r} sees {other}",
            hint="Name a pool, folder and datastore of one datacenter, whose hosts see the datastore.",
        )
    if len(usable) != 1:
        raise RequestInvalid(f"{label} has {len(usable) or 'no'} resource pool {wanted!r} for the restored machine")
    return usable[0]


def _pools(connection: Connection, wanted: str) -> Iterator[_Pool]:
    for pool, values in walk(connection, vim.ResourcePool, ("name", "owner")):
        if plain_name(values["name"]) == wanted:
            seen = read(connection, values["owner"], "datastore").get("datastore") or ()
            yield _Pool(pool=pool, stores=tuple(seen))


def _root_pool(connection: Connection, host_folder: Any, store: _Store) -> Any:
    """Return the root resource pool of the first cluster or host of a datacenter that sees a datastore."""
    computers = walk(connection, vim.ComputeResource, ("name", "resourcePool", "datastore"), host_folder)
    seeing = [values for _, values in computers if store.store in (values.get("datastore") or ())]
    if not seeing:
        raise RequestInvalid(f"{connection.endpoint.label} has no cluster or host that sees datastore {store.name!r}")
    return min(seeing, key=lambda values: str(values["name"]))["resourcePool"]


def _check_room(connection: Connection, datacenter: Any, name: str, needed_bytes: int) -> None:
    for _, values in read_all(connection, read(connection, datacenter, "datastore")["datastore"], _STORE):
        if (
            plain_name(values["summary.name"]) == plain_name(name)
            and (values.get("summary.freeSpace") or 0) >= needed_bytes
        ):
            return
    raise RequestInvalid(f"datastore {name} has not the {needed_bytes} bytes free that the restored disks may take")
