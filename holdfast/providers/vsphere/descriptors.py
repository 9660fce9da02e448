"""The text that describes a virtual disk: which file holds its bytes, and which disk it is.

A descriptor names its extents, one a line: ``RW 131072 VMFS "web-flat.vmdk"``. Only disks that are one flat file can be
read from that file; the file of a child holds just what changed, in formats of their own.
"""

import re
from typing import Final

from holdfast.errors import DiskReadFailed

SIZE_MAX: Final = 64 << 10
"""A descriptor is a few hundred bytes."""
_SECTOR: Final = 512
_MAGIC: Final = "# Disk DescriptorFile"
_EXTENT: Final = re.compile(r'^(RW|RDONLY) +(\d+) +([A-Z0-9]+) +"([^"/]+)"(?: +0)?\s*$', re.MULTILINE)
_PARENT: Final = re.compile(r"^parentCID *= *([0-9a-fA-F]{8})\s*$", re.MULTILINE)
_UUID: Final = re.compile(r'^ddb\.uuid *= *"([^"]*)"\s*$', re.MULTILINE)
_NO_PARENT: Final = "ffffffff"
_FLAT: Final = ("VMFS", "FLAT")


def flat_file(text: str, size_bytes: int, name: str) -> str:
    """Return the name, beside the descriptor, of the flat file with the bytes of a whole disk of ``size_bytes``.

    Raises `DiskReadFailed` when the disk is not one flat file of that size; ``name`` names it in the message.
    """
    if not text.startswith(_MAGIC):
        raise DiskReadFailed(f"{name} is no descriptor of a disk")
    parent = _PARENT.search(text)
    if parent is not None and parent[1].lower() != _NO_PARENT:
        raise DiskReadFailed(f"{name} is the child of another disk, whose files cannot be read as they are")
    extents = _EXTENT.findall(text)
    if len(extents) != 1 or extents[0][2] not in _FLAT:
        kinds = ", ".join(extent[2] for extent in extents) or "none"
        raise DiskReadFailed(f"{name} is not one flat file; its extents are: {kinds}")
    _, sectors, _, file = extents[0]
    if int(sectors) * _SECTOR != size_bytes:
        raise DiskReadFailed(f"{name} says {int(sectors) * _SECTOR} bytes, the disk has {size_bytes}")
    return str(file)


def check_uuid(text: str, uuid: str, name: str) -> None:
    """Raise `DiskReadFailed` when a descriptor is not that of the disk with this uuid; an empty one is not compared.

    Descriptors have it as ``60 00 C2 9f 01 23 45 67-89 ab cd ef 01 23 45 67``, everybody else as other uuids.
    """
    found = _UUID.search(text)
    there = "" if found is None else found[1]
    if uuid and _digits(there) != _digits(uuid):
        raise DiskReadFailed(f"{name} is another disk: its uuid is {there or 'unset'}, that of the disk is {uuid}")


def _digits(uuid: str) -> str:
    return re.sub(r"[^0-9a-f]", "", uuid.lower())
