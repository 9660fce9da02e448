"""The backup pipe: source disk to restore point.

::

    reader -> read ahead -> digest ==> (in order) drop what is known -> pack
           ==> encode, decode, compare ==> write -> commit

Reading, digesting and encoding run on the pool's threads, where C code drops the interpreter lock; packing and writing
run on the caller's thread, which moves references only. Memory is bounded by `PipeOptions`, whatever the disk's size.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from holdfast.clock import Clock
from holdfast.errors import DiskChanged, EncodingFailed
from holdfast.faults import reach
from holdfast.formats.codec import compress
from holdfast.formats.digests import piece_digests
from holdfast.formats.magic import PIECE_SIZE
from holdfast.formats.record import Buffer, PieceEntry, RecordOpener, RecordSealer, Stamp
from holdfast.model.plan import Action, PlanStep
from holdfast.model.session import Figures
from holdfast.pipeline.buffers import Buffers, keep_freed_blocks
from holdfast.pipeline.disks import DiskReader
from holdfast.pipeline.flow import batched, in_order
from holdfast.pipeline.stages import PipeOptions, PipeProgress, StageTimes

_BATCHES_AHEAD = 2
_NOTHING = memoryview(b"")


class UnitSink(Protocol):
    """Where sealed units go: a chain file open for writing."""

    sealer: RecordSealer
    opener: RecordOpener
    unit_size: int
    pieces_per_unit: int
    next_unit: int

    @property
    def end(self) -> int:
        """Return the first byte behind everything written so far."""
        ...

    @property
    def is_committing(self) -> bool:
        """Return whether a started commit is still on its way."""
        ...

    def reserve_unit(self) -> int:
        """Return the number of a new unit."""
        ...

    def stamp(self, point: int) -> Stamp:
        """Return the identity of the next record."""
        ...

    def write_unit(self, number: int, stamp: Stamp, digests: list[bytes], record: list[Buffer]) -> int:
        """Append a unit; return the bytes it takes."""
        ...

    def finish_commit(self) -> None:
        """Wait for a started commit."""
        ...


class DiskSink(Protocol):
    """Where a disk's pieces go, in ascending order: a disk of a point being written."""

    digest_key: bytes
    point_number: int
    disk_tag: bytes
    size_bytes: int
    pieces: int
    cursor: int
    read_bytes: int
    transferred_bytes: int
    resent_bytes: int
    begun_at: int

    def keep_until(self, piece: int) -> None:
        """Leave the pieces up to ``piece`` as at the parent point."""
        ...

    def zero_until(self, piece: int) -> None:
        """Make the pieces up to ``piece`` zeros."""
        ...

    def offer(self, digests: Sequence[bytes], place: int) -> list[int]:
        """Deal with pieces of one unit of the disk, from the cursor on.

        Returns the indexes of those whose bytes must be stored, one behind the other, from ``place`` on.
        """
        ...

    def start_commit(self) -> None:
        """Begin to make everything up to the cursor durable."""
        ...

    def finish(self) -> None:
        """Make the finished disk durable."""
        ...


class _Chunk:
    """A run of pieces on its way to the packing, with the buffer that holds it."""

    __slots__ = ("action", "buffer", "count", "digests", "first", "times")

    def __init__(self, action: Action, first: int, count: int, buffer: bytearray | None) -> None:
        self.action = action
        self.first = first
        self.count = count
        self.buffer = buffer
        self.digests: list[bytes] = []
        self.times = StageTimes()


class _Unit:
    """A unit being packed or encoded, with a buffer of its own."""

    __slots__ = ("buffer", "digests", "flight", "number", "pieces", "stamp")

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.pieces: list[int] = []
        self.digests: list[bytes] = []
        self.number = 0
        self.stamp: Stamp | None = None
        self.flight: Future[tuple[list[Buffer], float]] | None = None


class DiskCopy:
    """Copies one disk into a restore point. `run` may be called once."""

    def __init__(
        self,
        reader: DiskReader,
        sink: DiskSink,
        units: UnitSink,
        clock: Clock,
        options: PipeOptions | None = None,
    ) -> None:
        keep_freed_blocks()
        self._reader = reader
        self._sink = sink
        self._units = units
        self._clock = clock
        self._options = options if options is not None else PipeOptions()
        self._window = max(2, self._options.in_flight_bytes // units.unit_size)
        # Commits begin between batches, so a batch is not larger than what makes one due.
        due = self._options.commit_new_bytes // units.unit_size
        self._batch = max(1, min(self._window // _BATCHES_AHEAD, due))
        self._buffers = Buffers(units.unit_size)
        self._open = _Unit()
        self._encoding: deque[_Unit] = deque()
        self._pool = ThreadPoolExecutor(self._options.threads, thread_name_prefix="pipe")
        self._times = StageTimes()
        self._started_s = clock.monotonic_s()
        self._new_bytes = self._committing_bytes = 0
        self._commit_s = self._started_s
        self._committed = self._committing = sink.cursor

    def run(self, steps: Iterable[PlanStep], report: Callable[[PipeProgress], None]) -> Figures:
        """Carry out the steps from the sink's cursor on and make the disk durable; return the figures.

        ``report`` is called after each chunk; what it raises stops the pipe, and everything committed stays.
        """
        try:
            self._check_size()
            batches = batched(self._chunks(steps), self._batch)
            for batch in in_order(self._pool, self._read, batches, _BATCHES_AHEAD):
                # A commit waits for everything being encoded: here the pool has the next batch to read meanwhile.
                self._commit_if_due()
                for chunk in batch:
                    self._take(chunk)
                    report(self.progress())
            self._sink.keep_until(self._sink.pieces)
            self._drain()
            self._sink.finish()
            self._committed = self._sink.cursor
            return self.progress().figures
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _take(self, chunk: _Chunk) -> None:
        self._sink.keep_until(chunk.first)
        if chunk.action is Action.ZERO:
            self._sink.zero_until(chunk.first + chunk.count)
        else:
            self._pack(chunk)

    def _check_size(self) -> None:
        if self._reader.size_bytes != self._sink.size_bytes:
            raise DiskChanged(
                f"the disk has {self._reader.size_bytes} bytes, the point was begun for {self._sink.size_bytes}"
            )

    def progress(self) -> PipeProgress:
        """Return how far the copy is."""
        size = self._reader.size_bytes
        reached = min(self._sink.cursor * PIECE_SIZE, size)
        return PipeProgress(
            size_bytes=size,
            reached_bytes=reached,
            committed_bytes=min(self._committed * PIECE_SIZE, size),
            figures=Figures(
                size_bytes=size,
                processed_bytes=reached,
                read_bytes=self._sink.read_bytes,
                transferred_bytes=self._sink.transferred_bytes,
                stored_bytes=self._units.end - self._sink.begun_at,
                resent_bytes=self._sink.resent_bytes,
                duration_s=self._clock.monotonic_s() - self._started_s,
            ),
            stages=self._times,
        )

    # -- reading -------------------------------------------------------------------------------------------------

    def _chunks(self, steps: Iterable[PlanStep]) -> Iterator[_Chunk]:
        """Cut the steps into chunks that do not cross a unit boundary of the disk, skipping what is done."""
        done, per_unit = self._sink.cursor, self._units.pieces_per_unit
        for step in steps:
            first = max(step.span.start // PIECE_SIZE, done)
            end = -(-step.span.end // PIECE_SIZE)
            if step.action is Action.ZERO:
                if first < end:
                    yield _Chunk(Action.ZERO, first, end - first, None)
                continue
            while first < end:
                stop = min(end, (first // per_unit + 1) * per_unit)
                yield _Chunk(Action.READ, first, stop - first, self._buffers.take())
                first = stop

    def _read(self, batch: list[_Chunk]) -> list[_Chunk]:
        """Read all chunks of a batch, then digest all.

        Digests are made many at a time because some processors slow down for a millisecond after each use of their
        widest vector instructions, which BLAKE3 uses and zstd, which comes next, does not.
        """
        views = [self._fill(chunk) for chunk in batch]
        clock = self._clock.monotonic_s
        for chunk, view in zip(batch, views, strict=True):
            started_s = clock()
            chunk.digests = piece_digests(view, self._sink.digest_key)
            chunk.times.digest_s = clock() - started_s
        return batch

    def _fill(self, chunk: _Chunk) -> memoryview:
        """Read the pieces of a chunk into its buffer, with zeros behind the end of the disk; return them."""
        if chunk.buffer is None:
            return _NOTHING
        started_s = self._clock.monotonic_s()
        offset = chunk.first * PIECE_SIZE
        view = memoryview(chunk.buffer)[: chunk.count * PIECE_SIZE]
        there = min(len(view), self._reader.size_bytes - offset)
        self._reader.read_into(offset, view[:there])
        if there < len(view):
            view[there:] = bytes(len(view) - there)
        chunk.times.source_s = self._clock.monotonic_s() - started_s
        return view

    # -- packing -------------------------------------------------------------------------------------------------

    def _pack(self, chunk: _Chunk) -> None:
        self._times.add(chunk.times)
        self._sink.read_bytes += chunk.count * PIECE_SIZE
        place = self._units.next_unit * self._units.pieces_per_unit + len(self._open.pieces)
        self._store(chunk, self._sink.offer(chunk.digests, place))
        if chunk.buffer is not None:
            self._buffers.give_back(chunk.buffer)
            chunk.buffer = None
        self._write_ready(len(self._encoding) - self._window)

    def _store(self, chunk: _Chunk, slots: list[int]) -> None:
        """Put pieces of a chunk into the open unit, and into the next ones when it is full."""
        per_unit = self._units.pieces_per_unit
        while slots:
            unit = self._open
            room = per_unit - len(unit.pieces)
            taken, slots = slots[:room], slots[room:]
            self._move(chunk, taken, unit)
            unit.pieces.extend(chunk.first + slot for slot in taken)
            unit.digests.extend(chunk.digests[slot] for slot in taken)
            if len(taken) == room:
                self._seal()

    def _move(self, chunk: _Chunk, slots: list[int], unit: _Unit) -> None:
        """Bring the bytes of pieces into a unit. No chunk outlives its packing, so scattered pieces hold no memory."""
        assert chunk.buffer is not None
        if len(slots) == self._units.pieces_per_unit:
            unit.buffer, chunk.buffer = chunk.buffer, None
            return
        if not unit.buffer:
            unit.buffer = self._buffers.take()
        source, target = memoryview(chunk.buffer), memoryview(unit.buffer)
        at = len(unit.pieces) * PIECE_SIZE
        for slot in slots:
            target[at : at + PIECE_SIZE] = source[slot * PIECE_SIZE : (slot + 1) * PIECE_SIZE]
            at += PIECE_SIZE

    def _seal(self) -> None:
        """Send the open unit to be encoded."""
        unit, self._open = self._open, _Unit()
        if unit.pieces:
            unit.number = self._units.reserve_unit()
            unit.stamp = self._units.stamp(self._sink.point_number)
            unit.flight = self._pool.submit(self._encode, unit)
            self._encoding.append(unit)

    def _encode(self, unit: _Unit) -> tuple[list[Buffer], float]:
        started_s = self._clock.monotonic_s()
        assert unit.stamp is not None
        size = len(unit.pieces) * PIECE_SIZE
        body = unit.buffer if size == len(unit.buffer) else unit.buffer[:size]
        tag = self._sink.disk_tag
        pairs = zip(unit.pieces, unit.digests, strict=True)
        entries = [PieceEntry(tag, piece, digest) for piece, digest in pairs]
        codec, packed = compress(body, self._options.compression)
        record = self._units.sealer.unit(unit.stamp, entries, codec, packed)
        found, decoded = self._units.opener.sealed_unit(record)
        # Only bytes and bytearrays are compared at memory speed.
        if found != entries or body != (decoded if isinstance(decoded, bytes) else bytes(decoded)):
            raise EncodingFailed(f"unit {unit.number} of point {self._sink.point_number} does not decode to its bytes")
        return record, self._clock.monotonic_s() - started_s

    # -- writing -------------------------------------------------------------------------------------------------

    def _write_ready(self, at_least: int) -> None:
        """Write units that are encoded, in order; wait for the first ``at_least`` of them."""
        while self._encoding and (at_least > 0 or _is_done(self._encoding[0])):
            unit = self._encoding.popleft()
            at_least -= 1
            assert unit.flight is not None
            assert unit.stamp is not None
            record, encode_s = unit.flight.result()
            started_s = self._clock.monotonic_s()
            self._sink.transferred_bytes += self._units.write_unit(unit.number, unit.stamp, unit.digests, record)
            self._times.add(StageTimes(encode_s=encode_s, target_s=self._clock.monotonic_s() - started_s))
            self._new_bytes += len(unit.pieces) * PIECE_SIZE
            self._buffers.give_back(unit.buffer)
            reach("pipe.unit_written")

    def _drain(self) -> None:
        self._seal()
        self._write_ready(len(self._encoding))

    def _commit_if_due(self) -> None:
        if not self._units.is_committing:
            self._finish_commit()
        now_s = self._clock.monotonic_s()
        waiting = self._new_bytes + len(self._encoding) * self._units.unit_size
        if self._committing_bytes + waiting >= self._options.uncommitted_bytes_max:
            self._finish_commit()
            self._times.commit_wait_s += self._clock.monotonic_s() - now_s
        is_due = waiting >= self._options.commit_new_bytes or now_s - self._commit_s >= self._options.commit_interval_s
        if is_due and not self._units.is_committing:
            self._drain()
            self._sink.start_commit()
            self._committing = self._sink.cursor
            self._commit_s = now_s
            self._committing_bytes, self._new_bytes = self._new_bytes, 0

    def _finish_commit(self) -> None:
        self._units.finish_commit()
        self._committed = self._committing
        self._committing_bytes = 0


def _is_done(unit: _Unit) -> bool:
    return unit.flight is not None and unit.flight.done()
