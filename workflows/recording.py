"""Lines in the catalog. A catalog that is away costs a note, never a restore point."""

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import FailureError

from activities.contracts import catalog
from holdfast.model.ids import RepositoryName
from holdfast.model.points import PointHealth
from holdfast.model.session import Session, Task
from workflows import options, queues
from workflows.book import Book
from workflows.failures import problem_of
from workflows.undo import shielded

_IMPATIENT = timedelta(seconds=15)
"""For every further line once the catalog has let a session down."""

_Request = TypeVar("_Request")


class Recorder:
    """Writes a session down, whether or not it is being cancelled."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._is_away = False

    async def begin(self, session: Session) -> None:
        """Write a session that starts."""
        await self._write(catalog.begin_session, session, "session starts", options.RECORD_PATIENCE)

    async def task(self, task: Task) -> None:
        """Write how a task stands."""
        await self._write(
            catalog.record_task, task, f"{task.machine_name}/{task.disk} {task.outcome}", options.RECORD_PATIENCE
        )

    async def point(self, request: catalog.RecordPoint) -> None:
        """Write a finished point."""
        what = f"{request.point.machine_name} point {request.point.point_id[:12]}"
        await self._write(catalog.record_point, request, what, options.RECORD_PATIENCE)

    async def health(self, repository: RepositoryName, points: tuple[PointHealth, ...]) -> None:
        """Write how points stand that were found damaged once; nothing when there are none."""
        if points:
            request = catalog.RecordHealth(repository=repository, points=points)
            await self._write(catalog.record_health, request, f"{len(points)} points", options.RECORD_PATIENCE)

    async def finish(self, session: Session) -> None:
        """Write how a session ended."""
        self._is_away = False
        await self._write(catalog.finish_session, session, f"session {session.outcome}", options.FINISH_PATIENCE)

    async def _write(
        self,
        contract: Callable[[_Request], catalog.Recorded],
        request: _Request,
        what: str,
        patience: timedelta,
    ) -> None:
        config = options.record(queues.CONTROL, what, _IMPATIENT if self._is_away else patience)
        try:
            await shielded(_executed(contract, request, config))
        except FailureError as error:
            self._is_away = True
            self._book.note([f"the catalog does not know everything of this session: {problem_of(error).message}"])


async def _executed(
    contract: Callable[[_Request], catalog.Recorded], request: _Request, config: workflow.ActivityConfig
) -> None:
    await workflow.execute_activity(contract, request, **config)
