"""What follows a new restore point of a machine: it is read back, and gives what it read again to the older points.

Neither takes the point away: it is in the catalog before.
"""

from temporalio.exceptions import FailureError

from activities.contracts import health, repository
from holdfast.errors import DataDamaged
from holdfast.model.points import OpenPoint, PointSummary
from workflows import options, queues
from workflows.book import Book
from workflows.failures import problem_of
from workflows.health import repair_words
from workflows.messages import MachineBackupRequest
from workflows.recording import Recorder
from workflows.report import size_text, summary
from workflows.steps import step, stop_if_cancelled


class AfterPoint:
    """The steps behind one new point."""

    def __init__(self, request: MachineBackupRequest, book: Book, recorder: Recorder) -> None:
        self._request = request
        self._book = book
        self._recorder = recorder
        self._name = request.machine.name
        self._queue = queues.fresh_queue(request.repository)
        self.verified_bytes: int | None = None

    async def look_after(self, opened: OpenPoint, point: PointSummary) -> None:
        """Do what the job wants. Raises `DataDamaged` when the new point does not read back."""
        wanted = self._request.options
        if wanted.verify or (wanted.verify_increments and opened.kind == "increment"):
            await self._verify(point)
        if opened.damaged:
            await self._repair(opened)

    async def _verify(self, point: PointSummary) -> None:
        request = self._request
        self._book.enter("verifying the restore point")
        report = await step(
            repository.verify_points,
            repository.VerifyPoints(
                repository=request.repository,
                chain=point.chain,
                numbers=(point.number,),
                credential=request.options.credential,
                is_new_only=not request.options.verify,
            ),
            options.verification(self._queue, summary(f"{self._name} new point")),
        )
        await self._recorder.health(request.repository, report.health)
        if not report.is_good:
            first = f": {report.damages[0].reason}" if report.damages else ""
            raise DataDamaged(f"the new point {point.point_id[:12]} of {self._name} does not verify{first}")
        self.verified_bytes = report.stored_bytes
        self._book.tell("Verified", f"{size_text(report.stored_bytes)} read back and compared, nothing is damaged")

    async def _repair(self, opened: OpenPoint) -> None:
        """Give to older points what was read again; what that does not bring back is a note, the new point is good."""
        request, credential = self._request, self._request.options.credential
        self._book.enter("repairing the chain")
        repair = health.RepairChains(
            repository=request.repository,
            chain=opened.chain,
            credentials=() if credential is None else (credential,),
        )
        try:
            report = await step(
                health.repair, repair, options.verification(self._queue, summary(f"chain of {self._name}"))
            )
        except FailureError as failure:
            stop_if_cancelled()
            self._book.note([f"the chain is not repaired: {problem_of(failure).message}"])
            return
        for title, words in repair_words(report):
            self._book.tell(title, words)
        if not report.is_good:
            count = len(report.damages) + report.unnamed_damages
            self._book.note([f"{count} places of older points stay damaged; see `holdfast health show`"])
        await self._recorder.health(request.repository, report.points)
