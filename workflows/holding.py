"""Holding a machine: the workflow id of its backup is taken.

Guarantee: as long as it runs, Temporal refuses a backup of the machine into the repository.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from types import NoneType
from typing import Final

from temporalio import workflow
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.workflow import ParentClosePolicy

from activities.contracts.sessions import ChildRun
from holdfast.errors import ChainBusy
from workflows import options, queues
from workflows.book import Book
from workflows.chain_messages import HoldRequest
from workflows.children import find_ours, follow
from workflows.report import summary

_PAUSE_FIRST: Final = timedelta(seconds=2)
_PAUSE_LONGEST: Final = timedelta(minutes=1)


@workflow.defn(name="HoldMachine")
class HoldMachine:
    """Stand where a backup of the machine would, until it is let go."""

    def __init__(self) -> None:
        """Begin as one that holds."""
        self._is_over = False

    @workflow.signal(name="release")
    def release(self) -> None:
        """Let sessions of the machine begin again."""
        self._is_over = True

    @workflow.run
    async def run(self, request: HoldRequest) -> None:
        """Wait until whoever holds the machine has done."""
        workflow.set_current_details(
            f"No session of {request.machine_name} begins while its chains are moved or mapped."
        )
        await workflow.wait_condition(lambda: self._is_over)


@dataclass(frozen=True)
class Hold:
    """A machine that is held, and how it is let go."""

    workflow_id: str
    release: Callable[[], Awaitable[None]]
    ended: Callable[[], Awaitable[None]]

    async def let_go(self) -> None:
        """End the hold; when this returns a session of the machine may begin."""
        await self.release()
        await self.ended()


async def hold(request: HoldRequest, book: Book) -> Hold:
    """Return the hold of a machine, once no session of it runs. Raises `ChainBusy` when one runs for too long."""
    child_id = queues.machine_backup_id(request.repository, request.machine_id, request.machine_name)
    deadline = workflow.now() + options.QUEUE_WAIT
    pause = _PAUSE_FIRST
    while True:
        try:
            return await _start(child_id, request)
        except WorkflowAlreadyStartedError as error:
            if (ours := await find_ours(child_id)) is not None:
                return _found(ours)
            if workflow.now() >= deadline:
                raise ChainBusy(f"{child_id} is still running for another session") from error
        book.tell("Waiting", f"for the session of {request.machine_name} to end")
        await workflow.sleep(pause, summary=f"until {child_id} has ended")
        pause = min(2 * pause, _PAUSE_LONGEST)


async def _start(child_id: str, request: HoldRequest) -> Hold:
    child = await workflow.start_child_workflow(
        HoldMachine.run,
        request,
        id=child_id,
        # A session that is terminated holds nobody.
        parent_close_policy=ParentClosePolicy.TERMINATE,
        static_summary=summary(f"{request.machine_name} is held: its chains are moved or mapped"),
    )

    async def ended() -> None:
        await child

    return Hold(child_id, partial(child.signal, HoldMachine.release), ended)


def _found(ours: ChildRun) -> Hold:
    """Return a hold whose start was answered to nobody."""
    child = workflow.get_external_workflow_handle_for(HoldMachine.run, ours.workflow_id, run_id=ours.run_id)
    return Hold(ours.workflow_id, partial(child.signal, HoldMachine.release), partial(follow, ours, NoneType))
