"""The GUID partition table: a header and its entries, both with checksums, and a second copy at the end of the disk."""

import struct
import zlib
from collections.abc import Iterator
from uuid import UUID

import msgspec

from holdfast.guest.volume import Part
from holdfast.guest.window import SECTOR, Disk, Implausible
from holdfast.model.spans import Span

_SIGNATURE = b"EFI PART"
_HEADER = struct.Struct("<8s4xII4xQ8xQQ16sQIII")
_CRC_AT = 16
_ENTRY = struct.Struct("<16s16sQQ")
_ENTRY_SIZES = (128, 256, 512)
_ENTRIES_MAX = 1024
_ARRAYS = {
    UUID("a19d880f-05fc-4d3b-a006-743f0f84911e"): "a member of an array",
    UUID("5808c8aa-7e8f-42e0-85d2-e1e90434cfb3"): "part of a dynamic disk",
    UUID("af9b60a0-1431-4f62-bc68-3311714a69ad"): "part of a dynamic disk",
    UUID("e75caf8f-f680-4cee-afa3-b001e56efc2d"): "part of a storage pool",
}


class _Table(msgspec.Struct, frozen=True):
    first_usable: int
    last_usable: int
    entry_size: int
    entries: bytes


def partitions(disk: Disk) -> Iterator[Part]:
    """Yield the partitions of the first copy of the table that is whole. Raises `Implausible` when none is."""
    table = _table(disk, 1) or _table(disk, disk.size_bytes // SECTOR - 1)
    if table is None:
        raise Implausible("neither copy of the partition table is whole")
    for number, at in enumerate(range(0, len(table.entries), table.entry_size), 1):
        kind, _, first, last = _ENTRY.unpack_from(table.entries, at)
        if not any(kind):
            continue
        if not table.first_usable <= first <= last <= table.last_usable:
            raise Implausible(f"partition {number} lies outside of what the table says can be used")
        span = Span(first * SECTOR, (last - first + 1) * SECTOR)
        obstacle = _ARRAYS.get(UUID(bytes_le=kind), "")
        yield Part(place=f"partition {number}", spans=(span,), obstacle=obstacle)


def _table(disk: Disk, sector: int) -> _Table | None:
    """Return the copy whose header is in a sector; None when it is not there or not whole."""
    sectors = disk.size_bytes // SECTOR
    if not 0 < sector < sectors:
        return None
    header = disk.read(sector * SECTOR, SECTOR)
    signature, size, crc, own, first, last, _, at, count, entry_size, entries_crc = _HEADER.unpack_from(header)
    if signature != _SIGNATURE or own != sector or not _HEADER.size <= size <= SECTOR:
        return None
    if zlib.crc32(header[:_CRC_AT] + bytes(4) + header[_CRC_AT + 4 : size]) != crc:
        return None
    length = count * entry_size
    is_sane = 0 < count <= _ENTRIES_MAX and entry_size in _ENTRY_SIZES and last < sectors
    if not is_sane or at * SECTOR + length > disk.size_bytes:
        return None
    entries = disk.read(at * SECTOR, length)
    return _Table(first, last, entry_size, entries) if zlib.crc32(entries) == entries_crc else None
