"""Which disks of a machine a snapshot can protect: facts in, a reason or none out."""

import re
from enum import StrEnum
from typing import Final

import msgspec

from holdfast.model.ids import DiskKey
from holdfast.model.machine import DISK_SIZE_MAX, SECTOR_SIZE

_DELTA: Final = re.compile(r"-\d{6}(?=\.vmdk$)")
_INDEPENDENT: Final = "independent_"


class Mapping(StrEnum):
    """What stands behind a disk that is no file."""

    NONE = "none"
    VIRTUAL = "virtualMode"
    PHYSICAL = "physicalMode"


class DiskFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What vSphere says about one disk."""

    key: DiskKey
    """The device's key, which stays when the file behind it is another one."""
    label: str
    size_bytes: int
    file: str
    """Datastore path of the file that is written to now, such as ``[ds] web/web-000001.vmdk``."""
    is_child: bool = False
    """Whether the file holds only what changed since a parent."""
    uuid: str = ""
    mode: str = "persistent"
    is_shared: bool = False
    mapping: Mapping = Mapping.NONE
    encryption_key: str = ""
    controller: int = 0
    """Key of the controller."""
    unit: int = 0
    has_tracking: bool = False
    """Whether its kind of file can carry a change id."""
    change_id: str | None = None

    @property
    def datastore(self) -> str:
        """Return the name of the datastore."""
        return datastore_of(self.file)


def reason_to_skip(disk: DiskFacts) -> str | None:
    """Return why a snapshot does not protect a disk, or None when it does."""
    if disk.mode.startswith(_INDEPENDENT):
        return f"it is independent ({disk.mode}), and snapshots leave such disks out"
    if disk.mapping is Mapping.PHYSICAL:
        return "it is a raw device in physical mode, and snapshots leave such disks out"
    if disk.is_shared:
        return "several machines write to it, so no snapshot of one machine is consistent"
    if disk.size_bytes % SECTOR_SIZE:
        return f"its size of {disk.size_bytes} bytes is no multiple of {SECTOR_SIZE}"
    if not 0 < disk.size_bytes <= DISK_SIZE_MAX:
        return f"its size of {disk.size_bytes} bytes is outside the limits"
    return None


def datastore_of(path: str) -> str:
    """Return the datastore in a path such as ``[ds] folder/disk.vmdk``; empty when there is none."""
    return path[1:].partition("]")[0] if path.startswith("[") else ""


def path_in_datastore(path: str) -> str:
    """Return a datastore path without its datastore: ``folder/disk.vmdk``."""
    return path.partition("]")[2].lstrip() if path.startswith("[") else path


def base_file(path: str) -> str:
    """Return the name that a disk's file has without snapshots: their number is taken off."""
    return _DELTA.sub("", path)
