"""The restore of a machine, or of some of its disks.

Guarantee: the live machine is not touched before every disk is restored, durable and compared; a restore that does not
get that far leaves nothing behind. A quick rollback and a delta restore, which write only what differs, may write to
the disks of the machine itself; until it is complete what they held is kept, and one that does not get that far gives
it back.
"""

from collections.abc import Awaitable
from functools import partial
from itertools import count

import msgspec
from temporalio import workflow
from temporalio.workflow import ActivityConfig

from activities.contracts import machine_files, repository, rollback, target, transfer
from activities.contracts.resources import GRANTED
from holdfast.errors import DiskNotFound, PointNotFound, RequestInvalid
from holdfast.model.ids import DiskKey
from holdfast.model.machine import Disk, Identifier, Identity, Machine, RestoreTarget
from holdfast.model.machine_files import PlacedFiles
from holdfast.model.placement import Grant, Priority
from holdfast.model.points import FoundPoint
from holdfast.model.session import Outcome, SessionKind, Task
from holdfast.planning.delta import Beginning, Delta, decide_beginning, explanation
from holdfast.planning.rollback import unfit_for_rollback
from workflows import options, queues
from workflows.book import TRANSFERRING
from workflows.messages import RestoreRequest, SessionProgress, SessionResult
from workflows.renewing import Renewing
from workflows.report import size_text, summary
from workflows.session import CAUGHT, SessionRun
from workflows.slots import Needs, Slots
from workflows.steps import in_lanes, step, stop_if_cancelled

_DISKS_AT_ONCE_BEFORE = 2
"""Disks that earlier versions wrote at once; sessions they began go on so."""
_TARGET = "the restore target"


@workflow.defn(name="RestoreMachine")
class RestoreMachine:
    """Find the point and the place, prepare, write, compare, switch over."""

    @workflow.init
    def __init__(self, request: RestoreRequest) -> None:
        """Take the request, so that questions can be answered from the first moment."""
        self._request = request
        what = f"restore of {request.machine or request.point}"
        self._run = SessionRun(
            SessionKind.RESTORE, request.job, request.repository, request.session_id, request.provider, title=what
        )
        self._book = self._run.book
        needs = Needs(provider=request.provider, repository=request.repository, priority=Priority.RESTORE, what=what)
        self._served: Renewing[FoundPoint] | None = None
        self._is_back_owed = False
        self._slots = Slots(request.resources, request.proxy, needs, self._book)

    @workflow.query(name="progress", description="Where the disks stand")
    def progress(self) -> SessionProgress:
        """Return where the session stands."""
        return self._book.progress()

    @workflow.signal(name=GRANTED, description="A slot for a disk")
    def granted(self, grant: Grant) -> None:
        """Take a slot that the scheduler gives."""
        self._slots.granted(grant)

    @workflow.run
    async def run(self, request: RestoreRequest) -> SessionResult:
        """Restore one machine."""
        self._book.tell("Repository", request.repository)
        return await self._run.carry_out(self._restore_in_slots)

    @property
    def _proxy(self) -> str:
        return queues.proxy_queue(self._slots.proxy)

    async def _restore_in_slots(self) -> None:
        try:
            await self._restore()
        except CAUGHT:
            await self._slots.close()
            raise
        await self._slots.close()

    async def _restore(self) -> None:
        if self._request.is_quick:
            self._book.tell("Kind", "quick rollback")
            _check_quick(self._request)
        _check_delta(self._request)
        self._book.enter("looking for the restore point")
        point = await self._find_point(self._request.point)
        self._tell_point(point)
        is_on = self._request.resources is not None
        self._served = Renewing(self._book, point, self._find_again, is_on=is_on)
        self._book.enter("waiting for a slot")
        await self._slots.choose()
        disks = self._wanted_disks(point)
        existing = await self._find_existing(point)
        name = self._request.new_name if existing is None else existing.name
        machine = msgspec.structs.replace(point.machine, name=name or point.machine.name)
        self._book.tell("Machine", machine.name if existing is not None else f"{machine.name} (new)")
        if existing is None and (kept := _kept(self._request.placement.identity)):
            self._book.tell("Kept", kept)
        self._book.expect(machine, disks)
        beginning = self._beginning(machine, disks, existing)
        place = await self._prepare(machine, disks, existing, beginning)
        self._is_back_owed = place.is_in_place
        if place.is_in_place and not self._request.is_quick:
            self._book.tell("Kind", "delta restore")
        if existing is None and point.files:
            await self._place_files(point, machine, place)
        self._book.enter(TRANSFERRING)
        write = self._roll_back if self._request.is_quick else self._write
        await in_lanes([partial(write, point, machine, place, disk) for disk in disks], _lanes(len(disks)))
        stop_if_cancelled()
        await self._commit(place, machine)

    async def _find_point(self, reference: str) -> FoundPoint:
        request = self._request
        return await step(
            repository.find_point,
            repository.FindPoint(
                repository=request.repository,
                reference=reference,
                machine=request.machine,
                credential=request.credential,
            ),
            options.lookup(queues.repository_queue(request.repository), summary(f"point {reference}")),
        )

    async def _find_again(self, lost: FoundPoint) -> FoundPoint:
        """Ask who serves the repository. Raises `PointNotFound` when the point lies elsewhere now."""
        found = await self._find_point(lost.point_id)
        if (found.chain, found.number) != (lost.chain, lost.number):
            raise PointNotFound(f"point {lost.number} of chain {lost.chain} is gone")
        return found

    def _tell_point(self, point: FoundPoint) -> None:
        self._book.tell(
            "Restore point", f"{point.point_id[:12]} of {point.machine.name}, {point.created:%Y-%m-%d %H:%M}"
        )

    def _wanted_disks(self, point: FoundPoint) -> tuple[Disk, ...]:
        wanted = self._request.disks
        known = {disk.key: disk for disk in point.machine.disks}
        for key in wanted:
            if key not in known:
                raise DiskNotFound(f"point {point.point_id[:12]} of {point.machine.name} has no disk {key}")
        return tuple(known[key] for key in wanted) if wanted else point.machine.disks

    async def _find_existing(self, point: FoundPoint) -> Machine | None:
        """Return the machine that gets the disks; None when a new one is to be made."""
        request = self._request
        if request.new_name is not None:
            return None
        self._book.enter("looking for the machine")
        reference = request.into or point.machine.machine_id
        return await step(
            target.find_machine,
            target.FindMachine(provider=request.provider, reference=reference),
            options.lookup(self._proxy, summary(request.into or point.machine.name)),
        )

    def _key_there(self, machine: Machine, disk: Disk) -> DiskKey:
        """Return the key of a disk at the target: a disk beside those of another machine takes the place of none."""
        request = self._request
        if request.into is None:
            return disk.key
        if request.over:
            return request.over[request.disks.index(disk.key)]
        return DiskKey(f"{disk.key} of {machine.machine_id}")

    def _disks_there(self, machine: Machine, disks: tuple[Disk, ...]) -> tuple[Disk, ...]:
        return tuple(msgspec.structs.replace(disk, key=self._key_there(machine, disk)) for disk in disks)

    def _beginning(self, machine: Machine, disks: tuple[Disk, ...], existing: Machine | None) -> Beginning:
        """Choose how the disks of the target begin."""
        request = self._request
        if existing is None:
            return Beginning.EMPTY
        _check_over(existing, request.over)
        if request.is_quick:
            _check_fit(existing, disks)
            return Beginning.PRESENT
        wish = Delta.NEVER if request.into is not None and not request.over else request.delta
        beginning, reason = decide_beginning(wish, existing.disks, self._disks_there(machine, disks))
        if reason:
            raise RequestInvalid(
                f"machine {existing.name!r} has nothing to compare with: {reason}",
                hint="Restore in full, without `--delta`.",
            )
        return beginning

    async def _prepare(
        self, machine: Machine, disks: tuple[Disk, ...], existing: Machine | None, beginning: Beginning
    ) -> RestoreTarget:
        request = self._request
        self._book.enter("preparing the target")
        prepare = target.PrepareTarget(
            provider=request.provider,
            token=queues.snapshot_tag(self._run.session_id),
            machine=machine,
            disks=self._disks_there(machine, disks),
            replaces=None if existing is None else existing.machine_id,
            placement=request.placement,
            is_in_place=beginning is Beginning.PRESENT,
            may_share=beginning is Beginning.SHARED,
        )
        abandon = target.AbandonTarget(provider=request.provider, token=prepare.token, prepared=prepare)
        self._run.undo.push(_TARGET, lambda: self._abandon(abandon, machine))
        place = await step(target.prepare_target, prepare, options.change(self._proxy, summary(machine.name)))
        self._book.note(place.notes)
        return place

    async def _abandon(self, abandon: target.AbandonTarget, machine: Machine) -> None:
        config = options.ending(self._proxy, summary(machine.name))
        done = await workflow.execute_activity(target.abandon_target, abandon, **config)
        if self._is_back_owed and not done.removed:
            self._book.note(
                [f"what {machine.name} held before is gone: its disks may be a mixture with what was written"]
            )

    async def _place_files(self, point: FoundPoint, machine: Machine, place: RestoreTarget) -> None:
        """Give a new machine the captured files it can use; disks are worth more, so none that fails ends it."""
        request = self._request
        self._book.enter("placing the machine files")

        def placed(now: FoundPoint, config: ActivityConfig) -> Awaitable[PlacedFiles]:
            files = machine_files.PlaceMachineFiles(
                provider=request.provider,
                target_id=place.target_id,
                repository=request.repository,
                chain=point.chain,
                number=point.number,
                credential=request.credential,
                mover=now.mover,
            )
            return step(machine_files.place_machine_files, files, config)

        assert self._served is not None, "found before"
        done = await self._served.run(placed, options.change(self._proxy, summary(machine.name)))
        if done.placed:
            self._book.tell("Machine files", ", ".join(done.placed))
        self._book.note(f"machine file {file.name} was not restored: {file.reason}" for file in done.left_out)

    async def _roll_back(self, point: FoundPoint, machine: Machine, place: RestoreTarget, disk: Disk) -> None:
        request = self._request
        task = await self._begin(machine, disk)
        what = f"{request.repository} -> {machine.name}/{disk.key}, what differs of {size_text(disk.size_bytes)}"
        back = rollback.RollBackDisk(
            provider=request.provider,
            target_id=place.target_id,
            disk=disk.key,
            repository=request.repository,
            chain=point.chain,
            number=point.number,
            credential=request.credential,
            compare=request.compare,
            mover=point.mover,
        )
        tries = count()

        def rolled_back(now: FoundPoint, config: ActivityConfig) -> Awaitable[rollback.DiskRolledBack]:
            again = msgspec.structs.replace(back, mover=now.mover, is_again=next(tries) > 0)
            return step(rollback.roll_back_disk, again, config)

        assert self._served is not None, "found before"
        done = await self._slots.run(partial(self._served.run, rolled_back), what, disk.size_bytes)
        if done.note:
            self._book.note([f"{machine.name}/{disk.key}: {done.note}"])
        end = " and compared" if done.compared else ""
        decision = f"{done.decision.mode}: {done.decision.reason}"
        detail = f"quick rollback, {decision}; {size_text(done.written_bytes)} written{end}{_after(done.slowed)}"
        self._book.put(msgspec.structs.replace(task, detail=detail, figures=done.figures), "restored")

    async def _begin(self, machine: Machine, disk: Disk) -> Task:
        task = self._book.task(machine.machine_id, disk.key)
        self._book.put(task)
        await self._run.recorder.task(task)
        stop_if_cancelled()
        return task

    async def _write(self, point: FoundPoint, machine: Machine, place: RestoreTarget, disk: Disk) -> None:
        request = self._request
        task = await self._begin(machine, disk)
        what = f"{request.repository} -> {machine.name}/{disk.key} {size_text(disk.size_bytes)}"
        write = transfer.RestoreDisk(
            provider=request.provider,
            target_id=place.target_id,
            disk=disk.key,
            target_disk=self._key_there(machine, disk),
            repository=request.repository,
            chain=point.chain,
            number=point.number,
            credential=request.credential,
            compare=request.compare,
            begins_with_content=place.is_in_place,
            mover=point.mover,
        )
        tries = count()

        def restored(now: FoundPoint, config: ActivityConfig) -> Awaitable[transfer.DiskRestored]:
            # By another data mover or proxy than before: what was written already is compared.
            request = msgspec.structs.replace(write, mover=now.mover, is_again=next(tries) > 0)
            return step(transfer.restore_disk, request, config)

        assert self._served is not None, "found before"
        written = await self._slots.run(partial(self._served.run, restored), what, disk.size_bytes)
        if written.note:
            self._book.note([f"{machine.name}/{disk.key}: {written.note}"])
        detail = _written(written, begins_with_content=place.is_in_place)
        self._book.put(msgspec.structs.replace(task, detail=detail, figures=written.figures), "restored")

    async def _commit(self, place: RestoreTarget, machine: Machine) -> None:
        request = self._request
        self._book.enter("switching over")
        self._is_back_owed = False
        # A cancellation during the switch-over comes too late: it has happened or is about to.
        self._run.machine = await workflow.execute_activity(
            target.commit_target,
            target.CommitTarget(provider=request.provider, target_id=place.target_id, power=request.power),
            **options.ending(self._proxy, summary(machine.name)),
        )
        self._run.undo.drop(_TARGET)
        for task in self._book.tasks():
            done = msgspec.structs.replace(task, outcome=Outcome.SUCCESS)
            self._book.put(done)
            await self._run.recorder.task(done)


def _kept(identity: Identity) -> str:
    """Return what a new machine has of the captured one's identity, in words."""
    parts = (("MAC addresses", identity.mac_addresses), ("uuid", identity.uuid))
    return ", ".join(name for name, which in parts if which is Identifier.KEEP)


def _lanes(disks: int) -> int:
    """Return how many disks are written at once: all, and the slots of the proxy decide."""
    if disks <= _DISKS_AT_ONCE_BEFORE or workflow.patched("every-disk-at-once"):
        return disks
    return _DISKS_AT_ONCE_BEFORE


def _written(done: transfer.DiskRestored, *, begins_with_content: bool) -> str:
    """Return in words what was done with a disk."""
    way = "" if done.transport is None else f" over {done.transport.mode}: {done.transport.reason}"
    plain = f"{'written and compared' if done.compared else 'written'}{way}{_after(done.slowed)}"
    if not done.compared_bytes:
        return plain
    counts = (size_text(count) for count in (done.compared_bytes, done.equal_bytes, done.written_bytes))
    return f"{explanation(*counts, is_resumed=not begins_with_content)}; {plain}"


def _check_delta(request: RestoreRequest) -> None:
    if request.over and (request.into is None or len(set(request.over)) != len(request.disks)):
        raise RequestInvalid(
            "each disk that is restored over another one of another machine needs one of its own",
            hint="Name the machine with `--into`, and as many different disks with `--over` as with `--disk`.",
        )
    is_anew = request.new_name is not None or (request.into is not None and not request.over)
    if request.delta is Delta.ALWAYS and is_anew:
        raise RequestInvalid(
            "disks that are made anew hold nothing to compare with",
            hint="Give `--delta` with `--original`, or with `--into NAME --over KEY`.",
        )


def _check_over(existing: Machine, over: tuple[DiskKey, ...]) -> None:
    known = {disk.key for disk in existing.disks}
    for key in over:
        if key not in known:
            raise DiskNotFound(f"machine {existing.name!r} has no disk {key}")


def _check_quick(request: RestoreRequest) -> None:
    if request.new_name is not None or request.into is not None:
        raise RequestInvalid(
            "only the machine that the point is of can be rolled back",
            hint="Restore in full: a new machine and other machines hold nothing of the point.",
        )


def _check_fit(existing: Machine, disks: tuple[Disk, ...]) -> None:
    reason = unfit_for_rollback(existing.disks, disks)
    if reason is not None:
        raise RequestInvalid(
            f"machine {existing.name!r} cannot be rolled back: {reason}", hint="Restore in full, without `--quick`."
        )


def _after(slowed: str) -> str:
    """Return what is told of waits, to be put behind the rest."""
    return f"; {slowed}" if slowed else ""
