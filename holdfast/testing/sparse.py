"""A disk of any size that keeps only what was written; both ports of the data pipe, for tests of large disks."""

from collections.abc import Iterator
from types import TracebackType
from typing import Self

from holdfast.errors import DiskReadFailed, DiskWriteFailed
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.spans import Span, coalesce

_ZEROS = bytes(PIECE_SIZE)


class SparseDisk:
    """Holds whole pieces of 64 KiB; all others are zeros and not allocated."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self.pieces: dict[int, bytes] = {}

    @property
    def size_bytes(self) -> int:
        """Size of the disk in bytes."""
        return self._size_bytes

    def copy(self) -> "SparseDisk":
        """Return a disk with the same content."""
        other = SparseDisk(self._size_bytes)
        other.pieces = dict(self.pieces)
        return other

    def put(self, piece: int, content: bytes) -> None:
        """Set a whole piece; the part behind the end of the disk is not kept."""
        inside = min(PIECE_SIZE, self._size_bytes - piece * PIECE_SIZE)
        kept = content[:inside].ljust(PIECE_SIZE, b"\0")
        if kept == _ZEROS:
            self.pieces.pop(piece, None)
        else:
            self.pieces[piece] = kept

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with the bytes from ``offset``."""
        if offset < 0 or offset + len(buffer) > self._size_bytes:
            raise DiskReadFailed(f"{len(buffer)} bytes at {offset} lie outside a disk of {self._size_bytes}")
        for at, piece, low, high in _parts(offset, len(buffer)):
            buffer[at : at + high - low] = self.pieces.get(piece, _ZEROS)[low:high]

    def allocated_spans(self) -> Iterator[Span]:
        """Yield, sorted, the pieces that were written."""
        spans = (Span(piece * PIECE_SIZE, PIECE_SIZE) for piece in sorted(self.pieces))
        for span in coalesce(spans):
            yield Span(span.start, min(span.end, self._size_bytes) - span.start)

    def write(self, offset: int, data: memoryview) -> None:
        """Write all of ``data`` at ``offset``."""
        if offset < 0 or offset + len(data) > self._size_bytes:
            raise DiskWriteFailed(f"{len(data)} bytes at {offset} lie outside a disk of {self._size_bytes}")
        for at, piece, low, high in _parts(offset, len(data)):
            known = self.pieces.get(piece, _ZEROS)
            self.put(piece, known[:low] + bytes(data[at : at + high - low]) + known[high:])

    def write_zeros(self, span: Span) -> None:
        """Make ``span`` read as zeros."""
        for piece in [p for p in self.pieces if span.start < (p + 1) * PIECE_SIZE and p * PIECE_SIZE < span.end]:
            low = max(0, span.start - piece * PIECE_SIZE)
            high = min(PIECE_SIZE, span.end - piece * PIECE_SIZE)
            self.put(piece, self.pieces[piece][:low] + bytes(high - low) + self.pieces[piece][high:])

    def flush(self) -> None:
        """Do nothing; memory is stable enough."""

    def close(self) -> None:
        """Do nothing; memory needs no release."""

    def __enter__(self) -> Self:
        """Enter a block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave a block."""
        self.close()


def _parts(offset: int, length: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (place in the buffer, piece, first byte in it, end in it)."""
    at = 0
    while at < length:
        piece, low = divmod(offset + at, PIECE_SIZE)
        high = min(PIECE_SIZE, low + length - at)
        yield at, piece, low, high
        at += high - low
