"""A machine belongs to the job that made the newest of its points."""

from holdfast.catalog.database import Catalog
from holdfast.model.ids import SessionId
from tests.workers.cli.place import Place
from tests.workers.cli.retained import THREE, protect, recorded
from tests.workers.cli.stored import back_up
from workers.cli.invocation import Flags, Invocation
from workers.cli.job_of_machine import newest_of_a_job


def test_points_of_unknown_sessions_are_passed_over(place: Place) -> None:
    points = protect(place, THREE[:1])
    lost = back_up(place, 2, b"b" * 200_704)
    run = Invocation(Flags(config=place.config))
    with Catalog.open(place.settings.catalog_url, place.clock) as catalog:
        records = [recorded(lost, SessionId("lost")), recorded(points[0], SessionId("s1"))]
        found = newest_of_a_job(run, catalog, records)
        assert newest_of_a_job(run, catalog, records[:1]) is None
    assert found is not None
    assert (found[0].point_id, found[1].name) == (points[0].point_id, "nightly")
