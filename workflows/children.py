"""Starting a workflow of a session's own, whatever the server says of the start, and waiting for it."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import WorkflowAlreadyStartedError

from activities.contracts import sessions
from workflows import options, queues
from workflows.report import summary
from workflows.steps import step

_Result = TypeVar("_Result")


async def run_child(child_id: str, start: Callable[[], Awaitable[_Result]], kind: type[_Result]) -> _Result:
    """Return the result of a child, which ``start`` starts and waits for.

    Raises `WorkflowAlreadyStartedError` when the id belongs to a run of another session.
    """
    try:
        return await start()
    except WorkflowAlreadyStartedError:
        found = await find_ours(child_id)
        if found is None:
            raise
    return await follow(found, kind)


async def find_ours(child_id: str) -> sessions.ChildRun | None:
    """Return the workflow that is said to run already, if it is the one this session has just started.

    A server on an SQL store may start a child, lose the answer in a conflict, and then refuse to start it again.
    """
    config = options.lookup(queues.CONTROL, summary(f"whose is {child_id}"))
    reference = sessions.ChildReference(workflow_id=child_id, parent_run_id=workflow.info().run_id)
    return await step(sessions.find_child, reference, config)


async def follow(child: sessions.ChildRun, kind: type[_Result]) -> _Result:
    """Wait for a child that was found, and return its result."""
    config = options.verification(queues.CONTROL, summary(f"waiting for {child.workflow_id}"))
    raw = await step(sessions.follow_child, child, config)
    result: _Result = workflow.payload_converter().from_payload(raw.payload, kind)
    return result
