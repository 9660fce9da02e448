"""The life of restore points in a repository; served by the repository's worker."""

import msgspec
from temporalio import activity

from holdfast.model.ids import CredentialName, RepositoryName, SessionId
from holdfast.model.machine import Snapshot
from holdfast.model.points import FoundPoint, OpenPoint, PointSummary, VerifyReport


class BeginPoint(msgspec.Struct, frozen=True, kw_only=True):
    """Begin a point of the snapshot's machine; a full or an increment as the repository's state asks for."""

    repository: RepositoryName
    session_id: SessionId
    snapshot: Snapshot
    unit_size: int = 1 << 20
    full: bool = False
    credential: CredentialName | None = None


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


class PointAbandoned(msgspec.Struct, frozen=True, kw_only=True):
    """The files that were removed."""

    removed: tuple[str, ...] = ()


class FindPoint(msgspec.Struct, frozen=True, kw_only=True):
    """The complete point whose id begins with ``reference``, or the newest of ``machine`` for ``latest``."""

    repository: RepositoryName
    reference: str = "latest"
    machine: str | None = None
    credential: CredentialName | None = None


class VerifyPoints(msgspec.Struct, frozen=True, kw_only=True):
    """Which points to verify: one point, one machine's, or all of the repository."""

    repository: RepositoryName
    chain: str | None = None
    numbers: tuple[int, ...] = ()
    """Numbers inside ``chain``; empty for all."""
    machine: str | None = None
    credential: CredentialName | None = None


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
