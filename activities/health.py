"""Scrubbing and repairing the chains of a repository."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import msgspec
from temporalio import activity

from activities.binding import implements
from activities.boundary import resume_cursor
from activities.contracts import health as contract
from activities.openers import Keyring, PassphraseLookup, RepositoryOpener
from activities.pulse import STALL_S, Pulse
from holdfast import measures
from holdfast.clock import Clock
from holdfast.errors import ChainBusy, CredentialMissing, DataError, HoldfastError, PassphraseWrong, StoreFailed
from holdfast.formats.chain_health import ChainHealth
from holdfast.model.health import ClosedChain, RepairReport, ScrubReport
from holdfast.model.ids import CredentialName, RepositoryName
from holdfast.model.points import Health
from holdfast.pipeline.pace import Pace
from holdfast.pipeline.throttle import Throttle
from holdfast.planning.scrub import ScrubRules
from holdfast.planning.throttling import Direction, Transfer
from holdfast.storage.chains.chain import Chain, chain_file_names
from holdfast.storage.chains.metadata import check_chain, read_metadata
from holdfast.storage.chains.opening import open_with
from holdfast.storage.chains.repository import Repository
from holdfast.storage.health.chain_repair import DAMAGES_NAMED_MAX, ChainRepair, OtherChain
from holdfast.storage.health.health_file import read_health
from holdfast.storage.health.marking import chain_damage
from holdfast.storage.health.scrub_run import POINTS_NAMED_MAX, RepositoryScrub, ScrubProgress
from holdfast.storage.retention.archiving import archive_credentials

_BUSY_ATTEMPTS_MAX = 20
"""Attempts at a chain that is being written, about five minutes: by then it is somebody who writes for long, and the
chain is left to the next repair."""


class HealthActivities:
    """Serves `activities.contracts.health`. What a scrub reads counts against the read limit of the repository."""

    def __init__(
        self,
        repositories: RepositoryOpener,
        passphrases: PassphraseLookup,
        clock: Clock,
        throttle: Throttle | None = None,
    ) -> None:
        self._repositories = repositories
        self._passphrases = passphrases
        self._clock = clock
        self._throttle = throttle if throttle is not None else Throttle(clock)

    @implements(contract.scrub)
    def scrub(self, request: contract.ScrubSlice) -> ScrubReport:
        """Read a slice of what is to be read again."""
        before = resume_cursor(contract.ScrubCursor)
        with Pulse(self._clock, cursor=before, stall_s=STALL_S) as pulse:
            pace = Pace(self._clock, pulse.waiting)
            known = (
                before
                if before is not None
                else contract.ScrubCursor(chain="", planned_bytes=0, done_bytes=0, checked_bytes=0)
            )
            left = request.left_bytes if before is None else before.planned_bytes - before.done_bytes
            rules = ScrubRules(days=request.days, every_s=request.every_s)
            with pulse.unhurried():  # every chain is opened for the plan
                repository = self._repositories(request.repository)
                keys = self._keys(repository, request.credentials)
                run = RepositoryScrub(repository, keys.all, self._clock, pace.take, is_deep=request.is_deep)
                plan = run.plan(rules, left, request.began)
            planned = plan.planned_bytes if before is None else before.planned_bytes

            def report(progress: ScrubProgress) -> None:
                pulse.beat(_cursor(known, planned, progress))

            what = Transfer(
                repository=request.repository, direction=Direction.READ, label=f"scrub of {request.repository}"
            )
            with self._throttle.holding(what, pace):
                found = run.run(plan, request.slice_bytes - known.done_bytes, report)
            found = msgspec.structs.replace(
                found,
                planned_bytes=planned,
                # What a dead attempt read and could not report is no part of the plan any more.
                done_bytes=planned - (plan.planned_bytes - found.done_bytes),
                checked_bytes=known.checked_bytes + found.checked_bytes,
                closed=_with_missing(found.closed, keys.missing),
            )
            if found.is_done:
                with pulse.unhurried():
                    left_over = run.plan(rules, 0)
                found = msgspec.structs.replace(found, oldest=left_over.oldest, overdue_bytes=left_over.overdue_bytes)
        self._measure(request.repository, found)
        return found

    @implements(contract.repair)
    def repair(self, request: contract.RepairChains) -> RepairReport:
        """Repair one chain, or all that are known to be damaged.

        Raises `ChainBusy` behind the others when one is being written, until that was tried for a while.
        """
        before = resume_cursor(contract.RepairCursor)
        done, report = ((), RepairReport()) if before is None else (before.done, before.report)
        busy: ChainBusy | None = None
        # Without a limit for a standstill: a chain is repaired in one call that cannot report, and may take hours.
        with Pulse(self._clock, cursor=before) as pulse:
            repository = self._repositories(request.repository)
            keys = self._keys(repository, request.credentials).all
            chains = [name for name in _to_repair(repository, request.chain, keys, pulse) if name not in done]
            for index, name in enumerate(chains):
                cursor = contract.RepairCursor(
                    chain=name, chains_done=index, chains=len(chains), done=done, report=report
                )
                pulse.beat(cursor)
                try:
                    found = self._repair_chain(repository, name, keys, request.copies)
                except ChainBusy as error:
                    if activity.info().attempt < _BUSY_ATTEMPTS_MAX:
                        busy = error
                        continue
                    found = _left_alone(name, error)
                done, report = (*done, name), joined_repairs(report, found)
                pulse.beat(msgspec.structs.replace(cursor, chains_done=index + 1, done=done, report=report))
            if busy is not None:
                raise busy
            return report

    def _repair_chain(
        self, repository: Repository, name: str, keys: Sequence[str | None], copies: Sequence[RepositoryName]
    ) -> RepairReport:
        with ExitStack() as stack:
            try:
                passphrase = passphrase_of(repository, name, keys)
                others = list(self._others(repository, name, keys, copies, stack))
                return ChainRepair(repository, name, passphrase, others).run()
            except (PassphraseWrong, StoreFailed) as error:
                return _left_alone(name, error)

    def _others(
        self,
        repository: Repository,
        name: str,
        keys: Sequence[str | None],
        copies: Sequence[RepositoryName],
        stack: ExitStack,
    ) -> Iterator[OtherChain]:
        """Open the other chains of the machine, the newest first, here and in the copies, as far as they can be."""
        machine = name.rpartition("/")[0]
        places = [(repository, False), *((self._repositories(copy), True) for copy in copies)]
        for place, is_copy in places:
            for other in reversed(_chains(place)):
                if other.rpartition("/")[0] != machine or (not is_copy and other == name):
                    continue
                try:
                    chain = stack.enter_context(_opened(place, other, keys))
                except DataError:
                    continue  # it is damaged itself, and named when its turn comes
                yield OtherChain(chain=chain, is_copy=is_copy)

    def _keys(self, repository: Repository, credentials: Sequence[CredentialName]) -> Keyring:
        """Return what may open chains, as far as it is there: the passphrases that are named, and those of archives."""
        named = tuple(dict.fromkeys((*credentials, *archive_credentials(repository))))
        return Keyring(self._passphrases, None, named)

    def _measure(self, repository: RepositoryName, found: ScrubReport) -> None:
        measures.SCRUBBED.record(found.checked_bytes, repository=repository)
        if found.oldest is not None:
            age_s = (self._clock.now() - found.oldest).total_seconds()
            measures.OLDEST_UNREAD.record(max(0.0, age_s), repository=repository)
        damaged = sum(point.state is not Health.USABLE for point in found.points)
        measures.DAMAGED_POINTS.record(damaged, repository=repository)


def is_damaged(repository: Repository, name: str, keys: Sequence[str | None]) -> bool:
    """Return whether a chain is known to be damaged, or turns out to be when its files are opened.

    One whose passphrase is not there is taken for damaged, so that its repair says so and that of the others goes on.
    """
    if _has_marks(read_health(repository.files, repository.chain_folder(name))):
        return True
    try:
        with _opened(repository, name, keys) as chain:
            if chain.files:
                read_metadata(repository.files, chain.folder, chain.files[0].keys)
                check_chain(repository.files, chain)
    except DataError:
        return True
    return False


def passphrase_of(repository: Repository, name: str, keys: Sequence[str | None]) -> str | None:
    """Return the passphrase that opens a chain, None for one without. Raises `PassphraseWrong`."""
    problem: HoldfastError | None = None
    for passphrase in keys:
        try:
            _opened(repository, name, [passphrase]).close()
        except PassphraseWrong as error:
            problem = error
        except DataError:
            return passphrase if len(keys) == 1 else keys[-1]  # none of its files says which; the last is tried
        else:
            return passphrase
    assert problem is not None, "there is always one to try"
    raise problem


def _opened(repository: Repository, name: str, keys: Sequence[str | None]) -> Chain:
    chain, _ = open_with(repository.files, repository.chain_folder(name), keys)
    return chain


def joined_repairs(left: RepairReport, right: RepairReport) -> RepairReport:
    """Return the report of both."""
    damages = left.damages + right.damages
    return RepairReport(
        chains=left.chains + right.chains,
        metadata=left.metadata + right.metadata,
        rebuilt=left.rebuilt + right.rebuilt,
        set_aside=left.set_aside + right.set_aside,
        files=left.files + right.files,
        notes=left.notes + right.notes,
        repaired_pieces=left.repaired_pieces + right.repaired_pieces,
        from_chain=left.from_chain + right.from_chain,
        from_chains=left.from_chains + right.from_chains,
        from_copies=left.from_copies + right.from_copies,
        damages=damages[:DAMAGES_NAMED_MAX],
        unnamed_damages=left.unnamed_damages + right.unnamed_damages + len(damages[DAMAGES_NAMED_MAX:]),
        points=(left.points + right.points)[:POINTS_NAMED_MAX],
    )


def _to_repair(repository: Repository, wanted: str | None, keys: Sequence[str | None], pulse: Pulse) -> Iterator[str]:
    """Yield the chain that is asked for, or all that are damaged, which is found out one by one."""
    if wanted is not None:
        yield wanted
        return
    for name in _chains(repository):
        pulse.waiting()
        if is_damaged(repository, name, keys):
            yield name


def _with_missing(closed: Sequence[ClosedChain], missing: CredentialMissing | None) -> tuple[ClosedChain, ...]:
    """Return chains that did not open with the credential that might have opened them, where one is not there."""
    if missing is None:
        return tuple(closed)
    return tuple(msgspec.structs.replace(one, code=missing.code, reason=missing.message) for one in closed)


def _left_alone(name: str, error: HoldfastError) -> RepairReport:
    return RepairReport(chains=1, damages=(chain_damage(name, f"not repaired: {error.message}"),))


def _chains(repository: Repository) -> list[str]:
    folders = repository.chain_folders()
    return [repository.relative(folder) for folder in folders if chain_file_names(repository.files, folder)]


def _has_marks(health: ChainHealth) -> bool:
    return any(known.units or known.problem for known in health.files) or any(
        mark.state is Health.DAMAGED for mark in health.points
    )


def _cursor(known: contract.ScrubCursor, planned: int, progress: ScrubProgress) -> contract.ScrubCursor:
    return contract.ScrubCursor(
        chain=progress.chain,
        planned_bytes=planned,
        done_bytes=known.done_bytes + progress.done_bytes,
        checked_bytes=known.checked_bytes + progress.checked_bytes,
    )
