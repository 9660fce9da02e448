"""A world of stub activities: every contract answers from plain values, and a test changes what it is about."""

import asyncio
import inspect
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, get_type_hints

from temporalio import activity

from activities.binding import contract_name
from activities.boundary import boundary
from activities.contracts import (
    catalog,
    chains,
    extents,
    health,
    machine_files,
    moving,
    repository,
    resources,
    retention,
    rollback,
    sessions,
    snapshot,
    sweep,
    target,
    transfer,
)
from activities.resources import SchedulerActivities
from holdfast.errors import HoldfastError
from holdfast.model.extents import ExtentFacts
from holdfast.model.health import RepairReport, ScrubReport
from holdfast.model.ids import ChainId, DiskKey, FileId, MachineId, PointId, SnapshotId, TargetId
from holdfast.model.machine import Disk, Machine, PowerState, RestoreTarget, Snapshot, SnapshotDisk
from holdfast.model.machine_files import PlacedFiles
from holdfast.model.plan import ReadDecision, ReadMode
from holdfast.model.points import FoundPoint, OpenPoint, PointSummary, VerifyReport
from holdfast.model.session import Figures, Session, Task

CONTRACTS: tuple[Callable[..., Any], ...] = (
    catalog.begin_session,
    catalog.record_task,
    catalog.record_point,
    catalog.record_health,
    catalog.finish_session,
    chains.apply_method,
    chains.compact,
    extents.gather_facts,
    machine_files.copy_machine_files,
    machine_files.place_machine_files,
    moving.give_machine,
    moving.find_chains,
    moving.move_chain,
    moving.discard,
    moving.relocate,
    health.scrub,
    health.repair,
    repository.begin_point,
    repository.look_at_chain,
    repository.finish_point,
    repository.abandon_point,
    repository.find_point,
    repository.verify_points,
    resources.look,
    resources.claim,
    resources.release,
    resources.find_gone,
    retention.plan,
    retention.carry_out,
    retention.purge,
    retention.take_back,
    retention.settle,
    retention.find_machines,
    sessions.find_child,
    sessions.find_earlier,
    sessions.follow_child,
    snapshot.find_machines,
    snapshot.create_snapshot,
    snapshot.remove_snapshot,
    sweep.find_leftovers,
    sweep.detach_disk,
    sweep.find_sessions,
    sweep.find_running,
    target.find_machine,
    target.prepare_target,
    target.commit_target,
    target.abandon_target,
    transfer.copy_disk,
    transfer.restore_disk,
    rollback.roll_back_disk,
)
SCHEDULER = SchedulerActivities()
"""The real ones: they talk to the scheduler of the test's server."""
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
GIB = 1 << 30

Answer = Callable[[Any], Any]


def a_machine(name: str, disks: int = 1) -> Machine:
    return Machine(
        machine_id=MachineId(f"id-{name}"),
        name=name,
        power=PowerState.OFF,
        disks=tuple(Disk(key=DiskKey(f"disk{n}"), size_bytes=GIB) for n in range(disks)),
    )


class World:
    """Answers of all activities, and what was asked of them, in order."""

    def __init__(self, machines: Iterable[Machine] = ()) -> None:
        self.machines = tuple(machines) or (a_machine("web"),)
        self.asked: list[tuple[str, Any]] = []
        self.queues: list[tuple[str, str]] = []
        """Where what was asked."""
        self._changed = asyncio.Event()
        self.tasks: dict[tuple[str, str], Task] = {}
        self.sessions: dict[str, Session] = {}
        self.answers: dict[str, Answer] = {
            "catalog.begin_session": self._note_session,
            "catalog.finish_session": self._note_session,
            "catalog.record_task": self._note_task,
            "catalog.record_point": lambda _: catalog.Recorded(),
            "catalog.record_health": lambda _: catalog.Recorded(),
            "health.scrub": lambda _: ScrubReport(),
            "health.repair": lambda _: RepairReport(chains=1),
            "repository.look_at_chain": lambda _: repository.ChainSeen(),
            "extents.gather_facts": _facts,
            "files.copy": lambda _: machine_files.MachineFilesCopied(),
            "files.place": lambda _: PlacedFiles(),
            "repository.begin_point": _begin,
            "repository.finish_point": _finish,
            "repository.abandon_point": lambda _: repository.PointAbandoned(),
            "repository.find_point": self._find_point,
            "repository.verify": lambda _: VerifyReport(points=1, units=1, stored_bytes=1),
            "proxy.look": lambda _: resources.ProxySeen(),
            "resources.claim": SCHEDULER.claim,
            "resources.release": SCHEDULER.release,
            "resources.find_gone": SCHEDULER.find_gone,
            "chains.apply_method": lambda _: chains.ChainChanged(reason="no full is due"),
            "chains.compact": lambda _: chains.ChainChanged(reason="today is not saturday"),
            "retention.plan": lambda _: retention.RetentionPlanned(digest="d1", kept=1),
            "retention.carry_out": lambda _: retention.CarriedOut(moved_bytes=GIB),
            "retention.purge": lambda _: retention.RemovedPurged(),
            "retention.take_back": lambda _: retention.TakenBack(files=("f1",)),
            "retention.settle": lambda _: catalog.Recorded(),
            "retention.find_machines": lambda _: retention.MachinesFound(),
            "sessions.find_child": lambda _: None,
            "sessions.find_earlier": lambda _: sessions.RunningSessions(),
            "snapshot.find_machines": lambda _: snapshot.MachinesFound(machines=self.machines),
            "snapshot.create": self._freeze,
            "snapshot.remove": lambda _: snapshot.SnapshotRemoved(removed=1),
            "sweep.find_leftovers": lambda _: sweep.Leftovers(),
            "sweep.detach_disk": lambda _: sweep.DiskDetached(),
            "sweep.find_sessions": lambda _: sweep.SessionsFound(),
            "sweep.find_running": lambda _: sweep.RunningFound(),
            "target.find_machine": lambda _: self.machines[0],
            "target.prepare": _prepare,
            "target.commit": lambda _: self.machines[0],
            "target.abandon": lambda _: target.TargetAbandoned(removed=True),
            "transfer.copy_disk": _copied,
            "transfer.restore_disk": _restored,
            "transfer.roll_back_disk": _rolled_back,
        }

    def activities(self) -> list[Callable[..., Any]]:
        """Return a stub of every contract."""
        return [self._stub(contract) for contract in CONTRACTS]

    def fail(self, name: str, error: HoldfastError, *, where: Callable[[Any], bool] = lambda _: True) -> None:
        """Let an activity fail, for all requests or some."""
        usual = self.answers[name]

        def answer(request: Any) -> Any:
            if where(request):
                raise type(error)(error.message, hint=error.hint)  # a fresh one: tracebacks pile up on the same
            return usual(request)

        self.answers[name] = answer

    def names(self, *families: str) -> list[str]:
        """Return what was asked, without the catalog unless it is named."""
        wanted = families or ("extents", "files", "health", "repository", "snapshot", "sweep", "target", "transfer")
        return [name for name, _ in self.asked if name.split(".")[0] in wanted]

    def requests(self, name: str) -> list[Any]:
        """Return the requests an activity got."""
        return [request for asked, request in self.asked if asked == name]

    def count(self, name: str) -> int:
        return Counter(asked for asked, _ in self.asked)[name]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when ``condition``, which looks at what was asked, holds."""
        async with asyncio.timeout(60):
            while not condition():
                await self._changed.wait()
                self._changed.clear()

    def _stub(self, contract: Callable[..., Any]) -> Callable[..., Any]:
        name = contract_name(contract)

        async def stub(request: Any) -> Any:
            self.asked.append((name, request))
            self.queues.append((name, activity.info().task_queue))
            self._changed.set()
            with boundary():
                answer = self.answers[name](request)
                return await answer if inspect.isawaitable(answer) else answer

        stub.__annotations__ = get_type_hints(contract)
        return activity.defn(name=name)(stub)

    def _note_session(self, session: Session) -> catalog.Recorded:
        self.sessions[session.session_id] = session
        return catalog.Recorded()

    def _note_task(self, task: Task) -> catalog.Recorded:
        self.tasks[task.machine_name, task.disk] = task
        return catalog.Recorded()

    def _machine(self, machine_id: str) -> Machine:
        return next(machine for machine in self.machines if machine.machine_id == machine_id)

    def _freeze(self, request: snapshot.CreateSnapshot) -> Snapshot:
        machine = self._machine(request.machine_id)
        return Snapshot(
            snapshot_id=SnapshotId(f"snapshot-{machine.name}"),
            machine_id=machine.machine_id,
            tag=request.tag,
            created=NOON,
            disks=tuple(SnapshotDisk(key=disk.key, size_bytes=disk.size_bytes) for disk in machine.disks),
            machine=machine,
        )

    def _find_point(self, request: repository.FindPoint) -> FoundPoint:
        return FoundPoint(
            chain="machines/web-00000000/000001-00000000",
            number=1,
            point_id=PointId("ab" * 16),
            created=NOON,
            machine=self.machines[0],
            encrypted=request.credential is not None,
        )


def _facts(request: extents.GatherExtentFacts) -> extents.ExtentFactsFound:
    facts = ExtentFacts(name=request.repository, reachable=True, free_bytes=100 * GIB)
    return extents.ExtentFactsFound(extents=(facts,))


def _begin(request: repository.BeginPoint) -> OpenPoint:
    return OpenPoint(
        chain=f"machines/{request.snapshot.machine.name}/000001-00000000",
        file="00000001-full.hfc",
        number=1,
        point_id=PointId("ab" * 16),
        kind="full",
        parent_number=None,
        reason="no chain of this machine yet",
    )


def _finish(request: repository.FinishPoint) -> PointSummary:
    point = request.point
    return PointSummary(
        chain=point.chain,
        chain_id=ChainId("cd" * 16),
        file=point.file,
        file_id=FileId("ef" * 16),
        number=point.number,
        point_id=point.point_id,
        kind=point.kind,
        machine_id=MachineId("id"),
        machine_name=point.chain.split("/")[1],
        created=NOON,
        root="00",
        size_bytes=GIB,
        file_bytes=GIB,
        generation=3,
    )


def _prepare(request: target.PrepareTarget) -> RestoreTarget:
    return RestoreTarget(
        target_id=TargetId("target"),
        machine_name=request.machine.name,
        disks=request.disks,
        replaces=request.replaces,
        is_in_place=request.is_in_place,
    )


def _copied(request: transfer.CopyDisk) -> transfer.DiskCopied:
    return transfer.DiskCopied(
        disk=request.disk,
        decision=ReadDecision(mode=ReadMode.FULL, reason="no earlier point of this disk"),
        figures=Figures(size_bytes=GIB, processed_bytes=GIB, read_bytes=GIB, stored_bytes=GIB // 2, duration_s=10),
    )


def _restored(request: transfer.RestoreDisk) -> transfer.DiskRestored:
    figures = Figures(size_bytes=GIB, processed_bytes=GIB, read_bytes=GIB, duration_s=10)
    return transfer.DiskRestored(disk=request.disk, figures=figures, compared=request.compare)


def _rolled_back(request: rollback.RollBackDisk) -> rollback.DiskRolledBack:
    return rollback.DiskRolledBack(
        disk=request.disk,
        decision=ReadDecision(mode=ReadMode.CHANGED, reason="the provider tracks changes"),
        figures=Figures(size_bytes=GIB, processed_bytes=GIB, read_bytes=GIB // 64, duration_s=1),
        written_bytes=GIB // 64,
        compared=request.compare,
    )


async def until_cancelled() -> None:
    """Work, with heartbeats, until somebody asks for a stop or the test is over."""
    while not activity.is_worker_shutdown():
        activity.heartbeat()
        await asyncio.sleep(0.02)


def then(first: Callable[[], Awaitable[None]], answer: Answer) -> Answer:
    """Return an answer that waits for something first."""

    async def both(request: Any) -> Any:
        await first()
        return answer(request)

    return both


def too_late(answer: Answer) -> Answer:
    """Return an answer that is made only when somebody asks for a stop: the work was done just before."""

    async def made(request: Any) -> Any:
        with suppress(asyncio.CancelledError):
            await until_cancelled()
        return answer(request)

    return made
