"""The health of a repository: checks of the newest points, the rolling scrub of everything, and repairs.

Guarantee: success means that everything looked at is as it was written, or was repaired; what is not is named by point,
disk and offset, and marked in the catalog.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from temporalio import workflow

from activities.contracts import health, repository
from holdfast.errors import DataDamaged
from holdfast.model.health import ClosedChain, RepairReport, ScrubReport
from holdfast.model.points import ChainRead, Damage, chains_named
from holdfast.model.session import SessionKind
from holdfast.model.words import count_text
from workflows import options, queues
from workflows.messages import HealthRequest, HealthTask, SessionProgress, SessionResult
from workflows.report import duration_text, size_text, summary
from workflows.session import SessionRun
from workflows.steps import step
from workflows.verify import checked_words, lay_read

_NAMED_MAX = 20
_TITLES = {HealthTask.CHECK: "health check", HealthTask.SCRUB: "scrub", HealthTask.REPAIR: "repair"}


@workflow.defn(name="CheckHealth")
class CheckHealth:
    """Read, mark what is damaged, repair it, name what is lost."""

    @workflow.init
    def __init__(self, request: HealthRequest) -> None:
        """Take the request, so that questions can be answered from the first moment."""
        self._request = request
        self._run = SessionRun(
            SessionKind.HEALTH,
            request.job,
            request.repository,
            request.session_id,
            title=f"{_TITLES[request.task]} of {request.repository}",
        )
        self._book = self._run.book
        self._queue = queues.upkeep_queue(request.repository)
        self._damages: tuple[Damage, ...] = ()
        self._unnamed = 0
        self._began = request.scrub_began or workflow.info().start_time

    @workflow.query(name="progress", description="Where the session stands")
    def progress(self) -> SessionProgress:
        """Return where the session stands."""
        return self._book.progress()

    @workflow.run
    async def run(self, request: HealthRequest) -> SessionResult:
        """Look after one repository."""
        self._book.tell("Repository", request.repository)
        return await self._run.carry_out(self._look_after)

    async def _look_after(self) -> None:
        request = self._request
        match request.task:
            case HealthTask.CHECK:
                await self._check()
            case HealthTask.SCRUB:
                await self._scrub()
            case HealthTask.REPAIR:
                await self._repair()
        if request.task is not HealthTask.REPAIR and request.repairs and (self._damages or self._unnamed):
            await self._repair()
        self._book.note(_named(damage) for damage in self._damages[:_NAMED_MAX])
        if self._damages or self._unnamed:
            count = len(self._damages) + self._unnamed
            raise DataDamaged(
                f"{count_text(count, 'damaged place')} in repository {request.repository}",
                hint="The next backup of a machine reads again what its newest point has lost; "
                "older points are repaired from it where nothing has changed there.",
            )

    async def _check(self) -> None:
        """Read the newest point of each machine back, chain by chain with the credential that opens it."""
        request = self._request
        self._book.enter("reading the newest points")
        report = await step(
            repository.verify_points,
            repository.VerifyPoints(
                repository=request.repository,
                machine=request.machine,
                newest=True,
                credentials=request.credentials,
            ),
            options.verification(self._queue, summary(f"{request.repository} newest points")),
        )
        self._run.report = report
        self._book.tell("Checked", f"the newest points: {checked_words(report)}")
        lay_read(self._book, report.read)
        self._damages, self._unnamed = report.damages, report.unnamed_damages
        await self._run.recorder.health(request.repository, report.health)

    async def _scrub(self) -> None:
        request = self._request
        self._book.enter("reading stored bytes again")
        total = request.scrubbed
        while True:
            found = await step(
                health.scrub,
                health.ScrubSlice(
                    repository=request.repository,
                    credentials=request.credentials,
                    days=request.days,
                    every_s=request.every_s,
                    left_bytes=None if total is None else total.planned_bytes - total.done_bytes,
                    began=self._began,
                    is_deep=request.is_deep,
                ),
                options.verification(self._queue, summary(f"{request.repository} scrub")),
            )
            total = added(total, found)
            self._tell(total)
            await self._run.recorder.health(request.repository, found.points)
            if total.is_done or not found.done_bytes:
                break
            if workflow.info().is_continue_as_new_suggested():
                self._go_on_as_new(total)
        self._run.scrub = total
        self._book.note(closed_notes(total))
        self._damages, self._unnamed = total.damages, total.unnamed_damages

    def _go_on_as_new(self, total: ScrubReport) -> None:
        """Leave this history and go on with an empty one; what was read is written down beside the chains."""
        kept = msgspec.structs.replace(total, points=())
        workflow.continue_as_new(
            msgspec.structs.replace(
                self._request, session_id=self._run.session_id, scrub_began=self._began, scrubbed=kept
            )
        )

    def _tell(self, total: ScrubReport) -> None:
        self._book.tell("Read", f"{size_text(total.done_bytes)} of {size_text(total.planned_bytes)} planned")
        self._book.tell(
            "Stored", f"{size_text(total.stored_bytes)}, each byte read within {count_text(self._request.days, 'day')}"
        )
        self._book.tell("Oldest", _age(total.oldest))
        lay_read(self._book, total.read)
        if total.overdue_bytes:
            self._book.tell("Overdue", size_text(total.overdue_bytes))
        if total.closed:
            self._book.tell("Not read", not_read_words(total))

    async def _repair(self) -> None:
        request = self._request
        self._book.enter("repairing")
        report = await step(
            health.repair,
            health.RepairChains(repository=request.repository, credentials=request.credentials, copies=request.copies),
            options.verification(self._queue, summary(f"{request.repository} repair")),
        )
        self._run.repair = report
        for title, words in repair_words(report):
            self._book.tell(title, words)
        self._damages, self._unnamed = report.damages, report.unnamed_damages
        await self._run.recorder.health(request.repository, report.points)


def repair_words(report: RepairReport) -> list[tuple[str, str]]:
    """Return what a repair did, in words, each with its title."""
    sources = ((report.from_chain, "the chain"), (report.from_chains, "other chains"), (report.from_copies, "copies"))
    where = ", ".join(f"{count_text(count, 'piece')} from {name}" for count, name in sources if count)
    told = [
        ("Repaired", f"{size_text(report.repaired_pieces << 16)}: {where}" if where else ""),
        ("Metadata written anew", ", ".join(report.metadata)),
        ("Rebuilt, the damaged ones kept", ", ".join(report.rebuilt)),
        ("Set aside", ", ".join(report.set_aside)),
        ("Machine files stored again", ", ".join(report.files)),
        ("Notes written again", f"{report.notes} records" if report.notes else ""),
    ]
    return [(title, words) for title, words in told if words]


def added(before: ScrubReport | None, slice_: ScrubReport) -> ScrubReport:
    """Return the report of a scrub after one more slice: what is known to be damaged is in each of them."""
    if before is None:
        return slice_
    return msgspec.structs.replace(
        slice_,
        planned_bytes=before.planned_bytes,
        done_bytes=before.done_bytes + slice_.done_bytes,
        checked_bytes=before.checked_bytes + slice_.checked_bytes,
        chains=before.chains + slice_.chains,
        read=_joined(before.read, slice_.read),
    )


def _joined(before: Sequence[ChainRead], slice_: Sequence[ChainRead]) -> tuple[ChainRead, ...]:
    """Return what was read of chains, each once."""
    known = {one.chain: one for one in before}
    for one in slice_:
        earlier = known.get(one.chain)
        read = one.stored_bytes + (0 if earlier is None else earlier.stored_bytes)
        known[one.chain] = msgspec.structs.replace(one, stored_bytes=read)
    return chains_named(known.values())


def not_read_words(report: ScrubReport) -> str:
    """Return in words what a scrub should have read of chains that it could not open."""
    count = len(report.closed) + report.unnamed_closed
    due = size_text(sum(one.due_bytes for one in report.closed))
    return f"{'more than ' if report.unnamed_closed else ''}{due} due, of {count} closed chain{'s' * (count != 1)}"


def closed_notes(report: ScrubReport) -> list[str]:
    """Return a note for each chain that a scrub could not open; with one the session ends with a warning."""
    notes = [_not_read(one) for one in report.closed[:_NAMED_MAX]]
    left = len(report.closed[_NAMED_MAX:]) + report.unnamed_closed
    return [*notes, f"not read: {left} more chains that could not be opened"] if left else notes


def _not_read(one: ClosedChain) -> str:
    return f"not read: {one.chain}, {size_text(one.due_bytes)} due: {one.code}: {one.reason}"


def _age(oldest: datetime | None) -> str:
    if oldest is None:
        return "nothing is stored"
    return f"{duration_text((workflow.now() - oldest).total_seconds())} since it was read or written"


def _named(damage: Damage) -> str:
    where = f"point {damage.point} of {damage.machine or damage.chain}" if damage.point else damage.chain
    disk = f", disk {damage.disk} at {damage.offset} ({damage.length} bytes)" if damage.length else ""
    return f"damaged: {where}{disk}: {damage.words}"
