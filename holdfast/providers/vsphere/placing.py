"""Where a restored machine goes: folder, resource pool, host and datastore."""

from typing import Any, Final

import msgspec
from pyVmomi import vim

from holdfast.errors import RequestInvalid, TargetExists
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.datacenters import datacenter_of
from holdfast.providers.vsphere.disk_rules import datastore_of
from holdfast.providers.vsphere.hardware import Hardware
from holdfast.providers.vsphere.names import escaped_name
from holdfast.providers.vsphere.properties import read, read_all, walk

_STORE: Final = ("summary.name", "summary.freeSpace", "summary.accessible")


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Managed objects to create a machine in, and the name of a datastore."""

    datacenter: Any
    folder: Any
    pool: Any
    host: Any
    datastore: str


def place_beside(connection: Connection, vm: Any, needed_bytes: int) -> Place:
    """Return the place of a machine that exists, for disks that shall replace its own."""
    values = read(connection, vm, "parent", "resourcePool", "runtime.host", "config.files.vmPathName")
    datacenter = datacenter_of(connection, values["parent"])
    store = datastore_of(values["config.files.vmPathName"])
    _check_room(connection, datacenter, store, needed_bytes)
    return Place(
        datacenter=datacenter,
        folder=values["parent"],
        pool=values["resourcePool"],
        host=values.get("runtime.host"),
        datastore=store,
    )


def place_for(connection: Connection, hardware: Hardware, needed_bytes: int) -> Place:
    """Return a place for a machine that was captured: its datastore if that has room, else the one with the most."""
    wanted = [datastore_of(disk.file) for disk in hardware.disks]
    best: tuple[bool, int, str, Any] | None = None
    for datacenter, values in walk(connection, vim.Datacenter, ("datastore",)):
        for _, store in read_all(connection, values.get("datastore") or (), _STORE):
            free, name = store.get("summary.freeSpace") or 0, store["summary.name"]
            if not store.get("summary.accessible") or free < needed_bytes:
                continue
            if best is None or (name in wanted, free) > best[:2]:
                best = (name in wanted, free, name, datacenter)
    if best is None:
        raise RequestInvalid(
            f"{connection.endpoint.label} has no datastore with {needed_bytes} bytes free for the restored machine"
        )
    datacenter = best[3]
    folders = read(connection, datacenter, "vmFolder", "hostFolder")
    pool = _pool(connection, folders["hostFolder"])
    return Place(datacenter=datacenter, folder=folders["vmFolder"], pool=pool, host=None, datastore=best[2])


def check_name(connection: Connection, folder: Any, name: str) -> None:
    """Raise `TargetExists` when a folder has something of this name."""
    search = connection.content.searchIndex
    found = connection.call(f"looking for {name!r}", lambda: search.FindChild(folder, escaped_name(name)))
    if found is not None:
        raise TargetExists(f"{connection.endpoint.label}: a machine or folder is called {name!r} already")


def _pool(connection: Connection, host_folder: Any) -> Any:
    """Return the root pool of the first cluster or host of a datacenter, by name."""
    found = sorted(
        ((values["name"], values["resourcePool"]) for _, values in _computers(connection, host_folder)),
        key=lambda one: str(one[0]),
    )
    if not found:
        raise RequestInvalid(f"{connection.endpoint.label} has no cluster or host for the restored machine")
    return found[0][1]


def _computers(connection: Connection, host_folder: Any) -> Any:
    return walk(connection, vim.ComputeResource, ("name", "resourcePool"), host_folder)


def _check_room(connection: Connection, datacenter: Any, name: str, needed_bytes: int) -> None:
    for _, values in read_all(connection, read(connection, datacenter, "datastore")["datastore"], _STORE):
        if values["summary.name"] == name and (values.get("summary.freeSpace") or 0) >= needed_bytes:
            return
    raise RequestInvalid(f"datastore {name} has not the {needed_bytes} bytes free that the restored disks may take")
