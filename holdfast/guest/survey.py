"""Looking over a disk: which volumes are on it, and what of them the guest does not need.

Three kinds of bytes are told apart, because a job can leave out each. *Swap* is swap space, swap files and page files:
nobody asks for it after a start of the machine, so it is left out whatever the state of the volume, unless any volume
of the disk shows that the machine sleeps: its memory is whole only with all of its swap. *Deleted* is what no file has:
it is left out of clean volumes only, because a journal that was not replayed may give blocks to files that the tables
on the disk still call free. *Files* are what masks mean, also of clean volumes only.
"""

import heapq
from collections.abc import Iterator, Sequence

import msgspec

from holdfast.guest import signatures, swap
from holdfast.guest.file_search import FileSearch, FoundFiles
from holdfast.guest.file_systems import FileSystem, files_of, open_file_system
from holdfast.guest.free_list import FreeList
from holdfast.guest.masks import FileMask
from holdfast.guest.ntfs import Ntfs
from holdfast.guest.places import volumes_on
from holdfast.guest.swap_files import swap_files
from holdfast.guest.volume import Part, VolumeState, VolumeUse
from holdfast.guest.window import DAMAGED, Disk, Window, reason_of
from holdfast.model.spans import Span, coalesce, total_length

_PATIENCE = 8
"""How much more than tables and bitmaps may be read to find files by their names."""
_SILENT_IN_USE = (signatures.XFS, signatures.NTFS)
_SLEEPLESS = (signatures.FAT, signatures.EXFAT, signatures.ISO)
"""Kinds that are not looked into and hold no memory of a machine that sleeps."""
_IN_USE = "the machine is on, and this kind of volume does not say that it is in use"
_ASLEEP = "the machine sleeps, and this kind of volume does not say that it is in use"


class GuestUse:
    """What a disk holds that its guest does not need."""

    def __init__(self) -> None:
        self.volumes: list[VolumeUse] = []
        self.matched: set[int] = set()
        """Which masks mean a file or folder of any volume."""
        self.swap_reason = ""
        """Why swap that was found is needed all the same; empty when there is none."""
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


def survey(disk: Disk, least: int, *, at_rest: bool, masks: Sequence[FileMask] = ()) -> GuestUse:
    """Look over a disk. Free runs of less than ``least`` bytes are of no use to the caller and left out.

    ``at_rest`` says that the machine was off. While it runs, data may stand on the disk whose block is given to a file
    in memory only; no later change would tell of it. Only ext marks itself on the disk before anything of that kind
    can happen, so only ext is believed then. Files that ``masks`` mean are looked for where deleted blocks are.

    Raises only what the functions of the disk raise: whatever is not understood, or not looked at when the time is up,
    counts as used, and says why.
    """
    looked = [_Looked(disk, part, least) for part in volumes_on(disk)]
    sleeps = any(one.volume.is_asleep for one in looked)
    why_needed = _why_swap_is_needed(looked, at_rest=at_rest)
    use = GuestUse()
    for one in looked:
        if sleeps or not at_rest:
            one.distrust_silence(_ASLEEP if sleeps else _IN_USE)
        if one.swaps and why_needed:
            use.swap_reason, one.swaps = why_needed, []
        use.add(one.volume, one.swaps, one.deleted, _meant_files(disk, one.volume, masks))
    return use


class _Looked:
    """A volume that was looked into, by itself."""

    def __init__(self, disk: Disk, part: Part, least: int) -> None:
        self.swaps: list[Span] = []
        self.deleted = FreeList(least)
        self.is_sleepless = False
        """Whether it surely holds no memory of a machine that sleeps."""
        self.volume = VolumeUse(
            place=part.place, kind="", spans=part.spans, state=VolumeState.UNKNOWN, reason=part.obstacle
        )
        try:
            if not part.obstacle:
                self._look_into(Window(disk, part.spans))
        except DAMAGED as error:
            self._tell(reason=reason_of(error))
            self.swaps, self.deleted = [], FreeList(least)

    def distrust_silence(self, reason: str) -> None:
        """Take a clean volume for one in use when its kind does not say that it is in use."""
        if self.volume.state is VolumeState.CLEAN and self.volume.kind in _SILENT_IN_USE:
            self._tell(state=VolumeState.UNCLEAN, reason=reason)
            self.deleted = FreeList(self.deleted.least)

    def _look_into(self, window: Window) -> None:
        found = signatures.marks(window)
        if len(found) != 1:
            self.is_sleepless = not found
            self._tell(reason=f"it bears the marks of {' and '.join(found) or 'nothing known'}")
        elif found[0] == signatures.SWAP:
            self._look_into_swap(window)
        else:
            self.is_sleepless = found[0] in _SLEEPLESS
            self._look_into_files(open_file_system(found[0], window), window, found[0])

    def _look_into_swap(self, window: Window) -> None:
        state, reason, span = swap.unneeded(window)
        self.swaps += [] if span is None else window.places(span)
        is_asleep = state is VolumeState.UNCLEAN
        self._tell(kind=signatures.SWAP, state=state, reason=reason, is_asleep=is_asleep)
        self.is_sleepless = state is VolumeState.CLEAN

    def _look_into_files(self, file_system: FileSystem, window: Window, kind: str) -> None:
        reason = file_system.unclean_reason()
        is_asleep = self._take_swap(file_system, window)
        # Noted before more is read of it: what is found damaged later sleeps all the same.
        self._tell(is_asleep=is_asleep)
        if not reason:
            free = file_system.free_spans(self.deleted.least)
            self.deleted.extend(place for span in free for place in window.places(span))
        self._tell(kind=kind, state=VolumeState.UNCLEAN if reason else VolumeState.CLEAN, reason=reason)
        self.is_sleepless = not is_asleep

    def _take_swap(self, file_system: FileSystem, window: Window) -> bool:
        """Take the spans of page files and swap files; return whether they may hold the memory of a sleeper."""
        if isinstance(file_system, Ntfs):
            self.swaps += [place for span in file_system.swap_spans() for place in window.places(span)]
            return file_system.is_asleep
        found = swap_files(files_of(file_system), window)
        self.swaps += found.spans
        return found.is_asleep

    def _tell(self, **said: object) -> None:
        self.volume = msgspec.structs.replace(self.volume, **said)


def _why_swap_is_needed(looked: Sequence[_Looked], *, at_rest: bool) -> str:
    """Return why swap of the disk may belong to the memory of a machine that sleeps; empty when it does not.

    A machine that runs does not sleep, so only what was seen counts then. One that is off may sleep in what could not
    be looked into.
    """
    for one in looked:
        if one.volume.is_asleep:
            return f"{one.volume.place} may hold the memory of a machine that sleeps"
    hidden = [one.volume.place for one in looked if not one.is_sleepless] if at_rest else []
    return f"the machine may sleep in {hidden[0]}, which is not understood" if hidden else ""


def _meant_files(disk: Disk, volume: VolumeUse, masks: Sequence[FileMask]) -> FoundFiles:
    """Return the files of a volume that masks mean; none of one that is not clean or whose folders are damaged."""
    if not masks or volume.state is not VolumeState.CLEAN or volume.kind == signatures.SWAP:
        return FoundFiles()
    window = Window(disk, volume.spans, _PATIENCE)
    try:
        return FileSearch(files_of(open_file_system(volume.kind, window)), window, masks).run()
    except DAMAGED as error:
        return FoundFiles(reason=f"no files are left out: {reason_of(error)}")
