"""Which datacenter a machine belongs to."""

import threading
from typing import Any

from pyVmomi import vim

from holdfast.errors import ProviderUnavailable
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.properties import read

_DEPTH_MAX = 64


def datacenter_of(connection: Connection, entity: Any) -> Any:
    """Return the datacenter that an entity lies in."""
    for _ in range(_DEPTH_MAX):
        if isinstance(entity, vim.Datacenter):
            return entity
        entity = read(connection, entity, "parent").get("parent")
        if entity is None:
            break
    raise ProviderUnavailable(f"{connection.endpoint.label}: no datacenter holds the machine")


class Datacenters:
    """Looks datacenters up once for each folder, and again when what was found there has led nowhere."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._paths: dict[str, str] = {}

    def path_of(self, machine: Any, *, not_this: str | None = None) -> str:
        """Return the path of the datacenter of a machine in the inventory, without the root folder.

        ``not_this`` is a path that has led nowhere: a datacenter was renamed, or a folder moved to another. Names are
        escaped as vSphere keeps them: a slash in a name is none of the path's.
        """
        parent = read(self._connection, machine, "parent", "parentVApp")
        start = parent.get("parent") or parent.get("parentVApp")
        if start is None:
            raise ProviderUnavailable(f"{self._connection.endpoint.label}: no folder holds machine {machine._moId}")
        key = str(start._moId)
        with self._lock:
            known = self._paths.get(key)
        if known is None or known == not_this:
            known = "/".join(self._names(start))
            with self._lock:
                self._paths[key] = known
        return known

    def _names(self, start: Any) -> list[str]:
        """Return the names from below the root folder down to the datacenter."""
        names: list[str] = []
        entity, is_inside = start, False
        for _ in range(_DEPTH_MAX):
            values = read(self._connection, entity, "name", "parent")
            if values.get("parent") is None:
                return names
            is_inside = is_inside or isinstance(entity, vim.Datacenter)
            if is_inside:
                names.insert(0, values["name"])
            entity = values["parent"]
        raise ProviderUnavailable(f"{self._connection.endpoint.label}: folders are nested deeper than {_DEPTH_MAX}")
