"""Changes of a machine's newest chain that take no point away; served on the queue of work that changes chains."""

from datetime import datetime

import msgspec
from temporalio import activity

from activities.contracts.retention import PointMoved
from holdfast.model.fulls import MethodOptions
from holdfast.model.ids import CredentialName, MachineId, RepositoryName
from holdfast.model.points import PointSummary


class ChangeChain(msgspec.Struct, frozen=True, kw_only=True):
    """The newest chain of a machine, and what is wanted of it."""

    repository: RepositoryName
    machine_id: MachineId
    machine_name: str
    options: MethodOptions
    began: datetime
    """When the session began: the day of its point."""
    is_asked_for: bool = False
    """By hand: whatever the days say."""
    credential: CredentialName | None = None


class ChangeCursor(msgspec.Struct, frozen=True, kw_only=True):
    """Progress, heartbeated; where the work goes on is in the files themselves."""

    moved_bytes: int = 0
    """Committed."""


class ChainChanged(msgspec.Struct, frozen=True, kw_only=True):
    """What was done. A repeated attempt counts what it did itself."""

    reason: str
    """Why it was done, or why it was not."""
    is_done: bool = False
    what: str = ""
    """In words, such as ``synthetic full``."""
    moved_bytes: int = 0
    shared_bytes: int = 0
    """Of them: what was not written, because files have blocks in common now."""
    displaced_bytes: int = 0
    """Stored in rollback files."""
    freed_bytes: int = 0
    point: PointSummary | None = None
    """The newest point where it is now, when it moved to another chain."""
    moved: tuple[PointMoved, ...] = ()
    """Points that are in other files of the chain now."""


@activity.defn(name="chains.apply_method")
def apply_method(request: ChangeChain) -> ChainChanged:
    """Make the newest point a full where the method wants it; idempotent, and goes on behind the last commit."""
    raise AssertionError(request)


@activity.defn(name="chains.compact")
def compact(request: ChangeChain) -> ChainChanged:
    """Write the full anew when it is due and loose; idempotent, and goes on behind the last commit."""
    raise AssertionError(request)
