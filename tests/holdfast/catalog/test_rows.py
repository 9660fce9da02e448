"""Any value comes back from both engines as it went in."""

import pytest
from hypothesis import given, settings

from holdfast.catalog.database import Catalog
from holdfast.catalog.points import RestorePointRecord
from holdfast.clock import SystemClock
from holdfast.errors import CatalogUnavailable
from holdfast.model.session import Session, Task
from tests.holdfast.catalog import samples
from tests.holdfast.catalog.postgres import run_statement

# Each example is a few commits on stable storage.
few = settings(max_examples=40)


def test_a_session_comes_back_as_it_was_recorded(catalog: Catalog) -> None:
    seen: dict[str, Session] = {}

    @few
    @given(samples.sessions)
    def check(session: Session) -> None:
        first = seen.setdefault(session.session_id, session)
        assert catalog.sessions.finish(session) == first
        assert catalog.sessions.get(session.session_id) == first

    check()


def test_a_task_comes_back_as_it_was_recorded(catalog: Catalog) -> None:
    seen: dict[tuple[str, str, str], Task] = {}

    @few
    @given(samples.tasks)
    def check(task: Task) -> None:
        catalog.sessions.begin(_session_of(task))
        key = (task.session_id, task.machine_id, task.disk)
        if key not in seen or seen[key].outcome == "running":
            seen[key] = task
        catalog.sessions.record_task(task)
        assert seen[key] in catalog.sessions.tasks(task.session_id)

    check()


def test_a_restore_point_comes_back_as_it_was_recorded(catalog: Catalog) -> None:
    @few
    @given(samples.points)
    def check(point: RestorePointRecord) -> None:
        catalog.points.forget_chain(point.repository, point.chain_id)
        catalog.points.record(point)
        assert catalog.points.newest(point.repository, point.chain_id) == point
        mark = catalog.points.mark(point.repository, point.chain_id)
        assert mark is not None
        assert (mark.number, mark.root) == (point.number, point.root)
        catalog.points.forget_chain(point.repository, point.chain_id)

    check()


def test_a_word_of_a_newer_version_is_reported_as_such(sqlite_address: str) -> None:
    with Catalog.open(sqlite_address, SystemClock()) as catalog:
        catalog.sessions.begin(samples.SESSION)
        run_statement(sqlite_address, "UPDATE sessions SET kind = 'levitation'")
        with pytest.raises(CatalogUnavailable, match="SessionKind 'levitation'") as caught:
            catalog.sessions.list()
    assert "later" in caught.value.hint


def _session_of(task: Task) -> Session:
    return Session(
        session_id=task.session_id,
        kind=samples.SESSION.kind,
        job=samples.SESSION.job,
        repository=samples.SESSION.repository,
        outcome=samples.SESSION.outcome,
        started=samples.SESSION.started,
    )
