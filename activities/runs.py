"""What Temporal runs under a workflow id of ours.

A run that a schedule starts has the time at which it was due behind its id, so a workflow id that should run once at a
time has to be looked for under both.
"""

import re
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final

import msgspec
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionDescription, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

_DUE: Final = re.compile(r"-\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


class FoundRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run of a workflow."""

    workflow_id: str
    run_id: str
    began: datetime
    is_running: bool


async def running(client: Client, workflow_id: str) -> tuple[FoundRun, ...]:
    """Return what runs under an id, started by hand or by a schedule, the oldest first.

    The former is known at once, the latter from Temporal's visibility, which may be a moment behind. Raises `RPCError`.
    """
    runs = [run async for run in _runs(client, workflow_id, " AND ExecutionStatus = 'Running'") if run.is_running]
    return tuple(sorted(runs, key=lambda run: (run.began, run.workflow_id)))


async def latest(client: Client, workflow_id: str) -> FoundRun | None:
    """Return the oldest that runs under an id, for which the others wait, else what began last. Raises `RPCError`."""
    if runs := await running(client, workflow_id):
        return runs[0]
    return max([run async for run in _runs(client, workflow_id)], key=lambda run: run.began, default=None)


async def described(client: Client, workflow_id: str, run_id: str | None = None) -> WorkflowExecutionDescription | None:
    """Return what Temporal says of a run, without ``run_id`` of the newest; None when there is none.

    Raises `RPCError`.
    """
    try:
        return await client.get_workflow_handle(workflow_id, run_id=run_id).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise


async def _runs(client: Client, workflow_id: str, narrowed: str = "") -> AsyncIterator[FoundRun]:
    by_hand = await described(client, workflow_id)
    if by_hand is not None:
        yield _found(by_hand)
    # A year follows the id; whether it is one is told by the pattern.
    query = f"WorkflowId STARTS_WITH '{_quoted(workflow_id)}-2'{narrowed}"
    async for one in client.list_workflows(query):
        if _DUE.fullmatch(one.id.removeprefix(workflow_id)):
            yield _found(one)


def _found(one: WorkflowExecution) -> FoundRun:
    is_running = one.status is WorkflowExecutionStatus.RUNNING
    return FoundRun(workflow_id=one.id, run_id=one.run_id, began=one.start_time, is_running=is_running)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")
