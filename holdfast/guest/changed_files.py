"""Which files of a disk's volumes lie where bytes changed, in bounded time and memory, whatever the folders look like.

A file counts by where its bytes lie. What stands among the metadata (folders, small files of some file systems), what
several names or files share, and free blocks are told as the rest.
"""

import heapq
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final

import msgspec

from holdfast.guest import signatures
from holdfast.guest.file_search import FOLDERS_MAX, NAMES_MAX
from holdfast.guest.file_systems import files_of, open_file_system
from holdfast.guest.file_tree import Entry, FileTree, Kind
from holdfast.guest.places import volumes_on
from holdfast.guest.volume import Part
from holdfast.guest.window import DAMAGED, Disk, Exhausted, Read, Window, reason_of
from holdfast.model.difference import ChangedFile, VolumeChanges
from holdfast.model.spans import Span

SPANS_MAX: Final = 1 << 20
"""Most changed spans of a disk that files are looked up in: 16 MiB of memory."""
_PATIENCE: Final = 16
"""How much more than tables and bitmaps may be read to visit every file."""


class SpanIndex:
    """Sorted spans, to be asked how much of another span they hold."""

    def __init__(self) -> None:
        self._starts, self._ends = array("Q"), array("Q")
        self.is_whole = True
        """Whether all that was added is known; what comes behind `SPANS_MAX` spans is not."""

    def add(self, span: Span) -> None:
        """Add a span that begins behind the last one."""
        if len(self._starts) >= SPANS_MAX:
            self.is_whole = False
            return
        self._starts.append(span.start)
        self._ends.append(span.end)

    def overlap(self, span: Span) -> int:
        """Return how many bytes of ``span`` the spans hold."""
        at, held = bisect_right(self._ends, span.start), 0
        while at < len(self._starts) and self._starts[at] < span.end:
            held += min(self._ends[at], span.end) - max(self._starts[at], span.start)
            at += 1
        return held


def changed_files(read: Read, size_bytes: int, changed: SpanIndex, named_max: int) -> list[VolumeChanges]:
    """Return for each volume with changes the files that hold them, at most ``named_max`` of a volume, largest first.

    Raises only what ``read`` raises: a volume that is not understood says why.
    """
    disk = Disk(read, size_bytes)
    found = []
    for part in volumes_on(disk):
        touched = sum(changed.overlap(span) for span in part.spans)
        if touched:
            volume = VolumeChanges(place=part.place, changed_bytes=touched, reason=part.obstacle)
            found.append(volume if part.obstacle else _look_into(disk, part, volume, changed, named_max))
    return found


def _look_into(disk: Disk, part: Part, volume: VolumeChanges, changed: SpanIndex, named_max: int) -> VolumeChanges:
    try:
        marks = signatures.marks(Window(disk, part.spans))
        if len(marks) != 1:
            return msgspec.structs.replace(
                volume, reason=f"it bears the marks of {' and '.join(marks) or 'nothing known'}"
            )
        volume = msgspec.structs.replace(volume, kind=marks[0])
        if marks[0] == signatures.SWAP:
            return msgspec.structs.replace(volume, reason="swap space has no files")
        window = Window(disk, part.spans, _PATIENCE)
        file_system = open_file_system(marks[0], window)
        unclean = file_system.unclean_reason()
        tally = _Tally(named_max)
        reason = _Visit(files_of(file_system), window, changed, tally).run()
    except DAMAGED as error:
        return msgspec.structs.replace(volume, reason=reason_of(error))
    return msgspec.structs.replace(
        volume,
        reason="; ".join(filter(None, [unclean, reason])),
        files=tuple(tally.largest()),
        unnamed_files=tally.count - len(tally.kept),
        files_bytes=tally.bytes,
    )


class _Tally:
    """Keeps the files with the most changed bytes and counts the others."""

    def __init__(self, named_max: int) -> None:
        self.kept: list[tuple[int, str]] = []
        self.count = self.bytes = 0
        self._named_max = named_max

    def add(self, path: str, changed_bytes: int) -> None:
        self.count += 1
        self.bytes += changed_bytes
        if len(self.kept) < self._named_max:
            heapq.heappush(self.kept, (changed_bytes, path))
        elif self.kept:
            heapq.heappushpop(self.kept, (changed_bytes, path))

    def largest(self) -> Iterator[ChangedFile]:
        for changed_bytes, path in sorted(self.kept, key=lambda file: (-file[0], file[1])):
            yield ChangedFile(path=path, changed_bytes=changed_bytes)


class _Visit:
    """One visit to every file of a volume."""

    def __init__(self, tree: FileTree, volume: Window, changed: SpanIndex, tally: _Tally) -> None:
        self._tree = tree
        self._volume = volume
        self._changed = changed
        self._tally = tally
        self._waiting: list[tuple[int, str]] = [(tree.root, "")]
        self._seen: set[int] = set()
        self._names = 0

    def run(self) -> str:
        """Return why not all files were visited; empty when they were. Raises `Implausible` for damaged folders."""
        try:
            while self._waiting:
                node, folder = self._waiting.pop()
                if node not in self._seen:  # a folder may hold itself, or several may hold it
                    self._seen.add(node)
                    self._visit(node, folder)
        except Exhausted:
            return "it has more folders and files than are looked at, so not all files are named"
        return ""

    def _visit(self, node: int, folder: str) -> None:
        for entry in self._tree.entries(node):
            path = f"{folder}/{entry.name}"
            if entry.kind is Kind.FILE:
                self._take(entry, path)
            elif entry.kind is Kind.FOLDER:
                self._waiting.append((entry.node, path))
            self._names += 1
            if self._names > NAMES_MAX or len(self._waiting) + len(self._seen) > FOLDERS_MAX:
                raise Exhausted

    def _take(self, entry: Entry, path: str) -> None:
        places = (place for span in self._tree.content(entry) for place in self._volume.places(span))
        found = sum(self._changed.overlap(place) for place in places)
        if found:
            # Names are bytes on a disk; what of them is no text is shown as a question mark.
            self._tally.add(path.encode("utf-8", "replace").decode(), found)
