"""The file in which change tracking remembers one disk: a digest and a generation per piece.

Layout, little-endian. The header takes the first 4096 bytes:

====== ====== ==========================================================================
offset size   field
====== ====== ==========================================================================
0      8      magic ``HFTRACK1``
8      4      version, 1
12     4      generation: number of the newest state
16     16     tracking id, drawn when tracking of the disk began; keys the piece digests
32     8      disk size in bytes
40     4      number of state ids that follow, at most 128
48     32     BLAKE3 of the body: of each record that is not a hole, its window number
               (8 bytes) and its bytes, ascending
80     n * 16 state ids, oldest first; the last one names the newest generation
4064   32     BLAKE3 of the 4064 bytes before
====== ====== ==========================================================================

Record ``w`` stands at ``4096 + w * 20480`` and describes the pieces of 64 KiB of the disk's window
``w`` of 64 MiB: 1024 digests of 16 bytes, then 1024 generations of 4 bytes. An all-zero digest
means that the piece reads as zeros; generation 0 that it always did. A record of zeros only is a
hole, so an empty disk costs nothing. A digest is the keyed BLAKE3 of the piece, zero-filled at
the end of the disk, cut to 16 bytes.

The file is never changed, only replaced. A reader that finds anything wrong says
`ChangeTrackingLost`.
"""

import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import blake3
import msgspec

from holdfast.errors import ChangeTrackingLost
from holdfast.model.ids import ChangeId
from holdfast.model.spans import Span, align
from holdfast.providers.local.files import os_errors, replacing
from holdfast.providers.raw_disks import data_spans, describe, read_fully, write_fully

PIECE_SIZE = 64 << 10
WINDOW_PIECES = 1024
WINDOW_SIZE = WINDOW_PIECES * PIECE_SIZE
DIGEST_SIZE = 16
STATE_ID_SIZE = 16
STATES_MAX = 128
"""How many states back a change id is understood."""
GENERATION_MAX = (1 << 32) - 1
HEADER_SIZE = 4096
DIGESTS_SIZE = WINDOW_PIECES * DIGEST_SIZE
RECORD_SIZE = DIGESTS_SIZE + WINDOW_PIECES * 4

_MAGIC = b"HFTRACK1"
_VERSION = 1
_FIELDS = struct.Struct("<8sII16sQI4x32s")
_GENERATIONS = struct.Struct(f"<{WINDOW_PIECES}I")
_CHECKED_SIZE = HEADER_SIZE - 32
_EMPTY_RECORD = bytes(RECORD_SIZE)


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What the map says about itself. ``states`` ends with the id of ``generation``."""

    generation: int
    tracking_id: bytes
    disk_size_bytes: int
    states: tuple[bytes, ...]

    def hash_key(self) -> bytes:
        """Return the key of the piece digests."""
        return blake3.blake3(b"holdfast local change tracking" + self.tracking_id).digest()

    def change_id(self) -> ChangeId:
        """Return the change id of the newest state."""
        return ChangeId(self.states[-1].hex())

    def generation_of(self, change_id: ChangeId) -> int:
        """Return the generation that a change id names. Raises `ChangeTrackingLost`."""
        known = [state.hex() for state in self.states]
        if change_id not in known:
            raise ChangeTrackingLost(f"change id {change_id!r} is not among the last {len(known)}")
        return self.generation - (len(known) - 1 - known.index(change_id))


class ChangeMap:
    """A verified, open map.

    The constructor raises `ChangeTrackingLost` when there is no map or it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise ChangeTrackingLost(f"change map {path}: {describe(error)}") from error
        try:
            self.header = self._verified_header()
        except OSError as error:
            self.close()
            raise ChangeTrackingLost(f"change map {path}: {describe(error)}") from error
        except BaseException:
            self.close()
            raise

    def record(self, window: int) -> bytes:
        """Return the record of a window; zeros where it is a hole."""
        buffer = bytearray(RECORD_SIZE)
        read_fully(self._descriptor, HEADER_SIZE + window * RECORD_SIZE, memoryview(buffer))
        return bytes(buffer)

    def windows(self) -> Iterator[int]:
        """Yield, ascending, the windows that may have a record that is not a hole."""
        size_bytes = os.fstat(self._descriptor).st_size
        body = (Span(span.start - HEADER_SIZE, span.length) for span in data_spans(self._descriptor, size_bytes))
        # The header is the part before zero; what is widened to whole records covers each once.
        behind = (Span(max(s.start, 0), s.end - max(s.start, 0)) for s in body if s.end > 0)
        for span in align(behind, RECORD_SIZE, max(size_bytes - HEADER_SIZE, 0)):
            yield from range(span.start // RECORD_SIZE, -(-span.end // RECORD_SIZE))

    def changed_spans(self, since: int, size_bytes: int) -> Iterator[Span]:
        """Yield the pieces whose generation is higher than ``since``, cut at ``size_bytes``."""
        with os_errors(ChangeTrackingLost, f"reading change map {self._path}"):
            yield from align(self._changed_pieces(since), PIECE_SIZE, size_bytes)

    def close(self) -> None:
        """Release the file."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        """Return the map."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the map."""
        self.close()

    def _changed_pieces(self, since: int) -> Iterator[Span]:
        for window in self.windows():
            generations = generations_of(self.record(window))
            if max(generations) <= since:
                continue
            start = window * WINDOW_SIZE
            for index, generation in enumerate(generations):
                if generation > since:
                    yield Span(start + index * PIECE_SIZE, PIECE_SIZE)

    def _verified_header(self) -> Header:
        page = bytearray(HEADER_SIZE)
        length = read_fully(self._descriptor, 0, memoryview(page))
        if length < HEADER_SIZE or _sum(page[:_CHECKED_SIZE]) != page[_CHECKED_SIZE:]:
            raise ChangeTrackingLost(f"change map {self._path} is damaged")
        magic, version, generation, tracking_id, size_bytes, count, body = _FIELDS.unpack_from(page)
        if magic != _MAGIC or version != _VERSION:
            raise ChangeTrackingLost(f"change map {self._path} has version {version}")
        if self._body_digest() != body:
            raise ChangeTrackingLost(f"change map {self._path} is damaged")
        start, end = _FIELDS.size, _FIELDS.size + count * STATE_ID_SIZE
        states = tuple(bytes(page[at : at + STATE_ID_SIZE]) for at in range(start, end, STATE_ID_SIZE))
        return Header(
            generation=generation,
            tracking_id=tracking_id,
            disk_size_bytes=size_bytes,
            states=states,
        )

    def _body_digest(self) -> bytes:
        hasher = blake3.blake3()
        for window in self.windows():
            record = self.record(window)
            if record != _EMPTY_RECORD:
                hasher.update(window.to_bytes(8, "little") + record)
        return hasher.digest()


def write_map(path: Path, header: Header, records: Iterable[tuple[int, bytes]]) -> None:
    """Replace the map; ``records`` come by window, ascending.

    After a crash it is the old one or the new one.
    """
    with replacing(path) as file:
        descriptor = file.fileno()
        hasher = blake3.blake3()
        for window, record in records:
            if record == _EMPTY_RECORD:
                continue
            write_fully(descriptor, HEADER_SIZE + window * RECORD_SIZE, memoryview(record))
            hasher.update(window.to_bytes(8, "little") + record)
        write_fully(descriptor, 0, memoryview(_header_page(header, hasher.digest())))


def generations_of(record: bytes) -> tuple[int, ...]:
    """Return the generations of a record."""
    return _GENERATIONS.unpack_from(record, DIGESTS_SIZE)


def updated(record: bytes, digests: bytes, generation: int) -> bytes:
    """Return the record with new digests; each piece that differs carries ``generation``."""
    before = record[:DIGESTS_SIZE]
    if before == digests:
        return record
    generations = list(generations_of(record))
    for index in range(WINDOW_PIECES):
        at = slice(index * DIGEST_SIZE, (index + 1) * DIGEST_SIZE)
        if before[at] != digests[at]:
            generations[index] = generation
    return digests + _GENERATIONS.pack(*generations)


def _header_page(header: Header, body: bytes) -> bytes:
    assert 0 < len(header.states) <= STATES_MAX
    fields = _FIELDS.pack(
        _MAGIC,
        _VERSION,
        header.generation,
        header.tracking_id,
        header.disk_size_bytes,
        len(header.states),
        body,
    )
    checked = (fields + b"".join(header.states)).ljust(_CHECKED_SIZE, b"\0")
    return checked + _sum(checked)


def _sum(data: bytes | bytearray) -> bytes:
    return blake3.blake3(data).digest()
