"""Looking after workflows that a session started, or takes turns with."""

import asyncio
from typing import Final

from temporalio import activity
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

from activities.binding import implements
from activities.boundary import error_from_failure
from activities.contracts import sessions
from activities.runs import running

_BEAT_S: Final = 2.0


class SessionActivities:
    """Serves `activities.contracts.sessions`."""

    @implements(sessions.find_child)
    async def find_child(self, request: sessions.ChildReference) -> sessions.ChildRun | None:
        """Return the newest run of a workflow, or None when it is not the child of the run of the request."""
        found = await activity.client().get_workflow_handle(request.workflow_id).describe()
        if found.parent_run_id != request.parent_run_id:
            return None
        return sessions.ChildRun(workflow_id=found.id, run_id=found.run_id)

    @implements(sessions.find_earlier)
    async def find_earlier(self, request: sessions.EarlierSessions) -> sessions.RunningSessions:
        """Ask Temporal for what runs under each id."""
        asks = (request.started, request.workflow_id)
        runs = [run for name in request.workflow_ids for run in await running(activity.client(), name)]
        earlier = (run.workflow_id for run in runs if (run.began, run.workflow_id) < asks)
        return sessions.RunningSessions(workflow_ids=tuple(earlier))

    @implements(sessions.follow_child)
    async def follow_child(self, request: sessions.ChildRun) -> RawValue:
        """Wait for a child and return its result as it is."""
        client = activity.client()
        handle = client.get_workflow_handle(request.workflow_id, run_id=request.run_id, result_type=RawValue)
        try:
            return await _result(handle)
        except WorkflowFailureError as failure:
            if isinstance(failure.cause, ApplicationError):
                raise failure.cause from None  # with what the child says of its disks
            raise error_from_failure(failure) or failure from failure


async def _result(handle: WorkflowHandle[object, RawValue]) -> RawValue:
    result = asyncio.ensure_future(handle.result())
    try:
        await _ended(result)
        return result.result()
    except asyncio.CancelledError:
        if _is_unwanted():
            await handle.cancel()
            await _ended(result)
        raise
    finally:
        result.cancel()


def _is_unwanted() -> bool:
    """Return whether the session is cancelled or gone; a worker that stops only leaves the child to its successor."""
    details = activity.cancellation_details()
    return details is not None and (details.cancel_requested or details.not_found)


async def _ended(result: "asyncio.Future[RawValue]") -> None:
    while not result.done():
        activity.heartbeat()
        await asyncio.wait({result}, timeout=_BEAT_S)
