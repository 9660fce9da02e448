"""How a workflow makes one step, and many of them at once."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from typing import TypeAlias, TypeVar

from temporalio import workflow
from temporalio.workflow import ActivityConfig

from workflows.undo import shielded

Work: TypeAlias = Callable[[], Awaitable[None]]

_Request = TypeVar("_Request")
_Reply = TypeVar("_Reply")


class _Lanes:
    """Work that is done beside each other, and ends together."""

    def __init__(self) -> None:
        self.is_ended = False


_LANES: ContextVar[_Lanes | None] = ContextVar("lanes", default=None)
"""What the running piece of work is one of."""


async def step(contract: Callable[[_Request], _Reply], request: _Request, config: ActivityConfig) -> _Reply:
    """Run an activity; stop behind it when the session was cancelled meanwhile."""
    reply = await workflow.execute_activity(contract, request, **config)
    stop_if_cancelled()
    return reply


def stop_if_cancelled() -> None:
    """Raise the cancellation of the session, or of the lanes that this is done in, if there was one.

    An activity that ends well although it was asked to stop makes the SDK forget the request, and what is shielded uses
    it up, so it is looked for behind every step.
    """
    if workflow.cancellation_reason() is not None:
        message = "the session was cancelled"
        raise asyncio.CancelledError(message)
    lanes = _LANES.get()
    # Sessions of earlier versions went on with such a piece of work, to its end.
    if lanes is not None and lanes.is_ended and workflow.patched("end-with-the-lanes"):
        message = "what was done beside it failed"
        raise asyncio.CancelledError(message)


async def in_lanes(work: Sequence[Work], lanes: int) -> None:
    """Do all the work, at most ``lanes`` pieces at once and begun in order.

    When one piece fails or the caller is cancelled, the others are cancelled, waited for, and the first error is
    raised.
    """
    queue, together = deque(work), _Lanes()

    async def lane() -> None:
        _LANES.set(together)
        while queue:
            await queue.popleft()()

    tasks = [asyncio.create_task(lane()) for _ in range(min(lanes, len(queue)))]
    if not tasks:
        return
    try:
        first, _ = await workflow.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    except asyncio.CancelledError:
        queue.clear()
        await _end(tasks, together)
        raise
    queue.clear()
    await _end(tasks, together)
    for task in (*first, *tasks):
        if not task.cancelled():
            task.result()


async def _end(tasks: list["asyncio.Task[None]"], lanes: _Lanes) -> None:
    """Cancel tasks and wait for them, whether or not the caller is cancelled.

    It is not called when the workflow is taken out of the worker's memory, which nothing may wait for.
    """
    lanes.is_ended = True
    for task in tasks:
        task.cancel()
    await shielded(_ended(tasks))


async def _ended(tasks: list["asyncio.Task[None]"]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
