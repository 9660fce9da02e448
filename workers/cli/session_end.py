"""Shows how a session ended, and ends the command accordingly."""

from collections.abc import Sequence

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from holdfast.errors import DataDamaged, HoldfastError, OperationCancelled, SessionFailed, error_class
from holdfast.model.points import Damage, PointSummary, VerifyReport
from holdfast.model.session import Figures, Outcome, Session, Task
from holdfast.planning.bottleneck import Stage, bottleneck, busy_percent
from workers.cli import wording
from workers.cli.failure import CommandFailed
from workers.cli.invocation import Invocation, error_document
from workers.cli.tables import coloured, plain_table
from workflows.messages import SessionResult, SweepReport

_DAMAGES_SHOWN = 50


def finish(run: Invocation, result: SessionResult) -> None:
    """Write the result of a session. Raises `CommandFailed` unless it ended with success or a warning."""
    document: dict[str, object] = {
        "session": result.session,
        "tasks": result.tasks,
        "points": result.points,
        "report": result.report,
        "machine": result.machine,
        "swept": result.swept,
        "bottleneck": bottleneck(result.session.figures),
    }
    error = _error_of(result.session)
    if error is None:
        run.show(document, *_page(result))
        return
    if not run.flags.json:
        run.show(None, *_page(result))
    raise CommandFailed(error, document | error_document(error))


def finish_verification(run: Invocation, report: VerifyReport, where: str) -> None:
    """Write what a verification without a session found. Raises `CommandFailed` when something is damaged."""
    document: dict[str, object] = {"report": report}
    if report.is_good:
        run.show(document, *report_parts(report))
        return
    if not run.flags.json:
        run.show(None, *report_parts(report))
    count = wording.count(len(report.damages) + report.unnamed_damages, "damaged span")
    error = DataDamaged(f"{count} in {where}", hint="What is named above cannot be restored; all else can.")
    raise CommandFailed(error, document | error_document(error))


def report_parts(report: VerifyReport) -> list[RenderableType]:
    """Return a report for people."""
    read = (
        f"{wording.count(report.points, 'point')} in {wording.count(report.chains, 'chain')}, "
        f"{wording.count(report.units, 'unit')}, {wording.size(report.stored_bytes)} read"
    )
    if report.is_good:
        return [f"[green]good[/]: {read}"]
    total = len(report.damages) + report.unnamed_damages
    parts: list[RenderableType] = [f"[red]damaged[/]: {wording.count(total, 'span')}; {read}"]
    parts.append(_damage_table(report.damages[:_DAMAGES_SHOWN]))
    if total > _DAMAGES_SHOWN:
        parts.append(f"and {total - _DAMAGES_SHOWN} more")
    return parts


def _error_of(session: Session) -> HoldfastError | None:
    problem = session.problem
    match session.outcome:
        case Outcome.SUCCESS | Outcome.WARNING:
            return None
        case Outcome.CANCELLED:
            return OperationCancelled(f"session {session.session_id} was cancelled")
        case Outcome.FAILED | Outcome.RUNNING:
            if problem is None:
                return SessionFailed(f"session {session.session_id} failed")
            cls = error_class(problem.code) or SessionFailed
            return cls(f"session {session.session_id} failed: {problem.message}", hint=problem.hint)


def _page(result: SessionResult) -> list[RenderableType]:
    session = result.session
    took = (session.ended - session.started).total_seconds() if session.ended is not None else 0.0
    figures = session.figures
    line = f"session [bold]{session.session_id}[/] {coloured(session.outcome)} after {wording.duration(took)}"
    if figures.size_bytes:
        line += (
            f": {wording.size(figures.size_bytes)} of disks, {wording.size(figures.read_bytes)} read, "
            f"{wording.size(figures.transferred_bytes)} transferred, {wording.size(figures.stored_bytes)} stored"
        )
    if figures.read_bytes and took > 0:
        line += f", {wording.rate(figures.read_bytes / took)}"
    parts: list[RenderableType] = [line]
    if result.tasks:
        parts += task_parts(result.tasks)
    parts += [_point_line(point) for point in result.points]
    if result.machine is not None:
        parts.append(f"machine [bold]{escape(result.machine.name)}[/] is there, power {result.machine.power.value}")
    if result.report is not None:
        parts += report_parts(result.report)
    if result.swept is not None:
        parts += _swept_parts(result.swept)
    parts += [f"[yellow]note[/]: {escape(note)}" for note in session.notes]
    return parts


def _swept_parts(report: SweepReport) -> list[RenderableType]:
    """Return what a sweep found and did."""
    if not report.decisions:
        return ["nothing of dead sessions is there"]
    table = plain_table("WHAT", "OF", "BECOMES", "WHY", "TAG OR ID")
    for one in report.decisions:
        becomes = "[yellow]would be removed[/]" if report.is_dry_run else "removed"
        becomes = becomes if one.is_removed and not one.problem else "kept"
        why = one.problem or one.reason
        table.add_row(one.kind.value, escape(one.machine_name), becomes, escape(why), escape(one.tag or one.target_id))
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
        table.add_row(escape(name), *parts, str(bottleneck(figures)))


def _task_table(tasks: Sequence[Task]) -> Table:
    table = plain_table("MACHINE", "DISK", "OUTCOME", ">SIZE", ">READ", ">SENT", ">STORED", ">TOOK", ">RATE", "DETAIL")
    for task in tasks:
        figures = task.figures
        pace = figures.read_bytes / figures.duration_s if figures.duration_s else 0.0
        detail = task.detail if task.problem is None else f"{task.problem.message} ({task.problem.code})"
        table.add_row(
            escape(task.machine_name),
            escape(task.disk),
            coloured(task.outcome),
            _extent(figures),
            wording.size(figures.read_bytes),
            wording.size(figures.transferred_bytes),
            wording.size(figures.stored_bytes),
            wording.duration(figures.duration_s),
            wording.rate(pace) if pace else "-",
            escape(detail),
        )
    return table


def _extent(figures: Figures) -> str:
    """Return the size of a disk, and how much of it was dealt with when that was not all."""
    size, processed = figures.size_bytes, figures.processed_bytes
    return f"{wording.size(processed)} of {wording.size(size)}" if 0 < processed < size else wording.size(size)


def _point_line(point: PointSummary) -> str:
    return (
        f"point [bold]{point.point_id[:12]}[/] of {escape(point.machine_name)}: {point.kind}, "
        f"{wording.size(point.size_bytes)} of disks in {wording.size(point.file_bytes)}"
    )


def _damage_table(damages: Sequence[Damage]) -> Table:
    table = plain_table("MACHINE", ">POINT", "DISK", ">OFFSET", ">LENGTH", "FILE", "REASON")
    for damage in damages:
        table.add_row(
            escape(damage.machine),
            str(damage.point),
            escape(damage.disk),
            str(damage.offset) if damage.length else "all",
            wording.size(damage.length) if damage.length else "",
            damage.file,
            escape(damage.reason),
        )
    return table
