"""Groups of machines: what a selector such as ``folder:/prod`` or ``cluster:east`` means in a vCenter."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from pyVmomi import vim

from holdfast.errors import RequestInvalid
from holdfast.model.selection import Selector, SelectorKind
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.names import completed_name, escaped_name, plain_name
from holdfast.providers.vsphere.properties import read, walk
from holdfast.providers.vsphere.tags import Tags

_KINDS: Final[dict[SelectorKind, Any]] = {
    SelectorKind.CLUSTER: vim.ComputeResource,
    SelectorKind.POOL: vim.ResourcePool,
    SelectorKind.DATASTORE: vim.Datastore,
}


class Groups:
    """Finds the machines of groups."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def machines_of(self, selector: Selector) -> Iterator[Any]:
        """Yield the managed objects of the machines of a group, in no order.

        Raises `RequestInvalid` when there is no such group, or several of that name.
        """
        if selector.kind is SelectorKind.TAG:
            yield from Tags(self._connection).machines_with(selector.value)
            return
        group = self.folder(selector.value) if selector.kind is SelectorKind.FOLDER else self._named(selector)
        if selector.kind is SelectorKind.DATASTORE:
            yield from read(self._connection, group, "vm").get("vm") or ()
            return
        for vm, _ in walk(self._connection, vim.VirtualMachine, ("name",), group):
            yield vm

    def folder(self, path: str) -> Any:
        """Return a folder by its path in the inventory, or by its path below the machines of a datacenter.

        Names are as people see them, or as vSphere keeps them: a slash in a name can be written only as ``%2f``.
        Raises `RequestInvalid` when there is none, or one in several datacenters.
        """
        selector = Selector(kind=SelectorKind.FOLDER, value=path)
        wanted = path.strip("/")
        search = self._connection.content.searchIndex
        starts = [values["name"] for _, values in walk(self._connection, vim.Datacenter, ("name",))]
        found: dict[str, Any] = {}
        for kept in {"/".join(map(escaped, wanted.split("/"))) for escaped in (completed_name, escaped_name)}:
            for one in (kept, *(f"{center}/vm/{kept}" for center in starts)):
                entity = self._connection.call(f"looking for folder {one!r}", partial(search.FindByInventoryPath, one))
                if isinstance(entity, (vim.Folder, vim.Datacenter)):
                    found[entity._moId] = entity
        return self._only(selector, list(found.values()))

    def _named(self, selector: Selector) -> Any:
        kind = _KINDS[selector.kind]
        listed = walk(self._connection, kind, ("name",))
        return self._only(selector, [one for one, values in listed if plain_name(values["name"]) == selector.value])

    def _only(self, selector: Selector, found: list[Any]) -> Any:
        label = self._connection.endpoint.label
        if not found:
            raise RequestInvalid(f"{label} has no {selector.kind} {selector.value!r}")
        if len(found) > 1:
            raise RequestInvalid(f"{label} has {len(found)} of the name {selector.text!r}", hint="Use a longer path.")
        return found[0]
