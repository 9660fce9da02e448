"""What a look at one chain shows of it: enough to draw it, without a byte of any disk."""

from datetime import datetime

import msgspec

from holdfast.model.archives import Archive


class PointView(msgspec.Struct, frozen=True, kw_only=True):
    """A point of a chain."""

    number: int
    id: str
    machine: str
    """Name of the machine."""
    created: datetime
    is_complete: bool
    size_bytes: int
    """Sum of the sizes of its disks."""
    changed_bytes: int = 0
    """What it says differently from the point before it and that is not zeros; all of the data for the first."""
    stored_bytes: int = 0
    """What is stored for it in the file that holds its pieces now."""
    needs: int | None = None
    """Number of the point without which it cannot be read; None when it needs no other."""
    marks: tuple[str, ...] = ()
    """Calendar rules that keep it."""
    locked_until: datetime | None = None
    archive: Archive | None = None
    """Until when it is kept, of an archive that has a note."""
    is_quick: bool = False
    """Whether a quick backup made it: it goes with the point before it."""
    trouble: str = ""
    """Why it cannot be restored, as far as a look tells; empty when nothing is known against it."""


class FileView(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a chain and its points, oldest first."""

    name: str
    kind: str
    """Full, increment or rollback; empty when the file cannot be opened and its name does not say."""
    size_bytes: int = 0
    is_complete: bool = True
    points: tuple[PointView, ...] = ()
    trouble: str = ""
    """Why it cannot be used; empty when it can."""


class ChainView(msgspec.Struct, frozen=True, kw_only=True):
    """A chain: its files in the order of their points, and what is wrong with it as a whole."""

    name: str
    id: str
    is_encrypted: bool
    unit_size: int
    files: tuple[FileView, ...]
    troubles: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    """Names of files that hold nothing any more, or never held anything."""

    @property
    def points(self) -> tuple[PointView, ...]:
        """Return the points of all files in their order."""
        return tuple(sorted((p for file in self.files for p in file.points), key=lambda point: point.number))

    @property
    def machines(self) -> tuple[str, ...]:
        """Return the names of the machines that have points in it, sorted."""
        return tuple(sorted({point.machine for point in self.points}))

    @property
    def size_bytes(self) -> int:
        """Return the size of all files."""
        return sum(file.size_bytes for file in self.files)

    @property
    def is_sound(self) -> bool:
        """Return whether the look found nothing wrong."""
        parts = [self.troubles, *(file.trouble for file in self.files), *(point.trouble for point in self.points)]
        return not any(parts)
