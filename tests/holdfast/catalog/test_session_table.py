"""Sessions, tasks and notes: written twice, out of order, and read back by filter."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from holdfast.catalog.database import Catalog
from holdfast.catalog.events import Severity
from holdfast.catalog.session_table import SessionFilter
from holdfast.errors import RequestInvalid, SessionNotFound
from holdfast.model.ids import JobName
from holdfast.model.session import Figures, Outcome, Problem, SessionKind
from tests.holdfast.catalog.samples import ENDED, SESSION, START, TASK


def test_a_begun_session_is_found(catalog: Catalog) -> None:
    assert catalog.sessions.begin(SESSION) == SESSION
    assert catalog.sessions.get(SESSION.session_id) == SESSION


def test_beginning_again_keeps_what_is_there(catalog: Catalog) -> None:
    catalog.sessions.begin(SESSION)
    assert catalog.sessions.begin(replace(SESSION, job="other", notes=("again",))) == SESSION


def test_a_session_begins_only_as_running(catalog: Catalog) -> None:
    with pytest.raises(RequestInvalid, match="session-1 cannot begin as warning"):
        catalog.sessions.begin(ENDED)


def test_finishing_sets_outcome_end_figures_and_problem(catalog: Catalog) -> None:
    ended = replace(ENDED, problem=Problem(code="disk-read-failed", message="disk-0 is gone"))
    catalog.sessions.begin(SESSION)
    assert catalog.sessions.finish(ended) == ended


def test_finishing_again_changes_nothing(catalog: Catalog) -> None:
    catalog.sessions.begin(SESSION)
    catalog.sessions.finish(ENDED)
    later = replace(ENDED, outcome=Outcome.FAILED, notes=("too late",))
    assert catalog.sessions.finish(later) == ENDED
    assert catalog.sessions.get(SESSION.session_id) == ENDED


def test_a_finished_session_never_runs_again(catalog: Catalog) -> None:
    catalog.sessions.begin(SESSION)
    catalog.sessions.finish(ENDED)
    assert catalog.sessions.begin(SESSION) == ENDED


def test_a_session_does_not_finish_as_running(catalog: Catalog) -> None:
    with pytest.raises(RequestInvalid, match="session-1 cannot finish as running"):
        catalog.sessions.finish(SESSION)


def test_a_session_whose_begin_was_lost_can_finish(catalog: Catalog) -> None:
    assert catalog.sessions.finish(ENDED) == ENDED


def test_finishing_keeps_what_was_fixed_at_the_begin(catalog: Catalog) -> None:
    catalog.sessions.begin(SESSION)
    moved = replace(ENDED, started=START + timedelta(hours=1), job="other", workflow_id="other")
    assert catalog.sessions.finish(moved) == ENDED


def test_an_unknown_session_is_not_found(catalog: Catalog) -> None:
    with pytest.raises(SessionNotFound, match="session-1"):
        catalog.sessions.get(SESSION.session_id)
    with pytest.raises(SessionNotFound):
        catalog.sessions.tasks(SESSION.session_id)
    with pytest.raises(SessionNotFound):
        catalog.sessions.events(SESSION.session_id)
    with pytest.raises(SessionNotFound):
        catalog.sessions.record_task(TASK)
    with pytest.raises(SessionNotFound):
        catalog.sessions.add_note(SESSION.session_id, "lost")


def test_a_task_is_brought_up_to_date_while_it_runs(catalog: Catalog) -> None:
    catalog.sessions.begin(SESSION)
    catalog.sessions.record_task(TASK)
    further = replace(TASK, detail="changed blocks", figures=Figures(read_bytes=1 << 40))
    catalog.sessions.record_task(further)
    catalog.sessions.record_task(further)
    assert catalog.sessions.tasks(SESSION.session_id) == (further,)


def test_a_finished_task_stays_finished(catalog: Catalog) -> None:
    catalog.sessions.begin(SESSION)
    done = replace(TASK, outcome=Outcome.SUCCESS, figures=Figures(stored_bytes=7))
    catalog.sessions.record_task(done)
    catalog.sessions.record_task(TASK)
    catalog.sessions.record_task(replace(TASK, outcome=Outcome.FAILED))
    assert catalog.sessions.tasks(SESSION.session_id) == (done,)


def test_tasks_come_by_machine_name_and_disk(catalog: Catalog) -> None:
    catalog.sessions.begin(SESSION)
    given = [
        replace(TASK, machine_id=f"id-{name}", machine_name=name, disk=disk)
        for name, disk in (("b", "1"), ("a", "2"), ("a", "1"), ("B", "1"))
    ]
    for task in given:
        catalog.sessions.record_task(task)
    found = [(task.machine_name, task.disk) for task in catalog.sessions.tasks(SESSION.session_id)]
    assert found == [("B", "1"), ("a", "1"), ("a", "2"), ("b", "1")]


def test_a_note_is_kept_once_in_the_order_given(catalog: Catalog) -> None:
    catalog.sessions.begin(replace(SESSION, notes=("first",)))
    catalog.sessions.add_note(SESSION.session_id, "second", Severity.INFO)
    catalog.sessions.add_note(SESSION.session_id, "first")
    catalog.sessions.finish(replace(ENDED, notes=("second", "third")))
    assert catalog.sessions.get(SESSION.session_id).notes == ("first", "second", "third")


def test_events_say_when_and_how_bad(catalog: Catalog) -> None:
    catalog.sessions.begin(SESSION)
    catalog.sessions.add_note(SESSION.session_id, "disk-0 is read in full")
    catalog.sessions.add_note(SESSION.session_id, "machine files failed", Severity.ERROR)
    events = catalog.sessions.events(SESSION.session_id)
    assert [(e.sequence, e.severity) for e in events] == [(0, "warning"), (1, "error")]
    assert [(e.time - START).seconds for e in events] == [1, 2]


@pytest.fixture
def history(catalog: Catalog) -> Catalog:
    """Four sessions, one per hour; the second and third worked on a machine called files."""
    for hour in range(4):
        kind = SessionKind.RESTORE if hour == 3 else SessionKind.BACKUP
        session = replace(
            SESSION,
            session_id=f"session-{hour}",
            kind=kind,
            job="nightly" if hour % 2 else "hourly",
            started=START + timedelta(hours=hour),
            notes=(f"note {hour}",),
        )
        catalog.sessions.begin(session)
        if hour == 0:
            catalog.sessions.finish(replace(session, outcome=Outcome.SUCCESS))
        if hour in {1, 2}:
            for disk in ("disk-0", "disk-1"):
                task = replace(TASK, session_id=session.session_id, disk=disk)
                catalog.sessions.record_task(task)
    return catalog


@pytest.mark.parametrize(
    "wanted, hours",
    [
        (SessionFilter(), [3, 2, 1, 0]),
        (SessionFilter(limit=2), [3, 2]),
        (SessionFilter(kind=SessionKind.RESTORE), [3]),
        (SessionFilter(job=JobName("hourly")), [2, 0]),
        (SessionFilter(outcome=Outcome.SUCCESS), [0]),
        (SessionFilter(machine="files"), [2, 1]),
        (SessionFilter(machine="machine-7", limit=1), [2]),
        (SessionFilter(machine="machine"), []),
        (SessionFilter(since=START + timedelta(hours=2)), [3, 2]),
        (SessionFilter(kind=SessionKind.BACKUP, job=SESSION.job, machine="files"), [1]),
    ],
)
def test_a_list_holds_what_matches_newest_first(history: Catalog, wanted: SessionFilter, hours: list[int]) -> None:
    assert [s.session_id for s in history.sessions.list(wanted)] == [f"session-{h}" for h in hours]


def test_a_list_brings_the_notes_of_each_session(history: Catalog) -> None:
    notes = [session.notes for session in history.sessions.list()]
    assert notes == [("note 3",), ("note 2",), ("note 1",), ("note 0",)]


def test_a_list_without_bounds_is_refused(catalog: Catalog) -> None:
    with pytest.raises(RequestInvalid, match="limit 0"):
        catalog.sessions.list(SessionFilter(limit=0))
