"""Retention of one machine's chains: note, plan, carry out, tell the catalog, and delete what has had its grace period.

Guarantee: what is carried out is the plan of this step, or the one that was shown before; each step of it may be ended
and repeated at any moment, and every point that stays can be read all the time.
"""

from temporalio import workflow
from temporalio.exceptions import FailureError

from activities.contracts import retention
from holdfast.errors import ClockJumped
from holdfast.model.ids import MachineId, RepositoryName
from holdfast.model.retention import RetentionOptions
from holdfast.model.session import Problem
from holdfast.planning.retention_steps import RetentionStep
from workflows import options, queues
from workflows.book import Book
from workflows.failures import problem_of
from workflows.messages import MachineUpkeepRequest, Retained
from workflows.report import size_text, summary
from workflows.steps import step, stop_if_cancelled
from workflows.undo import shielded


async def retain(request: MachineUpkeepRequest, book: Book) -> Retained:
    """Apply the retention of the request to the chains of its machine, and return what was done."""
    wanted = request.upkeep.retention
    assert wanted is not None, "asked for only with retention"
    book.enter("planning retention")
    planned = await _plan(request, wanted)
    book.tell("Locks", planned.locks)
    book.note(planned.left_out)
    if planned.held:
        book.note([_held_note(request, planned.held)])
    if not wanted.only_archives:  # of which all machines' are purged together: one may have none but removed ones
        await _purge(request, wanted, book)
    done = Retained(kept=planned.kept, held=planned.held)
    for number, one in enumerate(planned.steps, 1):
        book.enter(f"{_what(one)}, step {number} of {len(planned.steps)}")
        done += await _carry_out(request, one, wanted.grace_days)
    return done


def clock_note(repository: RepositoryName, problem: Problem) -> str:
    """Return what a session says when the clock of a repository's host cannot be trusted."""
    return f"{problem.code} in repository {repository}: {problem.message}; {problem.hint}"


def retained_words(done: Retained) -> str:
    """Return in words what retention did."""
    parts = [f"{done.kept} kept"]
    if done.merged:
        parts.append(f"{done.merged} merged ({size_text(done.moved_bytes)} moved)")
    if done.deleted:
        parts.append(f"{done.deleted} deleted ({size_text(done.freed_bytes)})")
    if done.held:
        parts.append(f"{done.held} wait for consent")
    return ", ".join(parts)


async def _plan(request: MachineUpkeepRequest, wanted: RetentionOptions) -> retention.RetentionPlanned:
    return await step(
        retention.plan,
        retention.PlanRetention(
            repository=request.repository,
            machine_id=request.machine_id,
            machine_name=request.machine_name,
            options=wanted,
            point=None if request.point is None else request.point.point_id,
            began=request.began,
            is_gone=request.is_gone,
            has_consent=request.has_consent,
            expected=request.expected,
            credential=request.credential,
            gone=request.gone,
        ),
        options.change(_queue(request), summary(f"plan for {request.machine_name}")),
    )


async def purge_archives(repository: RepositoryName, wanted: RetentionOptions, book: Book) -> None:
    """Delete what was removed of archives, of whatever machine, and has had its grace period."""
    request = retention.PurgeRemoved(
        repository=repository,
        machine_id=MachineId(""),
        machine_name="",
        grace_days=wanted.grace_days,
        only_archives=True,
    )
    try:
        await _purge_removed(request, book, f"archives in {repository}")
    except FailureError as failure:
        problem = problem_of(failure)
        if problem.code != ClockJumped.code:
            raise
        book.note([clock_note(repository, problem)])


async def _purge(request: MachineUpkeepRequest, wanted: RetentionOptions, book: Book) -> None:
    removed = retention.PurgeRemoved(
        repository=request.repository,
        machine_id=request.machine_id,
        machine_name=request.machine_name,
        grace_days=wanted.grace_days,
    )
    await _purge_removed(removed, book, request.machine_name)


async def _purge_removed(request: retention.PurgeRemoved, book: Book, what: str) -> None:
    book.enter("deleting what has had its grace period")
    purged = await step(
        retention.purge,
        request,
        options.change(queues.chain_queue(request.repository), summary(f"purge of {what}")),
    )
    if purged.files:
        book.tell("Purged", f"{purged.files} files, {size_text(purged.freed_bytes)}")


async def _carry_out(request: MachineUpkeepRequest, one: RetentionStep, grace_days: int) -> Retained:
    what = f"{request.machine_name}: {_what(one)}, {size_text(one.size_bytes)}"
    done = await workflow.execute_activity(
        retention.carry_out,
        retention.CarryOut(
            repository=request.repository, step=one, credential=request.credential, grace_days=grace_days
        ),
        **options.verification(_queue(request), summary(what)),
    )
    # Whatever was asked for meanwhile: the points are gone, and the catalog shall not name them.
    settled = retention.SettlePoints(repository=request.repository, gone=one.points, moved=done.moved)
    config = options.record(queues.CONTROL, summary(f"{len(one.points)} points gone"), options.FINISH_PATIENCE)
    await shielded(workflow.execute_activity(retention.settle, settled, **config))
    stop_if_cancelled()
    if one.into:
        return Retained(merged=len(one.points), moved_bytes=done.moved_bytes)
    return Retained(deleted=len(one.points), freed_bytes=one.size_bytes)


def _what(one: RetentionStep) -> str:
    count = f"{len(one.files)} file" + ("" if len(one.files) == 1 else "s")
    return f"merging {count} into {one.into}" if one.into else f"removing {count}"


def _held_note(request: MachineUpkeepRequest, held: int) -> str:
    return (
        f"retention lets {held} points of {request.machine_name} go that the rules until now keep: "
        f"`holdfast retention run {request.job}` asks for consent"
    )


def _queue(request: MachineUpkeepRequest) -> str:
    return queues.chain_queue(request.repository)
