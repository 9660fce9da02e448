"""Looking after workflows that a session started; served by the control role."""

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


@activity.defn(name="sessions.find_child")
def find_child(request: ChildReference) -> ChildRun | None:
    """Return the newest run of a workflow, or None when it is not the child of the run of the request."""
    raise AssertionError(request)


@activity.defn(name="sessions.follow_child")
def follow_child(request: ChildRun) -> RawValue:
    """Wait for a child and return its result as it is; cancelled with it, it waits until the child has cleaned up."""
    raise AssertionError(request)
