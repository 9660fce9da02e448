"""Which machines have snapshots of ours, found in one walk over all of them."""

from collections.abc import Iterator
from typing import Any, Final

from pyVmomi import vim

from holdfast.model.ids import MachineId
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.labels import read_description
from holdfast.providers.vsphere.properties import walk

_TREE: Final = "snapshot.rootSnapshotList"
_UUID: Final = "config.instanceUuid"


def machines_with_ours(connection: Connection) -> Iterator[MachineId]:
    """Yield the machines that have at least one, in the vCenter's order."""
    for _, values in walk(connection, vim.VirtualMachine, (_UUID, _TREE)):
        uuid = values.get(_UUID)
        if uuid and _has_ours(values.get(_TREE) or ()):
            yield MachineId(f"{connection.instance_uuid}:{uuid}")


def _has_ours(tree: Any) -> bool:
    left = list(tree)
    while left:
        entry = left.pop()
        if read_description(entry.description) is not None:
            return True
        left.extend(entry.childSnapshotList or ())
    return False
