"""Chains that change their place or owner."""

from collections.abc import Sequence
from contextlib import suppress

from activities.binding import implements
from activities.boundary import resume_cursor
from activities.contracts import moving as contract
from activities.contracts.catalog import Recorded
from activities.openers import CatalogOpener, PassphraseLookup, RepositoryOpener
from activities.pulse import STALL_S, Pulse
from holdfast import measures
from holdfast.clock import Clock
from holdfast.errors import CredentialMissing
from holdfast.model.ids import CredentialName
from holdfast.storage.chains.repository import Repository
from holdfast.storage.retention.archiving import archive_credentials
from holdfast.storage.tools.mapping import JobRules, NewOwner, change_owner
from holdfast.storage.tools.moving import Move, chains_to_move, discard_move, move_chain


class MovingActivities:
    """Serves what `activities.contracts.moving` does in repositories."""

    def __init__(self, repositories: RepositoryOpener, passphrases: PassphraseLookup, clock: Clock) -> None:
        self._repositories = repositories
        self._passphrases = passphrases
        self._clock = clock

    @implements(contract.give_machine)
    def give_machine(self, request: contract.GiveMachine) -> contract.MachineGiven:
        """Give the chains of a machine to another one, or another name."""
        with Pulse(self._clock):
            job = None
            if request.unit_size is not None:
                passphrase = self._passphrases(request.job_credential)
                job = JobRules(unit_size=request.unit_size, passphrase=passphrase)
            wanted = NewOwner(folder=request.folder, machine_id=request.machine_id, machine_name=request.machine_name)
            repository = self._repositories(request.repository)
            given = change_owner(repository, wanted, self._keys(repository, request.credentials), job)
        places = [
            contract.ChainPlace(
                chain=chain.chain,
                chain_id=chain.chain_id,
                machine_id=given.machine_id,
                machine_name=given.machine_name,
            )
            for chain in given.chains
        ]
        points = sum(chain.points for chain in given.chains)
        return contract.MachineGiven(folder=given.folder, chains=tuple(places), points=points)

    @implements(contract.find_chains)
    def find_chains(self, request: contract.FindChains) -> contract.ChainsFound:
        """Return the chains in a machine's folder."""
        with Pulse(self._clock):
            repository = self._repositories(request.repository)
            repository.check_present()
            return contract.ChainsFound(chains=chains_to_move(repository, request.folder))

    @implements(contract.move_chain)
    def move_chain(self, request: contract.MoveChain) -> contract.ChainMoved:
        """Move a chain; a repeated attempt goes on where the files say."""
        previous = resume_cursor(contract.MoveCursor)
        with Pulse(self._clock, cursor=previous, stall_s=STALL_S) as pulse:

            def report(copied_bytes: int) -> None:
                pulse.beat(contract.MoveCursor(copied_bytes=copied_bytes))

            report(0 if previous is None else previous.copied_bytes)
            move = Move(chain=request.chain, to=request.target, now=self._clock.now())
            source, target = self._repositories(request.source), self._repositories(request.target)
            moved = move_chain(source, target, move, self._keys(source, request.credentials), report)
        measures.CHAINS_MOVED.record(moved.copied_bytes, repository=str(request.source), to=str(request.target))
        return contract.ChainMoved(
            place=contract.ChainPlace(
                chain=moved.chain,
                chain_id=moved.chain_id,
                machine_id=moved.machine_id,
                machine_name=moved.machine_name,
            ),
            points=moved.points,
            size_bytes=moved.size_bytes,
            stays_until=moved.stays_until,
        )

    @implements(contract.discard)
    def discard(self, request: contract.DiscardMove) -> contract.Discarded:
        """Remove an unfinished copy."""
        with Pulse(self._clock):
            discard_move(self._repositories(request.target), request.chain)
        return contract.Discarded()

    def _keys(self, repository: Repository, credentials: Sequence[CredentialName]) -> list[str | None]:
        """Return the passphrases to try: those of the request, and those that archives were made with and are known."""
        keys = [self._passphrases(name) for name in credentials]
        for name in archive_credentials(repository):
            with suppress(CredentialMissing):
                keys.append(self._passphrases(name))
        return keys


class RelocationActivities:
    """Serves the part of `activities.contracts.moving` that the catalog is told."""

    def __init__(self, catalog_opener: CatalogOpener, clock: Clock) -> None:
        self._open = catalog_opener
        self._clock = clock

    @implements(contract.relocate)
    def relocate(self, request: contract.RelocateChains) -> Recorded:
        """Write where the points of chains are now."""
        with Pulse(self._clock):
            for place in request.chains:
                self._open().points.relocate(
                    request.repository,
                    place.chain_id,
                    to=request.to,
                    chain=place.chain,
                    machine=(place.machine_id, place.machine_name),
                )
        return Recorded()
