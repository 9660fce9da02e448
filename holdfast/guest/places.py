"""Which volumes lie on a disk: partitions, logical volumes, or the whole disk as one."""

from collections.abc import Iterable
from itertools import chain

import msgspec

from holdfast.guest import gpt, lvm, mbr
from holdfast.guest.signatures import LVM, marks
from holdfast.guest.volume import Part
from holdfast.guest.window import DAMAGED, SECTOR, Disk, Window, reason_of
from holdfast.model.spans import Span

_WHOLE = "the whole disk"


def volumes_on(disk: Disk) -> list[Part]:
    """Return the volumes of a disk, each with the reason why it should not be looked into when there is one."""
    if disk.size_bytes < SECTOR:
        return []
    parts = without_overlaps(_outer(disk))
    return without_overlaps(chain.from_iterable(_inner(disk, part) for part in parts))


def _outer(disk: Disk) -> list[Part]:
    """Return the partitions of a disk, or the whole disk when it has none."""
    whole = Part(place=_WHOLE, spans=(Span(0, disk.size_bytes),))
    try:
        parts = _partitions(disk)
        if parts and marks(Window(disk, whole.spans)):
            return [msgspec.structs.replace(whole, obstacle="it bears the mark of a volume and has partitions")]
    except DAMAGED as error:
        return [msgspec.structs.replace(whole, obstacle=reason_of(error))]
    return parts or [whole]


def _partitions(disk: Disk) -> list[Part]:
    table = mbr.read_table(disk.read(0, SECTOR), disk.size_bytes // SECTOR)
    if not table:
        return []
    if any(entry.kind == mbr.PROTECTIVE for entry in table):
        return list(gpt.partitions(disk))
    return list(mbr.partitions(disk, table))


def _inner(disk: Disk, part: Part) -> list[Part]:
    """Return the logical volumes on a part that is a physical one, and the part itself otherwise."""
    try:
        if part.obstacle or marks(Window(disk, part.spans)) != (LVM,):
            return [part]
        return list(lvm.volumes(Window(disk, part.spans), part.place))
    except DAMAGED as error:
        return [msgspec.structs.replace(part, obstacle=reason_of(error))]


def without_overlaps(parts: Iterable[Part]) -> list[Part]:
    """Return the parts, where those that share bytes with another, or with themselves, are not to be looked into."""
    found = list(parts)
    spans = sorted((span.start, span.end, index) for index, part in enumerate(found) for span in part.spans)
    overlapping: set[int] = set()
    reached, holder = 0, -1
    for start, end, index in spans:
        if start < reached:
            overlapping |= {holder, index}
        if end > reached:
            reached, holder = end, index
    return [
        msgspec.structs.replace(part, obstacle="it shares bytes with another volume") if index in overlapping else part
        for index, part in enumerate(found)
    ]
