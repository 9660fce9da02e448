"""The restore pipe: restore point to target disk.

Blocks are decoded ahead on the pool's threads, at least sixteen units in flight at the default unit size, and written
in ascending order by the caller's thread. Every piece is compared with its digest before it is written.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import msgspec

from holdfast.clock import Clock
from holdfast.errors import DataDamaged, RestoredBytesDiffer
from holdfast.faults import reach
from holdfast.formats.contents import LeftOut
from holdfast.formats.digests import piece_digests
from holdfast.formats.magic import DIGEST_SIZE, PIECE_SIZE
from holdfast.formats.record import PieceEntry
from holdfast.model.session import Figures
from holdfast.model.spans import Span
from holdfast.pipeline.buffers import keep_freed_blocks
from holdfast.pipeline.busy import PipeClocks, StagePool
from holdfast.pipeline.disks import DiskWriter
from holdfast.pipeline.flow import in_order
from holdfast.pipeline.stages import PipeProgress, StageTimes
from holdfast.pipeline.units_ahead import UnitCache, UnitFile, UnitsAhead

BLOCK_PIECES = 16
_BLOCKS_IN_FLIGHT = 256
_FLUSH_BYTES = 32 << 20
"""Written between two flushes; the one before has ended then, so at most twice as much is written again."""
_ZEROS = bytes(BLOCK_PIECES * PIECE_SIZE)
_ZERO_DIGESTS = bytes(BLOCK_PIECES * DIGEST_SIZE)


class ReadableFile(Protocol):
    """A file that holds units and can be read here."""

    pieces_per_unit: int

    def read_unit(self, number: int) -> tuple[list[PieceEntry], bytes | memoryview]:
        """Return piece list and body of a unit."""
        ...

    def digests(self, place: int, count: int) -> bytes:
        """Return the joined digests of consecutive places."""
        ...


class HeldRun(Protocol):
    """Consecutive pieces at consecutive places; zeros when ``file`` is None."""

    @property
    def piece(self) -> int:
        """First piece."""
        ...

    @property
    def count(self) -> int:
        """Number of pieces."""
        ...

    @property
    def file(self) -> UnitFile | None:
        """The file that holds them."""
        ...

    @property
    def place(self) -> int:
        """Place of the first piece."""
        ...


class Digested(Protocol):
    """A disk whose digests are known."""

    @property
    def size_bytes(self) -> int:
        """Size of the disk in bytes."""
        ...

    def piece_digests(self, start: int, end: int) -> bytes | bytearray:
        """Return the joined digests of pieces."""
        ...


class PieceSource(Digested, Protocol):
    """A disk at a restore point."""

    @property
    def pieces(self) -> int:
        """Number of pieces."""
        ...

    @property
    def round_trip_s(self) -> float:
        """Return how long an answer takes at least; 0 when it is there at once."""
        ...

    def runs(self, start: int, end: int) -> Iterator[HeldRun]:
        """Yield where pieces are, in order and without gaps."""
        ...

    def watch(self, busy: PipeClocks) -> None:
        """Count from now on in these clocks how long reading takes, and whether there is a line to it."""
        ...


class Part(msgspec.Struct, frozen=True):
    """Consecutive pieces of one unit; zeros when ``unit`` is None."""

    piece: int
    count: int
    unit: tuple[UnitFile, int] | None
    slot: int


class Block(msgspec.Struct, frozen=True):
    """What is written between two reports; nothing when a stretch is only passed over."""

    parts: tuple[Part, ...]
    end: int
    """First piece behind it."""


class StoredSource(PieceSource, Protocol):
    """A disk at a restore point that is to be restored, and what its restore has to know of it."""

    @property
    def machine_name(self) -> str:
        """Name of its machine at the point."""
        ...

    @property
    def digest_key(self) -> bytes:
        """The key of the piece digests."""
        ...

    @property
    def change_id(self) -> str | None:
        """The id of its state, None when changes were not tracked."""
        ...

    @property
    def left_out(self) -> LeftOut | None:
        """What the point lacks because the guest did not need it."""
        ...

    @property
    def is_doubted(self) -> bool:
        """Whether a point behind this one found that change tracking leaves changes of the disk out."""
        ...


def checked_unit(file: ReadableFile, number: int, key: bytes) -> bytes | memoryview:
    """Return the body of a unit after comparing every piece with its digest. Raises `DataDamaged`."""
    entries, body = file.read_unit(number)
    found = piece_digests(body, key)
    listed = [entry.digest for entry in entries]
    tabled = file.digests(number * file.pieces_per_unit, len(entries))
    if found != listed or tabled != b"".join(listed):
        bad = [slot for slot, digest in enumerate(found) if digest != tabled[slot * DIGEST_SIZE :][:DIGEST_SIZE]]
        raise DataDamaged(f"unit {number}: the pieces in slots {bad} do not match their digests")
    return body


class DiskRestore:
    """Writes one disk of a restore point to a target, all of it or some pieces. It may be used once."""

    def __init__(self, source: PieceSource, target: DiskWriter, key: bytes, clock: Clock, *, threads: int = 2) -> None:
        keep_freed_blocks()
        self.busy = PipeClocks(clock)
        source.watch(self.busy)
        self._source = source
        self._target = target
        self._key = key
        self._clock = clock
        self._pool = StagePool(threads, "restore", self.busy.proxy)
        self._flusher = StagePool(1, "flush", self.busy.target)
        self._units = UnitCache(self._pool, key)
        self._flight: Future[None] | None = None
        self._started_s = clock.monotonic_s()
        self._times = StageTimes()
        self._read = self._written = self._zeroed = self._unflushed = 0
        self._is_flushed = True
        self._reached = self._committed = self._committing = 0

    def run(self, first_piece: int, report: Callable[[PipeProgress], None]) -> Figures:
        """Write the disk from a piece on, flush it, and return the figures.

        ``report`` is called after each block; what it raises stops the restore.
        """
        left = range(first_piece, self._source.pieces)
        return self.write([left] if left else [], first_piece, report)

    def write(self, runs: Iterable[range], first_piece: int, report: Callable[[PipeProgress], None]) -> Figures:
        """Write ascending runs of pieces, flush them, and return the figures.

        Everything before ``first_piece`` was done earlier. An empty run says that there is nothing to write before it.
        """
        self._reached = self._committed = self._committing = first_piece
        try:
            for block, flights in self._ahead(runs):
                for part, flight in zip(block.parts, flights, strict=True):
                    self._write(part, flight)
                self._reached = block.end
                self._flush_if_due()
                report(self.progress())
                if block.parts:
                    reach("restore.block_written")
            self._finish_flush()
            self._flusher.submit(self._target.flush).result()
            self._reached = self._committed = self._source.pieces
            return self.progress().figures
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._flusher.shutdown(wait=True)

    @property
    def written_bytes(self) -> int:
        """Return how much was written, zeros included."""
        return self._written + self._zeroed

    def progress(self) -> PipeProgress:
        """Return how far the restore is."""
        size = self._source.size_bytes
        reached = min(self._reached * PIECE_SIZE, size)
        figures = Figures(
            size_bytes=size,
            processed_bytes=reached,
            read_bytes=self._read,
            transferred_bytes=self._written,
            stored_bytes=self._written,
            duration_s=self._clock.monotonic_s() - self._started_s,
        )
        excuses = [self.busy.source.seconds + self.busy.throttled.seconds, self.busy.proxy.seconds]
        return PipeProgress(
            size_bytes=size,
            reached_bytes=reached,
            committed_bytes=min(self._committed * PIECE_SIZE, size),
            figures=self.busy.charged(figures, excuses),
            written_bytes=self.written_bytes,
            stages=self._times,
        )

    def _ahead(self, runs: Iterable[range]) -> Iterator[tuple[Block, list[Future[bytes | memoryview] | None]]]:
        window: deque[tuple[Block, list[Future[bytes | memoryview] | None]]] = deque()
        ahead = UnitsAhead()
        for block in (block for run in runs for block in _blocks(self._source, run)):
            files = [part.unit[0] for part in block.parts if part.unit is not None]
            for file in files:
                ahead.asked(file)
            self._units.keep(ahead.units)
            flights = [None if part.unit is None else self._units.request(*part.unit) for part in block.parts]
            window.append((block, flights))
            while (ahead.is_full and len(window) > 1) or len(window) > _BLOCKS_IN_FLIGHT:
                done = window.popleft()
                yield done
                for part in done[0].parts:
                    if part.unit is not None:
                        ahead.used(part.unit[0], self._clock.monotonic_s(), self._source.round_trip_s)
        yield from window

    def _write(self, part: Part, flight: Future[bytes | memoryview] | None) -> None:
        offset = part.piece * PIECE_SIZE
        length = min(part.count * PIECE_SIZE, self._source.size_bytes - offset)
        started_s = self._clock.monotonic_s()
        self._is_flushed = False
        if flight is None:
            with self.busy.target:
                self._target.write_zeros(Span(offset, length))
            self._zeroed += length
        else:
            body = self.busy.network.awaited(flight)
            waited_s = self._clock.monotonic_s()
            self._times.source_s += waited_s - started_s
            at = part.slot * PIECE_SIZE
            with self.busy.target:
                self._target.write(offset, memoryview(body)[at : at + length])
            self._written += length
            self._read += length
            self._unflushed += length
            started_s = waited_s
        self._times.target_s += self._clock.monotonic_s() - started_s
        self._reached = part.piece + part.count

    def _flush_if_due(self) -> None:
        if self._flight is not None and self._flight.done():
            self._finish_flush()
        if self._flight is None and self._is_flushed:
            self._committed = self._reached  # what was passed over needs no flush
        if self._unflushed < _FLUSH_BYTES:
            return
        self._finish_flush()
        self._committing = self._reached
        self._unflushed = 0
        self._is_flushed = True
        self._flight = self._flusher.submit(self._target.flush)

    def _finish_flush(self) -> None:
        flight, self._flight = self._flight, None
        if flight is not None:
            flight.result()
            self._committed = self._committing


def compare_target(
    source: PieceSource,
    target: DiskWriter,
    key: bytes,
    report: Callable[[int], None],
    *,
    threads: int = 2,
) -> None:
    """Read the target back and compare every piece with the point's digests. Raises `RestoredBytesDiffer`."""

    def differing(first: int) -> tuple[int, int | None]:
        count = min(BLOCK_PIECES, source.pieces - first)
        return first, first_difference(target, source, key, range(first, first + count))

    with ThreadPoolExecutor(threads, thread_name_prefix="compare") as pool:
        for first, bad in in_order(pool, differing, range(0, source.pieces, BLOCK_PIECES), 8):
            if bad is not None:
                raise RestoredBytesDiffer(f"the target differs from the restore point at offset {bad * PIECE_SIZE}")
            report(min((first + BLOCK_PIECES) * PIECE_SIZE, source.size_bytes))


class Readable(Protocol):
    """What can be read at any offset."""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with the bytes from ``offset``."""
        ...


def first_difference(disk: Readable, source: Digested, key: bytes, pieces: range) -> int | None:
    """Return the first of some adjoining pieces in which a disk differs from a point, or None. Reads them at once."""
    return next(iter(differing_pieces(disk, source, key, pieces)), None)


def differing_pieces(disk: Readable, source: Digested, key: bytes, pieces: range) -> list[int]:
    """Return those of some adjoining pieces in which a disk differs from a point. Reads them at once."""
    offset = pieces.start * PIECE_SIZE
    buffer = bytearray(len(pieces) * PIECE_SIZE)
    disk.read_into(offset, memoryview(buffer)[: source.size_bytes - offset])
    expected = source.piece_digests(pieces.start, pieces.stop)
    if expected == _ZERO_DIGESTS[: len(expected)] and buffer == _ZEROS[: len(buffer)]:
        return []  # most of a sparse disk: comparing memory is ten times faster than digesting it
    found = enumerate(piece_digests(buffer, key))
    return [
        pieces.start + slot
        for slot, digest in found
        if digest != expected[slot * DIGEST_SIZE : (slot + 1) * DIGEST_SIZE]
    ]


def _blocks(source: PieceSource, pieces: range) -> Iterator[Block]:
    """Cut a run of pieces into blocks; long runs of zeros stay whole."""
    if not pieces:
        yield Block((), pieces.stop)
        return
    parts: list[Part] = []
    count = 0
    for run in source.runs(pieces.start, pieces.stop):
        for part in _parts(run):
            parts.append(part)
            count += 0 if part.unit is None else part.count
            if count >= BLOCK_PIECES or part.unit is None:
                yield Block(tuple(parts), part.piece + part.count)
                parts, count = [], 0
    if parts:
        yield Block(tuple(parts), parts[-1].piece + parts[-1].count)


def _parts(run: HeldRun) -> Iterator[Part]:
    file = run.file
    if file is None:
        yield Part(run.piece, run.count, None, 0)
        return
    piece, place, left = run.piece, run.place, run.count
    while left:
        number, slot = divmod(place, file.pieces_per_unit)
        count = min(left, file.pieces_per_unit - slot)
        yield Part(piece, count, (file, number), slot)
        piece, place, left = piece + count, place + count, left - count
