"""The verification of restore points.

Guarantee: success means that every stored byte of the points was read and matched its digest.
"""

from collections.abc import Sequence

from temporalio import workflow

from activities.contracts import repository
from holdfast.errors import DataDamaged
from holdfast.model.points import ChainRead, Damage, VerifyReport
from holdfast.model.session import SessionKind
from holdfast.model.words import count_text
from workflows import options, queues
from workflows.book import Book
from workflows.messages import SessionProgress, SessionResult, VerifyRequest
from workflows.report import size_text, summary
from workflows.session import SessionRun
from workflows.steps import step

_NAMED_MAX = 20


@workflow.defn(name="VerifyRepository")
class VerifyRepository:
    """Find the points, read them back, name what is damaged."""

    @workflow.init
    def __init__(self, request: VerifyRequest) -> None:
        """Take the request, so that questions can be answered from the first moment."""
        self._request = request
        self._run = SessionRun(
            SessionKind.VERIFY,
            request.job,
            request.repository,
            request.session_id,
            title=f"verification of {self._subject()}",
        )
        self._book = self._run.book

    @workflow.query(name="progress", description="Where the verification stands")
    def progress(self) -> SessionProgress:
        """Return where the session stands."""
        return self._book.progress()

    @workflow.run
    async def run(self, request: VerifyRequest) -> SessionResult:
        """Verify one point, the points of one machine, or all."""
        self._book.tell("Repository", request.repository)
        return await self._run.carry_out(self._verify)

    async def _verify(self) -> None:
        request = self._request
        wanted = await self._wanted()
        self._book.enter("reading everything back")
        report = await step(
            repository.verify_points,
            wanted,
            options.verification(queues.upkeep_queue(request.repository), summary(self._subject())),
        )
        self._run.report = report
        await self._run.recorder.health(request.repository, report.health)
        self._book.tell("Checked", checked_words(report))
        lay_read(self._book, report.read)
        self._book.note(_named(damage) for damage in report.damages[:_NAMED_MAX])
        if not report.is_good:
            count = len(report.damages) + report.unnamed_damages
            raise DataDamaged(f"{count_text(count, 'damaged place')} in repository {request.repository}")

    async def _wanted(self) -> repository.VerifyPoints:
        request = self._request
        if request.point is None:
            return repository.VerifyPoints(
                repository=request.repository,
                machine=request.machine,
                credential=request.credential,
                credentials=request.credentials,
            )
        self._book.enter("looking for the restore point")
        point = await step(
            repository.find_point,
            repository.FindPoint(
                repository=request.repository,
                reference=request.point,
                machine=request.machine,
                credential=request.credential,
                credentials=request.credentials,
            ),
            options.lookup(queues.repository_queue(request.repository), summary(f"point {request.point}")),
        )
        return repository.VerifyPoints(
            repository=request.repository,
            chain=point.chain,
            numbers=(point.number,),
            credential=request.credential,
            credentials=request.credentials,
        )

    def _subject(self) -> str:
        request = self._request
        if request.point is not None:
            return f"{request.repository}, point {request.point}"
        return f"{request.repository}, {request.machine or 'all points'}"


def checked_words(report: VerifyReport) -> str:
    """Return in words what a verification has read."""
    points, chains = count_text(report.points, "point"), count_text(report.chains, "chain")
    return f"{points} of {chains}, {size_text(report.stored_bytes)} stored"


def lay_read(book: Book, read: Sequence[ChainRead]) -> None:
    """Show what was read of each chain, and how it was."""
    book.lay("Chains", ("Chain", "Points", "Read", "Result"), map(_read_row, read))


def _read_row(one: ChainRead) -> tuple[str, ...]:
    points = str(one.points) if one.points else ""
    result = count_text(one.damages, "damaged place") if one.damages else "as it was written"
    return one.chain.removeprefix("machines/"), points, size_text(one.stored_bytes), result


def _named(damage: Damage) -> str:
    where = f"point {damage.point} of {damage.machine or damage.chain}" if damage.point else damage.chain
    disk = f", disk {damage.disk} at {damage.offset} ({damage.length} bytes)" if damage.length else ""
    return f"damaged: {where}{disk}: {damage.words}"
