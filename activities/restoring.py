"""One attempt at writing a disk of a point to a target, with a look at what the target holds where that pays."""

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from activities.contracts.transfer import DiskRestored, RestoreDisk, TransferCursor
from activities.metering import TaskMeter
from activities.tally import Tally
from holdfast.clock import Clock
from holdfast.formats.magic import PIECE_SIZE
from holdfast.pipeline.disks import DiskWriter
from holdfast.pipeline.pace import Pace
from holdfast.pipeline.restore import StoredSource, compare_target
from holdfast.pipeline.rollback import DiskRollback, Report, RolledBack
from holdfast.planning.bottleneck import bottleneck_words


class Told(NamedTuple):
    """Who is told how an attempt goes on, and what holds it back."""

    beat: Callable[[TransferCursor], None]
    meter: TaskMeter
    pace: Pace
    is_later: bool
    """Whether there was another one before it."""


class DiskWriting:
    """Writes what an attempt has to; ``previous`` is the last report of the attempt before, None when there is none.

    A disk that began empty is not looked at by the first told. A later one looks at what the earlier
    ones may have written, also when their reports were lost. A disk that began with content is compared in full.
    """

    def __init__(
        self, request: RestoreDisk, source: StoredSource, target: DiskWriter, previous: TransferCursor | None
    ) -> None:
        self._request = request
        self._source = source
        self._target = target
        self._previous = previous
        self._first = 0 if previous is None else self._piece(previous.committed_bytes)
        self._reported = 0 if previous is None else max(self._first, self._piece(previous.reached_bytes))

    def run(self, clock: Clock, told: Told) -> DiskRestored:
        """Write, compare, and return the reply. What ``beat`` raises stops it."""
        source, request, pace = self._source, self._request, told.pace
        subject = TransferCursor(
            machine=source.machine_name,
            disk=request.disk,
            size_bytes=source.size_bytes,
            committed_bytes=0,
            reached_bytes=0,
            target_id=request.target_id,
        )
        # What was written and not committed is looked at, and counts as resent only where it was not there.
        tally = Tally(clock, subject, self._previous, min(self._reported * PIECE_SIZE, source.size_bytes))
        report = told.meter.counting(lambda progress: told.beat(tally.cursor(pace.charged(progress))))
        done = self._write(clock, report, is_later=told.is_later)
        told.meter.done(done.figures)
        busy = tally.busy(pace.without_waits(done.stages))
        figures = tally.figures(done.figures)
        figures = msgspec.structs.replace(figures, resent_bytes=figures.resent_bytes + done.again_bytes)
        if request.compare:
            end = msgspec.structs.replace(
                subject,
                committed_bytes=source.size_bytes,
                reached_bytes=source.size_bytes,
                figures=figures,
                busy=busy,
            )
            compare_target(source, self._target, source.digest_key, lambda _: told.beat(end))
        return DiskRestored(
            disk=request.disk,
            figures=figures,
            compared=request.compare,
            busy=busy,
            compared_bytes=done.compared_bytes,
            equal_bytes=done.equal_bytes,
            written_bytes=done.written_bytes,
            slowed=pace.words,
            bottleneck=bottleneck_words(figures),
        )

    def _write(self, clock: Clock, report: Report, *, is_later: bool) -> RolledBack:
        work = DiskRollback(self._source, self._target, self._source.digest_key, clock)
        if self._request.begins_with_content:
            return work.write_differing(self._first, report)
        if is_later:
            return work.write_rest(self._first, self._reported, report)
        return work.write_all(report)

    def _piece(self, done_bytes: int) -> int:
        return min(-(-done_bytes // PIECE_SIZE), self._source.pieces)
