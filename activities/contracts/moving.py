"""Chains that change their place or owner; served on the queue of work that changes chains.

A move is served by the worker of the repository it goes to, which has to reach the other one, too.
"""

from datetime import datetime

import msgspec
from temporalio import activity

from activities.contracts.catalog import Recorded
from holdfast.model.ids import ChainId, CredentialName, MachineId, RepositoryName


class ChainPlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where a chain is now, and whose it is."""

    chain: str
    chain_id: ChainId
    machine_id: MachineId
    machine_name: str


class GiveMachine(msgspec.Struct, frozen=True, kw_only=True):
    """Give the chains in a machine's folder to a machine; the same machine under another name is a rename."""

    repository: RepositoryName
    folder: str
    machine_id: MachineId
    machine_name: str
    credentials: tuple[CredentialName, ...] = ()
    """Of the chains that are encrypted."""
    unit_size: int | None = None
    """That of the job which shall go on with the newest chain; None when there is no such job."""
    job_credential: CredentialName | None = None


class MachineGiven(msgspec.Struct, frozen=True, kw_only=True):
    """Where the chains are now."""

    folder: str
    chains: tuple[ChainPlace, ...] = ()
    points: int = 0


class FindChains(msgspec.Struct, frozen=True, kw_only=True):
    """Look up which chains are in a machine's folder."""

    repository: RepositoryName
    folder: str


class ChainsFound(msgspec.Struct, frozen=True, kw_only=True):
    """The chains, oldest first."""

    chains: tuple[str, ...] = ()


class MoveChain(msgspec.Struct, frozen=True, kw_only=True):
    """Move a chain to another repository."""

    source: RepositoryName
    target: RepositoryName
    chain: str
    credentials: tuple[CredentialName, ...] = ()


class MoveCursor(msgspec.Struct, frozen=True, kw_only=True):
    """Progress, heartbeated; where the move goes on is in the files themselves."""

    copied_bytes: int = 0
    """Committed, of all attempts."""


class ChainMoved(msgspec.Struct, frozen=True, kw_only=True):
    """A chain in its new place."""

    place: ChainPlace
    points: int
    size_bytes: int
    stays_until: datetime | None = None
    """Until when the original stays, because a point of it is locked."""


class DiscardMove(msgspec.Struct, frozen=True, kw_only=True):
    """Remove what a move that will not go on has copied."""

    target: RepositoryName
    chain: str


class Discarded(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing of the copy is left."""


class RelocateChains(msgspec.Struct, frozen=True, kw_only=True):
    """Tell the catalog where chains are now."""

    repository: RepositoryName
    """Where they were."""
    to: RepositoryName
    chains: tuple[ChainPlace, ...]


@activity.defn(name="moving.give_machine")
def give_machine(request: GiveMachine) -> MachineGiven:
    """Give the chains of a machine to another one, or another name; idempotent, one atomic step."""
    raise AssertionError(request)


@activity.defn(name="moving.find_chains")
def find_chains(request: FindChains) -> ChainsFound:
    """Return the chains in a machine's folder."""
    raise AssertionError(request)


@activity.defn(name="moving.move_chain")
def move_chain(request: MoveChain) -> ChainMoved:
    """Copy, read back, switch, and let the original go; idempotent, and goes on behind the last commit."""
    raise AssertionError(request)


@activity.defn(name="moving.discard")
def discard(request: DiscardMove) -> Discarded:
    """Remove an unfinished copy; idempotent, and changes nothing when the move was finished."""
    raise AssertionError(request)


@activity.defn(name="moving.relocate")
def relocate(request: RelocateChains) -> Recorded:
    """Write where the points of chains are now; idempotent. Served by the control role."""
    raise AssertionError(request)
