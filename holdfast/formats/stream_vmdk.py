"""The stream-optimized VMDK, read from its beginning to its end.

The layout is that of VMware's public "Virtual Disk Format 5.0" technical note: a header of one sector, a descriptor
in the room before ``overhead``, and from there blocks that begin at sectors. A block is a compressed grain (sector of
the disk, length, deflated bytes) or, where the length is 0, a marker: of a grain table, of the directory of tables, of
the footer (the header again, with the directory's place in it), or of the end. Numbers are little-endian. The grains
of a table stand before it, in the order of the disk, which is what lets a stream be read while it comes.

Some programs (qemu-img) write the tables in front, as in an ordinary sparse file, and no marker of an end. Such a
stream ends when every grain that its tables list has come.

A grain that is not in the stream reads as zeros, so a stream must not be believed before its end was seen:
`StreamDecoder.finish` says whether it was.
"""

import struct
import zlib
from collections.abc import Callable
from enum import IntEnum
from typing import Final

import msgspec

from holdfast.errors import FileDamaged, FormatTooNew, FormatUnknown
from holdfast.model.machine import DISK_SIZE_MAX

SECTOR: Final = 512
MAGIC: Final = b"KDMV"
VERSION: Final = 3
"""What is written, and the newest that is read."""
GRAIN_SIZE: Final = 64 << 10
"""Bytes of disk in a grain that is written."""
TABLE_ENTRIES: Final = 512
"""Grains of one table that is written."""
DIRECTORY_AT_END: Final = (1 << 64) - 1
COMPRESSED: Final = 1 << 16
MARKERS: Final = 1 << 17
DEFLATE: Final = 1
LINE_ENDS: Final = b"\n \r\n"
HEADER: Final = struct.Struct("<4sIIQQQQIQQQB4sH")
"""Magic, version, flags, capacity, grain size, descriptor's place and size, entries of a table, redundant directory,
directory, overhead, unclean, line ends, compression; places and sizes in sectors. Zeros fill the sector."""
GRAIN_HEAD: Final = struct.Struct("<QI")
"""Sector of the disk, and the length of the deflated bytes that follow."""
MARKER: Final = struct.Struct("<QII")
"""Sectors of what follows the marker, 0, and the kind."""

_GRAIN_SIZE_MAX: Final = 1 << 20
_TABLE_ENTRIES_MAX: Final = 4096
_TABLES_MAX: Final = 64 << 20
"""Bytes of a directory, and of all tables when they are in front: there those of disks up to half a TiB."""


class MarkerKind(IntEnum):
    """What follows a marker."""

    END = 0
    TABLE = 1
    DIRECTORY = 2
    FOOTER = 3


class StreamHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What the first sector says; sizes and places in bytes."""

    capacity_bytes: int
    grain_size: int
    table_entries: int
    overhead: int
    directory: int | None
    """Where the directory is in front; None when it comes at the end."""

    @property
    def tables(self) -> int:
        """Return how many tables the whole disk has."""
        return -(-self.capacity_bytes // (self.grain_size * self.table_entries))


class Grain(msgspec.Struct, frozen=True):
    """A stretch of the disk, still deflated."""

    offset: int
    """Where it begins on the disk, in bytes."""
    size: int
    """How many bytes of the disk it holds; less than the grain size only at the end of the disk."""
    grain_size: int
    packed: bytes

    @property
    def end(self) -> int:
        """Return where it ends on the disk."""
        return self.offset + self.size

    def unpack(self) -> bytes:
        """Return its bytes. Raises `FileDamaged`."""
        unpacker = zlib.decompressobj()
        try:
            content = unpacker.decompress(self.packed, self.grain_size + 1)
        except zlib.error as error:
            raise FileDamaged(f"the grain at offset {self.offset} cannot be unpacked: {error}") from error
        if not unpacker.eof or len(content) not in {self.grain_size, self.size}:
            raise FileDamaged(
                f"the grain at offset {self.offset} has {len(content)} bytes or more instead of {self.grain_size}"
            )
        return content[: self.size]


def pack_header(capacity_bytes: int, overhead: int, directory_sector: int) -> bytes:
    """Return the sector of a header or, with the place of the directory, of a footer."""
    fields = HEADER.pack(
        MAGIC,
        VERSION,
        1 | COMPRESSED | MARKERS,  # 1: the line ends are there to be checked
        capacity_bytes // SECTOR,
        GRAIN_SIZE // SECTOR,
        1,
        overhead // SECTOR - 1,
        TABLE_ENTRIES,
        0,
        directory_sector,
        overhead // SECTOR,
        0,
        LINE_ENDS,
        DEFLATE,
    )
    return fields.ljust(SECTOR, b"\0")


def unpack_header(sector: bytes) -> StreamHeader:
    """Return what a header says. Raises `FormatUnknown`, `FormatTooNew`, or `FileDamaged` for impossible values."""
    if len(sector) < HEADER.size or sector[:4] != MAGIC:
        raise FormatUnknown("no stream-optimized VMDK: the magic number is missing")
    (_, version, flags, capacity, grain, _, _, entries, _, directory, overhead, _, ends, packing) = HEADER.unpack_from(
        sector
    )
    if version > VERSION:
        raise FormatTooNew(f"the VMDK has version {version}, this reader knows {VERSION}")
    if not flags & COMPRESSED or not flags & MARKERS or packing != DEFLATE:
        raise FormatUnknown("the VMDK is not stream-optimized: its grains are not deflated behind markers")
    if ends != LINE_ENDS:
        raise FileDamaged("the VMDK was changed as if it were text: the line ends of its header are others")
    header = StreamHeader(
        capacity_bytes=capacity * SECTOR,
        grain_size=grain * SECTOR,
        table_entries=entries,
        overhead=overhead * SECTOR,
        directory=None if directory == DIRECTORY_AT_END else directory * SECTOR,
    )
    _check(header)
    return header


def _check(header: StreamHeader) -> None:
    grain = header.grain_size
    if not 0 < header.capacity_bytes <= DISK_SIZE_MAX:
        raise FileDamaged(f"the VMDK states a capacity of {header.capacity_bytes} bytes")
    if not SECTOR < grain <= _GRAIN_SIZE_MAX or grain & (grain - 1):
        raise FileDamaged(f"the VMDK states grains of {grain} bytes")
    if not 0 < header.table_entries <= _TABLE_ENTRIES_MAX:
        raise FileDamaged(f"the VMDK states tables of {header.table_entries} entries")
    if header.overhead < SECTOR or header.tables * 4 > _TABLES_MAX:
        raise FileDamaged(f"the VMDK states {header.tables} tables, and {header.overhead} bytes before its first grain")


class StreamDecoder:
    """Takes a stream as it comes, in pieces of any size, and gives its grains.

    Holds no more than a piece, one block, and the places of tables: 4 bytes for 32 MiB of disk.
    """

    header: StreamHeader | None = None
    _step: Callable[[], Grain | bool]
    """What is read next: a grain, True for something else, False when it has not all come."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0
        """How many bytes of the buffer are done with."""
        self._before = 0
        """How many bytes of the stream came before the buffer."""
        self._skip = 0
        self._step = self._read_header
        self._known_end = 0
        self._is_complete = False
        self._places: dict[int, int] = {}
        """The sectors of grains whose table has not come yet, by their number; those of one table at most."""
        self._tables: list[int] = []
        self._seen: set[MarkerKind] = set()
        self._listed: int | None = None
        """How many grains tables in front list and have not come yet."""

    @property
    def known_end(self) -> int:
        """Return the offset on the disk before which everything came: a grain, or nothing, which is zeros."""
        return self._known_end

    @property
    def is_complete(self) -> bool:
        """Return whether the end of the stream was seen."""
        return self._is_complete

    def feed(self, piece: bytes | memoryview) -> list[Grain]:
        """Return the grains that are whole with this piece. Raises `FileDamaged` and what `unpack_header` raises."""
        self._buffer += piece
        grains = []
        while not self._is_complete:
            self._skip_some()
            found = False if self._skip else self._step()
            if found is False:
                break
            if isinstance(found, Grain):
                grains.append(found)
        self._before += self._at
        del self._buffer[: self._at]
        self._at = 0
        if self._is_complete:
            self._buffer.clear()
        return grains

    def finish(self) -> None:
        """Say that no more comes. Raises `FileDamaged` when the stream has not come to its end."""
        if not self._is_complete:
            raise FileDamaged(f"the stream ends in its middle, after {self._before + len(self._buffer)} bytes")

    def _skip_some(self) -> None:
        count = min(self._skip, len(self._buffer) - self._at)
        self._skip -= count
        self._at += count

    def _have(self, count: int) -> bool:
        return len(self._buffer) - self._at >= count

    def _take(self, count: int) -> bytes:
        """Return the next bytes, and go on to the next sector."""
        taken = bytes(memoryview(self._buffer)[self._at : self._at + count])
        self._at += count
        self._skip = -(self._before + self._at) % SECTOR
        return taken

    @property
    def _sector(self) -> int:
        return (self._before + self._at) // SECTOR

    def _read_header(self) -> bool:
        if not self._have(SECTOR):
            return False
        self.header = unpack_header(self._take(SECTOR))
        if self.header.directory is None:
            self._skip, self._step = self.header.overhead - SECTOR, self._read_block
            return True
        if self.header.overhead > _TABLES_MAX:
            raise FormatUnknown(f"the VMDK has tables of {self.header.overhead} bytes in front, too many to look at")
        self._step = self._read_front
        return True

    def _read_front(self) -> bool:
        """Count the grains that tables in front list."""
        header = self._known()
        if not self._have(header.overhead - SECTOR):
            return False
        front = bytes(SECTOR) + self._take(header.overhead - SECTOR)
        assert header.directory is not None, "that is how this step was chosen"
        self._listed = 0
        for place in _numbers(front, header.directory, header.tables):
            if place:
                listed = _numbers(front, place * SECTOR, header.table_entries)
                self._listed += sum(1 for one in listed if one)
        self._step = self._read_block
        if not self._listed:
            self._complete()
        return True

    def _read_block(self) -> Grain | bool:
        if not self._have(SECTOR):
            return False
        value, size, kind = MARKER.unpack_from(self._buffer, self._at)
        return self._read_grain(value * SECTOR, size) if size else self._read_marker(value * SECTOR, kind)

    def _read_grain(self, offset: int, length: int) -> Grain | bool:
        header = self._known()
        if length > 2 * header.grain_size:
            raise FileDamaged(f"the grain at offset {offset} has {length} deflated bytes")
        if offset % header.grain_size or not self._known_end <= offset < header.capacity_bytes:
            raise FileDamaged(
                f"a grain at offset {offset} of {header.capacity_bytes} bytes comes after {self._known_end}"
            )
        if not self._have(GRAIN_HEAD.size + length):
            return False
        number = offset // header.grain_size
        self._note(number)
        grain = Grain(
            offset,
            min(header.grain_size, header.capacity_bytes - offset),
            header.grain_size,
            self._take(GRAIN_HEAD.size + length)[GRAIN_HEAD.size :],
        )
        self._known_end = grain.end
        if self._listed is not None:
            self._listed -= 1
            if not self._listed:
                self._complete()
        return grain

    def _note(self, number: int) -> None:
        """Remember where a grain stands until its table comes; one whose table comes elsewhere is not compared."""
        entries = self._known().table_entries
        if self._places and next(iter(self._places)) // entries != number // entries:
            self._places.clear()
        self._places[number] = self._sector & 0xFFFFFFFF

    def _read_marker(self, length: int, kind: int) -> bool:
        header = self._known()
        if kind == MarkerKind.END:
            # A stretch of zeros looks the same, but it does not come behind a footer.
            if MarkerKind.FOOTER not in self._seen:
                raise FileDamaged(f"the stream ends at sector {self._sector} without a footer")
            self._complete()
            return True
        sizes = {
            MarkerKind.TABLE: header.table_entries * 4,
            MarkerKind.DIRECTORY: header.tables * 4,
            MarkerKind.FOOTER: SECTOR,
        }
        if kind not in sizes:
            raise FileDamaged(f"the marker at sector {self._sector} is of the unknown kind {kind}")
        wanted = sizes[MarkerKind(kind)]
        if length != -(-wanted // SECTOR) * SECTOR:
            raise FileDamaged(f"the marker at sector {self._sector} announces {length} bytes instead of {wanted}")
        if not self._have(SECTOR + wanted):
            return False
        self._at += SECTOR
        self._compare(MarkerKind(kind), self._sector, self._take(wanted))
        return True

    def _compare(self, kind: MarkerKind, sector: int, content: bytes) -> None:
        """Compare what the stream says of itself with what came. Raises `FileDamaged`."""
        header = self._known()
        self._seen.add(kind)
        if kind is MarkerKind.TABLE:
            self._compare_table(sector, content)
        elif kind is MarkerKind.DIRECTORY:
            listed = {place for place in _numbers(content, 0, header.tables) if place}
            if self._places:
                raise FileDamaged(f"the directory comes before a table of {len(self._places)} grains")
            if listed != set(self._tables):
                raise FileDamaged(f"the directory lists {len(listed)} tables, {len(self._tables)} came")
        elif MarkerKind.DIRECTORY not in self._seen:
            raise FileDamaged(f"the footer at sector {sector} comes without a directory before it")
        elif unpack_header(content).capacity_bytes != header.capacity_bytes:
            raise FileDamaged("the footer states another capacity than the header")

    def _compare_table(self, sector: int, content: bytes) -> None:
        self._tables.append(sector & 0xFFFFFFFF)
        if len(self._tables) > self._known().tables:
            raise FileDamaged(f"the stream has more than the {self._known().tables} tables of its disk")
        entries = self._known().table_entries
        first = next(iter(self._places), 0) // entries * entries
        listed = {first + at: place for at, place in enumerate(_numbers(content, 0, entries)) if place}
        if listed != self._places:
            raise FileDamaged(f"the table at sector {sector} lists {len(listed)} grains, {len(self._places)} came")
        self._places.clear()

    def _complete(self) -> None:
        self._is_complete = True
        self._known_end = self._known().capacity_bytes

    def _known(self) -> StreamHeader:
        assert self.header is not None, "it is what is read first"
        return self.header


def _numbers(content: bytes, start: int, count: int) -> tuple[int, ...]:
    """Return numbers of 4 bytes. Raises `FileDamaged` when they are not all there."""
    if start + count * 4 > len(content):
        raise FileDamaged(f"a table at byte {start} has its end behind the first grain")
    return struct.unpack_from(f"<{count}I", content, start)
