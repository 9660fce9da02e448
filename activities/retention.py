"""Retention of a machine's chains: planned from what is in the repository, carried out step by step."""

from collections.abc import Sequence

from activities.binding import implements
from activities.boundary import resume_cursor
from activities.contracts import retention as contract
from activities.openers import ClockBounds, Keyring, PassphraseLookup, RepositoryOpener
from activities.pulse import STALL_S, Pulse
from holdfast import measures
from holdfast.clock import Clock
from holdfast.errors import PassphraseWrong, PlanChanged
from holdfast.model.archives import is_archive
from holdfast.model.ids import FileId, MachineId, PointId, RepositoryName
from holdfast.planning.clock_jump import AHEAD_DAYS_DEFAULT
from holdfast.planning.grace import PurgeRule
from holdfast.planning.retention import PointVerdict, Verdict
from holdfast.planning.retention_steps import count
from holdfast.storage.chains.last_used import check_clock, jumped, note_used
from holdfast.storage.chains.repository import Repository
from holdfast.storage.methods.upkeep import ChainUpkeep
from holdfast.storage.retention.archiving import archive_credential, look_at_archives, plan_seen_archives
from holdfast.storage.retention.carrying_out import StepResult, StepWorker
from holdfast.storage.retention.graveyard import (
    Purged,
    opening_passphrase,
    purge_archives,
    purge_chain,
    purge_machine,
    take_back,
)
from holdfast.storage.retention.looking import PlanWish, look_at_machine, plan_machine, take_note


class RetentionActivities:
    """Serves what `activities.contracts.retention` does in a repository."""

    def __init__(
        self,
        repositories: RepositoryOpener,
        passphrases: PassphraseLookup,
        clock: Clock,
        clock_bounds: ClockBounds = lambda _: AHEAD_DAYS_DEFAULT,
    ) -> None:
        self._repositories = repositories
        self._passphrases = passphrases
        self._clock = clock
        self._clock_bounds = clock_bounds

    @implements(contract.plan)
    def plan(self, request: contract.PlanRetention) -> contract.RetentionPlanned:
        """Note marks and locks of new points and return the plan; nothing is noted when another one was expected.

        Raises `ClockJumped` when all is noted: locks begin by whatever clock, and end by none that jumped.
        """
        with Pulse(self._clock):
            repository = self._open(request)
            sight = note_used(repository, self._clock, self._clock_bounds(request.repository))
            wish = PlanWish(
                options=request.options,
                now=self._clock.now(),
                point=request.point,
                began=request.began,
                is_gone=request.is_gone,
                has_consent=request.has_consent,
                is_clock_sure=sight.is_steady,
                gone=request.gone,
            )
            folder = repository.machine_folder(MachineId(request.machine_id), request.machine_name)
            if request.options.only_archives:
                seen = look_at_archives(repository, folder, self._passphrases)
                planned = plan_seen_archives(seen, wish.now)
            else:
                seen = look_at_machine(repository, folder, self._passphrases(request.credential))
                planned = plan_machine(seen, wish)
            if request.expected and request.expected != planned.digest:
                raise PlanChanged(f"the plan for {request.machine_name} is {planned.digest}, not {request.expected}")
            locks = take_note(repository, seen, planned, wish)
            if not sight.is_steady:
                raise jumped(sight)
            return contract.RetentionPlanned(
                digest=planned.digest,
                steps=planned.steps,
                kept=count(planned.judgement.plan.points, Verdict.KEPT),
                held=len(planned.judgement.held),
                locks=locks,
                left_out=seen.left_out,
                points=_named(planned.judgement.plan.points),
            )

    @implements(contract.carry_out)
    def carry_out(self, request: contract.CarryOut) -> contract.CarriedOut:
        """Merge or remove files; a repeated attempt goes on where the files say."""
        previous = resume_cursor(contract.CarryOutCursor)
        with Pulse(self._clock, cursor=previous, stall_s=STALL_S) as pulse:
            repository, step = self._repositories(request.repository), request.step
            repository.check_present()
            self._check_clock(request.repository, repository)
            worker = StepWorker(
                repository, self._passphrase(repository, request), self._clock.now(), request.grace_days
            )
            before = 0 if previous is None else previous.moved_bytes

            def report(files_done: int, moved_bytes: int) -> None:
                moved = before + moved_bytes
                pulse.beat(contract.CarryOutCursor(files_done=files_done, files=len(step.files), moved_bytes=moved))

            report(0, 0)
            done = worker.run(step, report)
            self._measure(request, done)
            return contract.CarriedOut(moved_bytes=before + done.moved_bytes, moved=_moved(done))

    @implements(contract.purge)
    def purge(self, request: contract.PurgeRemoved) -> contract.RemovedPurged:
        """Delete removed files whose grace period is over, and folders of chains of which nothing is left."""
        with Pulse(self._clock):
            repository = self._open(request)
            purged = self._purged(repository, request)
            measures.RETENTION_FREED.record(purged.freed_bytes, repository=str(request.repository))
            return contract.RemovedPurged(files=purged.files, freed_bytes=purged.freed_bytes)

    def _purged(self, repository: Repository, request: contract.PurgeRemoved) -> Purged:
        now = self._clock.now()
        if request.chain:  # what somebody asks for waits for no time, so no clock has to be right
            return purge_chain(repository, request.chain, now)
        self._check_clock(request.repository, repository)
        rule = PurgeRule(now=now, grace_days=request.grace_days)
        if request.only_archives:
            return purge_archives(repository, rule)
        folder = repository.machine_folder(MachineId(request.machine_id), request.machine_name)
        return purge_machine(repository, folder, rule)

    @implements(contract.take_back)
    def take_back(self, request: contract.TakeBack) -> contract.TakenBack:
        """Bring removed files back and lock their points; a repeated attempt locks what is back already."""
        before = resume_cursor(contract.TakeBackCursor)
        with Pulse(self._clock, cursor=before) as pulse:
            repository = self._open(request)
            removed = ChainUpkeep(repository.files, repository.chain_folder(request.chain), None).removed()
            begun = () if before is None else before.files
            files = tuple(dict.fromkeys((*begun, *(file.name for file in removed))))
            pulse.beat(contract.TakeBackCursor(files=files))
            passphrase = self._opening(repository, request)
            return contract.TakenBack(files=take_back(repository, request.chain, passphrase, request.until, begun))

    def _opening(self, repository: Repository, request: contract.TakeBack) -> str | None:
        if is_archive(request.chain):
            folder = repository.chain_folder(request.chain)
            return self._passphrases(archive_credential(repository.files, folder))
        keys = Keyring(self._passphrases, None, request.credentials)
        try:
            return opening_passphrase(repository, request.chain, keys.all)
        except PassphraseWrong as error:
            if keys.missing is not None:
                raise keys.missing from error
            raise

    def _open(self, request: contract.PlanRetention | contract.PurgeRemoved | contract.TakeBack) -> Repository:
        repository = self._repositories(request.repository)
        repository.check_present()
        return repository

    def _check_clock(self, name: RepositoryName, repository: Repository) -> None:
        check_clock(repository, self._clock, self._clock_bounds(name))

    def _passphrase(self, repository: Repository, request: contract.CarryOut) -> str | None:
        """Return the passphrase of the chain: an archive says itself which one it was made with."""
        chain = request.step.chain
        if not is_archive(chain):
            return self._passphrases(request.credential)
        return self._passphrases(archive_credential(repository.files, repository.chain_folder(chain)))

    def _measure(self, request: contract.CarryOut, done: StepResult) -> None:
        name, verdict = str(request.repository), "merged" if request.step.into else "deleted"
        if is_archive(request.step.chain):
            verdict = "expired"
        measures.RETENTION_POINTS.record(len(request.step.points), repository=name, verdict=verdict)
        measures.RETENTION_MOVED.record(done.moved_bytes, repository=name)


def _named(points: Sequence[PointVerdict]) -> tuple[PointVerdict, ...]:
    """Return the points that go, then the newest that stay, as many as a history shall hold."""
    going = [point for point in points if point.verdict is not Verdict.KEPT]
    staying = [point for point in reversed(points) if point.verdict is Verdict.KEPT]
    return (*going, *staying)[: contract.POINTS_NAMED_MAX]


def _moved(done: StepResult) -> contract.PointMoved | None:
    if not done.holder:
        return None
    return contract.PointMoved(
        point_id=PointId(done.point_id),
        others=tuple(PointId(point) for point in done.others),
        file=done.holder,
        file_id=FileId(done.holder_id),
        generation=done.generation,
        kind=done.kind,
    )
