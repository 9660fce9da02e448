"""The upkeep of one machine's chains inside a session: what `workflows.upkeep_steps` lists, one step after the other.

Guarantee: a step that fails is a note and keeps no other from being carried out; a cancelled one leaves chains that
can be read, and goes on where it stopped in the next session.
"""

from temporalio import workflow
from temporalio.exceptions import FailureError

from holdfast.errors import ClockJumped, HoldfastError
from holdfast.model.session import Outcome, Problem
from workflows import search_attributes
from workflows.book import Book
from workflows.failures import problem_of
from workflows.messages import MachineUpkeepRequest, MachineUpkeepResult, SessionProgress
from workflows.retention_step import clock_note
from workflows.session import CAUGHT, outcome_of_failure
from workflows.steps import stop_if_cancelled
from workflows.upkeep_steps import STEPS, Upkeep, UpkeepStep


@workflow.defn(name="MachineUpkeep")
class MachineUpkeep:
    """Carry out every step that is wanted."""

    @workflow.init
    def __init__(self, request: MachineUpkeepRequest) -> None:
        """Take the request, so that questions can be answered from the first moment."""
        self._request = request
        title = f"upkeep of {request.machine_name}"
        self._book = Book(title, request.session_id, workflow.info().start_time, workflow.set_current_details)
        self._upkeep = Upkeep(request, self._book)
        self._problem: Problem | None = None

    @workflow.query(name="progress", description="What is being done with the machine's chains")
    def progress(self) -> SessionProgress:
        """Return which step is under way."""
        return self._book.progress()

    @workflow.run
    async def run(self, request: MachineUpkeepRequest) -> MachineUpkeepResult:
        """Look after the chains of one machine."""
        self._book.tell("Repository", request.repository)
        try:
            stop_if_cancelled()
            for one in STEPS:
                if one.is_wanted(request):
                    await self._carry_out(one)
        except CAUGHT as failure:
            self._end(outcome_of_failure(), failure)
            raise
        self._end(Outcome.WARNING if self._book.notes else Outcome.SUCCESS)
        return MachineUpkeepResult(
            machine_id=request.machine_id,
            machine_name=request.machine_name,
            lines=tuple(self._upkeep.lines),
            notes=tuple(self._book.notes),
            retained=self._upkeep.retained,
            problem=self._problem,
        )

    async def _carry_out(self, one: UpkeepStep) -> None:
        try:
            await one.carry_out(self._upkeep)
        except (FailureError, HoldfastError) as failure:
            stop_if_cancelled()
            problem = problem_of(failure)
            self._book.note([_note(one, self._request, problem)])
            if self._request.by_hand is not None:
                self._problem = problem
        stop_if_cancelled()

    def _end(self, outcome: Outcome, failure: BaseException | None = None) -> None:
        problem = None if failure is None else problem_of(failure)
        self._book.conclude(outcome, problem)
        code = None if problem is None else problem.code
        workflow.upsert_search_attributes(search_attributes.ended(outcome, stored_bytes=0, error_code=code))


def _note(one: UpkeepStep, request: MachineUpkeepRequest, problem: Problem) -> str:
    """Return what is said of a step that failed; a clock is wrong for all machines, so their notes are the same one."""
    if problem.code == ClockJumped.code:
        return clock_note(request.repository, problem)
    return f"{one.name.lower()} of {request.machine_name}: {problem.message}"
