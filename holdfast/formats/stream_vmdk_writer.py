"""Writing a stream-optimized VMDK (`holdfast.formats.stream_vmdk` has the layout)."""

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Final

from holdfast.errors import LimitExceeded
from holdfast.formats.stream_vmdk import (
    DIRECTORY_AT_END,
    GRAIN_HEAD,
    GRAIN_SIZE,
    MARKER,
    SECTOR,
    TABLE_ENTRIES,
    MarkerKind,
    pack_header,
)
from holdfast.model.machine import SECTOR_SIZE

_OVERHEAD: Final = 128 * SECTOR
_LEVEL: Final = 1
"""Of deflate: a disk on its way is not kept, so the time counts."""
_ZEROS: Final = bytes(GRAIN_SIZE)
_PLACE_MAX: Final = 0xFFFFFFFF
_DESCRIPTOR: Final = """\
# Disk DescriptorFile
version=1
CID={content:08x}
parentCID=ffffffff
createType="streamOptimized"

# Extent description
RDONLY {sectors} SPARSE "{name}"

# The Disk Data Base
#DDB

ddb.adapterType = "lsilogic"
ddb.geometry.cylinders = "{cylinders}"
ddb.geometry.heads = "255"
ddb.geometry.sectors = "63"
ddb.virtualHWVersion = "4"
"""


class StreamEncoder:
    """Makes a stream of what is added in the order of the disk; what is not added, or is zeros, takes no room.

    Holds one grain, and the places of tables: 4 bytes for 32 MiB of disk. Raises `LimitExceeded` when the stream would
    become larger than 2 TiB, the most its numbers can say.
    """

    def __init__(self, capacity_bytes: int, *, name: str = "disk.vmdk", content: int = 0xFFFFFFFE) -> None:
        """``name`` and ``content``, the disk's content id, stand in the descriptor only."""
        assert capacity_bytes > 0, "a disk has a size"
        assert capacity_bytes % SECTOR_SIZE == 0, "a disk has whole sectors"
        self._capacity_bytes = capacity_bytes
        self._descriptor = _described(capacity_bytes, name, content)
        self._end = 0
        self._grain = bytearray(GRAIN_SIZE)
        self._number: int | None = None
        self._out = bytearray()
        self._sectors = 0
        self._table = [0] * TABLE_ENTRIES
        self._tables: list[int] = []
        self._emit(pack_header(capacity_bytes, _OVERHEAD, DIRECTORY_AT_END))
        self._emit(self._descriptor.ljust(_OVERHEAD - SECTOR, b"\0"))

    def add(self, offset: int, data: bytes | memoryview) -> bytes:
        """Return the next bytes of the stream. ``offset`` is not before the end of what was added earlier."""
        view = memoryview(data)
        assert offset >= self._end, "a stream is written in the order of the disk"
        assert offset + len(view) <= self._capacity_bytes, "a run lies within the disk"
        self._end = offset + len(view)
        while view:
            number, within = divmod(offset, GRAIN_SIZE)
            if number != self._number:
                self._flush()
                self._number = number
            part = view[: GRAIN_SIZE - within]
            self._grain[within : within + len(part)] = part
            offset, view = offset + len(part), view[len(part) :]
        return self._emitted()

    def finish(self) -> bytes:
        """Return the end of the stream; nothing can be added after it."""
        self._flush()
        count = -(-self._capacity_bytes // (GRAIN_SIZE * TABLE_ENTRIES))
        self._end_tables(count)
        directory = self._numbers(MarkerKind.DIRECTORY, self._tables)
        self._mark(MarkerKind.FOOTER, 1)
        self._emit(pack_header(self._capacity_bytes, _OVERHEAD, directory))
        self._mark(MarkerKind.END, 0)
        return self._emitted()

    def _flush(self) -> None:
        """Write the grain that is at hand, if it holds anything."""
        if self._number is None:
            return
        number, self._number = self._number, None
        if self._grain == _ZEROS:
            return
        self._end_tables(number // TABLE_ENTRIES)
        packed = zlib.compress(self._grain, _LEVEL)
        self._table[number % TABLE_ENTRIES] = self._place()
        self._emit(GRAIN_HEAD.pack(number * GRAIN_SIZE // SECTOR, len(packed)) + packed)
        self._grain[:] = _ZEROS

    def _end_tables(self, count: int) -> None:
        """Write the table that is at hand when it is not that of a later grain; there are ``count`` tables then."""
        while len(self._tables) < count:
            if any(self._table):
                self._tables.append(self._numbers(MarkerKind.TABLE, self._table))
                self._table = [0] * TABLE_ENTRIES
            else:
                self._tables.append(0)

    def _numbers(self, kind: MarkerKind, numbers: list[int]) -> int:
        """Write a marker and numbers behind it; return the sector of the numbers."""
        self._mark(kind, -(-len(numbers) * 4 // SECTOR))
        place = self._place()
        self._emit(struct.pack(f"<{len(numbers)}I", *numbers))
        return place

    def _mark(self, kind: MarkerKind, sectors: int) -> None:
        self._emit(MARKER.pack(sectors, 0, kind))

    def _place(self) -> int:
        if self._sectors > _PLACE_MAX:
            raise LimitExceeded("a stream-optimized VMDK cannot be larger than 2 TiB")
        return self._sectors

    def _emit(self, block: bytes) -> None:
        """Add a block to the stream, up to its next sector."""
        sectors = -(-len(block) // SECTOR)
        self._out += block
        self._out += bytes(sectors * SECTOR - len(block))
        self._sectors += sectors

    def _emitted(self) -> bytes:
        out, self._out = bytes(self._out), bytearray()
        return out


def encode_stream(capacity_bytes: int, runs: Iterable[tuple[int, bytes | memoryview]]) -> Iterator[bytes]:
    """Yield the stream of a disk, of which ``runs`` come in its order: an offset and the bytes from there."""
    encoder = StreamEncoder(capacity_bytes)
    for offset, data in runs:
        yield encoder.add(offset, data)
    yield encoder.finish()


def _described(capacity_bytes: int, name: str, content: int) -> bytes:
    sectors = capacity_bytes // SECTOR
    text = _DESCRIPTOR.format(
        content=content, sectors=sectors, name=name, cylinders=min(max(sectors // (255 * 63), 1), 65535)
    )
    described = text.encode()
    assert len(described) <= _OVERHEAD - SECTOR, "a name is short"
    return described
