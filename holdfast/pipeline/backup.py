"""The first half of the backup pipe: from the source disk to units on their way to the restore point.

::

    reader -> read ahead -> digest ==> (in order) offer ... wanted ==> pack -> encode ==> (in order) send

Reading, digesting and encoding run on the pool's threads, where C code drops the interpreter lock; offering and
packing run on the caller's thread, which moves references only. Memory is bounded by `PipeOptions`, whatever the
disk's size.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from holdfast.clock import Clock
from holdfast.errors import DiskChanged
from holdfast.formats.digests import piece_digests
from holdfast.formats.magic import PIECE_SIZE, ZERO_DIGEST
from holdfast.formats.mover.window import Window
from holdfast.model.plan import Action, PlanStep
from holdfast.model.session import Figures
from holdfast.pipeline.ahead import ZEROS_MAX, Ahead
from holdfast.pipeline.buffers import Buffers, keep_freed_blocks
from holdfast.pipeline.busy import PipeClocks
from holdfast.pipeline.disks import DiskReader
from holdfast.pipeline.flow import batched, in_order
from holdfast.pipeline.packing import Packer
from holdfast.pipeline.sink import Answer, DiskSink
from holdfast.pipeline.stages import PipeOptions, PipeProgress, StageTimes

_BATCHES_AHEAD = 2
_NOTHING = memoryview(b"")


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


class DiskCopy:
    """Copies one disk into a restore point. `run` may be called once."""

    def __init__(self, reader: DiskReader, sink: DiskSink, clock: Clock, options: PipeOptions | None = None) -> None:
        keep_freed_blocks()
        self._reader = reader
        self._sink = sink
        self._clock = clock
        self.busy = PipeClocks(clock)
        """The stages; whoever wraps the reader or the sink counts its part there."""
        sink.watch(self.busy)
        self._options = options if options is not None else PipeOptions()
        unit_size = sink.unit_size
        window = max(2, self._options.in_flight_bytes // unit_size)
        self._batch = max(1, window // _BATCHES_AHEAD)
        self._offered_chunks = Window(
            max(2, self._options.offered_bytes // unit_size), self._options.offered_bytes_max // unit_size
        )
        self._buffers = Buffers(unit_size)
        self._pool = ThreadPoolExecutor(self._options.threads, thread_name_prefix="pipe")
        self._packer = Packer(sink, self._pool, self._buffers, clock, self._options.compression, window)
        self._packer.busy = self.busy.proxy
        self._offered: deque[tuple[_Chunk, Answer]] = deque()
        self._ahead = Ahead()
        self._unanswered = 0
        self._times = StageTimes()
        self._started_s = clock.monotonic_s()
        self._reached = sink.standing.taken

    def run(self, steps: Iterable[PlanStep], report: Callable[[PipeProgress], None]) -> Figures:
        """Carry out the steps from where the sink is and make the disk durable; return the figures.

        ``report`` is called after each chunk; what it raises stops the pipe, and everything committed stays.
        """
        try:
            self._check_size()
            batches = batched(self._chunks(steps), self._batch)
            for batch in in_order(self._pool, self._read, batches, _BATCHES_AHEAD):
                for chunk in batch:
                    self._take(chunk)
                    report(self.progress())
            self._pack_answered(0)
            self._packer.drain()
            self._sink.finish()
            return self.progress().figures
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._sink.close()

    def _take(self, chunk: _Chunk) -> None:
        if chunk.action is Action.ZERO:
            self._zero(chunk.first, chunk.first + chunk.count)
        else:
            self._times.add(chunk.times)
            self._offer(chunk)
        self._reached = chunk.first + chunk.count
        self._pack_answered(self._offered_chunks.size)

    def _zero(self, first: int, end: int) -> None:
        self._unanswered += 1
        if self._unanswered > ZEROS_MAX:
            asking = _Chunk(Action.READ, first, 1, bytearray())
            asking.digests = [ZERO_DIGEST]
            self._offer(asking)  # for its answer, which says whether the open unit is to be sent
            first += 1
        if first < end:
            self._make_room(1)
            self._sink.zero(first, end)
            self._ahead.add(end, 1)

    def _offer(self, chunk: _Chunk) -> None:
        self._unanswered = 0
        self._make_room(len(chunk.digests))
        self._offered.append((chunk, self._sink.offer(chunk.first, chunk.digests)))
        self._ahead.add(chunk.first + chunk.count, len(chunk.digests))

    def _make_room(self, entries: int) -> None:
        """Wait until the sink has taken so much that it takes more."""
        while not self._ahead.has_room(entries):
            self._ahead.taken(self._sink.standing.taken)
            if not self._ahead.has_room(entries):
                self._pack_answered(0)
                self._packer.send_closed()
                self._sink.catch_up()

    def _pack_answered(self, open_max: int) -> None:
        """Pack the chunks whose answers are there; wait until no more than ``open_max`` are without."""
        while self._offered and (len(self._offered) > open_max or self._offered[0][1].done()):
            chunk, answer = self._offered.popleft()
            asked_s = self._clock.monotonic_s()
            wanted = self.busy.network.awaited(answer)
            self._times.answer_wait_s += self._clock.monotonic_s() - asked_s
            assert chunk.buffer is not None
            self._offered_chunks.moved(1, self._clock.monotonic_s(), self._sink.round_trip_s)
            self._packer.pack(chunk.first, chunk.digests, chunk.buffer, wanted)
            chunk.buffer = None

    def _check_size(self) -> None:
        if self._reader.size_bytes != self._sink.size_bytes:
            raise DiskChanged(
                f"the disk has {self._reader.size_bytes} bytes, the point was begun for {self._sink.size_bytes}"
            )

    def progress(self) -> PipeProgress:
        """Return how far the copy is."""
        size, standing = self._reader.size_bytes, self._sink.standing
        reached = min(max(self._reached, standing.taken) * PIECE_SIZE, size)
        times = StageTimes()
        for part in (self._times, self._packer.times, standing.times):
            times.add(part)
        figures = Figures(
            size_bytes=size,
            processed_bytes=reached,
            read_bytes=standing.read_bytes,
            transferred_bytes=standing.transferred_bytes,
            stored_bytes=standing.stored_bytes,
            resent_bytes=standing.resent_bytes,
            duration_s=self._clock.monotonic_s() - self._started_s,
        )
        # Who cannot send may wait for the repository, which is busy then, or held up itself.
        excuse_s = self.busy.target.seconds + self.busy.throttled.seconds
        return PipeProgress(
            size_bytes=size,
            reached_bytes=reached,
            committed_bytes=min(standing.committed * PIECE_SIZE, size),
            figures=self.busy.charged(figures, [excuse_s]),
            stages=times,
        )

    def _chunks(self, steps: Iterable[PlanStep]) -> Iterator[_Chunk]:
        """Cut the steps into chunks that do not cross a unit boundary of the disk, skipping what is done."""
        done, per_unit = self._sink.standing.taken, self._sink.unit_size // PIECE_SIZE
        for step in self._planned(steps):
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

    def _planned(self, steps: Iterable[PlanStep]) -> Iterator[PlanStep]:
        """Yield the steps; finding out what to read is the source's work: it asks for changes, and reads samples."""
        planned = iter(steps)
        while True:
            with self.busy.source:
                step = next(planned, None)
            if step is None:
                return
            yield step

    def _read(self, batch: list[_Chunk]) -> list[_Chunk]:
        """Read all chunks of a batch, then digest all.

        Digests are made many at a time because some processors slow down for a millisecond after each use of their
        widest vector instructions, which BLAKE3 uses and zstd, which comes next, does not.
        """
        with self.busy.source:
            views = [self._fill(chunk) for chunk in batch]
        clock = self._clock.monotonic_s
        with self.busy.proxy:
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
