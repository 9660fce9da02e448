"""The backup of one machine inside a session.

Guarantee: when it ends, the machine has a complete restore point more and no snapshot, or no unfinished file and no
snapshot; where that cannot be achieved, a note says what is left behind.
"""

import asyncio
from collections.abc import Awaitable
from datetime import datetime
from functools import partial

import msgspec
from temporalio import workflow
from temporalio.workflow import ActivityConfig

from activities.contracts import catalog, machine_files, repository, snapshot, transfer
from activities.contracts.resources import GRANTED
from holdfast.errors import PointNotFound
from holdfast.model.health import BrokenChain
from holdfast.model.machine import Snapshot, SnapshotDisk, SnapshotOptions
from holdfast.model.placement import Grant, Priority
from holdfast.model.points import OpenPoint, PointSummary
from holdfast.model.retention import QuickBackup
from holdfast.model.session import Outcome, Task
from holdfast.planning.disk_exclusion import without_excluded
from workflows import options, queues, search_attributes
from workflows.after_point import AfterPoint
from workflows.book import TRANSFERRING, Book
from workflows.broken_chain import DECIDE, ChainQuestion
from workflows.failures import failure_with, problem_of
from workflows.messages import MachineBackupRequest, MachineBackupResult, SessionProgress
from workflows.recording import Recorder
from workflows.renewing import Renewing
from workflows.report import duration_text, size_text, summary
from workflows.session import CAUGHT, outcome_of_failure
from workflows.slots import Needs, Slots
from workflows.steps import in_lanes, step, stop_if_cancelled
from workflows.undo import UndoStack

_SNAPSHOT = "the snapshot"
_POINT = "the unfinished restore point"


@workflow.defn(name="MachineBackup")
class MachineBackup:
    """Freeze, keep files, copy the disks, thaw, complete; take everything back when it cannot be completed."""

    @workflow.init
    def __init__(self, request: MachineBackupRequest) -> None:
        """Take the request, so that questions can be answered from the first moment."""
        self._request = request
        self._machine = request.machine
        title = f"{request.options.kind} of {self._machine.name}"
        started = workflow.info().start_time
        self._book = Book(title, request.session_id, started, workflow.set_current_details)
        self._recorder = Recorder(self._book)
        self._undo = UndoStack()
        self._degraded: list[str] = []
        self._served: Renewing[OpenPoint] | None = None
        self._point: PointSummary | None = None
        self._has_one_disk = False
        self._snapshot_open_s = 0.0
        self._after = AfterPoint(request, self._book, self._recorder)
        self._chain = ChainQuestion(request, self._book, queues.repository_queue(request.repository))
        needs = Needs(
            provider=request.provider,
            repository=request.repository,
            priority=Priority.BACKUP,
            what=title,
        )
        self._slots = Slots(request.resources, request.proxy, needs, self._book)
        self._repository = queues.repository_queue(request.repository)

    @workflow.query(name="progress", description="Where the disks of the machine stand")
    def progress(self) -> SessionProgress:
        """Return where the disks stand."""
        return self._book.progress()

    @workflow.signal(name=GRANTED, description="A slot for a disk")
    def granted(self, grant: Grant) -> None:
        """Take a slot that the scheduler gives."""
        self._slots.granted(grant)

    @workflow.signal(name=DECIDE, description="What becomes of a chain that cannot be continued: full or fail")
    def decide(self, decision: BrokenChain) -> None:
        """Take somebody's decision."""
        self._chain.decide(decision)

    @workflow.run
    async def run(self, request: MachineBackupRequest) -> MachineBackupResult:
        """Make one restore point."""
        self._book.tell("Repository", request.repository)
        self._book.expect(self._machine, self._machine.disks)
        try:
            stop_if_cancelled()
            await self._protect()
        except CAUGHT as failure:
            raise await self._failed(failure) from failure
        outcome = Outcome.WARNING if self._book.notes else Outcome.SUCCESS
        self._end(outcome)
        return self._result(outcome)

    @property
    def _proxy(self) -> str:
        return queues.proxy_queue(self._slots.proxy)

    async def _protect(self) -> None:
        await self._chain.ask()
        self._book.enter("waiting for a slot")
        await self._slots.choose(self._machine.machine_id)
        frozen = await self._freeze()
        frozen_at = workflow.now()
        opened = await self._begin(frozen)
        if opened.takes_files:  # not when a worker of an earlier version began it, as in recorded histories
            await self._keep_files(frozen, opened)
        self._book.enter(TRANSFERRING)
        # All at once, and the slots of the proxy decide; a worker of an earlier version took them one by one.
        lanes = len(frozen.disks) if opened.takes_disks_at_once else 1
        await in_lanes([partial(self._copy, frozen, opened, disk) for disk in frozen.disks], lanes)
        await self._slots.close()
        self._book.enter("removing the snapshot")
        self._book.note(await self._undo.settle(_SNAPSHOT))
        self._snapshot_open_s = (workflow.now() - frozen_at).total_seconds()
        self._book.tell("Snapshot", f"open for {duration_text(self._snapshot_open_s)}")
        point = await self._complete(opened)
        # From here on there is a restore point, and a cancellation comes too late to take it away.
        await self._record(point)
        await self._after.look_after(opened, point)

    async def _freeze(self) -> Snapshot:
        request, tag = self._request, queues.snapshot_tag(self._request.session_id)
        self._book.enter("taking the snapshot")
        remove = snapshot.RemoveSnapshot(provider=request.provider, machine_id=self._machine.machine_id, tag=tag)
        self._undo.push(_SNAPSHOT, lambda: self._thaw(remove))
        frozen = await step(
            snapshot.create_snapshot,
            snapshot.CreateSnapshot(
                provider=request.provider,
                machine_id=self._machine.machine_id,
                tag=tag,
                options=SnapshotOptions(quiesce=request.options.quiesce),
            ),
            options.change(self._proxy, summary(self._machine.name)),
        )
        self._has_one_disk = frozen.machine.has_one_disk  # counted with those that the job leaves out
        frozen, left_out = without_excluded(frozen, request.options.excluded_disks)
        if left_out:
            self._book.tell("Left out", f"{', '.join(left_out)}, as the job says")
        self._book.replace(self._machine.machine_id, ())
        self._book.expect(frozen.machine, frozen.machine.disks)
        self._book.note(frozen.notes)
        self._book.note(f"disk {disk.label} is not protected: {disk.reason}" for disk in frozen.machine.skipped)
        return frozen

    async def _thaw(self, remove: snapshot.RemoveSnapshot) -> None:
        config = options.removal(self._proxy, summary(self._machine.name))
        removed = await workflow.execute_activity(snapshot.remove_snapshot, remove, **config)
        if removed.waited_s:
            self._book.tell("Removal", f"waited {duration_text(removed.waited_s)}: {removed.waited_for}")

    async def _begin(self, frozen: Snapshot) -> OpenPoint:
        request = self._request
        abandon = repository.AbandonPoint(
            repository=request.repository,
            session_id=request.session_id,
            snapshot=frozen,
            credential=request.options.credential,
            owner=request.options.owner,
        )
        config = options.undo(self._repository, summary(self._machine.name))
        self._undo.push(_POINT, lambda: workflow.execute_activity(repository.abandon_point, abandon, **config))
        self._book.enter("beginning the restore point")
        opened = await self._open_point(frozen)
        is_on = request.resources is not None
        self._served = Renewing(self._book, opened, partial(self._open_again, frozen), is_on=is_on)
        self._book.tell("Restore point", f"{opened.point_id[:12]}, {opened.kind}: {opened.reason}")
        self._book.tell("File", f"{opened.chain}/{opened.file}")
        if opened.removed:
            self._book.tell("Removed", f"unfinished files of earlier sessions: {', '.join(opened.removed)}")
        return opened

    async def _open_point(self, frozen: Snapshot) -> OpenPoint:
        """Begin the point, or find it begun by this session, with access to whoever serves the repository now."""
        request = self._request
        begin = repository.BeginPoint(
            repository=request.repository,
            session_id=request.session_id,
            snapshot=frozen,
            began=self._session_began,
            unit_size=request.options.unit_size,
            full=request.options.full,
            fulls=request.options.fulls,
            is_full_when_broken=self._chain.is_full_when_broken,
            archive=request.options.archive,
            quick=self._quick(),
            credential=request.options.credential,
            owner=request.options.owner,
        )
        config = options.change(self._repository, summary(self._machine.name))
        return await step(repository.begin_point, begin, config)

    def _quick(self) -> QuickBackup | None:
        quick = self._request.options.quick
        return None if quick is None else msgspec.structs.replace(quick, began=self._session_began)

    @property
    def _session_began(self) -> datetime:
        return self._request.began or workflow.info().start_time

    async def _open_again(self, frozen: Snapshot, lost: OpenPoint) -> OpenPoint:
        """Ask who serves the repository.

        Raises `PointNotFound` when the point is not the one that was begun: what was copied is not in it.
        """
        found = await self._open_point(frozen)
        if (found.chain, found.file, found.number) != (lost.chain, lost.file, lost.number):
            raise PointNotFound(f"file {lost.file} of chain {lost.chain} is gone")
        return found

    async def _keep_files(self, frozen: Snapshot, opened: OpenPoint) -> None:
        """Keep the files that describe the machine; one that cannot be read is told of.

        It is no reason to warn each night: the machine can be made from the point without it.
        """
        request = self._request
        self._book.enter("keeping the machine files")

        def kept(now: OpenPoint, config: ActivityConfig) -> Awaitable[machine_files.MachineFilesCopied]:
            files = machine_files.CopyMachineFiles(
                provider=request.provider,
                machine_id=frozen.machine_id,
                snapshot_id=frozen.snapshot_id,
                repository=request.repository,
                point=now,
                credential=request.options.credential,
            )
            return step(machine_files.copy_machine_files, files, config)

        assert self._served is not None, "begun before"
        copied = await self._served.run(kept, options.change(self._proxy, summary(frozen.machine.name)))
        told = [f"{file.name} ({size_text(file.size_bytes)})" for file in copied.kept]
        told += [f"{file.name} left out: {file.reason}" for file in copied.left_out]
        self._book.tell("Machine files", ", ".join(told) or "none")

    async def _copy(self, frozen: Snapshot, opened: OpenPoint, disk: SnapshotDisk) -> None:
        """Copy one disk; all of them go through the one writer of the chain file."""
        request = self._request
        task = self._book.task(frozen.machine_id, disk.key)
        self._book.put(task)
        await self._recorder.task(task)
        stop_if_cancelled()
        what = f"{frozen.machine.name}/{disk.key} {size_text(disk.size_bytes)} -> {request.repository}"
        copy = transfer.CopyDisk(
            provider=request.provider,
            machine_id=frozen.machine_id,
            snapshot_id=frozen.snapshot_id,
            disk=disk.key,
            repository=request.repository,
            point=opened,
            compression=request.options.compression,
            credential=request.options.credential,
            distrust_changes=request.options.distrust_changes,
            sample_bytes=request.options.sample_mib << 20,
            exclude_swap=request.options.exclude_swap,
            exclude_deleted=request.options.exclude_deleted,
            exclude_files=request.options.exclude_files,
            is_only_disk=self._has_one_disk,
        )

        def copied(point: OpenPoint, config: ActivityConfig) -> Awaitable[transfer.DiskCopied]:
            return step(transfer.copy_disk, msgspec.structs.replace(copy, point=point), config)

        assert self._served is not None, "begun before"
        self._copied(task, await self._slots.run(partial(self._served.run, copied), what, disk.size_bytes))

    def _copied(self, task: Task, copied: transfer.DiskCopied) -> None:
        """Note the figures; the task ends only with the point, since an unfinished point is removed again."""
        if copied.note:
            self._book.note([f"{task.machine_name}/{task.disk}: {copied.note}"])
            self._degraded.append(task.disk)
        detail = f"{copied.decision.mode}: {copied.decision.reason}"
        if copied.transport is not None:
            # Reasons may be long and are cut where there is little room; both words shall be read in any case.
            mode = f"{copied.decision.mode} over {copied.transport.mode}"
            detail = f"{mode}: {copied.decision.reason}; {copied.transport.reason}"
        if copied.slowed:
            detail = f"{detail}; {copied.slowed}"
        if copied.left_out:
            detail = f"{detail}; {copied.left_out}"
        self._book.put(msgspec.structs.replace(task, detail=detail, figures=copied.figures), "copied")

    async def _complete(self, opened: OpenPoint) -> PointSummary:
        request = self._request
        self._book.enter("completing the restore point")
        stop_if_cancelled()
        finish = repository.FinishPoint(
            repository=request.repository, point=opened, credential=request.options.credential
        )
        config = options.change(self._repository, summary(self._machine.name))
        point = await workflow.execute_activity(repository.finish_point, finish, **config)
        self._undo.drop(_POINT)
        self._point = point
        return point

    async def _record(self, point: PointSummary) -> None:
        self._book.enter("recording the restore point")
        for task in self._book.tasks():
            outcome = Outcome.WARNING if task.disk in self._degraded else Outcome.SUCCESS
            self._book.put(msgspec.structs.replace(task, outcome=outcome))
            await self._recorder.task(self._book.task(task.machine_id, task.disk))
        await self._recorder.point(
            catalog.RecordPoint(
                repository=self._request.repository,
                session_id=self._request.session_id,
                point=point,
                stored_bytes=self._book.figures.stored_bytes,
                completed=workflow.now(),
            )
        )

    async def _failed(self, failure: BaseException) -> BaseException:
        """Take everything back, write it down, and return what to fail with."""
        self._book.enter("cleaning up")
        self._book.note(await self._undo.run())
        await self._slots.close()
        outcome, problem = outcome_of_failure(), problem_of(failure)
        for task in self._book.give_up(outcome, problem):
            await self._recorder.task(task)
        self._book.conclude(outcome, problem)
        self._end(outcome)
        if outcome is Outcome.CANCELLED:
            return asyncio.CancelledError()
        return failure_with(problem, self._result(outcome))

    def _end(self, outcome: Outcome) -> None:
        problem = self._book.problem
        self._book.conclude(outcome, problem)
        workflow.upsert_search_attributes(
            search_attributes.ended(
                outcome,
                stored_bytes=self._book.figures.stored_bytes,
                error_code=None if problem is None else problem.code,
            )
        )

    def _result(self, outcome: Outcome) -> MachineBackupResult:
        return MachineBackupResult(
            machine_id=self._machine.machine_id,
            machine_name=self._machine.name,
            outcome=outcome,
            tasks=self._book.tasks(),
            point=self._point,
            snapshot_open_s=self._snapshot_open_s,
            notes=tuple(self._book.notes),
            problem=self._book.problem,
            verified_bytes=self._after.verified_bytes,
        )
