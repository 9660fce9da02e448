"""What every file system tells of its folders and files, and the bounds that hold for all of them."""

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Final, NamedTuple, Protocol

from holdfast.guest.window import Implausible
from holdfast.model.spans import Span

EXTENTS_MAX: Final = 1 << 16
"""Most runs of one file; the content of a file in more pieces is needed."""
FOLDER_MAX: Final = 64 << 20
"""Most bytes of one folder."""


class Kind(Enum):
    """What a name stands for."""

    FILE = "file"
    FOLDER = "folder"
    OTHER = "other"


class Entry(NamedTuple):
    """A name in a folder."""

    name: str
    node: int
    kind: Kind


class Extent(NamedTuple):
    """A run of a file: where in the file and where in the volume, in blocks, and how many."""

    logical: int
    block: int
    length: int


class FileTree(Protocol):
    """Folders and files of one volume. What does not look as it should raises `Implausible`."""

    root: int
    """The node of the top folder."""
    is_caseless: bool
    """Whether names that differ in case only are the same name."""

    def entries(self, folder: int) -> Iterator[Entry]:
        """Yield what is in a folder, without the folder itself and the one above."""
        ...

    def content(self, entry: Entry, *, is_gapless: bool = False) -> list[Span]:
        """Return the spans of the volume that hold the bytes of a file and of no other, in the order of the file.

        Empty where its bytes stand among the metadata, are not stored as they are, are shared with another file, or
        when the file has a second name. With ``is_gapless`` also where a part of it is not stored.
        """
        ...


def spans_of(extents: Iterable[Extent], block_size: int, blocks: int, *, is_gapless: bool) -> list[Span]:
    """Return where the runs of a file are; none when it has too many or gaps that must not be. Raises `Implausible`."""
    found: list[Span] = []
    reached = 0
    for extent in extents:
        if extent.logical < reached or extent.length <= 0:
            raise Implausible("the runs of a file overlap")
        if extent.block <= 0 or extent.block + extent.length > blocks:
            raise Implausible("a file lies outside of its volume")
        if is_gapless and extent.logical != reached:
            return []
        reached = extent.logical + extent.length
        start, length = extent.block * block_size, extent.length * block_size
        if found and found[-1].end == start:
            found[-1] = Span(found[-1].start, found[-1].length + length)
        else:
            found.append(Span(start, length))
        if len(found) > EXTENTS_MAX:
            return []
    return found
