"""A quick backup goes into the job that has the newest point of a machine, or nowhere."""

import pytest

from holdfast.errors import PointNotFound
from holdfast.model.retention import Method
from tests.workers.cli.place import Place
from tests.workers.cli.retained import THREE, protect, rule
from workers.cli.invocation import Flags, Invocation
from workers.cli.quick_backup import _newest, _request
from workers.cli.starts import quick_start


def opened(place: Place) -> Invocation:
    return Invocation(Flags(config=place.config))


def test_a_machine_that_no_job_has_a_point_of_is_refused(place: Place) -> None:
    rule(place, "points = 2")
    protect(place, THREE[:1])
    error = place.json("quick-backup", "nobody", status=PointNotFound.exit_status)["error"]
    assert "no job of the configuration has a restore point of nobody" in error["message"]
    assert "holdfast archive nobody" in error["hint"]
    place.config.write_text(place.config.read_text().replace('name = "nightly"', 'name = "weekly"'))
    assert place.json("quick-backup", "web 01", status=PointNotFound.exit_status)["error"]


def test_the_job_with_the_newest_point_is_taken_by_id_or_name(place: Place) -> None:
    rule(place, "points = 2")
    [point] = protect(place, THREE[:1])
    run = opened(place)
    with run.catalog() as catalog:
        for name in ("web 01", point.machine_id):
            assert _newest(run, catalog, name) == (point.machine_id, "nightly")


def test_the_request_is_that_of_the_job_without_fulls(place: Place) -> None:
    text = place.config.read_text()
    days = 'method = "forward"\nactive_full = "sunday"\nsynthetic_full = "saturday"\n'
    place.config.write_text(text + days + "[jobs.retention]\npoints = 2\nlock = 9\n")
    [point] = protect(place, THREE[:1])
    request = _request(opened(place), place.settings.jobs[0].name, [point.machine_id])
    assert (request.machines, request.options.fulls, request.options.full) == ((point.machine_id,), None, False)
    assert request.options.quick is not None
    assert request.options.quick.lock_days == 9
    assert request.upkeep is not None
    assert request.upkeep.retention is not None
    assert request.upkeep.method is None
    start = quick_start(request)
    assert (start.workflow_id, start.request.after) == ("quick/nightly", ("backup/nightly",))
    assert start.summary == f"nightly: quick backup of {point.machine_id} -> main"
    place.config.write_text(text + 'method = "reverse"\ncompact_full = "last saturday"\n')
    upkeep = _request(opened(place), place.settings.jobs[0].name, [point.machine_id]).upkeep
    assert upkeep is not None
    assert upkeep.method is not None
    assert (upkeep.retention, upkeep.method.method, upkeep.method.compact) == (None, Method.REVERSE, None)
    place.config.write_text(text)
    assert _request(opened(place), place.settings.jobs[0].name, [point.machine_id]).upkeep is None


@pytest.mark.temporal
def test_a_quick_backup_is_an_increment_of_its_job(lab: Place) -> None:
    lab.json("backup", "nightly")
    done = lab.json("quick-backup", "web")
    assert (done["session"]["job"], done["session"]["outcome"]) == ("nightly", "success")
    [quick] = done["points"]
    assert quick["kind"] == "increment"
    [after] = lab.json("backup", "nightly")["points"]
    assert (after["kind"], after["chain"]) == ("increment", quick["chain"])
    listed = {one["id"]: one["quick"] for one in lab.json("points", "--machine", "web")["points"]}
    assert (listed[quick["point_id"]], listed[after["point_id"]]) == (True, False)
    assert "increment, quick" in lab.run("points").stdout
    assert "quick backup" in lab.run("chain", "show", quick["chain"]).stdout
    assert "quick/nightly" in lab.run("quick-backup", "web", "--detach").stdout
    assert lab.json("backup", "nightly")["session"]["outcome"] == "success"  # which waits for it
