"""Takes the pieces of a disk into a restore point: the second half of the backup pipe.

::

    offered digests -> sort out what is known ==> wanted
    packed units => seal, open, decode, compare ==> (in order) write -> enter in the maps -> commit

An offer is answered at once and entered in the maps only when the units it speaks of are written. So a commit never
has to wait for what is on its way, however long the line is, and never speaks of anything that is not there.
"""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

import msgspec
from isal.isal_zlib import crc32

from holdfast import measures
from holdfast.clock import Clock
from holdfast.errors import DataDamaged, EncodingFailed, ProtocolError, RequestInvalid
from holdfast.faults import reach
from holdfast.formats.contents import LeftOut
from holdfast.formats.magic import PIECE_SIZE
from holdfast.formats.record import Buffer, PieceEntry, Stamp
from holdfast.pipeline.ahead import AHEAD_MAX, UNIT_OPEN_MAX
from holdfast.pipeline.buffers import keep_freed_blocks
from holdfast.pipeline.busy import PipeClocks
from holdfast.pipeline.pace import Pace
from holdfast.pipeline.sink import Answered, PackedUnit, Standing, Wanted
from holdfast.pipeline.stages import PipeOptions, StageTimes
from holdfast.storage.chain_files.group_commit import CommitGroup
from holdfast.storage.chain_files.known_pieces import FormerPieces
from holdfast.storage.points.offers import OfferSorter, Sorted
from holdfast.storage.points.point_writer import DiskPointWriter


class _Step(msgspec.Struct, frozen=True):
    """What is to be entered in the maps once the units before ``ready_at`` are written.

    Pieces between the step before and ``first`` are kept.
    """

    first: int
    end: int
    ready_at: int = 0
    digests: Sequence[bytes] = ()
    """Of offered pieces; without any the pieces become zeros."""
    found: Sorted = Sorted([], [], 0)

    @property
    def entries(self) -> int:
        """Return as how much it counts while it waits; see `holdfast.pipeline.ahead`."""
        return len(self.digests) or 1


class _Sealing(msgspec.Struct, frozen=True):
    """A unit on its way through the pool."""

    unit: PackedUnit
    stamp: Stamp
    flight: Future[tuple[list[Buffer], float]]


class DiskIntake:
    """Takes one disk; see `holdfast.pipeline.sink.DiskSink`. Other disks of the point may be taken at the same time."""

    def __init__(  # noqa: PLR0913 - the disk, and what it shares with others
        self,
        disk: DiskPointWriter,
        clock: Clock,
        options: PipeOptions | None = None,
        former: FormerPieces | None = None,
        *,
        group: CommitGroup | None = None,
        pace: Pace | None = None,
    ) -> None:
        keep_freed_blocks()
        self._disk = disk
        self._pace = pace
        self._writer = disk.writer
        self._clock = clock
        self._options = options if options is not None else PipeOptions()
        self._is_alone = group is None
        self._group = group if group is not None else CommitGroup(disk.writer, clock, self._options)
        self._sorter = OfferSorter(self._writer, disk.parent, former, self._group.known)
        self._passed = disk.cursor
        self._steps: deque[_Step] = deque()
        self._said = self._entered = self._opened_at = 0
        self._open_unit: int | None = None
        self._pool = ThreadPoolExecutor(self._options.threads, thread_name_prefix="seal")
        self._sealing: deque[_Sealing] = deque()
        self._sealing_max = max(2, self._options.in_flight_bytes // 4 // self._writer.unit_size)
        self._written = self._writer.next_unit
        self._failure: BaseException | None = None
        self._times = StageTimes()
        self._target = PipeClocks(clock).target
        self._known = self._new = 0
        self._committed = self._committing = disk.cursor
        self._group.join(self)

    @property
    def key(self) -> str:
        """Return the key of the disk."""
        return self._disk.key

    @property
    def digest_key(self) -> bytes:
        """Return the key of the piece digests."""
        return self._disk.digest_key

    @property
    def size_bytes(self) -> int:
        """Return the size the disk was begun with."""
        return self._disk.size_bytes

    @property
    def unit_size(self) -> int:
        """Return how many bytes are compressed and encrypted together."""
        return self._writer.unit_size

    @property
    def standing(self) -> Standing:
        """Return how far the disk is."""
        disk = self._disk
        return Standing(
            taken=disk.cursor,
            committed=self._committed,
            written=self._written,
            stored_bytes=self._writer.end - disk.begun_at,
            transferred_bytes=disk.transferred_bytes,
            read_bytes=disk.read_bytes,
            resent_bytes=disk.resent_bytes,
            times=self._times,
        )

    @property
    def round_trip_s(self) -> float:
        """Return 0: answers are there at once."""
        return 0.0

    def watch(self, busy: PipeClocks) -> None:
        """Count from now on in these clocks how long storing takes, and how long units wait for their share."""
        self._target = busy.target
        if self._pace is not None:
            self._pace.waiting = busy.throttled

    def describe(self, detail: str, left_out: LeftOut | None = None) -> None:
        """Say how the disk is read and why, and what the point lacks; None leaves that as it was said last."""
        self._disk.detail = detail
        if left_out is not None:
            self._disk.left_out = msgspec.UNSET if left_out == LeftOut() else left_out

    # -- what is offered -----------------------------------------------------------------------------------------

    def offer(self, first: int, digests: Sequence[bytes]) -> Answered:
        """Answer which of some pieces have to be sent.

        Raises `RequestInvalid` when they come out of order, and `ProtocolError` when too much waits for units that
        were wanted before and did not come.
        """
        with self._target:
            self._pass(first, first + len(digests), len(digests))
            self._commit_if_due()
            with self._group.lock:
                self._close_old_unit()
                self._disk.read_bytes += len(digests) * PIECE_SIZE
                found = self._sorter.sort_out(first, digests)
                self._new += len(found.slots)
                self._known += len(digests) - len(found.slots)
                self._enter(_Step(first, first + len(digests), self._sorter.unit_needed(found), digests, found))
        return Answered(Wanted(found.slots, found.first_new))

    def keep_until(self, piece: int) -> None:
        """Leave the pieces up to ``piece`` as at the parent point."""
        if piece > self._passed:
            with self._target:
                self._pass(piece, piece)
                self._enter(_Step(piece, piece))

    def zero(self, first: int, end: int) -> None:
        """Make the pieces ``[first, end)`` zeros."""
        with self._target:
            self._pass(first, end)
            self._enter(_Step(first, end))

    def _pass(self, first: int, end: int, entries: int = 1) -> None:
        if self._said - self._entered + entries > AHEAD_MAX:
            raise ProtocolError(f"more than {AHEAD_MAX} pieces wait for unit {self._written}, which did not come")
        if not self._passed <= first <= end <= self._disk.pieces:
            raise RequestInvalid(f"pieces {first} to {end} of {self._disk.pieces} come after piece {self._passed}")
        self._passed = end

    def _close_old_unit(self) -> None:
        """Promise nothing more in a unit that has waited to be filled for long: what comes behind it waits as well."""
        if self._sorter.open_unit != self._open_unit:
            self._open_unit, self._opened_at = self._sorter.open_unit, self._said
        elif self._said - self._opened_at > UNIT_OPEN_MAX:
            self._sorter.begin_unit()

    def _enter(self, step: _Step) -> None:
        with self._group.lock:
            self._group.check()
            self._steps.append(step)
            self._said += step.entries
            self._enter_ready()

    def _enter_ready(self) -> None:
        """Enter in the maps what the units written so far allow, in order."""
        try:
            while self._steps and self._steps[0].ready_at <= self._written:
                step = self._steps.popleft()
                self._entered += step.entries
                self._disk.keep_until(step.first)
                if step.digests:
                    self._disk.enter(step.digests, self._sorter.settled(step.found))
                else:
                    self._disk.zero_until(step.end)
            self._group.account(self)
        except BaseException as error:
            self._group.fail(error)  # the maps are half changed
            raise

    # -- what is sent --------------------------------------------------------------------------------------------

    def put(self, unit: PackedUnit) -> None:
        """Take a unit of wanted pieces.

        Raises `RequestInvalid` for one that is not the next, `ProtocolError` for one of other pieces.
        """
        with self._group.lock:
            expected = self._written + len(self._sealing)
            if unit.number != expected:
                raise RequestInvalid(f"unit {unit.number} comes instead of {expected}")
            self._sorter.receive(unit.number, unit.digests)
        if self._pace is not None:
            self._pace.take(len(unit.packed), self.tend)
            self._times.throttled_s = self._pace.waited_s
        with self._target:
            self._commit_if_due()
            with self._group.lock:
                stamp = self._writer.stamp(self._disk.point_number)
                self._sealing.append(_Sealing(unit, stamp, self._pool.submit(self._seal, unit, stamp)))
            self._write_sealed(self._sealing_max)

    def _seal(self, unit: PackedUnit, stamp: Stamp) -> tuple[list[Buffer], float]:
        """Return the record of a unit, once it is proven to give back the bytes that were packed."""
        started_s = self._clock.monotonic_s()
        tag = self._disk.disk_tag
        entries = [PieceEntry(tag, *pair) for pair in zip(unit.pieces, unit.digests, strict=True)]
        with self._target:
            record = self._writer.sealer.unit(stamp, entries, unit.codec, unit.packed)
            try:
                found, body = self._writer.opener.sealed_unit(record)
                is_good = found == entries and len(body) == len(entries) * PIECE_SIZE and crc32(body) == unit.body_crc
            except DataDamaged:
                is_good = False
        if not is_good:
            raise EncodingFailed(f"unit {unit.number} of point {stamp.point} does not decode to its bytes")
        return record, self._clock.monotonic_s() - started_s

    def _write_sealed(self, left: int) -> None:
        """Write units that are sealed, in order; wait until no more than ``left`` are not. Others go on meanwhile."""
        while True:
            with self._group.lock:
                self._group.check()
                self._write_ready()
                if self._failure is not None:
                    raise self._failure
                if len(self._sealing) <= left:
                    return
                flight = self._sealing[0].flight
            wait([flight])

    def _write_ready(self) -> None:
        while self._sealing and self._sealing[0].flight.done():
            sealing = self._sealing[0]
            self._failure = sealing.flight.exception()
            if self._failure is not None:
                self._sealing.clear()  # of no use without the one before; it may be another disk that asked
                return
            self._write(sealing, *sealing.flight.result())
            self._sealing.popleft()
        self._enter_ready()

    def _write(self, sealing: _Sealing, record: list[Buffer], seal_s: float) -> None:
        started_s = self._clock.monotonic_s()
        unit = sealing.unit
        number = self._writer.reserve_unit()
        self._disk.transferred_bytes += self._writer.write_unit(number, sealing.stamp, unit.digests, record)
        self._sorter.written(number, unit.digests)
        self._written += 1
        self._times.add(StageTimes(seal_s=seal_s, target_s=self._clock.monotonic_s() - started_s))
        self._group.stored(self, len(unit.pieces) * PIECE_SIZE)
        reach("pipe.unit_written")

    # -- commits -------------------------------------------------------------------------------------------------

    @property
    def unwritten_bytes(self) -> int:
        """Return what is on its way into the file."""
        return len(self._sealing) * self._writer.unit_size

    def bring(self) -> None:
        """Write what is on its way, and enter it in the contents: a commit is about to start."""
        wait([sealing.flight for sealing in self._sealing])
        self._write_ready()
        self._disk.enter_map()

    def commit_started(self, flight: Future[None], *, is_late: bool) -> None:
        """Remember how far the commit goes; storing is busy until it is over, whoever waits for it."""
        self._committing = self._disk.cursor
        self._measure_pieces()
        target = self._target
        target.begin()
        flight.add_done_callback(lambda _: target.end())
        if is_late:
            self._sorter.begin_unit()  # what waits in the open unit holds up what comes behind it

    def _measure_pieces(self) -> None:
        """Count the pieces that were offered since the last commit."""
        new, known, self._new, self._known = self._new, self._known, 0, 0
        measures.PIECES.record(new, repository=self._group.repository, fate="stored")
        measures.PIECES.record(known, repository=self._group.repository, fate="known")

    def commit_finished(self) -> None:
        """Take note that everything up to the commit is durable."""
        self._committed = self._committing

    @property
    def is_ahead(self) -> bool:
        """Return whether it has entered more than is known to be durable."""
        return self._committed < self._disk.cursor

    def leave(self) -> None:
        """Enter what it has in the contents, so that the disk can be opened again."""
        self._disk.enter_map()

    def set_growth_aside(self, size: int) -> None:
        """Take note that the file grew by so much for other disks."""
        self._disk.begun_at += size

    def _commit_if_due(self) -> None:
        self._times.commit_wait_s += self._group.commit_if_due(self)

    def tend(self) -> None:
        """Write and commit what is due."""
        with self._target:
            self._write_sealed(len(self._sealing))
            self._commit_if_due()

    def catch_up(self) -> None:
        """Write the first unit that was put and is not written, wait for it, and commit what is due."""
        with self._target:
            self._write_sealed(max(0, len(self._sealing) - 1))
            self._commit_if_due()

    def finish(self) -> None:
        """Return once the whole disk is durable. Raises `RequestInvalid` when something is missing."""
        self.keep_until(self._disk.pieces)
        with self._target:
            self._write_sealed(0)
            if self._steps:
                raise RequestInvalid(f"unit {self._written} was wanted and did not come")
            if self._disk.is_entered and self._disk.pieces:
                self._group.finish()  # the commit that says so may still be on its way, or have failed
            else:
                self._group.commit(self)
        self._committed = self._disk.cursor

    def close(self) -> None:
        """Stop what is on its way. Idempotent."""
        try:
            if not self._is_alone:
                self._group.leave(self)
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)
