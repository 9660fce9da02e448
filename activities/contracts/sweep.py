"""What dead sessions left behind; listed by proxies, and looked up by the control role."""

from datetime import datetime

import msgspec
from temporalio import activity

from holdfast.model.ids import ProviderName, SessionId, TargetId
from holdfast.model.machine import AttachedDisk
from holdfast.planning.sweep import LeftSnapshot, LeftTarget


class FindLeftovers(msgspec.Struct, frozen=True, kw_only=True):
    """List what of ours is at a provider, whoever made it."""

    provider: ProviderName


class Leftovers(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that sessions create for a time only."""

    snapshots: tuple[LeftSnapshot, ...] = ()
    targets: tuple[LeftTarget, ...] = ()
    attached: tuple[AttachedDisk, ...] = ()
    """Disks that are attached to proxies; none from a worker of an earlier version."""


class DetachDisk(msgspec.Struct, frozen=True, kw_only=True):
    """Take a disk off a proxy."""

    provider: ProviderName
    attached: AttachedDisk


class DiskDetached(msgspec.Struct, frozen=True, kw_only=True):
    """The disk is not attached any more, or it is by somebody who still needs it."""


class FindSessions(msgspec.Struct, frozen=True, kw_only=True):
    """Look up in the catalog who made these."""

    sessions: tuple[SessionId, ...]
    """That snapshots name."""
    targets: tuple[TargetId, ...]


class ListedSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session as the catalog has it."""

    session_id: SessionId
    workflow_id: str
    started: datetime
    ended: datetime | None = None
    """None: the catalog has not heard of its end, which a terminated session does not tell."""


class SessionsFound(msgspec.Struct, frozen=True, kw_only=True):
    """The sessions that the catalog knows, and which targets are theirs."""

    sessions: tuple[ListedSession, ...] = ()
    target_owners: dict[TargetId, SessionId] = {}


class FindRunning(msgspec.Struct, frozen=True, kw_only=True):
    """Ask Temporal which sessions run."""

    workflow_types: tuple[str, ...]
    """Of workflows that hold snapshots or targets."""
    listed: tuple[ListedSession, ...]
    """Sessions without an end in the catalog; each is asked for by its own id, which no delay of lists can hide."""
    targets: tuple[TargetId, ...]


class RunningFound(msgspec.Struct, frozen=True, kw_only=True):
    """The sessions that run, whether or not the catalog knows them."""

    sessions: tuple[SessionId, ...] = ()
    target_owners: dict[TargetId, SessionId] = {}
    """Targets of running sessions."""
    closed: dict[SessionId, datetime] = {}
    """When sessions without an end in the catalog ended."""


@activity.defn(name="sweep.find_leftovers")
def find_leftovers(request: FindLeftovers) -> Leftovers:
    """Return every snapshot, restore target and attached disk of ours."""
    raise AssertionError(request)


@activity.defn(name="sweep.detach_disk")
def detach_disk(request: DetachDisk) -> DiskDetached:
    """Take a disk off a proxy; idempotent."""
    raise AssertionError(request)


@activity.defn(name="sweep.find_sessions")
def find_sessions(request: FindSessions) -> SessionsFound:
    """Return what the catalog knows of sessions."""
    raise AssertionError(request)


@activity.defn(name="sweep.find_running")
def find_running(request: FindRunning) -> RunningFound:
    """Return which sessions run."""
    raise AssertionError(request)
