"""The only translation between values and rows.

A row is a flat mapping from column name to value. Figures and problem are spread over columns of
their own; the notes of a session are its events.
"""

from enum import StrEnum
from typing import TypeVar

import msgspec
from sqlalchemy import RowMapping

from holdfast.catalog.events import SessionEvent, Severity
from holdfast.catalog.points import ChainMark, PointKind, PointState, RestorePointRecord
from holdfast.errors import CatalogUnavailable
from holdfast.model.session import Figures, Outcome, Problem, Session, SessionKind, Task

NEWER_HINT = "Use the Holdfast version that wrote the catalog, or a later one."

Row = dict[str, object]
_Member = TypeVar("_Member", bound=StrEnum)


def session_row(session: Session) -> Row:
    """Return the row of a session, without its notes."""
    row = _flat(session, session.figures, session.problem)
    del row["notes"]
    return row


def session_of(row: RowMapping, notes: tuple[str, ...]) -> Session:
    """Return the session of a row."""
    return Session(
        session_id=row["session_id"],
        kind=_member(SessionKind, row["kind"]),
        job=row["job"],
        repository=row["repository"],
        provider=row["provider"],
        outcome=_member(Outcome, row["outcome"]),
        started=row["started"],
        ended=row["ended"],
        workflow_id=row["workflow_id"],
        figures=_figures_of(row),
        problem=_problem_of(row),
        notes=notes,
    )


def task_row(task: Task) -> Row:
    """Return the row of a task."""
    return _flat(task, task.figures, task.problem)


def task_of(row: RowMapping) -> Task:
    """Return the task of a row."""
    return Task(
        session_id=row["session_id"],
        machine_id=row["machine_id"],
        machine_name=row["machine_name"],
        disk=row["disk"],
        outcome=_member(Outcome, row["outcome"]),
        detail=row["detail"],
        figures=_figures_of(row),
        problem=_problem_of(row),
    )


def event_row(event: SessionEvent) -> Row:
    """Return the row of an event."""
    return msgspec.structs.asdict(event)


def event_of(row: RowMapping) -> SessionEvent:
    """Return the event of a row."""
    return SessionEvent(**{**row, "severity": _member(Severity, row["severity"])})


def point_row(point: RestorePointRecord) -> Row:
    """Return the row of a restore point."""
    return msgspec.structs.asdict(point)


def point_of(row: RowMapping) -> RestorePointRecord:
    """Return the restore point of a row."""
    kind, state = _member(PointKind, row["kind"]), _member(PointState, row["state"])
    return RestorePointRecord(**{**row, "kind": kind, "state": state})


def mark_row(mark: ChainMark) -> Row:
    """Return the row of a chain's mark."""
    return msgspec.structs.asdict(mark)


def mark_of(row: RowMapping) -> ChainMark:
    """Return the mark of a row."""
    return ChainMark(**row)


def _flat(value: Session | Task, figures: Figures, problem: Problem | None) -> Row:
    row = msgspec.structs.asdict(value)
    del row["figures"], row["problem"]
    parts = msgspec.structs.asdict(problem) if problem is not None else {}
    row |= {f"problem_{part}": parts.get(part) for part in Problem.__struct_fields__}
    return row | msgspec.structs.asdict(figures)


def _figures_of(row: RowMapping) -> Figures:
    return Figures(**{field: row[field] for field in Figures.__struct_fields__})


def _problem_of(row: RowMapping) -> Problem | None:
    if row["problem_code"] is None:
        return None
    return Problem(**{part: row[f"problem_{part}"] for part in Problem.__struct_fields__})


def _member(kind: type[_Member], value: str) -> _Member:
    """Return the member with this value; only a newer version writes one that is not there."""
    known = {member.value: member for member in kind}
    if value not in known:
        message = f"the catalog holds {kind.__name__} {value!r}, which this version does not know"
        raise CatalogUnavailable(message, hint=NEWER_HINT)
    return known[value]
