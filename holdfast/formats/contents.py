"""The contents page: what a chain file holds (docs/formats/chain-file.md section 7)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final, TypeAlias

import msgspec

from holdfast.errors import FileDamaged, FormatTooNew
from holdfast.formats.magic import FORMAT_VERSION, NEVER_WRITTEN, PLACES_MAX
from holdfast.formats.pages import Ref
from holdfast.model.machine import DISK_SIZE_MAX, SECTOR_SIZE, Disk, Machine, PowerState
from holdfast.model.machine_files import (
    FILE_NAME_PATTERN,
    FILE_SIZE_MAX,
    FILES_PER_POINT_MAX,
    FILES_SIZE_MAX,
    is_file_name,
)

# What a file may state. Anything else is refused at decoding, so that no code behind it meets an absurd value.
_Digest: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
_Id: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
_Root: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
_Offset: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
_Bytes: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
_Length: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
_Depth: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=8)]
_Number: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=NEVER_WRITTEN)]
_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=PLACES_MAX)]
_Generation: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
_FileName: TypeAlias = Annotated[str, msgspec.Meta(pattern=FILE_NAME_PATTERN)]
_FileSize: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=FILE_SIZE_MAX)]
_Edge: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=DISK_SIZE_MAX, multiple_of=SECTOR_SIZE)]
_SwapSpans: TypeAlias = Annotated[tuple[tuple[_Edge, _Edge], ...], msgspec.Meta(max_length=1024)]
_DiskSize: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=DISK_SIZE_MAX, multiple_of=SECTOR_SIZE)]


class RefText(msgspec.Struct, frozen=True):
    """A ref as JSON."""

    offset: _Offset
    length: _Length
    digest: _Digest

    @property
    def ref(self) -> Ref:
        """Return the ref."""
        return Ref(self.offset, self.length, bytes.fromhex(self.digest))


class Table(msgspec.Struct, frozen=True):
    """A sparse array of pages."""

    depth: _Depth = 0
    top: RefText | None = None

    @classmethod
    def of(cls, depth: int, top: Ref | None) -> "Table":
        """Return the table with this top."""
        return cls(depth, None if top is None else RefText(top.offset, top.length, top.digest.hex()))


class Units(msgspec.Struct, frozen=True, kw_only=True):
    """How many units were numbered, and where they are."""

    count: _Count = 0
    table: Table = Table()


class Notes(msgspec.Struct, frozen=True, kw_only=True):
    """How many notes records there are, and where."""

    count: _Count = 0
    table: Table = Table()


class ParentPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A point that a file hangs on: the one that its first point continues, or that came behind it."""

    file: _Id
    point: _Number
    root: _Root


class FileDisk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk of which a file holds pieces."""

    machine: str
    key: str
    pieces: Table = Table()


class PointMachine(msgspec.Struct, frozen=True, kw_only=True):
    """The machine as it was at the point."""

    machine_id: str
    name: str
    power: PowerState = PowerState.OFF
    configuration: dict[str, str] = {}


class DiskSource(msgspec.Struct, frozen=True, kw_only=True):
    """Where a disk is read from, for as long as it may move meanwhile."""

    place: str
    """A text of the provider; another one means that the disk lies somewhere else."""
    moves: _Count = 0
    """How often the disk was begun again because it had moved."""
    after: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Records of generations up to this one say nothing of the disk any more."""


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """What a point lacks of a disk because the guest did not need it; those pieces are zeros in the point."""

    deleted: bool = False
    swap: _SwapSpans = ()


class PointDisk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk at a point. ``done`` counts the pieces that have been dealt with, from the first."""

    disk: _Count
    key: str
    size: _DiskSize
    change_id: str | None = None
    map: Table = Table()
    root: _Root | None = None
    done: _Count = 0
    detail: str = ""
    read: _Bytes = 0
    transferred: _Bytes = 0
    resent: _Bytes = 0
    begun_at: _Bytes = 0
    source: DiskSource | msgspec.UnsetType = msgspec.UNSET
    """Unset where disks never move."""
    left_out: LeftOut | msgspec.UnsetType = msgspec.UNSET

    @property
    def moves(self) -> int:
        """Return how often the disk was begun again because it had moved."""
        return 0 if self.source is msgspec.UNSET else self.source.moves


class PointFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the machine at a point. A ref of length 0 says that the bytes were lost when the file was rebuilt."""

    name: _FileName
    size: _FileSize
    ref: RefText

    @property
    def is_lost(self) -> bool:
        """Return whether only the digest is left of it."""
        return self.ref.length == 0


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """A restore point of one machine. Without machine files there is no member ``files``, as before there were any."""

    number: _Number
    id: _Id
    session: str
    machine: PointMachine
    created: datetime
    consistency: str = "crash"
    complete: bool = False
    parent_root: _Root | None = None
    root: _Root | None = None
    snapshot: str = ""
    disks: tuple[PointDisk, ...] = ()
    files: Annotated[tuple[PointFile, ...], msgspec.Meta(max_length=FILES_PER_POINT_MAX)] | msgspec.UnsetType = (
        msgspec.UNSET
    )

    @property
    def machine_files(self) -> tuple[PointFile, ...]:
        """Return the files of the machine that the point keeps."""
        return () if isinstance(self.files, msgspec.UnsetType) else self.files

    def with_files(self, files: Sequence[PointFile]) -> "Point":
        """Return the point with these machine files."""
        return msgspec.structs.replace(self, files=tuple(files) or msgspec.UNSET)

    @property
    def file_facts(self) -> list[tuple[str, int, bytes]]:
        """Return name, size and digest of each machine file: what the point's root covers of them."""
        return [(file.name, file.size, file.ref.ref.digest) for file in self.machine_files]

    def disk(self, key: str) -> PointDisk | None:
        """Return the disk with this key, or None."""
        return next((disk for disk in self.disks if disk.key == key), None)

    def captured_machine(self) -> Machine:
        """Return the machine as the provider reported it."""
        return msgspec.convert(
            {
                **msgspec.to_builtins(self.machine),
                "disks": [msgspec.to_builtins(_disk(disk)) for disk in self.disks],
            },
            Machine,
        )


class Moving(msgspec.Struct, frozen=True, kw_only=True):
    """Units of another file of the chain that are moving in; they count once their point is in this file."""

    file: _Id
    """Where they come from."""
    first: _Count
    """Number of the first unit that moved in; the others follow it."""
    sources: tuple[tuple[_Id, _Generation], ...] | msgspec.UnsetType = msgspec.UNSET
    """All files that units come from, in the order in which they move: ids, and the generations that they had.

    At another generation a file may have other units. Unset where an older version merged."""


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a chain file says of itself."""

    format: int = FORMAT_VERSION
    chain: _Id
    file: _Id
    kind: str
    unit_size: int
    created: datetime
    parent: ParentPoint | None = None
    holds: tuple[_Number, _Number]
    units: Units = Units()
    digests: Table = Table()
    notes: Notes = Notes()
    disks: tuple[FileDisk, ...] = ()
    points: tuple[Point, ...] = ()
    moving: Moving | msgspec.UnsetType = msgspec.UNSET
    next: ParentPoint | msgspec.UnsetType = msgspec.UNSET
    """Of a rollback file: the point behind its own, whose pieces came in place of those that the file holds."""

    def point(self, number: int) -> Point | None:
        """Return the point with this number, or None."""
        return next((point for point in self.points if point.number == number), None)

    def disk_index(self, machine_id: str, key: str) -> int | None:
        """Return the index of a disk in ``disks``, or None."""
        pairs = enumerate(self.disks)
        return next((i for i, disk in pairs if (disk.machine, disk.key) == (machine_id, key)), None)


_CONTENTS_DECODER: Final = msgspec.json.Decoder(Contents)
_MACHINE_DECODER: Final = msgspec.json.Decoder(Machine)
"""Nothing is decoded with it: types are learnt when a module is imported, see `holdfast.decoding`."""


def encode_contents(contents: Contents) -> bytes:
    """Return the body of the contents page."""
    return msgspec.json.encode(contents)


def decode_contents(body: bytes) -> Contents:
    """Return the contents in ``body``. Raises `FileDamaged` or `FormatTooNew`."""
    try:
        contents = _CONTENTS_DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FileDamaged(f"contents page cannot be read: {error}") from error
    if contents.format > FORMAT_VERSION:
        raise FormatTooNew(f"contents page has format {contents.format}, this version knows {FORMAT_VERSION}")
    if any(disk.disk >= len(contents.disks) for point in contents.points for disk in point.disks):
        raise FileDamaged("contents page has a point with a disk that it does not list")
    for point in contents.points:
        _check_files(point)
    return contents


def _check_files(point: Point) -> None:
    names = [file.name for file in point.machine_files]
    if len(set(names)) < len(names) or not all(map(is_file_name, names)):
        raise FileDamaged(f"contents page names machine files of point {point.number} in a way that cannot be")
    if sum(file.size for file in point.machine_files) > FILES_SIZE_MAX:
        raise FileDamaged(f"contents page has too many bytes of machine files at point {point.number}")


def _disk(disk: PointDisk) -> Disk:
    return msgspec.convert({"key": disk.key, "size_bytes": disk.size}, Disk)
