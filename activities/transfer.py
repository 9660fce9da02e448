"""Moving the bytes of one disk.

A backup continues where the last commit of its chain file stands, whatever a heartbeat said; a restore continues at
the last position its target confirmed as flushed. Both are safe to run twice, also at the same time: the chain's lock
admits one writer, and a writer that lost it without noticing is fenced at its next commit.
"""

from collections.abc import Iterator
from contextlib import ExitStack

import msgspec

from activities.binding import implements
from activities.boundary import resume_cursor
from activities.contracts import transfer
from activities.contracts.transfer import CopyDisk, DiskCopied, DiskRestored, RestoreDisk, TransferCursor
from activities.openers import PassphraseLookup, ProviderOpener, RepositoryOpener
from activities.pulse import STALL_S, Pulse
from activities.read_plan import EarlierDisk, FrozenDisk, ReadPlan
from activities.tally import Tally
from holdfast.clock import Clock
from holdfast.errors import DiskChanged, DiskNotFound, PointNotFound, SnapshotNotFound
from holdfast.formats.contents import Point, PointDisk
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.machine import PowerState
from holdfast.model.plan import PlanStep, Transport
from holdfast.pipeline.backup import DiskCopy
from holdfast.pipeline.disks import DiskReader
from holdfast.pipeline.restore import DiskRestore, compare_target
from holdfast.pipeline.stages import PipeOptions, PipeProgress
from holdfast.providers.ports import Provider
from holdfast.storage.chain import Chain, StoredDisk
from holdfast.storage.chain_writer import ChainWriter
from holdfast.storage.point_writer import DiskPointWriter, open_disk


class TransferActivities:
    """Serves `activities.contracts.transfer`."""

    def __init__(
        self,
        providers: ProviderOpener,
        repositories: RepositoryOpener,
        passphrases: PassphraseLookup,
        clock: Clock,
        options: PipeOptions | None = None,
    ) -> None:
        self._providers = providers
        self._repositories = repositories
        self._passphrases = passphrases
        self._clock = clock
        self._options = options if options is not None else PipeOptions()

    @implements(transfer.copy_disk)
    def copy_disk(self, request: CopyDisk) -> DiskCopied:
        """Copy one disk from its snapshot into the repository."""
        previous = resume_cursor(TransferCursor)
        with ExitStack() as stack:
            pulse = stack.enter_context(Pulse(self._clock, cursor=previous, stall_s=STALL_S))
            provider = self._providers(request.provider)
            reader = stack.enter_context(provider.open_disk(request.machine_id, request.snapshot_id, request.disk))
            writer, parent = self._open_point(request, stack)
            point, frozen = _frozen_disk(writer, request, reader)
            known = FrozenDisk(change_id=frozen.change_id, at_rest=point.machine.power is PowerState.OFF)
            sink = open_disk(writer, request.point.number, request.disk, parent)
            earlier = None if parent is None else EarlierDisk(disk=parent, digest_key=writer.keys.digest_key)
            plan = ReadPlan(provider, request, reader, earlier, known)
            tally = Tally(
                self._clock,
                _subject(writer, request),
                previous,
                min(sink.cursor * PIECE_SIZE, frozen.size),
                counters_kept=True,
            )
            copied = self._run_copy(plan, sink, tally, pulse)
            _check_still_frozen(provider, request)
            return copied

    def _run_copy(self, plan: ReadPlan, sink: DiskPointWriter, tally: Tally, pulse: Pulse) -> DiskCopied:
        options = msgspec.structs.replace(self._options, compression=plan.request.compression)
        copy = DiskCopy(plan.reader, sink, sink.writer, self._clock, options)
        figures = copy.run(_told(plan, sink), lambda progress: pulse.beat(tally.cursor(progress)))
        return DiskCopied(
            disk=plan.request.disk,
            decision=plan.decision,
            figures=tally.figures(figures),
            busy=tally.busy(copy.progress().stages),
            transport=plan.reader.transport,
            note="; ".join(filter(None, (plan.note, _passed_over(plan.reader.transport)))),
            left_out=plan.exclusion.words,
        )

    def _open_point(self, request: CopyDisk, stack: ExitStack) -> tuple[ChainWriter, StoredDisk | None]:
        """Open the point's file for writing, and the disk at the parent point when there is one."""
        repository = self._repositories(request.repository)
        passphrase = self._passphrases(request.credential)
        folder = repository.chain_folder(request.point.chain)
        path = repository.chain_file(request.point.chain, request.point.file)
        if not repository.files.exists(path):
            self._repositories(request.repository)  # gone with its mount is another matter than gone
            raise PointNotFound(
                f"file {request.point.file} of chain {request.point.chain} is gone",
                hint="It was set aside after a failed flush, or removed; run the job again.",
            )
        if request.point.parent_number is None:
            return stack.enter_context(ChainWriter.resume(repository.files, path, passphrase)), None
        chain = stack.enter_context(Chain.open(repository.files, folder, passphrase))
        parent = _disk_at(chain, request.point.parent_number, request.disk)
        keys = chain.files[0].keys
        return stack.enter_context(ChainWriter.resume(repository.files, path, passphrase, keys)), parent

    @implements(transfer.restore_disk)
    def restore_disk(self, request: RestoreDisk) -> DiskRestored:
        """Restore one disk from the repository to a target."""
        previous = _cursor_of_target(request)
        with ExitStack() as stack:
            pulse = stack.enter_context(Pulse(self._clock, cursor=previous, stall_s=STALL_S))
            repository = self._repositories(request.repository)
            passphrase = self._passphrases(request.credential)
            chain = stack.enter_context(repository.open_chain(request.chain, passphrase))
            source = chain.disk(request.number, request.disk)
            key_there = request.target_disk or request.disk
            target = stack.enter_context(self._providers(request.provider).open_target(request.target_id, key_there))
            if target.size_bytes != source.size_bytes:
                raise DiskChanged(
                    f"disk {request.disk} of target {request.target_id} has {target.size_bytes} bytes, "
                    f"the point has {source.size_bytes}"
                )
            first = 0 if previous is None else min(-(-previous.committed_bytes // PIECE_SIZE), source.pieces)
            subject = TransferCursor(
                machine=source.point.machine.name,
                disk=request.disk,
                size_bytes=source.size_bytes,
                committed_bytes=0,
                reached_bytes=0,
                target_id=request.target_id,
            )
            tally = Tally(self._clock, subject, previous, min(first * PIECE_SIZE, source.size_bytes))
            key = chain.files[0].keys.digest_key
            restore = DiskRestore(source, target, key, self._clock)
            figures = restore.run(first, lambda progress: pulse.beat(tally.cursor(progress)))
            if request.compare:
                done = tally.cursor(_done(restore))
                compare_target(source, target, key, lambda _: pulse.beat(done))
            return DiskRestored(
                disk=request.disk,
                figures=tally.figures(figures),
                compared=request.compare,
                busy=tally.busy(restore.progress().stages),
            )


def _told(plan: ReadPlan, sink: DiskPointWriter) -> Iterator[PlanStep]:
    """Yield the steps, and let the point say how its disk is read; what it lacks is known at the end."""
    sink.detail = f"{plan.decision.mode}: {plan.decision.reason}"
    yield from plan.steps
    left_out = plan.exclusion.left_out
    sink.left_out = msgspec.UNSET if left_out is None else left_out


def _passed_over(transport: Transport) -> str:
    """Return what the operator should know about modes that did not work; never silent, never without the reason."""
    if not transport.failed:
        return ""
    return f"read over {transport.mode} because better ways failed: {'; '.join(transport.failed)}"


def _check_still_frozen(provider: Provider, request: CopyDisk) -> None:
    """Raise `SnapshotNotFound` when the snapshot has gone: what was read after that may be newer than the rest."""
    if any(found.snapshot_id == request.snapshot_id for found in provider.snapshots(request.machine_id)):
        return
    raise SnapshotNotFound(
        f"snapshot {request.snapshot_id} of machine {request.machine_id} has gone while disk {request.disk} was read",
        hint="Somebody removed the snapshot, or the machine; run the job again.",
    )


def _frozen_disk(writer: ChainWriter, request: CopyDisk, reader: DiskReader) -> tuple[Point, PointDisk]:
    """Return the point and its disk as it was begun with. Raises `DiskChanged` when the snapshot's is another."""
    point = writer.contents.point(request.point.number)
    disk = None if point is None else point.disk(request.disk)
    if point is None or disk is None:
        raise DiskNotFound(f"point {request.point.number} of chain {request.point.chain} has no disk {request.disk}")
    if disk.size != reader.size_bytes:
        raise DiskChanged(
            f"disk {request.disk} of snapshot {request.snapshot_id} has {reader.size_bytes} bytes, "
            f"the point was begun with {disk.size}"
        )
    return point, disk


def _subject(writer: ChainWriter, request: CopyDisk) -> TransferCursor:
    point = writer.contents.point(request.point.number)
    assert point is not None, "looked up before"
    disk = point.disk(request.disk)
    assert disk is not None, "looked up before"
    return TransferCursor(
        machine=point.machine.name,
        disk=request.disk,
        size_bytes=disk.size,
        committed_bytes=0,
        reached_bytes=0,
    )


def _disk_at(chain: Chain, number: int, key: str) -> StoredDisk | None:
    """Return the disk at the parent point; None when the machine did not have it then."""
    try:
        return chain.disk(number, key)
    except DiskNotFound:
        return None


def _cursor_of_target(request: RestoreDisk) -> TransferCursor | None:
    previous = resume_cursor(TransferCursor)
    return previous if previous is not None and previous.target_id == request.target_id else None


def _done(restore: DiskRestore) -> PipeProgress:
    progress = restore.progress()
    return msgspec.structs.replace(progress, committed_bytes=progress.size_bytes, reached_bytes=progress.size_bytes)
