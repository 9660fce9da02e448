"""Moving the bytes of one disk.

A backup continues where the last commit of its chain file stands, whatever a heartbeat said; a restore continues at
the last position its target confirmed as flushed, and looks behind it at what is there. Both are safe to run twice,
also at the same time: the chain's lock admits one writer, and a writer that lost it without noticing is fenced at its
next commit.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import msgspec
from temporalio import activity

from activities.binding import implements
from activities.boundary import resume_cursor
from activities.contracts import transfer
from activities.contracts.transfer import CopyDisk, DiskCopied, DiskRestored, RestoreDisk, TransferCursor
from activities.guest_exclusion import Looks
from activities.latency import Brake
from activities.metering import TaskMeter
from activities.openers import ProviderOpener
from activities.point_disks import PointDisks
from activities.pulse import STALL_S, Pulse
from activities.read_plan import ReadPlan
from activities.restoring import DiskWriting, Told
from activities.tally import Tally
from activities.turns import Turns
from holdfast.clock import Clock
from holdfast.errors import DiskChanged, SnapshotNotFound
from holdfast.formats.contents import LeftOut
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.plan import PlanStep, Transport
from holdfast.pipeline.backup import DiskCopy
from holdfast.pipeline.disks import DiskReader
from holdfast.pipeline.pace import Pace
from holdfast.pipeline.sink import DiskSink, WritableDisk
from holdfast.pipeline.stages import PipeOptions
from holdfast.planning.bottleneck import bottleneck_words
from holdfast.providers.ports import Provider, SourceDisk, StreamedDisk
from holdfast.storage.intake.opening import moved


class TransferActivities:
    """Serves `activities.contracts.transfer`."""

    def __init__(
        self,
        providers: ProviderOpener,
        points: PointDisks,
        clock: Clock,
        options: PipeOptions | None = None,
        turns: Turns | None = None,
    ) -> None:
        self._providers = providers
        self._points = points
        self._clock = clock
        self._options = options if options is not None else PipeOptions()
        self._turns = turns if turns is not None else Turns(clock)

    @implements(transfer.copy_disk)
    def copy_disk(self, request: CopyDisk) -> DiskCopied:
        """Copy one disk from its snapshot into the repository."""
        previous = resume_cursor(TransferCursor)
        with ExitStack() as stack:
            pulse = stack.enter_context(Pulse(self._clock, cursor=previous, stall_s=STALL_S))
            meter = stack.enter_context(TaskMeter("backup", request.repository, self._clock))
            provider = self._providers(request.provider)
            source = (request.machine_id, request.snapshot_id, request.disk)
            turn = self._turns.taken(request.provider, provider.disk_latency(*source), pulse)
            waited_s = stack.enter_context(turn)
            opened = stack.enter_context(provider.open_disk(*source))
            pulse.watch(opened)
            brake = Brake(opened, lambda: provider.disk_latency(*source), pulse, self._clock)
            reader = brake.disk
            pace = Pace(self._clock, pulse.waiting, heed=pulse.heed)
            disk = self._points.open_for_writing(request, reader.place, stack, pace)
            _check_size(request, reader, disk.sink)
            looks = Looks(self._clock, pulse.waiting, isinstance(opened, StreamedDisk))
            plan = ReadPlan(provider, request, reader, disk, looks)
            tally = Tally(
                self._clock,
                _subject(request, disk),
                previous,
                min(disk.sink.standing.taken * PIECE_SIZE, disk.sink.size_bytes),
                counters_kept=True,
            )
            copied = self._run_copy(plan, disk.sink, _Audience(tally, brake, meter))
            _check_unmoved(provider, request, reader, disk.moves)
            slowed = filter(None, (_wait_words(waited_s), brake.words, pace.words))
            return msgspec.structs.replace(copied, slowed="; ".join(slowed))

    def _run_copy(self, plan: ReadPlan, sink: DiskSink, told: "_Audience") -> DiskCopied:
        tally, brake, meter = told
        options = msgspec.structs.replace(self._options, compression=plan.request.compression)
        copy = DiskCopy(plan.reader, sink, self._clock, options)
        brake.begin(copy.busy)
        meter.since(copy.progress().figures)
        done = copy.run(_told(plan, sink), meter.counting(lambda progress: brake.report(tally, progress)))
        meter.done(done)
        figures = tally.figures(done)
        return DiskCopied(
            disk=plan.request.disk,
            decision=plan.decision,
            figures=figures,
            busy=tally.busy(brake.charged(copy.progress()).stages),
            transport=plan.reader.transport,
            note="; ".join(dict.fromkeys(filter(None, _notes(plan, brake)))),
            left_out=plan.exclusion.words,
            bottleneck=bottleneck_words(figures),
        )

    @implements(transfer.restore_disk)
    def restore_disk(self, request: RestoreDisk) -> DiskRestored:
        """Restore one disk from the repository to a target."""
        previous = _cursor_of_target(request)
        with ExitStack() as stack:
            pulse = stack.enter_context(Pulse(self._clock, cursor=previous, stall_s=STALL_S))
            meter = stack.enter_context(TaskMeter("restore", request.repository, self._clock))
            pace = Pace(self._clock, pulse.waiting, heed=pulse.heed)
            source = self._points.open_for_reading(request, stack, pace)
            key_there = request.target_disk or request.disk
            target = stack.enter_context(self._providers(request.provider).open_target(request.target_id, key_there))
            if target.size_bytes != source.size_bytes:
                raise DiskChanged(
                    f"disk {request.disk} of target {request.target_id} has {target.size_bytes} bytes, "
                    f"the point has {source.size_bytes}"
                )
            writing = DiskWriting(request, source, target, previous)
            is_later = request.is_again or activity.info().attempt > 1
            done = writing.run(self._clock, Told(pulse.beat, meter, pace, is_later=is_later))
            way = target.transport
            note = "" if way is None else _passed_over(way, "written")
            return msgspec.structs.replace(done, transport=way, note=note)


def _wait_words(waited_s: float) -> str:
    """Say how long a copy waited because others had just begun."""
    return f"began {waited_s:.0f} s later, after other copies of its datastore" if waited_s else ""


class _Audience(NamedTuple):
    """Who is told how a copy goes on."""

    tally: Tally
    brake: Brake
    meter: TaskMeter


def _told(plan: ReadPlan, sink: DiskSink) -> Iterator[PlanStep]:
    """Yield the steps, and let the point say how its disk is read; what it lacks is known at the end."""
    said = ""
    for step in plan.steps:
        detail = f"{plan.decision.mode}: {plan.decision.reason}"
        if detail != said:
            said = detail
            sink.describe(detail)
        yield step
    sink.describe(f"{plan.decision.mode}: {plan.decision.reason}", plan.exclusion.left_out or LeftOut())


def _notes(plan: ReadPlan, brake: Brake) -> tuple[str, ...]:
    return plan.note, *plan.reader.remarks, _passed_over(plan.reader.transport, "read"), brake.note


def _passed_over(transport: Transport, done: str) -> str:
    """Return what the operator should know about modes that did not work; never silent, never without the reason."""
    if not transport.failed:
        return ""
    return f"{done} over {transport.mode} because better ways failed: {'; '.join(transport.failed)}"


def _check_unmoved(provider: Provider, request: CopyDisk, reader: SourceDisk, moves: int) -> None:
    """Raise `DiskMoved` when the disk lies somewhere else than at the start; the next attempt then begins again.

    Raises `SnapshotNotFound` when the snapshot has gone: what was read after that may be newer than the rest.
    """
    try:
        place = provider.disk_place(request.machine_id, request.snapshot_id, request.disk)
    except SnapshotNotFound as error:
        raise SnapshotNotFound(
            f"snapshot {request.snapshot_id} has gone while disk {request.disk} was read: {error.message}",
            hint="Somebody removed the snapshot, or the machine; run the job again.",
        ) from None
    if place != reader.place:
        raise moved(f"disk {request.disk} of machine {request.machine_id}", reader.place, place, moves)


def _check_size(request: CopyDisk, reader: DiskReader, sink: DiskSink) -> None:
    """Raise `DiskChanged` when the snapshot's disk is another than the point was begun with."""
    if sink.size_bytes != reader.size_bytes:
        raise DiskChanged(
            f"disk {request.disk} of snapshot {request.snapshot_id} has {reader.size_bytes} bytes, "
            f"the point was begun with {sink.size_bytes}"
        )


def _subject(request: CopyDisk, disk: WritableDisk) -> TransferCursor:
    return TransferCursor(
        machine=disk.machine,
        disk=request.disk,
        size_bytes=disk.sink.size_bytes,
        committed_bytes=0,
        reached_bytes=0,
    )


def _cursor_of_target(request: RestoreDisk) -> TransferCursor | None:
    previous = resume_cursor(TransferCursor)
    return previous if previous is not None and previous.target_id == request.target_id else None
