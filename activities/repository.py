"""The life of restore points in a repository."""

from functools import partial

import msgspec

from activities.binding import implements
from activities.boundary import resume_cursor
from activities.contracts import repository as contract
from activities.health import passphrase_of
from activities.openers import ClockBounds, Keyring, MoverIssuer, PassphraseLookup, RepositoryOpener
from activities.pulse import STALL_S, Pulse
from activities.verification import (
    ChainCheck,
    Scope,
    chains_to_verify,
    check_found,
    closed_chain,
    joined,
    may_hold,
    newest_chains,
)
from holdfast.clock import Clock
from holdfast.errors import CredentialMissing, PassphraseWrong
from holdfast.model.archives import is_archive
from holdfast.model.ids import CredentialName, PointId, RepositoryName
from holdfast.model.owners import ChainOwner
from holdfast.model.points import FoundPoint, OpenPoint, PointSummary, VerifyReport
from holdfast.planning.clock_jump import AHEAD_DAYS_DEFAULT
from holdfast.storage.chains.last_used import note_used
from holdfast.storage.chains.repository import Repository, StoredPoint
from holdfast.storage.intake.finishing import finish_point
from holdfast.storage.intake.lifecycle import StoreOptions, abandon_session, begin_point, chain_problem
from holdfast.storage.intake.quick_points import begin_quick
from holdfast.storage.retention.archiving import archive_credential, begin_archive


class RepositoryActivities:
    """Serves the short work of `activities.contracts.repository`."""

    def __init__(
        self,
        repositories: RepositoryOpener,
        passphrases: PassphraseLookup,
        clock: Clock,
        movers: MoverIssuer | None = None,
        clock_bounds: ClockBounds = lambda _: AHEAD_DAYS_DEFAULT,
    ) -> None:
        self._repositories = repositories
        self._passphrases = passphrases
        self._clock = clock
        self._movers = movers
        self._clock_bounds = clock_bounds

    @implements(contract.begin_point)
    def begin_point(self, request: contract.BeginPoint) -> OpenPoint:
        """Begin a point; idempotent by session."""
        with Pulse(self._clock):
            repository = self._repositories(request.repository)
            options = StoreOptions(
                unit_size=request.unit_size,
                began=request.began,
                passphrase=self._passphrases(request.credential),
                full=request.full,
                fulls=request.fulls,
                is_full_when_broken=request.is_full_when_broken,
                owner=request.owner,
            )
            self._end_writing(request.repository, repository, options.owner_of(request.snapshot.machine))
            begun = _begin(repository, request, options)
            # Also where no retention runs: the clock is compared with this when archives expire, for instance.
            note_used(repository, self._clock, self._clock_bounds(request.repository))
            if self._movers is None:
                return begun
            keys = [disk.key for disk in request.snapshot.disks]
            access = self._movers.to_write(request.repository, begun, keys, request.credential)
            return msgspec.structs.replace(begun, mover=access)

    @implements(contract.look_at_chain)
    def look_at_chain(self, request: contract.LookAtChain) -> contract.ChainSeen:
        """Say whether the newest chain of a machine can be continued."""
        with Pulse(self._clock):
            repository = self._repositories(request.repository)
            passphrase = self._passphrases(request.credential)
            owner = request.owner or ChainOwner.of_machine(request.machine_id, request.machine)
            return contract.ChainSeen(problem=chain_problem(repository, owner, request.machine_id, passphrase))

    @implements(contract.finish_point)
    def finish_point(self, request: contract.FinishPoint) -> PointSummary:
        """Complete a point and read it back."""
        with Pulse(self._clock):
            repository = self._repositories(request.repository)
            if self._movers is not None:
                self._movers.end_writing(request.repository, request.point.chain)
            return finish_point(repository, request.point, self._passphrases(request.credential))

    @implements(contract.abandon_point)
    def abandon_point(self, request: contract.AbandonPoint) -> contract.PointAbandoned:
        """Remove an unfinished point and what was set aside of it after a failed flush."""
        with Pulse(self._clock):
            repository = self._repositories(request.repository)
            options = StoreOptions(
                unit_size=1 << 20, passphrase=self._passphrases(request.credential), owner=request.owner
            )
            self._end_writing(request.repository, repository, options.owner_of(request.snapshot.machine))
            removed = abandon_session(repository, request.session_id, request.snapshot.machine, options)
            return contract.PointAbandoned(removed=removed)

    @implements(contract.find_point)
    def find_point(self, request: contract.FindPoint) -> FoundPoint:
        """Return a point to restore."""
        with Pulse(self._clock):
            repository = self._repositories(request.repository)
            found, credential = self._found(repository, request)
            machine, mover = found.point.captured_machine(), None
            if self._movers is not None:
                keys = [disk.key for disk in machine.disks]
                where = (found.chain, found.point.number)
                mover = self._movers.to_read(request.repository, *where, keys, credential)
            return FoundPoint(
                chain=found.chain,
                number=found.point.number,
                point_id=PointId(found.point.id),
                created=found.point.created,
                machine=machine,
                encrypted=found.encrypted,
                mover=mover,
                files=tuple(file.name for file in found.point.machine_files),
            )

    def _found(self, repository: Repository, request: contract.FindPoint) -> tuple[StoredPoint, CredentialName | None]:
        """Return a point and the credential of its chain."""
        keys = Keyring(self._passphrases, request.credential, request.credentials)
        found = repository.find_point(request.reference, keys.first, request.machine, others=keys.others)
        if not request.credentials:
            return found, request.credential
        return found, keys.name_of(passphrase_of(repository, found.chain, keys.all))

    def _end_writing(self, name: RepositoryName, repository: Repository, owner: ChainOwner) -> None:
        """End what movers write for an owner: nothing of it is wanted, and a dead proxy's session holds its chain."""
        if self._movers is not None:
            self._movers.end_writing(name, repository.relative(repository.owner_folder(owner)))


class UpkeepActivities:
    """Serves the long work of `activities.contracts.repository`, on a queue of its own."""

    def __init__(self, repositories: RepositoryOpener, passphrases: PassphraseLookup, clock: Clock) -> None:
        self._repositories = repositories
        self._passphrases = passphrases
        self._clock = clock

    @implements(contract.verify_points)
    def verify_points(self, request: contract.VerifyPoints) -> VerifyReport:
        """Read every stored byte of the points and compare it with its digest; goes on chain by chain."""
        previous = resume_cursor(contract.VerifyCursor)
        with Pulse(self._clock, cursor=previous, stall_s=STALL_S) as pulse:
            repository = self._repositories(request.repository)
            keys = Keyring(self._passphrases, request.credential, request.credentials)
            chains = newest_chains(repository) if request.newest else chains_to_verify(repository, request.chain)
            done, report = _known(previous, chains)
            for index, chain in enumerate(chains[done:], done):
                cursor = contract.VerifyCursor(
                    chain=chain,
                    chains_done=index,
                    chains=len(chains),
                    checked_bytes=report.stored_bytes,
                    partial=report,
                )
                pulse.beat(cursor)
                if request.machine is not None and not may_hold(repository, chain, request.machine, keys.all):
                    continue
                try:
                    key = self._key(request, repository, chain, keys)
                    check = ChainCheck(repository, chain, key, _scope(request), self._clock)
                    report = joined(report, check.run(partial(_beat_checked, pulse, cursor)))
                except (PassphraseWrong, CredentialMissing) as error:
                    if request.chain is not None:
                        raise  # there is no other to go on with
                    report = joined(report, closed_chain(chain, error))
            check_found(report, request.machine)
            return report

    def _key(self, request: contract.VerifyPoints, repository: Repository, chain: str, keys: Keyring) -> str | None:
        """Return the passphrase of a chain: an archive says itself which one it was made with.

        One credential alone is meant for every chain, so a plain one is refused. Raises `PassphraseWrong`, and
        `CredentialMissing` when one that is not there might have opened it.
        """
        own = archive_credential(repository.files, repository.chain_folder(chain)) if is_archive(chain) else None
        if own is not None:
            return self._passphrases(own)
        if not request.credentials:
            return keys.first
        try:
            return passphrase_of(repository, chain, keys.all)
        except PassphraseWrong as error:
            if keys.missing is not None:
                raise keys.missing from error
            raise


def _begin(repository: Repository, request: contract.BeginPoint, options: StoreOptions) -> OpenPoint:
    if request.archive is not None:
        return begin_archive(repository, request.session_id, request.snapshot, options, request.archive)
    if request.quick is not None:
        return begin_quick(repository, request.session_id, request.snapshot, options, request.quick)
    return begin_point(repository, request.session_id, request.snapshot, options)


def _scope(request: contract.VerifyPoints) -> Scope:
    return Scope(
        machine=request.machine,
        numbers=request.numbers,
        newest=request.newest,
        is_new_only=request.is_new_only,
    )


def _beat_checked(pulse: Pulse, cursor: contract.VerifyCursor, checked_bytes: int) -> None:
    pulse.beat(msgspec.structs.replace(cursor, checked_bytes=cursor.checked_bytes + checked_bytes))


def _known(previous: contract.VerifyCursor | None, chains: list[str]) -> tuple[int, VerifyReport]:
    """Return how many chains need no second look, and what they showed; chains that came or went begin anew."""
    if (
        previous is None
        or previous.chains != len(chains)
        or chains[previous.chains_done : previous.chains_done + 1] != [previous.chain]
    ):
        return 0, VerifyReport(chains=0)
    return previous.chains_done, previous.partial
