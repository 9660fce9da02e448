"""Rolling one disk back in place.

It continues at the last position that the target confirmed as flushed. Running twice does no harm: what is written is
what the point holds, and only where the disk may differ from it.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import msgspec
from temporalio import activity

from activities.binding import implements
from activities.boundary import resume_cursor
from activities.contracts import rollback
from activities.contracts.rollback import DiskRolledBack, RollBackDisk
from activities.contracts.transfer import TransferCursor
from activities.metering import TaskMeter
from activities.openers import ProviderOpener
from activities.point_disks import PointDisks
from activities.pulse import STALL_S, Pulse
from activities.tally import Tally
from holdfast.clock import Clock
from holdfast.errors import ChangeTrackingLost, DiskChanged
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.ids import ChangeId
from holdfast.model.plan import ReadDecision, ReadMode
from holdfast.model.spans import Span, align, subtract
from holdfast.pipeline.comparing import untold_difference
from holdfast.pipeline.disks import DiskWriter
from holdfast.pipeline.pace import Pace
from holdfast.pipeline.restore import StoredSource
from holdfast.pipeline.rollback import DiskRollback, Report, RolledBack
from holdfast.planning.bottleneck import bottleneck_words
from holdfast.planning.change_trust import lie_reason, sampled_spans
from holdfast.planning.rollback import decide_rollback
from holdfast.providers.checks import IN_FULL_HINT
from holdfast.providers.ports import Provider

_FORGOTTEN = "an earlier attempt ended, and with it what it may have found out about change tracking"


class RollbackActivities:
    """Serves `activities.contracts.rollback`."""

    def __init__(self, providers: ProviderOpener, points: PointDisks, clock: Clock) -> None:
        self._providers = providers
        self._points = points
        self._clock = clock

    @implements(rollback.roll_back_disk)
    def roll_back_disk(self, request: RollBackDisk) -> DiskRolledBack:
        """Make one disk equal to a restore point by writing what differs."""
        previous = _cursor_of_target(request)
        with ExitStack() as stack:
            pulse = stack.enter_context(Pulse(self._clock, cursor=previous, stall_s=STALL_S))
            meter = stack.enter_context(TaskMeter("rollback", request.repository, self._clock))
            pace = Pace(self._clock, pulse.waiting, heed=pulse.heed)
            source = self._points.open_for_reading(request, stack, pace)
            provider = self._providers(request.provider)
            target = stack.enter_context(provider.open_target(request.target_id, request.disk))
            _check_size(request, target, source)
            first = 0 if previous is None else min(-(-previous.committed_bytes // PIECE_SIZE), source.pieces)
            subject = _subject(request, source)
            tally = Tally(self._clock, subject, previous, min(first * PIECE_SIZE, source.size_bytes))
            work = _Rollback(request, provider, source, target, self._clock)
            if request.is_again or activity.info().attempt > 1:
                work.follow(previous)
            report = meter.counting(lambda progress: pulse.beat(work.told(tally.cursor(pace.charged(progress)))))
            done = work.run(first, report)
            meter.done(done.figures)
            figures = tally.figures(done.figures)
            if request.compare:
                end = msgspec.structs.replace(
                    subject, committed_bytes=source.size_bytes, reached_bytes=source.size_bytes, figures=figures
                )
                work.compare(lambda: pulse.beat(work.told(end)))
            return DiskRolledBack(
                disk=request.disk,
                decision=work.decision,
                figures=figures,
                written_bytes=done.written_bytes + work.rewritten_bytes,
                compared=request.compare,
                busy=tally.busy(pace.without_waits(done.stages)),
                note=work.note,
                slowed=pace.words,
                bottleneck=bottleneck_words(figures),
            )


class _Rollback:
    """One attempt: what is written, why just that, and what turned out to be wrong about it."""

    def __init__(
        self, request: RollBackDisk, provider: Provider, source: StoredSource, target: DiskWriter, clock: Clock
    ) -> None:
        self._request = request
        self._provider = provider
        self._source = source
        self._key = source.digest_key
        self._target = target
        self._rollback = DiskRollback(self._source, target, self._key, clock)
        change_id = source.change_id
        self._since = None if change_id is None else ChangeId(change_id)
        self.decision = decide_rollback(self._since, is_doubted=source.is_doubted)
        self.note = self._because = ""
        self._repaired_bytes = self.rewritten_bytes = 0
        if self.decision.mode is ReadMode.COMPARED and self._since is not None:
            self._compare_because(self.decision.reason)

    def follow(self, previous: TransferCursor | None) -> None:
        """Go on behind an attempt that ended, whose last report tells what it had found out about change tracking.

        That report may never have come. What was found by samples cannot be found again, because it is written by now;
        so without a comparison at the end everything is compared on the way.
        """
        self._repaired_bytes = 0 if previous is None else previous.repaired_bytes
        if previous is not None and previous.compared_because:
            self._compare_because(previous.compared_because)
        elif self.decision.mode is ReadMode.CHANGED and not self._request.compare:
            self.decision = ReadDecision(mode=ReadMode.COMPARED, reason=_FORGOTTEN)

    def told(self, cursor: TransferCursor) -> TransferCursor:
        """Return a cursor from which the next attempt learns what this one knows."""
        return msgspec.structs.replace(cursor, compared_because=self._because, repaired_bytes=self._repaired_bytes)

    def run(self, first: int, report: Report) -> RolledBack:
        """Write what differs from a piece on."""
        if self.decision.mode is ReadMode.CHANGED and self._since is not None:
            try:
                lie = None if self._request.compare else self._lie(self._since)
                if lie is None:
                    return self._rollback.write_changed(self._changes(self._since), first, report)
                self._compare_because(lie_reason(lie))
            except ChangeTrackingLost as error:
                self._compare_because(f"change tracking was lost: {error.message}")
        return self._rollback.write_differing(first, report)

    def compare(self, report: Callable[[], None]) -> None:
        """Read everything back; what change tracking left out is written now, and the operator told.

        A rollback that went by what changed left alone what the point lacks, such as free space.
        """
        before = self._repaired_bytes
        is_believed = self.decision.mode is ReadMode.CHANGED and not before

        def found(count: int) -> None:
            self._repaired_bytes = before + count
            report()

        repaired = self._rollback.make_equal(found, self._source.left_out if is_believed else None)
        self._repaired_bytes = before + repaired.differing_bytes
        self.rewritten_bytes = repaired.differing_bytes + repaired.in_doubt_bytes
        if self._repaired_bytes:
            self.note = "; ".join(filter(None, (self.note, self._repaired())))

    def _repaired(self) -> str:
        how = f"{self._repaired_bytes} bytes differed after the rollback and were written once more"
        if self.decision.mode is ReadMode.CHANGED:
            return f"change tracking is not to be believed: {how}"
        return f"the target did not keep what was written at first: {how}"

    def _changes(self, since: ChangeId) -> Iterator[Span]:
        return self._provider.target_changes(self._request.target_id, self._request.disk, since)

    def _lie(self, since: ChangeId) -> int | None:
        """Return the offset of a difference that was not told, looked for in a part of what is said to be unchanged."""
        shared = self._source.size_bytes // PIECE_SIZE * PIECE_SIZE
        samples = sampled_spans(shared, self._request.number, self._request.sample_bytes)
        untold = subtract(samples, align(self._changes(since), PIECE_SIZE, shared))
        return untold_difference(self._target, self._source, self._source.left_out, self._key, untold)

    def _compare_because(self, reason: str) -> None:
        self._because = reason
        self.decision = ReadDecision(mode=ReadMode.COMPARED, reason=reason)
        self.note = f"compared in full instead of writing only what changed: {reason}"


def _check_size(request: RollBackDisk, target: DiskWriter, source: StoredSource) -> None:
    if target.size_bytes != source.size_bytes:
        raise DiskChanged(
            f"disk {request.disk} of target {request.target_id} has {target.size_bytes} bytes, "
            f"the point has {source.size_bytes}",
            hint=IN_FULL_HINT,
        )


def _subject(request: RollBackDisk, source: StoredSource) -> TransferCursor:
    return TransferCursor(
        machine=source.machine_name,
        disk=request.disk,
        size_bytes=source.size_bytes,
        committed_bytes=0,
        reached_bytes=0,
        target_id=request.target_id,
    )


def _cursor_of_target(request: RollBackDisk) -> TransferCursor | None:
    previous = resume_cursor(TransferCursor)
    return previous if previous is not None and previous.target_id == request.target_id else None
