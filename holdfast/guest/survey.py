"""Looking over a disk: which volumes are on it, and what of them the guest does not need.

Three kinds of bytes are told apart, because a job can leave out each. *Swap* is swap space, swap files and page files:
nobody asks for it after a start of the machine, so it is left out whatever the state of the volume, unless the machine
sleeps. *Deleted* is what no file has: it is left out of clean volumes only, because a journal that was not replayed may
give blocks to files that the tables on the disk still call free. *Files* are what masks mean, also of clean volumes
only.
"""

import heapq
from collections.abc import Iterator, Sequence

import msgspec

from holdfast.guest import signatures, swap, swap_files
from holdfast.guest.file_search import FileSearch, FoundFiles
from holdfast.guest.file_systems import FileSystem, files_of, open_file_system
from holdfast.guest.free_list import FreeList
from holdfast.guest.masks import FileMask
from holdfast.guest.ntfs import Ntfs
from holdfast.guest.places import volumes_on
from holdfast.guest.volume import VolumeState, VolumeUse
from holdfast.guest.window import DAMAGED, Disk, Read, Window, reason_of
from holdfast.model.spans import Span, coalesce, total_length

_PATIENCE = 8
"""How much more than tables and bitmaps may be read to find files by their names."""
_SILENT_IN_USE = (signatures.XFS, signatures.NTFS)
_IN_USE = "the machine is on, and this kind of volume does not say that it is in use"


class GuestUse:
    """What a disk holds that its guest does not need."""

    def __init__(self) -> None:
        self.volumes: list[VolumeUse] = []
        self.matched: set[int] = set()
        """Which masks mean a file or folder of any volume."""
        self._files: list[Span] = []
        self._swap: list[Span] = []
        self._deleted: list[FreeList] = []

    def swap_spans(self) -> Iterator[Span]:
        """Yield, sorted, the spans of swap space and page files."""
        return coalesce(sorted(self._swap, key=lambda span: span.start))

    def files_spans(self) -> Iterator[Span]:
        """Yield, sorted, the spans of files that masks mean."""
        return coalesce(sorted(self._files, key=lambda span: span.start))

    def deleted_spans(self) -> Iterator[Span]:
        """Yield, sorted, the spans that no file has."""
        return coalesce(heapq.merge(*self._deleted, key=lambda span: span.start))

    def add(self, volume: VolumeUse, swap_spans: list[Span], deleted: FreeList, files: FoundFiles) -> None:
        """Add a volume that was looked into."""
        deleted.finish()
        self._swap += swap_spans
        self._deleted.append(deleted)
        self._files += files.spans
        self.matched |= files.matched
        found = msgspec.structs.replace(
            volume,
            swap_bytes=total_length(swap_spans),
            deleted_bytes=deleted.total_bytes,
            files_bytes=total_length(files.spans),
            files_reason=files.reason,
        )
        self.volumes.append(found)


def survey(read: Read, size_bytes: int, least: int, *, at_rest: bool, masks: Sequence[FileMask] = ()) -> GuestUse:
    """Look over a disk. Free runs of less than ``least`` bytes are of no use to the caller and left out.

    ``at_rest`` says that the machine was off. While it runs, data may stand on the disk whose block is given to a file
    in memory only; no later change would tell of it. Only ext marks itself on the disk before anything of that kind
    can happen, so only ext is believed then. Files that ``masks`` mean are looked for where deleted blocks are.

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
        use.add(volume, swaps, deleted, _meant_files(disk, volume, masks))
    return use


def _meant_files(disk: Disk, volume: VolumeUse, masks: Sequence[FileMask]) -> FoundFiles:
    """Return the files of a volume that masks mean; none of one that is not clean or whose folders are damaged."""
    if not masks or volume.state is not VolumeState.CLEAN or volume.kind == signatures.SWAP:
        return FoundFiles()
    window = Window(disk, volume.spans, _PATIENCE)
    try:
        return FileSearch(files_of(open_file_system(volume.kind, window)), window, masks).run()
    except DAMAGED as error:
        return FoundFiles(reason=f"no files are left out: {reason_of(error)}")


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
        file_system = open_file_system(kind, window)
        reason = file_system.unclean_reason()
        state = VolumeState.UNCLEAN if reason else VolumeState.CLEAN
        swaps += _swap_of(file_system, window)
        if not reason:
            deleted.extend(place for span in file_system.free_spans(deleted.least) for place in window.places(span))
    return msgspec.structs.replace(volume, kind=kind, state=state, reason=reason)


def _swap_of(file_system: FileSystem, window: Window) -> Iterator[Span]:
    """Yield the spans of the disk that hold page files and swap files."""
    if isinstance(file_system, Ntfs):
        for span in file_system.swap_spans():
            yield from window.places(span)
    else:
        yield from swap_files.swap_spans(files_of(file_system), window)
