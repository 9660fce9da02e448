"""Checks the chains of a repository one after the other; a chain that cannot be opened is damage, not an end.

Only what no check can get past is raised: storage that is not there, and of a chain that was named its passphrase.
"""

from collections.abc import Callable, Sequence

import msgspec

from holdfast.clock import Clock
from holdfast.errors import DataError, HoldfastError, PassphraseWrong, PointNotFound
from holdfast.model.ids import DiskKey, is_folder_of
from holdfast.model.owners import is_job_folder
from holdfast.model.points import ChainRead, Damage, VerifyReport, chains_named
from holdfast.storage.chains.chain import Chain, chain_file_names
from holdfast.storage.chains.metadata import METADATA_NAME, check_against_metadata, check_links, read_metadata
from holdfast.storage.chains.opening import open_with
from holdfast.storage.chains.owning import seen_by, shown_owner
from holdfast.storage.chains.repository import Repository
from holdfast.storage.health.health_file import points_of
from holdfast.storage.health.marking import chain_damage, mark_checked
from holdfast.storage.health.verifier import Findings, verify_chain

DAMAGES_NAMED_MAX = 50
"""Damaged spans that a report names; a report travels in heartbeats and histories, so more are only counted."""

HEALTH_MAX = 1000
"""Points of one report that are told to the catalog; those beyond are told by the next check."""

_METADATA_READS = 2


def chains_to_verify(repository: Repository, chain: str | None) -> list[str]:
    """Return ``chain`` alone, or all chains that hold any file when it is None."""
    if chain is not None:
        repository.chain_folder(chain)  # refuses a name that leads out of the repository
        return [chain]
    folders = repository.chain_folders()
    return [repository.relative(folder) for folder in folders if chain_file_names(repository.files, folder)]


def newest_chains(repository: Repository) -> list[str]:
    """Return of each machine the newest chain in which a point was ever finished."""
    newest = {
        folder.parent: folder
        for folder in repository.chain_folders()
        if repository.files.exists(folder / METADATA_NAME)
    }
    return [repository.relative(folder) for folder in newest.values()]


def may_hold(repository: Repository, chain: str, machine: str, passphrases: Sequence[str | None]) -> bool:
    """Return whether a chain may hold points of a machine, which is given by its id or name.

    One in a folder of that name may, and is not opened to find out. Others tell by their points, as those of a job, or
    of a machine that has another name by now. One that does not open may where it is a job's, or beside another chain
    of the machine; else it is taken for another machine's, as its folder says.
    """
    folder = repository.chain_folder(chain).parent
    if is_folder_of(folder.name, machine):
        return True
    holds = _holds(repository, chain, machine, passphrases)
    if holds is not None:
        return holds
    if is_job_folder(folder.name):
        return True
    beside = (repository.relative(other) for other in repository.chain_folders(folder))
    return any(_holds(repository, other, machine, passphrases) for other in beside if other != chain)


def closed_chain(chain: str, error: HoldfastError) -> VerifyReport:
    """Return the report of a chain that could not be opened."""
    damage = msgspec.structs.replace(chain_damage(chain, error.message), code=error.code)
    return VerifyReport(damages=(damage,), read=(ChainRead(chain=chain, damages=1),))


def check_found(report: VerifyReport, machine: str | None) -> None:
    """Raise `PointNotFound` when a machine was named and nothing of it was there to be checked."""
    if machine is not None and not report.chains:
        hint = "`holdfast points` lists the machines with points; a chain without its passphrase tells none."
        raise PointNotFound(f"no point of machine {machine} was found", hint=hint)


def joined(left: VerifyReport, right: VerifyReport) -> VerifyReport:
    """Return the report of both."""
    damages = left.damages + right.damages
    return VerifyReport(
        chains=left.chains + right.chains,
        points=left.points + right.points,
        units=left.units + right.units,
        stored_bytes=left.stored_bytes + right.stored_bytes,
        damages=damages[:DAMAGES_NAMED_MAX],
        health=(left.health + right.health)[:HEALTH_MAX],
        unnamed_damages=left.unnamed_damages + right.unnamed_damages + len(damages[DAMAGES_NAMED_MAX:]),
        read=chains_named(left.read + right.read),
    )


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """Which points of a chain are checked, and how far."""

    machine: str | None = None
    numbers: Sequence[int] = ()
    """Empty for all."""
    newest: bool = False
    """Only the newest complete point of each machine."""
    is_new_only: bool = False
    """Of the units only those in the points' own files."""

    @property
    def is_all(self) -> bool:
        """Return whether everything in the chain is read."""
        return self.machine is None and not self.numbers and not self.newest


class ChainCheck:
    """The check of one chain, of all its points or of those in the scope.

    With a ``clock`` what is found is written into the health file of the chain.
    """

    def __init__(
        self,
        repository: Repository,
        chain: str,
        passphrase: str | None,
        scope: Scope = Scope(),  # noqa: B008 - a value
        clock: Clock | None = None,
    ) -> None:
        self._repository = repository
        self._chain = chain
        self._passphrase = passphrase
        self._scope = scope
        self._machine = scope.machine
        self._clock = clock

    def run(self, report: Callable[[int], None]) -> VerifyReport:
        """Return what is damaged; ``report`` gets the stored bytes checked so far."""
        try:
            links = self._links()
            with self._repository.open_chain(self._chain, self._passphrase) as chain:
                numbers = self._wanted(chain)
                if numbers == [] or not chain.files:
                    return VerifyReport(chains=0)
                checked = self._checked(chain, numbers, report)
        except PassphraseWrong:
            raise
        except DataError as error:
            damage = msgspec.structs.replace(self._damage("", error.message), code=error.code)
            return VerifyReport(damages=(damage,), read=(ChainRead(chain=self._chain, damages=1),))
        damages = tuple(msgspec.structs.replace(damage, chain=self._chain) for damage in checked.damages)
        found = joined(VerifyReport(chains=0, damages=links), msgspec.structs.replace(checked, damages=damages))
        return msgspec.structs.replace(found, read=self._read(found))

    def _checked(self, chain: Chain, numbers: list[int] | None, report: Callable[[int], None]) -> VerifyReport:
        found = Findings()
        began = None if self._clock is None else self._clock.now()
        checked = verify_chain(chain, report, numbers=numbers, found=found, is_new_only=self._scope.is_new_only)
        if began is None:
            return checked
        looked_at = None if numbers is None else set(numbers)
        read = began if self._scope.is_all else None
        health = mark_checked(self._repository.files, chain, found, looked_at, read)
        return msgspec.structs.replace(checked, health=points_of(self._chain, health))

    def _read(self, report: VerifyReport) -> tuple[ChainRead, ...]:
        if not report.points and report.is_good:
            return ()  # nothing is finished in it
        damages = len(report.damages) + report.unnamed_damages
        return (ChainRead(chain=self._chain, points=report.points, stored_bytes=report.stored_bytes, damages=damages),)

    def _links(self) -> tuple[Damage, ...]:
        """Compare the files with each other and with the chain's metadata.

        A session may finish a point between the reading of the files and that of the metadata; what does not fit then
        fits at a second look.
        """
        for attempt in range(_METADATA_READS):
            with self._repository.open_chain(self._chain, self._passphrase) as chain:
                if not chain.files or chain.unreadable:
                    return ()  # nothing was ever committed, or the check of the points names what is missing
                try:
                    self._compare(chain)
                except DataError as error:
                    if attempt + 1 == _METADATA_READS:
                        return (self._damage(METADATA_NAME, error.message),)
                else:
                    break
        return ()

    def _compare(self, chain: Chain) -> None:
        metadata = read_metadata(self._repository.files, chain.folder, chain.files[0].keys)
        if metadata is None:
            check_links(chain)
        else:
            check_against_metadata(chain, metadata)

    def _wanted(self, chain: Chain) -> list[int] | None:
        if self._scope.is_all:
            return None
        owner = shown_owner(self._repository.files, chain)
        points = [
            point
            for point in (seen_by(found, owner) for _, found in chain.points())
            if self._machine in {None, point.machine.machine_id, point.machine.name}
            and (not self._scope.numbers or point.number in self._scope.numbers)
        ]
        if self._scope.newest:
            newest = {point.machine.machine_id: point.number for point in points if point.complete}
            return list(newest.values())
        return [point.number for point in points]

    def _damage(self, file: str, reason: str) -> Damage:
        return Damage(
            chain=self._chain,
            point=0,
            machine=self._machine or "",
            disk=DiskKey(""),
            offset=0,
            length=0,
            file=file,
            reason=reason,
        )


def _holds(repository: Repository, chain: str, machine: str, passphrases: Sequence[str | None]) -> bool | None:
    """Return whether a chain holds points of a machine; None when it cannot be opened."""
    try:
        with open_with(repository.files, repository.chain_folder(chain), passphrases)[0] as opened:
            owner = shown_owner(repository.files, opened)
            machines = [seen_by(point, owner).machine for _, point in opened.points()]
    except DataError:
        return None
    return any(machine in {known.machine_id, known.name} for known in machines)
