"""The life of restore points in a repository; served by the repository's worker."""

from datetime import datetime

import msgspec
from temporalio import activity

from holdfast.model.archives import Archive
from holdfast.model.fulls import FullPolicy
from holdfast.model.ids import CredentialName, MachineId, RepositoryName, SessionId
from holdfast.model.machine import Snapshot
from holdfast.model.owners import ChainOwner
from holdfast.model.points import FoundPoint, OpenPoint, PointSummary, VerifyReport
from holdfast.model.retention import QuickBackup


class BeginPoint(msgspec.Struct, frozen=True, kw_only=True):
    """Begin a point of the snapshot's machine; a full or an increment as the repository's state asks for."""

    repository: RepositoryName
    session_id: SessionId
    snapshot: Snapshot
    began: datetime | None = None
    """When the session began: the day on which a full counts. None: when the snapshot was taken, as sessions of earlier
    versions ask."""
    unit_size: int = 1 << 20
    full: bool = False
    fulls: FullPolicy | None = None
    """When a new chain is started without being asked."""
    is_full_when_broken: bool = False
    """Begin a new chain when the newest one is damaged and cannot be continued."""
    archive: Archive | None = None
    """Begin an archive beside the chains of jobs, to be kept so long."""
    quick: QuickBackup | None = None
    """Begin the increment of a quick backup. Raises `PointNotFound` when there is no chain to continue."""
    credential: CredentialName | None = None
    owner: ChainOwner | None = None
    """Whose chain it goes into; None: the machine's own."""


class LookAtChain(msgspec.Struct, frozen=True, kw_only=True):
    """Ask whether the newest chain of a machine can be continued."""

    repository: RepositoryName
    machine_id: MachineId
    machine: str
    """Its name."""
    credential: CredentialName | None = None
    owner: ChainOwner | None = None
    """Whose chain it is; None: the machine's own."""


class ChainSeen(msgspec.Struct, frozen=True, kw_only=True):
    """How the newest chain stands."""

    problem: str = ""
    """Why it cannot be continued; empty when it can, or when there is none."""


class FinishPoint(msgspec.Struct, frozen=True, kw_only=True):
    """Complete a point whose disks have all been copied."""

    repository: RepositoryName
    point: OpenPoint
    credential: CredentialName | None = None


class AbandonPoint(msgspec.Struct, frozen=True, kw_only=True):
    """Remove what a session wrote of a machine and never finished, whether or not its beginning was confirmed."""

    repository: RepositoryName
    session_id: SessionId
    snapshot: Snapshot
    credential: CredentialName | None = None
    owner: ChainOwner | None = None
    """Whose chain it was begun in; None: the machine's own."""


class PointAbandoned(msgspec.Struct, frozen=True, kw_only=True):
    """The files that were removed."""

    removed: tuple[str, ...] = ()


class FindPoint(msgspec.Struct, frozen=True, kw_only=True):
    """The complete point whose id begins with ``reference``, or the newest of ``machine`` for ``latest``."""

    repository: RepositoryName
    reference: str = "latest"
    machine: str | None = None
    credential: CredentialName | None = None
    credentials: tuple[CredentialName, ...] = ()
    """Of chains that are encrypted, where they are not all alike; ``credential`` is one more."""


class VerifyPoints(msgspec.Struct, frozen=True, kw_only=True):
    """Which points to verify: one point, one machine's, or all of the repository."""

    repository: RepositoryName
    chain: str | None = None
    numbers: tuple[int, ...] = ()
    """Numbers inside ``chain``; empty for all."""
    machine: str | None = None
    credential: CredentialName | None = None
    credentials: tuple[CredentialName, ...] = ()
    """Of chains that are encrypted, where they are not all alike; ``credential`` is one more."""
    newest: bool = False
    """Only the newest complete point of each machine."""
    is_new_only: bool = False
    """Of the units only those in the points' own files; what those before hold is read by their own checks."""


class VerifyCursor(msgspec.Struct, frozen=True, kw_only=True):
    """Progress of a verification, heartbeated."""

    chain: str
    chains_done: int
    chains: int
    checked_bytes: int
    partial: VerifyReport = VerifyReport(chains=0)
    """What the chains that are done have shown; another attempt goes on behind them."""


@activity.defn(name="repository.begin_point")
def begin_point(request: BeginPoint) -> OpenPoint:
    """Begin a point; idempotent by session."""
    raise AssertionError(request)


@activity.defn(name="repository.look_at_chain")
def look_at_chain(request: LookAtChain) -> ChainSeen:
    """Say whether the newest chain of a machine can be continued; changes nothing."""
    raise AssertionError(request)


@activity.defn(name="repository.finish_point")
def finish_point(request: FinishPoint) -> PointSummary:
    """Complete a point and read it back; idempotent."""
    raise AssertionError(request)


@activity.defn(name="repository.abandon_point")
def abandon_point(request: AbandonPoint) -> PointAbandoned:
    """Remove an unfinished point; idempotent, never touches a complete one."""
    raise AssertionError(request)


@activity.defn(name="repository.find_point")
def find_point(request: FindPoint) -> FoundPoint:
    """Return a point to restore. Raises `PointNotFound`."""
    raise AssertionError(request)


@activity.defn(name="repository.verify")
def verify_points(request: VerifyPoints) -> VerifyReport:
    """Read every stored byte of the points and compare it with its digest."""
    raise AssertionError(request)
