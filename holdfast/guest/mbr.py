"""The partition table of PCs: four entries in the first sector, and a chain of further ones in extended partitions."""

import struct
from collections.abc import Iterator

import msgspec

from holdfast.guest.volume import Part
from holdfast.guest.window import SECTOR, Disk, Implausible
from holdfast.model.spans import Span

PROTECTIVE = 0xEE
"""Type of the entry that stands for a GPT."""

_SIGNATURE = b"\x55\xaa"
_TABLE_AT = 446
_ENTRY = struct.Struct("<B3xB3xII")
_EXTENDED = (0x05, 0x0F, 0x85)
_ARRAYS = {0xFD: "a member of an array", 0x42: "part of a dynamic disk"}
_LOGICAL_MAX = 128


class Entry(msgspec.Struct, frozen=True):
    """One entry that is in use; sectors from the start of its table."""

    kind: int
    first: int
    count: int


def read_table(sector: bytes, sectors: int) -> tuple[Entry, ...] | None:
    """Return the entries in use of a table sector; None when it is not one. ``sectors`` is what they may reach to."""
    if sector[SECTOR - 2 : SECTOR] != _SIGNATURE:
        return None
    entries = []
    for status, kind, first, count in _ENTRY.iter_unpack(sector[_TABLE_AT : SECTOR - 2]):
        if kind == 0:
            continue
        # The entry for a GPT speaks of the largest disk there is.
        end = first + 1 if kind == PROTECTIVE else first + count
        if status not in (0, 0x80) or first == 0 or count == 0 or end > sectors:
            return None
        entries.append(Entry(kind, first, count))
    return tuple(entries)


def partitions(disk: Disk, entries: tuple[Entry, ...]) -> Iterator[Part]:
    """Yield the partitions of a table, those in extended ones too. Raises `Implausible`."""
    number = 0
    for entry in entries:
        if entry.kind in _EXTENDED:
            yield from _logical(disk, entry)
        else:
            number += 1
            yield _part(f"partition {number}", entry, 0)


def _logical(disk: Disk, extended: Entry) -> Iterator[Part]:
    at = extended.first
    end = extended.first + extended.count
    for number in range(5, 5 + _LOGICAL_MAX):
        table = read_table(disk.read(at * SECTOR, SECTOR), end)
        if table is None:
            raise Implausible(f"no partition table in sector {at}, where the chain of an extended partition leads")
        for entry in table:
            if entry.kind not in _EXTENDED:
                if at + entry.first + entry.count > end:
                    raise Implausible(f"logical partition {number} reaches out of its extended partition")
                yield _part(f"partition {number}", entry, at)
        following = next((entry for entry in table if entry.kind in _EXTENDED), None)
        if following is None:
            return
        if not at < extended.first + following.first < end:
            raise Implausible("the chain of an extended partition does not go forward")
        at = extended.first + following.first
    raise Implausible(f"an extended partition has more than {_LOGICAL_MAX} logical ones")


def _part(place: str, entry: Entry, base: int) -> Part:
    span = Span((base + entry.first) * SECTOR, entry.count * SECTOR)
    return Part(place=place, spans=(span,), obstacle=_ARRAYS.get(entry.kind, ""))
