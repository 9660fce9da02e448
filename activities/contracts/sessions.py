"""Looking after workflows that a session started; served by the control role."""

import msgspec
from temporalio import activity
from temporalio.common import RawValue


class ChildReference(msgspec.Struct, frozen=True, kw_only=True):
    """A workflow, and the run that should have started it."""

    workflow_id: str
    parent_run_id: str


class ChildFound(msgspec.Struct, frozen=True, kw_only=True):
    """Whose child the workflow is."""

    is_ours: bool
    """Whether the run of the request started it."""


@activity.defn(name="sessions.find_child")
def find_child(request: ChildReference) -> ChildFound:
    """Look whose child the newest run of a workflow is."""
    raise AssertionError(request)


@activity.defn(name="sessions.follow_child")
def follow_child(request: ChildReference) -> RawValue:
    """Wait for a child and return its result as it is; cancelled with it, it waits until the child has cleaned up."""
    raise AssertionError(request)
