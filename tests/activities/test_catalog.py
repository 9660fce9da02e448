"""Writing down what happened."""

from collections.abc import Iterator

import msgspec
import pytest

from activities.catalog import CatalogActivities
from activities.contracts.catalog import Recorded, RecordPoint
from holdfast.catalog.database import Catalog
from holdfast.catalog.points import PointKind
from holdfast.errors import CatalogUnavailable, ChainBroken, RequestInvalid, SessionNotFound
from holdfast.model.ids import JobName, MachineId, PointId, SessionId
from holdfast.model.points import PointSummary
from holdfast.model.session import Figures, Outcome, Session, SessionKind, Task
from tests.activities.lab import KEY, STORE, Lab, failure, run, run_twice

S1 = SessionId("s1")


@pytest.fixture
def catalog(lab: Lab) -> Iterator[Catalog]:
    with lab.open_catalog() as catalog:
        yield catalog


@pytest.fixture
def activities(lab: Lab, catalog: Catalog) -> CatalogActivities:
    return CatalogActivities(lambda: catalog, lab.clock)


def session(lab: Lab, outcome: Outcome = Outcome.RUNNING) -> Session:
    return Session(
        session_id=S1,
        kind=SessionKind.BACKUP,
        job=JobName("nightly"),
        repository=STORE,
        outcome=outcome,
        started=lab.clock.now(),
    )


def task(outcome: Outcome, stored_bytes: int) -> Task:
    return Task(
        session_id=S1,
        machine_id=MachineId("m1"),
        machine_name="web",
        disk=KEY,
        outcome=outcome,
        figures=Figures(stored_bytes=stored_bytes),
    )


def entry(point: PointSummary) -> RecordPoint:
    return RecordPoint(repository=STORE, session_id=S1, point=point, stored_bytes=4096)


def test_a_session_is_begun_once(lab: Lab, catalog: Catalog, activities: CatalogActivities) -> None:
    running = session(lab)
    assert run_twice(activities.begin_session, running) == Recorded()
    assert catalog.sessions.list() == (running,)


def test_a_session_that_has_ended_is_not_turned_back(lab: Lab, catalog: Catalog, activities: CatalogActivities) -> None:
    running = session(lab)
    run(activities.begin_session, running)
    ended = msgspec.structs.replace(
        running, outcome=Outcome.WARNING, ended=lab.clock.now(), notes=("read in full",), figures=Figures(read_bytes=7)
    )
    run_twice(activities.finish_session, ended)
    run(activities.begin_session, running)
    run(activities.finish_session, msgspec.structs.replace(ended, outcome=Outcome.FAILED))
    assert catalog.sessions.get(S1) == ended


def test_a_session_whose_begin_was_never_written_is_finished_nevertheless(
    lab: Lab, catalog: Catalog, activities: CatalogActivities
) -> None:
    ended = session(lab, Outcome.SUCCESS)
    run(activities.finish_session, ended)
    assert catalog.sessions.get(S1) == ended


def test_a_session_cannot_finish_as_running(lab: Lab, activities: CatalogActivities) -> None:
    assert failure(RequestInvalid, activities.finish_session, session(lab)).non_retryable


def test_the_newest_state_of_a_task_is_kept_until_it_ends(
    lab: Lab, catalog: Catalog, activities: CatalogActivities
) -> None:
    run(activities.begin_session, session(lab))
    for state in (task(Outcome.RUNNING, 1), task(Outcome.SUCCESS, 3)):
        run_twice(activities.record_task, state)
        assert catalog.sessions.tasks(S1) == (state,)
    run(activities.record_task, task(Outcome.RUNNING, 2))
    assert catalog.sessions.tasks(S1) == (task(Outcome.SUCCESS, 3),)


def test_a_task_of_an_unknown_session_is_an_error(activities: CatalogActivities) -> None:
    failure(SessionNotFound, activities.record_task, task(Outcome.RUNNING, 1))


def test_a_finished_point_is_recorded_once_with_all_its_facts(
    lab: Lab, catalog: Catalog, activities: CatalogActivities
) -> None:
    _, point = lab.back_up(lab.add_machine())
    run_twice(activities.record_point, entry(point))
    (found,) = catalog.points.list()
    same = ("chain", "chain_id", "number", "point_id", "file_id", "generation", "root", "machine_id", "machine_name")
    assert {name: getattr(found, name) for name in same} == {name: getattr(point, name) for name in same}
    assert (found.repository, found.session_id, found.file_name) == (STORE, S1, point.file)
    assert (found.kind, found.size_bytes, found.stored_bytes) == (PointKind.FULL, point.size_bytes, 4096)
    assert found.created == found.completed == point.created


def test_the_moment_a_point_was_finished_is_kept(lab: Lab, catalog: Catalog, activities: CatalogActivities) -> None:
    _, point = lab.back_up(lab.add_machine())
    finished = lab.clock.now()
    run(activities.record_point, msgspec.structs.replace(entry(point), completed=finished))
    assert catalog.points.list()[0].completed == finished


def test_a_second_history_of_a_chain_is_refused(lab: Lab, activities: CatalogActivities) -> None:
    _, point = lab.back_up(lab.add_machine())
    run(activities.record_point, entry(point))
    other = msgspec.structs.replace(point, point_id=PointId("0" * 32))
    failure(ChainBroken, activities.record_point, entry(other))


def test_a_catalog_that_cannot_be_opened_is_waited_for(lab: Lab) -> None:
    (lab.root / "catalog.db").mkdir()
    activities = CatalogActivities(lab.open_catalog, lab.clock)
    assert not failure(CatalogUnavailable, activities.begin_session, session(lab)).non_retryable
