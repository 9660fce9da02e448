"""Taking steps back: registered before the step is made, run newest first, each of them even if another fails.

A step whose answer never came may still have happened. So what takes it back is registered first, and is an activity
that finds out by itself whether there is anything to take back. Nothing here is stopped by a cancellation of the
session: it is what a cancellation is waiting for.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias, TypeVar

from temporalio.exceptions import FailureError

from holdfast.errors import HoldfastError
from workflows.failures import problem_of

UndoStep: TypeAlias = Callable[[], Awaitable[object]]

_Result = TypeVar("_Result")


class UndoStack:
    """What has to be taken back if the work ends now."""

    def __init__(self) -> None:
        self._steps: dict[str, UndoStep] = {}

    def push(self, name: str, step: UndoStep) -> None:
        """Register ``step`` before what it takes back is begun. ``name`` says what that is, in words."""
        if name in self._steps:
            message = f"undo step {name!r} is registered twice"
            raise ValueError(message)
        self._steps[name] = step

    def drop(self, name: str) -> None:
        """Forget a step: what it would take back is wanted now."""
        del self._steps[name]

    async def settle(self, name: str) -> list[str]:
        """Run one step now, because what it takes back is no longer needed; return what went wrong, in words."""
        step = self._steps.pop(name)
        return await shielded(_run({name: step}))

    async def run(self) -> list[str]:
        """Run all steps, newest first and to the end; return what went wrong, in words."""
        steps, self._steps = self._steps, {}
        return await shielded(_run(dict(reversed(steps.items()))))


async def shielded(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Return the result of ``work``, which a cancellation of the caller neither stops nor interrupts.

    The cancellation is used up; `workflows.steps.stop_if_cancelled` finds it again.
    """
    task = asyncio.create_task(work)
    while True:
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            # The task itself is only cancelled when the workflow is taken out of the worker's memory.
            if task.cancelled():
                raise
            if task.done():
                return task.result()


async def _run(steps: dict[str, UndoStep]) -> list[str]:
    problems = []
    for name, step in steps.items():
        try:
            await step()
        except (FailureError, HoldfastError) as error:
            problems.append(f"{name} is left behind: {problem_of(error).message}")
    return problems
