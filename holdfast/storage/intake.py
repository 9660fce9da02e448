"""Takes the pieces of a disk into a restore point: the second half of the backup pipe.

::

    offered digests -> sort out what is known ==> wanted
    packed units => seal, open, decode, compare ==> (in order) write -> enter in the maps -> commit

An offer is answered at once and entered in the maps only when the units it speaks of are written. So a commit never
has to wait for what is on its way, however long the line is, and never speaks of anything that is not there.
"""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import msgspec
from isal.isal_zlib import crc32

from holdfast.clock import Clock
from holdfast.errors import DataDamaged, EncodingFailed, RequestInvalid
from holdfast.faults import reach
from holdfast.formats.contents import LeftOut
from holdfast.formats.magic import PIECE_SIZE
from holdfast.formats.record import Buffer, PieceEntry, Stamp
from holdfast.pipeline.buffers import keep_freed_blocks
from holdfast.pipeline.sink import Answered, PackedUnit, Standing, Wanted
from holdfast.pipeline.stages import PipeOptions, StageTimes
from holdfast.storage.known_pieces import FormerPieces
from holdfast.storage.offers import OfferSorter, Sorted
from holdfast.storage.point_writer import DiskPointWriter


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


class _Sealing(msgspec.Struct, frozen=True):
    """A unit on its way through the pool."""

    unit: PackedUnit
    stamp: Stamp
    flight: Future[tuple[list[Buffer], float]]


class DiskIntake:
    """Takes one disk; see `holdfast.pipeline.sink.DiskSink`."""

    def __init__(
        self,
        disk: DiskPointWriter,
        clock: Clock,
        options: PipeOptions | None = None,
        former: FormerPieces | None = None,
    ) -> None:
        keep_freed_blocks()
        self._disk = disk
        self._writer = disk.writer
        self._clock = clock
        self._options = options if options is not None else PipeOptions()
        self._sorter = OfferSorter(self._writer, disk.parent, former)
        self._passed = disk.cursor
        self._steps: deque[_Step] = deque()
        self._pool = ThreadPoolExecutor(self._options.threads, thread_name_prefix="seal")
        self._sealing: deque[_Sealing] = deque()
        self._sealing_max = max(2, self._options.in_flight_bytes // 4 // self._writer.unit_size)
        self._written = self._writer.next_unit
        self._times = StageTimes()
        self._committed = self._committing = disk.cursor
        self._new_bytes = self._committing_bytes = 0
        self._commit_s = clock.monotonic_s()

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

    def describe(self, detail: str) -> None:
        """Say in words how the disk is read and why; it goes into the restore point."""
        self._disk.detail = detail

    def lack(self, left_out: LeftOut | None) -> None:
        """Say what the point lacks because the guest did not need it."""
        self._disk.left_out = msgspec.UNSET if left_out is None or left_out == LeftOut() else left_out

    # -- what is offered -----------------------------------------------------------------------------------------

    def offer(self, first: int, digests: Sequence[bytes]) -> Answered:
        """Answer which of some pieces have to be sent. Raises `RequestInvalid` when they come out of order."""
        self._pass(first, first + len(digests))
        self._commit_if_due()
        self._disk.read_bytes += len(digests) * PIECE_SIZE
        found = self._sorter.sort_out(first, digests)
        ready_at = 1 + max(found.places, default=-1) // self._writer.pieces_per_unit
        self._enter(_Step(first, first + len(digests), ready_at, digests, found))
        return Answered(Wanted(found.slots, found.first_new))

    def keep_until(self, piece: int) -> None:
        """Leave the pieces up to ``piece`` as at the parent point."""
        if piece > self._passed:
            self._pass(piece, piece)
            self._enter(_Step(piece, piece))

    def zero(self, first: int, end: int) -> None:
        """Make the pieces ``[first, end)`` zeros."""
        self._pass(first, end)
        self._enter(_Step(first, end))

    def _pass(self, first: int, end: int) -> None:
        if not self._passed <= first <= end <= self._disk.pieces:
            raise RequestInvalid(f"pieces {first} to {end} of {self._disk.pieces} come after piece {self._passed}")
        self._passed = end

    def _enter(self, step: _Step) -> None:
        self._steps.append(step)
        self._enter_ready()

    def _enter_ready(self) -> None:
        """Enter in the maps what the units written so far allow, in order."""
        while self._steps and self._steps[0].ready_at <= self._written:
            step = self._steps.popleft()
            self._disk.keep_until(step.first)
            if step.digests:
                self._disk.enter(step.digests, step.found)
            else:
                self._disk.zero_until(step.end)

    # -- what is sent --------------------------------------------------------------------------------------------

    def put(self, unit: PackedUnit) -> None:
        """Take a unit of wanted pieces. Raises `RequestInvalid` for one that is not the next."""
        if unit.number != self._written + len(self._sealing):
            raise RequestInvalid(f"unit {unit.number} comes instead of {self._written + len(self._sealing)}")
        self._commit_if_due()
        stamp = self._writer.stamp(self._disk.point_number)
        self._sealing.append(_Sealing(unit, stamp, self._pool.submit(self._seal, unit, stamp)))
        self._write_sealed(len(self._sealing) - self._sealing_max)

    def _seal(self, unit: PackedUnit, stamp: Stamp) -> tuple[list[Buffer], float]:
        """Return the record of a unit, once it is proven to give back the bytes that were packed."""
        started_s = self._clock.monotonic_s()
        tag = self._disk.disk_tag
        entries = [PieceEntry(tag, *pair) for pair in zip(unit.pieces, unit.digests, strict=True)]
        record = self._writer.sealer.unit(stamp, entries, unit.codec, unit.packed)
        try:
            found, body = self._writer.opener.sealed_unit(record)
            is_good = found == entries and len(body) == len(entries) * PIECE_SIZE and crc32(body) == unit.body_crc
        except DataDamaged:
            is_good = False
        if not is_good:
            raise EncodingFailed(f"unit {unit.number} of point {stamp.point} does not decode to its bytes")
        return record, self._clock.monotonic_s() - started_s

    def _write_sealed(self, at_least: int) -> None:
        """Write units that are sealed, in order; wait for the first ``at_least`` of them."""
        while self._sealing and (at_least > 0 or self._sealing[0].flight.done()):
            sealing = self._sealing.popleft()
            at_least -= 1
            record, seal_s = sealing.flight.result()
            started_s = self._clock.monotonic_s()
            unit = sealing.unit
            number = self._writer.reserve_unit()
            self._disk.transferred_bytes += self._writer.write_unit(number, sealing.stamp, unit.digests, record)
            self._written = number + 1
            self._times.add(StageTimes(seal_s=seal_s, target_s=self._clock.monotonic_s() - started_s))
            self._new_bytes += len(unit.pieces) * PIECE_SIZE
            reach("pipe.unit_written")
        self._enter_ready()

    # -- commits -------------------------------------------------------------------------------------------------

    def _commit_if_due(self) -> None:
        if not self._writer.is_committing:
            self._finish_commit()
        now_s = self._clock.monotonic_s()
        waiting = self._new_bytes + len(self._sealing) * self._writer.unit_size
        if self._committing_bytes + waiting >= self._options.uncommitted_bytes_max:
            self._finish_commit()
            self._times.commit_wait_s += self._clock.monotonic_s() - now_s
        is_late = now_s - self._commit_s >= self._options.commit_interval_s
        if (waiting >= self._options.commit_new_bytes or is_late) and not self._writer.is_committing:
            self._commit(now_s)
            if is_late:
                self._sorter.begin_unit()  # what waits in the open unit holds up what comes behind it

    def _commit(self, now_s: float) -> None:
        self._write_sealed(len(self._sealing))  # they carry the number of this commit
        self._disk.start_commit()
        self._committing = self._disk.cursor
        self._commit_s = now_s
        self._committing_bytes, self._new_bytes = self._new_bytes, 0

    def _finish_commit(self) -> None:
        self._writer.finish_commit()
        self._committed = self._committing
        self._committing_bytes = 0

    def tend(self) -> None:
        """Write and commit what is due."""
        self._write_sealed(0)
        self._commit_if_due()

    def finish(self) -> None:
        """Return once the whole disk is durable. Raises `RequestInvalid` when something is missing."""
        self.keep_until(self._disk.pieces)
        self._write_sealed(len(self._sealing))
        if self._steps:
            raise RequestInvalid(f"unit {self._written} was wanted and did not come")
        self._disk.finish()
        self._committed = self._disk.cursor

    def close(self) -> None:
        """Stop what is on its way. Idempotent."""
        self._pool.shutdown(wait=True, cancel_futures=True)
