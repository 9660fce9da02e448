"""Reading a volume: consecutive bytes that may lie in several places of a disk, with bounds on everything.

A hostile disk must not cost more than an honest one of its size. So a volume has a budget of reads that grows with its
size, and whatever does not look as it should ends in `Implausible`, which the survey turns into "every block is used".
"""

import struct
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import TypeAlias

from holdfast.model.spans import Span

Read: TypeAlias = Callable[[int, int], bytes]
"""Return ``length`` bytes from ``offset`` of a disk, all of them or an error of the disk."""
GoOn: TypeAlias = Callable[[], bool]
"""Return whether there is time to read on. What it raises ends the look at the disk."""

SECTOR = 512

_CHUNK = 64 << 10
_CHUNKS_KEPT = 32
_READS_PER_ASK = 256
_BYTES_FREE = 16 << 20
_CALLS_FREE = 20_000
_SIZE_PER_BYTE = 1 << 10
_SIZE_PER_CALL = 2 << 20


class Implausible(Exception):
    """A volume does not look as its kind should, with the reason. Never leaves this package."""


class Exhausted(Implausible):
    """More would have to be read or remembered than a look into a volume may cost."""

    def __init__(self) -> None:
        super().__init__("its metadata is larger than a volume of this size can have")


class OutOfTime(Exhausted):
    """Looking over a disk took too long."""

    def __init__(self) -> None:
        Implausible.__init__(self, "the time for looking the disk over was up")


DAMAGED = (Implausible, struct.error, ValueError, IndexError, OverflowError)
"""What ends the look into a volume: beside the first, what decoding runs into when bytes are missing or absurd."""


def reason_of(error: Exception) -> str:
    """Return why a volume is not understood."""
    return str(error) if isinstance(error, Implausible) else "its metadata is damaged"


class Disk:
    """A disk whose last read chunks are kept, because metadata is read in small pieces that lie close together.

    ``go_on`` is asked before each chunk that is read, and now and then while chunks are read again.
    """

    def __init__(self, read: Read, size_bytes: int, go_on: GoOn = lambda: True) -> None:
        self.size_bytes = size_bytes
        self._read = read
        self._go_on = go_on
        self._reads = 0
        self._chunks: OrderedDict[int, bytes] = OrderedDict()

    def check_time(self) -> None:
        """Raise `OutOfTime` when there is no time to go on."""
        if not self._go_on():
            raise OutOfTime

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes that lie inside the disk. Raises `OutOfTime`."""
        self._reads += 1
        if self._reads % _READS_PER_ASK == 0:
            self.check_time()
        parts = []
        while length > 0:
            start = offset // _CHUNK * _CHUNK
            part = self._chunk(start)[offset - start : offset - start + length]
            parts.append(part)
            offset += len(part)
            length -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _chunk(self, start: int) -> bytes:
        chunk = self._chunks.get(start)
        if chunk is None:
            self.check_time()
            chunk = self._chunks[start] = self._read(start, min(_CHUNK, self.size_bytes - start))
            if len(self._chunks) > _CHUNKS_KEPT:
                self._chunks.popitem(last=False)
        else:
            self._chunks.move_to_end(start)
        return chunk


class Window:
    """The bytes of one volume, from 0 on. ``patience`` multiplies what may be read of it."""

    def __init__(self, disk: Disk, spans: Sequence[Span], patience: int = 1) -> None:
        self.size = sum(span.length for span in spans)
        self._disk = disk
        self._spans = spans
        self._bases = [0, *accumulate(span.length for span in spans)]
        self._bytes_left = patience * (_BYTES_FREE + self.size // _SIZE_PER_BYTE)
        self._calls_left = patience * (_CALLS_FREE + self.size // _SIZE_PER_CALL)

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes of the volume. Raises `Implausible` outside of it, and when too much is asked for in all."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise Implausible(f"it points to byte {offset + length} of {self.size}")
        self._bytes_left -= length
        self._calls_left -= 1
        if self._bytes_left < 0 or self._calls_left < 0:
            raise Exhausted
        if len(self._spans) == 1:
            return self._disk.read(self._spans[0].start + offset, length)
        return b"".join(self._disk.read(span.start, span.length) for span in self.places(Span(offset, length)))

    def check_time(self) -> None:
        """Raise `OutOfTime` when there is no time to go on."""
        self._disk.check_time()

    def peek(self, offset: int, length: int) -> bytes:
        """Return bytes of the volume; none when they are not all inside."""
        return self.read(offset, length) if 0 <= offset <= self.size - length else b""

    def inside(self, spans: Sequence[Span]) -> "Window":
        """Return some spans of this volume as one of its own. Raises `Implausible` when one reaches outside."""
        return Window(self._disk, [place for span in spans for place in self.places(span)])

    def places(self, wanted: Span) -> Iterator[Span]:
        """Yield where on the disk a span of the volume lies. Raises `Implausible` when it reaches outside."""
        if wanted.start < 0 or wanted.end > self.size:
            raise Implausible(f"it speaks of byte {wanted.end} of {self.size}")
        at = wanted.start
        index = bisect_right(self._bases, at) - 1
        while at < wanted.end:
            high = min(wanted.end, self._bases[index + 1])
            yield Span(self._spans[index].start + at - self._bases[index], high - at)
            at = high
            index += 1
