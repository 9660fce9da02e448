"""Retention of one machine's chains: note, plan, carry out, tell the catalog, and delete what has had its grace period.

Guarantee: what is carried out is the plan of this step, or the one that was shown before; each step of it may be ended
and repeated at any moment, and every point that stays can be read all the time.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from temporalio import workflow
from temporalio.exceptions import FailureError

from activities.contracts import retention
from holdfast.errors import ClockJumped
from holdfast.model.ids import MachineId, RepositoryName
from holdfast.model.retention import KeepUnit, RetentionOptions, RetentionPolicy
from holdfast.model.session import Problem
from holdfast.model.words import count_text
from holdfast.planning.retention import PointVerdict
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
    if not wanted.only_archives:
        book.tell("Rules", f"keep {rules_words(wanted.policy)}")
    book.enter("planning retention")
    planned = await _plan(request, wanted)
    book.tell("Locks", planned.locks)
    book.note(planned.left_out)
    if planned.held:
        book.note([_held_note(request, planned.held)])
    if not wanted.only_archives:  # of which all machines' are purged together: one may have none but removed ones
        await _purge(request, wanted, book)
    steps = _Steps(planned.steps, book)
    book.lay("Points", ("Point", "Day", "Becomes", "Why"), map(_point_row, planned.points))
    done = Retained(kept=planned.kept, held=planned.held)
    for number, one in enumerate(planned.steps):
        book.enter(f"{_what(one)}, step {number + 1} of {len(planned.steps)}")
        with steps.running(number):
            carried = await _carry_out(request, one, wanted.grace_days)
            done += carried
        steps.set(number, _done_words(carried, wanted.grace_days))
    return done


class _Steps:
    """The steps of a plan as the details show them, each with its state."""

    def __init__(self, steps: Sequence[RetentionStep], book: Book) -> None:
        self._steps, self._book = steps, book
        self._states = ["waiting"] * len(steps)
        self._lay()

    def set(self, number: int, state: str) -> None:
        self._states[number] = state
        self._lay()

    def _lay(self) -> None:
        rows = (
            (f"{_what(one)}, of {one.chain.rpartition('/')[2]}", size_text(one.size_bytes), told)
            for one, told in zip(self._steps, self._states, strict=True)
        )
        self._book.lay("Steps", ("Step", "Size", "State"), rows)

    @contextmanager
    def running(self, number: int) -> Iterator[None]:
        self.set(number, "running")
        try:
            yield
        except asyncio.CancelledError:
            self.set(number, "stopped")
            raise
        except FailureError:
            self.set(number, "failed")
            raise


def _point_row(point: PointVerdict) -> tuple[str, ...]:
    """Return of which chain the point is, its day, and what becomes of it and why."""
    chain = point.chain.rpartition("/")[2]
    return f"{point.number} of {chain}", point.day.isoformat(), point.verdict.value, point.reason


def _done_words(done: Retained, grace_days: int) -> str:
    """Return what a step did, with its bytes; what was removed takes its room until the days of grace are over."""
    if done.merged:
        return f"done, {size_text(done.moved_bytes)} moved"
    return f"done, {size_text(done.freed_bytes)} free in {count_text(grace_days, 'day')}"


def clock_note(repository: RepositoryName, problem: Problem) -> str:
    """Return what a session says when the clock of a repository's host cannot be trusted."""
    return f"{problem.code} in repository {repository}: {problem.message}; {problem.hint}"


def rules_words(policy: RetentionPolicy) -> str:
    """Return in words what a job keeps of each machine."""
    parts = [count_text(policy.keep, "point" if policy.unit is KeepUnit.POINTS else "day")]
    if policy.unit is KeepUnit.DAYS:
        parts.append(f"at least {count_text(policy.minimum_points, 'point')}")
    if policy.weekly is not None:
        parts.append(f"a full of each week for {count_text(policy.weekly.weeks, 'week')}")
    if policy.monthly is not None:
        parts.append(f"a full of each month for {count_text(policy.monthly.months, 'month')}")
    if policy.yearly is not None:
        parts.append(f"a full of each year for {count_text(policy.yearly.years, 'year')}")
    return ", ".join(parts)


def retained_words(done: Retained) -> str:
    """Return in words what retention did."""
    parts = [f"{done.kept} kept"]
    if done.merged:
        parts.append(f"{done.merged} merged ({size_text(done.moved_bytes)} moved)")
    if done.deleted:
        parts.append(f"{done.deleted} deleted ({size_text(done.freed_bytes)})")
    if done.held:
        parts.append(f"{done.held} wait{'s' * (done.held == 1)} for consent")
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
        book.tell("Purged", f"{count_text(purged.files, 'file')}, {size_text(purged.freed_bytes)} freed")


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
    config = options.record(
        queues.CONTROL,
        summary(f"{request.machine_name}: {count_text(len(one.points), 'point')} gone"),
        options.FINISH_PATIENCE,
    )
    await shielded(workflow.execute_activity(retention.settle, settled, **config))
    stop_if_cancelled()
    if one.into:
        return Retained(merged=len(one.points), moved_bytes=done.moved_bytes)
    return Retained(deleted=len(one.points), freed_bytes=one.size_bytes)


def _what(one: RetentionStep) -> str:
    count = count_text(len(one.files), "file")
    return f"merging {count} into {one.into}" if one.into else f"removing {count}"


def _held_note(request: MachineUpkeepRequest, held: int) -> str:
    return (
        f"retention lets {count_text(held, 'point')} of {request.machine_name} go that the rules until now keep: "
        f"`holdfast retention run {request.job}` asks for consent"
    )


def _queue(request: MachineUpkeepRequest) -> str:
    return queues.chain_queue(request.repository)
