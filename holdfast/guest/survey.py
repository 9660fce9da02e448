"""Looking over a disk: which volumes are on it, and what of them the guest does not need.

Two kinds of bytes are told apart, because a job can leave out either. *Swap* is swap space, swap files and page files:
nobody asks for it after a start of the machine, so it is left out whatever the state of the volume, unless the machine
sleeps. *Deleted* is what no file has: it is left out of clean volumes only, because a journal that was not replayed may
give blocks to files that the tables on the disk still call free.
"""

import heapq
from collections.abc import Iterator
from typing import Protocol

import msgspec

from holdfast.guest import signatures, swap, swap_files
from holdfast.guest.ext import Ext
from holdfast.guest.ext_files import ExtFiles
from holdfast.guest.free_list import FreeList
from holdfast.guest.ntfs import Ntfs
from holdfast.guest.places import volumes_on
from holdfast.guest.volume import VolumeState, VolumeUse
from holdfast.guest.window import DAMAGED, Disk, Implausible, Read, Window, reason_of
from holdfast.guest.xfs import Xfs
from holdfast.guest.xfs_files import XfsFiles
from holdfast.model.spans import Span, coalesce

_SILENT_IN_USE = (signatures.XFS, signatures.NTFS)
_IN_USE = "the machine is on, and this kind of volume does not say that it is in use"


class FileSystem(Protocol):
    """What the survey asks of a file system."""

    def unclean_reason(self) -> str:
        """Return why its tables may not be up to date; empty when they are."""
        ...

    def free_spans(self, least: int) -> Iterator[Span]:
        """Yield the free spans of the volume, in order; shorter ones than ``least`` bytes may be missing."""
        ...


class GuestUse:
    """What a disk holds that its guest does not need."""

    def __init__(self) -> None:
        self.volumes: list[VolumeUse] = []
        self._swap: list[Span] = []
        self._deleted: list[FreeList] = []

    def swap_spans(self) -> Iterator[Span]:
        """Yield, sorted, the spans of swap space and page files."""
        return coalesce(sorted(self._swap, key=lambda span: span.start))

    def deleted_spans(self) -> Iterator[Span]:
        """Yield, sorted, the spans that no file has."""
        return coalesce(heapq.merge(*self._deleted, key=lambda span: span.start))

    def add(self, volume: VolumeUse, swap_spans: list[Span], deleted: FreeList) -> None:
        """Add a volume that was looked into."""
        deleted.finish()
        self._swap += swap_spans
        self._deleted.append(deleted)
        sums = {"swap_bytes": sum(span.length for span in swap_spans), "deleted_bytes": deleted.total_bytes}
        self.volumes.append(msgspec.structs.replace(volume, **sums))


def survey(read: Read, size_bytes: int, least: int, *, at_rest: bool) -> GuestUse:
    """Look over a disk. Free runs of less than ``least`` bytes are of no use to the caller and left out.

    ``at_rest`` says that the machine was off. While it runs, data may stand on the disk whose block is given to a file
    in memory only; no later change would tell of it. Only ext marks itself on the disk before anything of that kind
    can happen, so only ext is believed then.

    Raises only what ``read`` raises: whatever is not understood counts as used, and says why.
    """
    disk = Disk(read, size_bytes)
    use = GuestUse()
    for part in volumes_on(disk):
        swaps: list[Span] = []
        deleted = FreeList(least)
        volume = VolumeUse(place=part.place, kind="", spans=part.spans, state=VolumeState.UNKNOWN, reason=part.obstacle)
        try:
            if not part.obstacle:
                volume = _look_into(Window(disk, part.spans), volume, swaps, deleted)
                if volume.state is VolumeState.CLEAN and volume.kind in _SILENT_IN_USE and not at_rest:
                    volume = msgspec.structs.replace(volume, state=VolumeState.UNCLEAN, reason=_IN_USE)
                    deleted = FreeList(least)
        except DAMAGED as error:
            volume = msgspec.structs.replace(volume, reason=reason_of(error))
            swaps, deleted = [], FreeList(least)
        use.add(volume, swaps, deleted)
    return use


def _look_into(window: Window, volume: VolumeUse, swaps: list[Span], deleted: FreeList) -> VolumeUse:
    """Return kind and state of a volume; what is not needed of it goes to ``swaps`` and ``deleted``."""
    found = signatures.marks(window)
    if len(found) != 1:
        return msgspec.structs.replace(volume, reason=f"it bears the marks of {' and '.join(found) or 'nothing known'}")
    kind = found[0]
    if kind == signatures.SWAP:
        state, reason, span = swap.unneeded(window)
        swaps += [] if span is None else window.places(span)
    else:
        file_system = _opened(kind, window)
        reason = file_system.unclean_reason()
        state = VolumeState.UNCLEAN if reason else VolumeState.CLEAN
        swaps += _swap_of(file_system, window)
        if not reason:
            deleted.extend(place for span in file_system.free_spans(deleted.least) for place in window.places(span))
    return msgspec.structs.replace(volume, kind=kind, state=state, reason=reason)


def _swap_of(file_system: FileSystem, window: Window) -> Iterator[Span]:
    """Yield the spans of the disk that hold page files and swap files."""
    match file_system:
        case Ext():
            yield from swap_files.swap_spans(ExtFiles(file_system), window)
        case Xfs():
            yield from swap_files.swap_spans(XfsFiles(file_system), window)
        case Ntfs():
            for span in file_system.swap_spans():
                yield from window.places(span)
        case _:
            return


def _opened(kind: str, window: Window) -> FileSystem:
    if kind == signatures.EXT:
        return Ext(window)
    if kind == signatures.XFS:
        return Xfs(window)
    if kind == signatures.NTFS:
        return Ntfs(window)
    raise Implausible(f"nothing is known here of {kind}")
