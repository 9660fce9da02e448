"""The contents page: what a chain file holds (docs/formats/chain-file.md section 7)."""

from datetime import datetime

import msgspec

from holdfast.errors import FileDamaged, FormatTooNew
from holdfast.formats.magic import FORMAT_VERSION
from holdfast.formats.pages import Ref
from holdfast.model.machine import Disk, Machine, PowerState


class RefText(msgspec.Struct, frozen=True):
    """A ref as JSON."""

    offset: int
    length: int
    digest: str

    @property
    def ref(self) -> Ref:
        """Return the ref."""
        return Ref(self.offset, self.length, bytes.fromhex(self.digest))


class Table(msgspec.Struct, frozen=True):
    """A sparse array of pages."""

    depth: int = 0
    top: RefText | None = None

    @classmethod
    def of(cls, depth: int, top: Ref | None) -> "Table":
        """Return the table with this top."""
        return cls(depth, None if top is None else RefText(top.offset, top.length, top.digest.hex()))


class Units(msgspec.Struct, frozen=True, kw_only=True):
    """How many units were numbered, and where they are."""

    count: int = 0
    table: Table = Table()


class Notes(msgspec.Struct, frozen=True, kw_only=True):
    """How many notes records there are, and where."""

    count: int = 0
    table: Table = Table()


class ParentPoint(msgspec.Struct, frozen=True, kw_only=True):
    """The point that the first point of a file continues."""

    file: str
    point: int
    root: str


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


class PointDisk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk at a point. ``done`` counts the pieces that have been dealt with, from the first."""

    disk: int
    key: str
    size: int
    change_id: str | None = None
    map: Table = Table()
    root: str | None = None
    done: int = 0
    detail: str = ""


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """A restore point of one machine."""

    number: int
    id: str
    session: str
    machine: PointMachine
    created: datetime
    consistency: str = "crash"
    complete: bool = False
    parent_root: str | None = None
    root: str | None = None
    snapshot: str = ""
    disks: tuple[PointDisk, ...] = ()

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


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a chain file says of itself."""

    format: int = FORMAT_VERSION
    chain: str
    file: str
    kind: str
    unit_size: int
    created: datetime
    parent: ParentPoint | None = None
    holds: tuple[int, int]
    units: Units = Units()
    digests: Table = Table()
    notes: Notes = Notes()
    disks: tuple[FileDisk, ...] = ()
    points: tuple[Point, ...] = ()

    def point(self, number: int) -> Point | None:
        """Return the point with this number, or None."""
        return next((point for point in self.points if point.number == number), None)

    def disk_index(self, machine_id: str, key: str) -> int | None:
        """Return the index of a disk in ``disks``, or None."""
        pairs = enumerate(self.disks)
        return next((i for i, disk in pairs if (disk.machine, disk.key) == (machine_id, key)), None)


def encode_contents(contents: Contents) -> bytes:
    """Return the body of the contents page."""
    return msgspec.json.encode(contents)


def decode_contents(body: bytes) -> Contents:
    """Return the contents in ``body``. Raises `FileDamaged` or `FormatTooNew`."""
    try:
        contents = msgspec.json.decode(body, type=Contents)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FileDamaged(f"contents page cannot be read: {error}") from error
    if contents.format > FORMAT_VERSION:
        raise FormatTooNew(f"contents page has format {contents.format}, this version knows {FORMAT_VERSION}")
    return contents


def _disk(disk: PointDisk) -> Disk:
    return msgspec.convert({"key": disk.key, "size_bytes": disk.size}, Disk)
