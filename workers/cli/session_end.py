"""Shows how a session ended, and ends the command accordingly."""

from collections.abc import Sequence

import msgspec
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from holdfast.errors import DataDamaged, HoldfastError, OperationCancelled, PassphraseWrong, SessionFailed, error_class
from holdfast.model.health import RepairReport, ScrubReport
from holdfast.model.ids import SessionId
from holdfast.model.points import Damage, PointSummary, VerifyReport
from holdfast.model.session import Figures, Outcome, Problem, Session, Task
from holdfast.planning.bottleneck import Stage, bottleneck, busy_percent
from workers.cli import wording
from workers.cli.failure import CommandFailed
from workers.cli.invocation import Invocation, error_document
from workers.cli.tables import coloured, plain_table
from workflows.health import not_read_words, repair_words
from workflows.messages import MachineUpkeepResult, SessionResult, SweepReport
from workflows.retention_step import retained_words

_DAMAGES_SHOWN = 50


class SessionIds(msgspec.Struct, frozen=True, kw_only=True):
    """How a session is found again."""

    session_id: SessionId
    workflow_id: str
    run_id: str | None = None
    """None for one that was not started."""


class Unfollowed(msgspec.Struct, frozen=True, kw_only=True):
    """A session that was not started, or whose end is not known or without a result."""

    ids: SessionIds
    error: HoldfastError


def finish(run: Invocation, result: SessionResult) -> None:
    """Write the result of a session. Raises `CommandFailed` unless it ended with success or a warning."""
    finish_all(run, [result])


def finish_all(run: Invocation, sessions: Sequence[SessionResult | SessionIds | Unfollowed]) -> None:
    """Write how sessions ended, or how they are found again; of a single one nothing but that.

    Raises `CommandFailed` for the first that did not end well, and the error itself of a single one that was not
    started: there is nothing else to tell.
    """
    documents = [_document(one) for one in sessions]
    document: dict[str, object] = documents[0] if len(documents) == 1 else {"sessions": documents}
    parts = [part for one in sessions for part in _parts(one, is_alone=len(sessions) == 1)]
    error = next((error for error in map(_error_of, sessions) if error is not None), None)
    if error is None:
        run.show(document, *parts)
        return
    first = sessions[0]
    if len(sessions) == 1 and isinstance(first, Unfollowed) and first.ids.run_id is None:
        raise error
    if not run.flags.json:
        run.show(None, *parts)
    raise CommandFailed(error, document | error_document(error))


def finish_upkeep(run: Invocation, result: MachineUpkeepResult) -> None:
    """Write what the upkeep of one machine's chains did. Raises `CommandFailed` when what was asked for failed."""
    document = msgspec.structs.asdict(result)
    lines = [f"{name}: {words}" for name, words in result.lines]
    error = _error_of_upkeep(result)
    if error is not None:
        raise CommandFailed(error, document | error_document(error))
    for note in result.notes:
        run.warn(note)
    run.show(document, *lines)


def _parts(one: SessionResult | SessionIds | Unfollowed, *, is_alone: bool) -> list[RenderableType]:
    match one:
        case SessionResult():
            return _page(one)
        case SessionIds():
            return [f"session {one.session_id}, workflow {one.workflow_id}"]
        case Unfollowed():
            return [] if is_alone else _unfollowed_lines(one)  # the error of the command says it


def _unfollowed_lines(one: Unfollowed) -> list[RenderableType]:
    ids, error = one.ids, one.error
    fate = "could not be started" if ids.run_id is None else "was not followed to a result"
    lines: list[RenderableType] = [
        Text.assemble(
            "session ", (ids.session_id, "bold"), f" ({ids.workflow_id}) ", (fate, "red"), f": {error.message}"
        )
    ]
    return [*lines, _told("hint", "bold", error.hint)] if error.hint else lines


def _document(result: SessionResult | SessionIds | Unfollowed) -> dict[str, object]:
    if isinstance(result, SessionIds):
        return msgspec.structs.asdict(result)
    if isinstance(result, Unfollowed):
        return msgspec.structs.asdict(result.ids) | error_document(result.error)
    return {
        "session": result.session,
        "tasks": result.tasks,
        "points": result.points,
        "report": result.report,
        "machine": result.machine,
        "swept": result.swept,
        "retained": result.retained,
        "scrub": result.scrub,
        "repair": result.repair,
        "bottleneck": bottleneck(result.session.figures),
    }


def finish_verification(run: Invocation, report: VerifyReport, where: str) -> None:
    """Write what a verification without a session found. Raises `CommandFailed` when something is damaged."""
    document: dict[str, object] = {"report": report}
    if report.is_good:
        run.show(document, *report_parts(report))
        return
    if not run.flags.json:
        run.show(None, *report_parts(report))
    count = wording.count(len(report.damages) + report.unnamed_damages, "damaged span")
    hint = "What is named above cannot be restored; all else can."
    if any(damage.code == PassphraseWrong.code for damage in report.damages):
        hint = f"{hint} A chain that did not open may with the credential it was made with: `--credential NAME`."
    error = DataDamaged(f"{count} in {where}", hint=hint)
    raise CommandFailed(error, document | error_document(error))


def report_parts(report: VerifyReport) -> list[RenderableType]:
    """Return a report for people."""
    read = (
        f"{wording.count(report.points, 'point')} in {wording.count(report.chains, 'chain')}, "
        f"{wording.count(report.units, 'unit')}, {wording.size(report.stored_bytes)} read"
    )
    if report.is_good:
        return [_told("good", "green", read)]
    total = len(report.damages) + report.unnamed_damages
    parts: list[RenderableType] = [
        _told("damaged", "red", f"{wording.count(total, 'span')}; {read}"),
        _damage_table(report.damages[:_DAMAGES_SHOWN]),
    ]
    if total > _DAMAGES_SHOWN:
        parts.append(f"and {total - _DAMAGES_SHOWN} more")
    return parts


def _told(word: str, colour: str, what: str) -> Text:
    return Text.assemble((word, colour), f": {what}")


def _error_of(one: SessionResult | SessionIds | Unfollowed) -> HoldfastError | None:
    match one:
        case SessionResult():
            return _error_of_session(one.session)
        case SessionIds():
            return None
        case Unfollowed():
            return one.error


def _error_of_session(session: Session) -> HoldfastError | None:
    problem = session.problem
    match session.outcome:
        case Outcome.SUCCESS | Outcome.WARNING:
            return None
        case Outcome.CANCELLED:
            return OperationCancelled(f"session {session.session_id} was cancelled")
        case Outcome.FAILED | Outcome.RUNNING:
            if problem is None:
                return SessionFailed(f"session {session.session_id} failed")
            return _error_with(f"session {session.session_id} failed", problem)


def _error_of_upkeep(result: MachineUpkeepResult) -> HoldfastError | None:
    failed = f"upkeep of {result.machine_name} failed"
    if result.problem is not None:
        return _error_with(failed, result.problem)
    if not result.lines and result.notes:  # all that a worker of an earlier version says of a step that failed
        return SessionFailed(f"{failed}: {'; '.join(result.notes)}")
    return None


def _error_with(what: str, problem: Problem) -> HoldfastError:
    cls = error_class(problem.code) or SessionFailed
    return cls(f"{what}: {problem.message}", hint=problem.hint)


def _page(result: SessionResult) -> list[RenderableType]:
    session = result.session
    took = (session.ended - session.started).total_seconds() if session.ended is not None else 0.0
    figures = session.figures
    line = f" after {wording.duration(took)}"
    if figures.size_bytes:
        line += (
            f": {wording.size(figures.size_bytes)} of disks, {wording.size(figures.read_bytes)} read, "
            f"{wording.size(figures.transferred_bytes)} transferred, {wording.size(figures.stored_bytes)} stored"
        )
    if figures.read_bytes and took > 0:
        line += f", {wording.rate(figures.read_bytes / took)}"
    head = Text.assemble("session ", (session.session_id, "bold"), " ", coloured(session.outcome), line)
    parts: list[RenderableType] = [head]
    if result.tasks:
        parts += task_parts(result.tasks)
    parts += [_point_line(point) for point in result.points]
    if result.machine is not None:
        there = f" is there, power {result.machine.power.value}"
        parts.append(Text.assemble("machine ", (result.machine.name, "bold"), there))
    parts += _found_parts(result)
    parts += [_told("note", "yellow", note) for note in session.notes]
    return parts


def _found_parts(result: SessionResult) -> list[RenderableType]:
    """Return what a session found that is no backup."""
    parts: list[RenderableType] = []
    if result.report is not None:
        parts += report_parts(result.report)
    if result.scrub is not None:
        parts += scrub_parts(result.scrub)
    if result.repair is not None:
        parts += repair_parts(result.repair)
    if result.swept is not None:
        parts += _swept_parts(result.swept)
    if result.retained is not None:
        parts.append(f"retention: {retained_words(result.retained)}")
    return parts


def scrub_parts(report: ScrubReport) -> list[RenderableType]:
    """Return what a scrub has read, for people."""
    read = f"{wording.size(report.done_bytes)} of {wording.size(report.stored_bytes)} stored read again"
    if report.oldest is not None:
        read += f"; the oldest bytes were read or written {wording.moment(report.oldest)}"
    line = _told("good", "green", read) if report.is_good else _told("damaged", "red", read)
    parts: list[RenderableType] = [line]
    if report.overdue_bytes:
        parts.append(_told("overdue", "yellow", wording.size(report.overdue_bytes)))
    if report.closed:
        parts.append(_told("not read", "yellow", not_read_words(report)))
    return parts


def repair_parts(report: RepairReport) -> list[RenderableType]:
    """Return what a repair did and what is left, for people."""
    parts: list[RenderableType] = [f"{title[0].lower()}{title[1:]}: {words}" for title, words in repair_words(report)]
    if report.is_good:
        looked = f" in {wording.count(report.chains, 'chain')} looked at"
        return [*parts, Text.assemble(("nothing is damaged", "green"), looked)]
    left = len(report.damages) + report.unnamed_damages
    return [*parts, _told("still damaged", "red", wording.count(left, "span")), _damage_table(report.damages)]


def _swept_parts(report: SweepReport) -> list[RenderableType]:
    """Return what a sweep found and did."""
    if not report.decisions:
        return ["nothing of dead sessions is there"]
    table = plain_table("WHAT", "OF", "BECOMES", "WHY", "=TAG OR ID")
    for one in report.decisions:
        removed = Text("would be removed", "yellow") if report.is_dry_run else "removed"
        becomes = removed if one.is_removed and not one.problem else "kept"
        why = one.problem or one.reason
        table.add_row(one.kind.value, one.machine_name, becomes, why, one.tag or one.target_id)
    return [table, *([] if report.is_dry_run else [f"{report.removed} removed, {report.kept} kept"])]


def task_parts(tasks: Sequence[Task]) -> list[RenderableType]:
    """Return the tasks of a session for people, and how busy each stage of the data pipe was with them."""
    busy = _busy_table(tasks)
    return [_task_table(tasks)] if not busy.row_count else [_task_table(tasks), "", busy]


def _busy_table(tasks: Sequence[Task]) -> Table:
    """Return a line for each disk, each machine of several disks, and for all of several machines."""
    table = plain_table("BUSY", *(f">{stage.upper()}" for stage in Stage), "BOTTLENECK")
    disks_of: dict[str, list[Task]] = {}
    for task in tasks:
        disks_of.setdefault(task.machine_name, []).append(task)
    if len(disks_of) > 1:
        _add_busy(table, "all", tasks)
    for machine, disks in disks_of.items():
        if len(disks) > 1:
            _add_busy(table, machine, disks)
        for task in disks:
            _add_busy(table, f"{machine}/{task.disk}", [task])
    return table


def _add_busy(table: Table, name: str, tasks: Sequence[Task]) -> None:
    figures = sum((task.figures for task in tasks), Figures())
    percent = busy_percent(figures)
    if percent:
        parts = (f"{percent[stage]:.0f} %" if stage in percent else "" for stage in Stage)
        table.add_row(name, *parts, str(bottleneck(figures)))


def _task_table(tasks: Sequence[Task]) -> Table:
    table = plain_table("MACHINE", "DISK", "OUTCOME", ">SIZE", ">READ", ">SENT", ">STORED", ">TOOK", ">RATE", "DETAIL")
    for task in tasks:
        figures = task.figures
        pace = figures.read_bytes / figures.duration_s if figures.duration_s else 0.0
        detail = task.detail if task.problem is None else f"{task.problem.message} ({task.problem.code})"
        table.add_row(
            task.machine_name,
            task.disk,
            coloured(task.outcome),
            _extent(figures),
            wording.size(figures.read_bytes),
            wording.size(figures.transferred_bytes),
            wording.size(figures.stored_bytes),
            wording.duration(figures.duration_s),
            wording.rate(pace) if pace else "-",
            detail,
        )
    return table


def _extent(figures: Figures) -> str:
    """Return the size of a disk, and how much of it was dealt with when that was not all."""
    size, processed = figures.size_bytes, figures.processed_bytes
    return f"{wording.size(processed)} of {wording.size(size)}" if 0 < processed < size else wording.size(size)


def _point_line(point: PointSummary) -> Text:
    sizes = f"{wording.size(point.size_bytes)} of disks in {wording.size(point.file_bytes)}"
    what = f" of {point.machine_name}: {point.kind}, {sizes}"
    return Text.assemble("point ", (point.point_id[:12], "bold"), what)


def _damage_table(damages: Sequence[Damage]) -> Table:
    table = plain_table("MACHINE", ">POINT", "DISK", ">OFFSET", ">LENGTH", "=FILE", "REASON")
    for damage in damages:
        table.add_row(
            damage.machine,
            str(damage.point),
            damage.disk,
            str(damage.offset) if damage.length else "all",
            wording.size(damage.length) if damage.length else "",
            damage.file,
            damage.words,
        )
    return table
