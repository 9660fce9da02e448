"""Sessions, their tasks and events.

An outcome other than running is final: whatever comes later, out of order or twice, leaves a
finished session or task as it is. Every method that changes something may be repeated.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, exists, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from holdfast.catalog.columns import storable
from holdfast.catalog.connection import Database, insert_into
from holdfast.catalog.events import SessionEvent, Severity
from holdfast.catalog.limits import LIMIT_DEFAULT, check_limit
from holdfast.catalog.rows import event_of, event_row, session_of, session_row, task_of, task_row
from holdfast.catalog.schema import session_events, sessions, tasks
from holdfast.clock import Clock
from holdfast.errors import RequestInvalid, SessionNotFound
from holdfast.model.ids import JobName, SessionId
from holdfast.model.session import Outcome, Session, SessionKind, Task

_FIXED_AT_BEGIN = {"session_id", "kind", "job", "repository", "started", "workflow_id"}


class SessionFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which sessions to list; None asks for all."""

    kind: SessionKind | None = None
    job: JobName | None = None
    outcome: Outcome | None = None
    machine: str | None = None
    """Id or name of a machine one of the tasks works on."""
    since: datetime | None = None
    """Only sessions that started at this moment or later."""
    limit: int = LIMIT_DEFAULT


class SessionTable:
    """The part of a catalog that knows about sessions."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def begin(self, session: Session) -> Session:
        """Record that ``session`` runs, unless it is known; return what the catalog holds."""
        if session.outcome is not Outcome.RUNNING:
            raise RequestInvalid(f"session {session.session_id} cannot begin as {session.outcome}")
        with self._database.writing() as connection:
            insert = insert_into(connection, sessions).values(session_row(session))
            if _changes_a_row(connection, insert.on_conflict_do_nothing()):
                self._add_events(connection, session.session_id, session.notes, Severity.WARNING)
            return _load(connection, session.session_id)

    def finish(self, session: Session) -> Session:
        """Record how ``session`` ended, unless that is known; return what the catalog holds.

        What was given at its begin stays; a session whose begin was never recorded is added.
        """
        if session.outcome is Outcome.RUNNING:
            raise RequestInvalid(f"session {session.session_id} cannot finish as {session.outcome}")
        row = session_row(session)
        with self._database.writing() as connection:
            insert = insert_into(connection, sessions).values(row)
            finish = insert.on_conflict_do_update(
                index_elements=["session_id"],
                set_={name: value for name, value in row.items() if name not in _FIXED_AT_BEGIN},
                where=sessions.c.outcome == Outcome.RUNNING,
            )
            if _changes_a_row(connection, finish):
                self._add_events(connection, session.session_id, session.notes, Severity.WARNING)
            return _load(connection, session.session_id)

    def record_task(self, task: Task) -> None:
        """Add ``task`` or bring it up to date, unless it is finished; raise `SessionNotFound`."""
        row = task_row(task)
        with self._database.writing() as connection:
            _require(connection, task.session_id)
            connection.execute(
                insert_into(connection, tasks)
                .values(row)
                .on_conflict_do_update(
                    index_elements=["session_id", "machine_id", "disk"],
                    set_=row,
                    where=tasks.c.outcome == Outcome.RUNNING,
                )
            )

    def add_note(self, session_id: SessionId, text: str, severity: Severity = Severity.WARNING) -> None:
        """Add a sentence for the operator, once per session and text; raise `SessionNotFound`."""
        with self._database.writing() as connection:
            self._add_events(connection, session_id, [text], severity)

    def get(self, session_id: SessionId) -> Session:
        """Return the session with its notes; raise `SessionNotFound`."""
        with self._database.reading() as connection:
            return _load(connection, session_id)

    def list(self, wanted: SessionFilter = SessionFilter()) -> tuple[Session, ...]:  # noqa: B008 - it is frozen
        """Return the sessions that match, newest first."""
        newest_first = (sessions.c.started.desc(), sessions.c.session_id.desc())
        query = select(sessions).where(*_conditions(wanted)).order_by(*newest_first).limit(check_limit(wanted.limit))
        with self._database.reading() as connection:
            rows = connection.execute(query).mappings().all()
            notes = _notes(connection, [row["session_id"] for row in rows])
        return tuple(session_of(row, notes.get(row["session_id"], ())) for row in rows)

    def tasks(self, session_id: SessionId) -> tuple[Task, ...]:
        """Return the tasks of a session by machine and disk; raise `SessionNotFound`."""
        with self._database.reading() as connection:
            _require(connection, session_id)
            found = connection.execute(select(tasks).where(tasks.c.session_id == session_id)).mappings().all()
        # Sorted here, because the engines do not agree on the order of text.
        return tuple(
            sorted(
                map(task_of, found),
                key=lambda task: (task.machine_name, task.machine_id, task.disk),
            )
        )

    def events(self, session_id: SessionId) -> tuple[SessionEvent, ...]:
        """Return what was noted about a session, in order; raise `SessionNotFound`."""
        query = select(session_events).where(session_events.c.session_id == session_id)
        with self._database.reading() as connection:
            _require(connection, session_id)
            found = connection.execute(query.order_by(session_events.c.sequence)).mappings().all()
        return tuple(map(event_of, found))

    def _add_events(
        self,
        connection: Connection,
        session_id: SessionId,
        texts: Iterable[str],
        severity: Severity,
    ) -> None:
        _require(connection, session_id, lock=True)
        query = select(session_events.c.text).where(session_events.c.session_id == session_id)
        known = set(connection.scalars(query))
        next_sequence = len(known)
        for text in dict.fromkeys(map(storable, texts)):
            if text in known:
                continue
            event = SessionEvent(
                session_id=session_id,
                sequence=next_sequence,
                time=self._clock.now(),
                severity=severity,
                text=text,
            )
            connection.execute(session_events.insert().values(event_row(event)))
            next_sequence += 1


def _changes_a_row(connection: Connection, insert: postgresql.Insert | sqlite.Insert) -> bool:
    # Not by the row count, which is not there after an insert on every engine.
    return connection.execute(insert.returning(sessions.c.session_id)).first() is not None


def _conditions(wanted: SessionFilter) -> list[ColumnElement[bool]]:
    conditions = [
        sessions.c[name] == value
        for name, value in (("kind", wanted.kind), ("job", wanted.job), ("outcome", wanted.outcome))
        if value is not None
    ]
    if wanted.since is not None:
        conditions.append(sessions.c.started >= wanted.since)
    if wanted.machine is not None:
        is_meant = or_(tasks.c.machine_id == wanted.machine, tasks.c.machine_name == wanted.machine)
        conditions.append(exists().where(and_(tasks.c.session_id == sessions.c.session_id, is_meant)))
    return conditions


def _require(connection: Connection, session_id: SessionId, *, lock: bool = False) -> None:
    """Raise `SessionNotFound` without the session; ``lock`` makes its other writers wait."""
    query = select(sessions.c.session_id).where(sessions.c.session_id == session_id)
    if connection.execute(query.with_for_update() if lock else query).first() is None:
        raise _unknown(session_id)


def _load(connection: Connection, session_id: SessionId) -> Session:
    row = connection.execute(select(sessions).where(sessions.c.session_id == session_id)).mappings().first()
    if row is None:
        raise _unknown(session_id)
    return session_of(row, _notes(connection, [row["session_id"]]).get(row["session_id"], ()))


def _unknown(session_id: SessionId) -> SessionNotFound:
    return SessionNotFound(f"session {session_id} is not in the catalog")


def _notes(connection: Connection, session_ids: Sequence[SessionId]) -> dict[SessionId, tuple[str, ...]]:
    events = session_events.c
    query = select(events.session_id, events.text).where(events.session_id.in_(session_ids)).order_by(events.sequence)
    notes: defaultdict[SessionId, list[str]] = defaultdict(list)
    for session_id, text in connection.execute(query):
        notes[session_id].append(text)
    return {session_id: tuple(texts) for session_id, texts in notes.items()}
