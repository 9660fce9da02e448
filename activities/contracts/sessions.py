"""Looking after workflows that a session started, or takes turns with; served by the control role."""

from datetime import datetime

import msgspec
from temporalio import activity
from temporalio.common import RawValue


class ChildReference(msgspec.Struct, frozen=True, kw_only=True):
    """A workflow, and the run that should have started it."""

    workflow_id: str
    parent_run_id: str


class ChildRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a workflow."""

    workflow_id: str
    run_id: str


class EarlierSessions(msgspec.Struct, frozen=True, kw_only=True):
    """Ask which of some workflows run and began before one."""

    workflow_ids: tuple[str, ...]
    """Without the time that a schedule puts behind them; runs with it count, too."""
    started: datetime
    """When the one began that asks."""
    workflow_id: str
    """Its id, which decides between two that began at the same moment."""


class RunningSessions(msgspec.Struct, frozen=True, kw_only=True):
    """Workflows that run."""

    workflow_ids: tuple[str, ...] = ()


@activity.defn(name="sessions.find_child")
def find_child(request: ChildReference) -> ChildRun | None:
    """Return the newest run of a workflow, or None when it is not the child of the run of the request."""
    raise AssertionError(request)


@activity.defn(name="sessions.follow_child")
def follow_child(request: ChildRun) -> RawValue:
    """Wait for a child and return its result as it is; cancelled with it, it waits until the child has cleaned up."""
    raise AssertionError(request)


@activity.defn(name="sessions.find_earlier")
def find_earlier(request: EarlierSessions) -> RunningSessions:
    """Return which of the workflows run and began before the one that asks."""
    raise AssertionError(request)
