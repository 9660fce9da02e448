"""A place whose job has retention, with points that the catalog knows as the job's."""

from collections.abc import Sequence
from datetime import timedelta

from activities.catalog import record_of
from activities.contracts.catalog import RecordPoint
from holdfast.catalog.database import Catalog
from holdfast.catalog.points import RestorePointRecord
from holdfast.model.ids import DiskKey, JobName, RepositoryName, SessionId
from holdfast.model.points import PointSummary
from holdfast.model.session import Outcome, Session, SessionKind, Task
from tests.workers.cli.place import Place
from tests.workers.cli.stored import back_up

THREE = (b"a", b"b", b"c")
MAIN = RepositoryName("main")


def rule(place: Place, text: str) -> None:
    """Give the job of the place a retention table."""
    place.config.write_text(f"{place.config.read_text()}[jobs.retention]\n{text}\n")


def protect(place: Place, contents: Sequence[bytes], tried_days_ago: int = 0) -> list[PointSummary]:
    """Make a point with each content, and tell the catalog that the job did."""
    points = [back_up(place, number, content * 200_704) for number, content in enumerate(contents, 1)]
    tell(place, points, tried_days_ago)
    return points


def tell(place: Place, points: Sequence[PointSummary], tried_days_ago: int = 0, session_id: str = "s1") -> None:
    """Tell the catalog that a session of the job made points."""
    session = Session(
        session_id=SessionId(session_id),
        kind=SessionKind.BACKUP,
        job=JobName("nightly"),
        repository=MAIN,
        outcome=Outcome.RUNNING,
        started=place.clock.now() - timedelta(days=tried_days_ago),
    )
    with Catalog.open(place.settings.catalog_url, place.clock) as catalog:
        catalog.sessions.begin(session)
        for point in points:
            catalog.points.record(recorded(point, session.session_id))
        for point in {point.machine_id: point for point in points}.values():
            catalog.sessions.record_task(
                Task(
                    session_id=session.session_id,
                    machine_id=point.machine_id,
                    machine_name=point.machine_name,
                    disk=DiskKey("disk0"),
                    outcome=Outcome.SUCCESS,
                )
            )


def recorded(point: PointSummary, session_id: SessionId) -> RestorePointRecord:
    """Return what the catalog keeps of a point of a session of the job."""
    return record_of(RecordPoint(repository=MAIN, session_id=session_id, point=point))
