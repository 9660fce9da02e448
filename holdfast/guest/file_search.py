"""Looking for files of a volume by masks, in bounded time and memory, whatever the folders look like."""

from collections.abc import Sequence
from typing import Final

import msgspec

from holdfast.guest.file_tree import Entry, FileTree, Kind
from holdfast.guest.free_list import FreeList
from holdfast.guest.masks import FileMask, pattern
from holdfast.guest.window import Exhausted, OutOfTime, Window
from holdfast.model.spans import Span, coalesce

NAMES_MAX: Final = 2_000_000
"""Most names of a volume that are compared with masks."""
FILES_MAX: Final = 200_000
"""Most files of a volume whose content is left out."""
FOLDERS_MAX: Final = 400_000
_NAMES_PER_ASK: Final = 256

_State = tuple[int, int]
"""A mask, and how many of its parts led to a folder."""


class FoundFiles(msgspec.Struct, frozen=True, kw_only=True):
    """What masks mean in a volume."""

    spans: tuple[Span, ...] = ()
    """Spans of the disk, sorted, that hold content of meant files and of no others."""
    matched: frozenset[int] = frozenset()
    """Which masks mean anything there."""
    reason: str = ""
    """Why not everything that is meant was found; empty when it was."""


class _Folder(msgspec.Struct, frozen=True):
    """A folder that is to be looked into."""

    node: int
    states: tuple[_State, ...]
    is_meant: bool


class FileSearch:
    """One search in one volume; it may be used once."""

    def __init__(self, tree: FileTree, volume: Window, masks: Sequence[FileMask]) -> None:
        self._tree = tree
        self._volume = volume
        self._masks = masks
        self._anywhere = [number for number, mask in enumerate(masks) if mask.is_anywhere]
        self._spans = FreeList(1)
        self._matched: set[int] = set()
        self._seen: set[int] = set()
        self._names = self._files = 0

    def run(self) -> FoundFiles:
        """Return what was found. Raises `Implausible` when folders or files do not look as they should."""
        reason = ""
        try:
            self._walk()
        except OutOfTime as error:
            reason = f"{error}, so not all that masks mean was found"
        except Exhausted:
            reason = "it has more folders and files than are looked at, so not all that masks mean was found"
        self._spans.finish()
        return FoundFiles(spans=tuple(coalesce(self._spans)), matched=frozenset(self._matched), reason=reason)

    def _walk(self) -> None:
        first = tuple((number, 0) for number, mask in enumerate(self._masks) if not mask.is_anywhere)
        waiting = [_Folder(self._tree.root, first, is_meant=False)]
        while waiting:
            folder = waiting.pop()
            if folder.node in self._seen:
                continue  # a folder that holds itself, or one that several hold
            self._seen.add(folder.node)
            for entry in self._tree.entries(folder.node):
                self._count()
                inner = self._look(folder, entry)
                if inner is not None:
                    waiting.append(inner)
                    if len(waiting) + len(self._seen) > FOLDERS_MAX:
                        raise Exhausted

    def _look(self, folder: _Folder, entry: Entry) -> _Folder | None:
        """Take a file that is meant; return a folder that is to be looked into."""
        states, meant = self._step(folder.states, entry.name)
        self._matched |= meant
        is_meant = folder.is_meant or bool(meant)
        if entry.kind is Kind.FILE and is_meant:
            self._take(entry)
        if entry.kind is not Kind.FOLDER or not (is_meant or states or self._anywhere):
            return None
        return _Folder(entry.node, states, is_meant)

    def _step(self, states: tuple[_State, ...], name: str) -> tuple[tuple[_State, ...], set[int]]:
        """Return the states inside of what a name stands for, and which masks mean it."""
        meant = {number for number in self._anywhere if self._is(number, 0, name)}
        inside = []
        for number, depth in states:
            if not self._is(number, depth, name):
                continue
            if depth + 1 == len(self._masks[number].parts):
                meant.add(number)
            else:
                inside.append((number, depth + 1))
        return tuple(inside), meant

    def _is(self, number: int, depth: int, name: str) -> bool:
        part = self._masks[number].parts[depth]
        return pattern(part, is_caseless=self._tree.is_caseless).fullmatch(name) is not None

    def _take(self, entry: Entry) -> None:
        self._files += 1
        if self._files > FILES_MAX:
            raise Exhausted
        for span in self._tree.content(entry):
            self._spans.extend(self._volume.places(span))

    def _count(self) -> None:
        self._names += 1
        if self._names > NAMES_MAX:
            raise Exhausted
        if self._names % _NAMES_PER_ASK == 0:
            self._volume.check_time()
