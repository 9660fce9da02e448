"""Packs wanted pieces into units and sends them, encoded, in order."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager, nullcontext

from isal.isal_zlib import crc32

from holdfast.clock import Clock
from holdfast.formats.codec import compress
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.compression import Compression
from holdfast.pipeline.buffers import Buffers
from holdfast.pipeline.sink import DiskSink, PackedUnit, Wanted
from holdfast.pipeline.stages import StageTimes


class _Open:
    """A unit being packed, with a buffer of its own."""

    __slots__ = ("buffer", "digests", "number", "pieces")

    def __init__(self, number: int) -> None:
        self.number = number
        self.buffer = bytearray()
        self.pieces: list[int] = []
        self.digests: list[bytes] = []


class Packer:
    """Packs the units of one disk. Use from one thread."""

    def __init__(  # noqa: PLR0913, PLR0917 - what the first half of the pipe consists of
        self, sink: DiskSink, pool: Executor, buffers: Buffers, clock: Clock, compression: Compression, window: int
    ) -> None:
        self.times = StageTimes()
        self.busy: AbstractContextManager[object] = nullcontext()
        """Entered for what takes time here."""
        self._sink = sink
        self._pool = pool
        self._buffers = buffers
        self._clock = clock
        self._compression = compression
        self._window = window
        self._per_unit = sink.unit_size // PIECE_SIZE
        self._open = _Open(-1)
        self._encoding: deque[tuple[_Open, Future[tuple[PackedUnit, float]]]] = deque()

    def pack(self, first: int, digests: Sequence[bytes], buffer: bytearray, wanted: Wanted) -> None:
        """Take the wanted ones of the pieces in ``buffer``, which is the packer's from here on."""
        slots, place = list(wanted.slots), wanted.place
        if not slots and self._open.pieces and place // self._per_unit != self._open.number:
            self._close_unit()
        while slots:
            number, at = divmod(place, self._per_unit)
            if number != self._open.number:
                self._close_unit()
                self._open = _Open(number)
            taken, slots = slots[: self._per_unit - at], slots[self._per_unit - at :]
            with self.busy:
                buffer = self._move(buffer, taken)
            self._open.pieces.extend(first + slot for slot in taken)
            self._open.digests.extend(digests[slot] for slot in taken)
            place += len(taken)
            if len(self._open.pieces) == self._per_unit:
                self._close_unit()
        if buffer:
            self._buffers.give_back(buffer)
        self._send_encoded(len(self._encoding) - self._window)

    def drain(self) -> None:
        """Send everything."""
        self._close_unit()
        self.send_closed()

    def send_closed(self) -> None:
        """Send everything but the unit that waits to be filled."""
        self._send_encoded(len(self._encoding))

    def _move(self, buffer: bytearray, slots: list[int]) -> bytearray:
        """Bring the bytes of pieces into the open unit; return the buffer, or an empty one when the unit took it.

        No chunk outlives its packing, so scattered pieces hold no memory.
        """
        unit = self._open
        if len(slots) == self._per_unit:
            unit.buffer = buffer
            return bytearray()
        if not unit.buffer:
            unit.buffer = self._buffers.take()
        source, target = memoryview(buffer), memoryview(unit.buffer)
        at = len(unit.pieces) * PIECE_SIZE
        for first, end in _runs(slots):
            length = (end - first) * PIECE_SIZE
            target[at : at + length] = source[first * PIECE_SIZE : end * PIECE_SIZE]
            at += length
        return buffer

    def _close_unit(self) -> None:
        """Send the open unit to be encoded."""
        unit, self._open = self._open, _Open(-1)
        if unit.pieces:
            self._encoding.append((unit, self._pool.submit(self._encode, unit)))

    def _encode(self, unit: _Open) -> tuple[PackedUnit, float]:
        started_s = self._clock.monotonic_s()
        size = len(unit.pieces) * PIECE_SIZE
        with self.busy:
            body = unit.buffer if size == len(unit.buffer) else unit.buffer[:size]
            body_crc = crc32(body)
            codec, packed = compress(body, self._compression)
        if packed is unit.buffer:
            unit.buffer = bytearray()  # goes with the unit
        packed_unit = PackedUnit(
            number=unit.number,
            pieces=unit.pieces,
            digests=unit.digests,
            codec=codec,
            packed=packed,
            body_crc=body_crc,
        )
        return packed_unit, self._clock.monotonic_s() - started_s

    def _send_encoded(self, at_least: int) -> None:
        """Send units that are encoded, in order; wait for the first ``at_least`` of them."""
        while self._encoding and (at_least > 0 or self._encoding[0][1].done()):
            unit, flight = self._encoding.popleft()
            at_least -= 1
            packed, encode_s = flight.result()
            self.times.encode_s += encode_s
            self._sink.put(packed)
            if unit.buffer:
                self._buffers.give_back(unit.buffer)


def _runs(slots: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield ascending slots as runs, by their first and the one behind their last."""
    first = end = slots[0]
    for slot in slots:
        if slot != end:
            yield first, end
            first = slot
        end = slot + 1
    yield first, end
