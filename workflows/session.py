"""The frame of every session: begun in the catalog, carried out, undone if need be, finished, and only then failed."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec
from temporalio import workflow
from temporalio.exceptions import FailureError

from holdfast.errors import HoldfastError, SessionFailed
from holdfast.model.ids import JobName, ProviderName, RepositoryName, SessionId
from holdfast.model.session import Outcome, Problem, Session, SessionKind
from workflows import search_attributes
from workflows.book import Book
from workflows.failures import failure_with, problem_of
from workflows.messages import SessionResult
from workflows.recording import Recorder
from workflows.steps import stop_if_cancelled
from workflows.undo import UndoStack

if TYPE_CHECKING:
    from holdfast.model.health import RepairReport, ScrubReport
    from holdfast.model.machine import Machine
    from holdfast.model.points import PointSummary, VerifyReport
    from workflows.messages import Retained, SweepReport

CAUGHT: Final = (FailureError, HoldfastError, asyncio.CancelledError)
"""What ends a session. Anything else is a defect: it stops the workflow until a corrected worker replays it."""

LISTED_MAX: Final = 200
"""Tasks and points that a result lists; the catalog lists all. Also the most tasks that are written down one by one
when they end with their session and not by themselves."""


class SessionRun:
    """One session."""

    def __init__(  # noqa: PLR0913 - what a session is about
        self,
        kind: SessionKind,
        job: JobName,
        repository: RepositoryName,
        session_id: SessionId,
        provider: ProviderName = ProviderName(""),  # noqa: B008 - a string
        *,
        title: str = "",
    ) -> None:
        """``title`` says what is done, where kind and job do not."""
        info = workflow.info()
        self._session = Session(
            session_id=session_id or SessionId(info.run_id),
            kind=kind,
            job=job,
            repository=repository,
            provider=provider,
            outcome=Outcome.RUNNING,
            started=info.start_time,
            workflow_id=info.workflow_id,
        )
        self.book = Book(title or f"{kind} {job}", self.session_id, info.start_time, workflow.set_current_details)
        self.recorder = Recorder(self.book)
        self.undo = UndoStack()
        self.points: list[PointSummary] = []
        self.report: VerifyReport | None = None
        self.machine: Machine | None = None
        self.swept: SweepReport | None = None
        self.retained: Retained | None = None
        self.scrub: ScrubReport | None = None
        self.repair: RepairReport | None = None

    @property
    def session_id(self) -> SessionId:
        """Return the id, which a start without one takes from the run."""
        return self._session.session_id

    @property
    def job(self) -> JobName:
        """Return the job that the session is a run of."""
        return self._session.job

    @property
    def repository(self) -> RepositoryName:
        """Return the repository that is written or read."""
        return self._session.repository

    @property
    def started(self) -> datetime:
        """Return when the session began."""
        return self._session.started

    async def carry_out(self, work: Callable[[], Awaitable[None]]) -> SessionResult:
        """Do the work and return the result.

        Raises the session's failure, or the cancellation, when everything is undone and written down.
        """
        self.book.enter("starting")
        await self.recorder.begin(self._session)
        failure: BaseException | None = None
        try:
            stop_if_cancelled()
            await work()
        except CAUGHT as error:
            failure = error
            self.book.enter("cleaning up")
        self.book.note(await self.undo.run())
        await self._conclude(failure)
        await self._finish()
        if failure is None:
            return self._result()
        if self.book.outcome is Outcome.CANCELLED:
            raise asyncio.CancelledError
        raise self._failure() from failure

    async def _conclude(self, failure: BaseException | None) -> None:
        if failure is None:
            self.book.conclude(Outcome.WARNING if self.book.notes else Outcome.SUCCESS, None)
            return
        problem, outcome = problem_of(failure), outcome_of_failure()
        for task in self.book.give_up(outcome, problem)[:LISTED_MAX]:
            await self.recorder.task(task)
        self.book.conclude(outcome, problem)

    async def _finish(self) -> None:
        self._session = msgspec.structs.replace(
            self._session,
            outcome=self.book.outcome,
            ended=workflow.now(),
            figures=self.book.figures,
            problem=self.book.problem,
            notes=tuple(self.book.notes),
        )
        await self.recorder.finish(self._session)
        code = self.book.problem.code if self.book.problem is not None else None
        stored_bytes = self.book.figures.stored_bytes
        workflow.upsert_search_attributes(
            search_attributes.ended(self.book.outcome, stored_bytes=stored_bytes, error_code=code)
        )

    def _result(self) -> SessionResult:
        return SessionResult(
            session=self._session,
            tasks=self.book.tasks()[:LISTED_MAX],
            points=tuple(self.points[:LISTED_MAX]),
            report=self.report,
            machine=self.machine,
            swept=self.swept,
            retained=self.retained,
            scrub=self.scrub,
            repair=self.repair,
        )

    def _failure(self) -> BaseException:
        assert self.book.problem is not None
        problem = self.book.problem
        told = Problem(
            code=SessionFailed.code,
            message=f"session {self.session_id} failed: {problem.code}: {problem.message}",
            hint=problem.hint,
        )
        return failure_with(told, self._result())


def outcome_of_failure() -> Outcome:
    """Return how something ended that did not end well: cancelled when the workflow was, else failed."""
    return Outcome.FAILED if workflow.cancellation_reason() is None else Outcome.CANCELLED
