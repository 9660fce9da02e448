"""Schedules follow the configuration, and keep what an operator decided."""

import asyncio

import pytest
from temporalio.client import ScheduleActionStartWorkflow

from holdfast.errors import RequestInvalid
from tests.workers.cli.place import Place
from tests.workers.cli.retained import rule
from workers.cli.schedule import CATCH_UP, schedule_of, wanted_schedules
from workers.devserver import DevServerAddress
from workers.temporal import connect
from workflows.messages import RetentionRequest, SweepRequest


def test_a_schedule_is_what_the_job_says(place: Place) -> None:
    schedule = schedule_of(place.settings.job("nightly"), place.settings)
    assert schedule.spec.cron_expressions == ["0 22 * * *"]
    assert schedule.spec.time_zone_name == "UTC"
    assert (schedule.policy.overlap.name, schedule.policy.catchup_window) == ("SKIP", CATCH_UP)


def test_a_provider_is_swept_when_it_says_so_by_a_proxy_that_reaches_it(place: Place) -> None:
    place.add_vcenter()
    assert list(wanted_schedules(place.settings)) == ["job/nightly"]
    text = place.config.read_text().replace('credential = "vc"', 'credential = "vc"\nsweep = "0 5 * * *"')
    place.config.write_text(text)
    schedule = wanted_schedules(place.settings)["sweep/vc"]
    assert schedule.spec.cron_expressions == ["0 5 * * *"]
    assert isinstance(schedule.action, ScheduleActionStartWorkflow)
    [request] = schedule.action.args
    assert isinstance(request, SweepRequest)
    assert (request.provider, request.proxy) == ("vc", "p1")
    place.config.write_text(text.replace('[[proxies]]\nname = "p1"', "").partition("[[jobs]]")[0])
    with pytest.raises(RequestInvalid, match="has no proxy"):
        wanted_schedules(place.settings)


def test_retention_has_a_schedule_of_its_own_when_it_says_so(place: Place) -> None:
    assert "retention/nightly" not in wanted_schedules(place.settings)
    rule(place, 'schedule = "30 0 * * *"')
    schedule = wanted_schedules(place.settings)["retention/nightly"]
    assert schedule.spec.cron_expressions == ["30 0 * * *"]
    assert isinstance(schedule.action, ScheduleActionStartWorkflow)
    [request] = schedule.action.args
    assert isinstance(request, RetentionRequest)
    assert (request.machines, request.has_consent) == ((), False)
    assert "job/nightly" in wanted_schedules(place.settings)


def test_expired_archives_are_removed_when_the_repository_says_so(place: Place) -> None:
    text = place.config.read_text().replace('path = "repository"', 'path = "repository"\narchives = "15 1 * * *"')
    place.config.write_text(text)
    schedule = wanted_schedules(place.settings)["archives/main"]
    assert schedule.spec.cron_expressions == ["15 1 * * *"]
    assert isinstance(schedule.action, ScheduleActionStartWorkflow)
    assert schedule.action.id == "archives/main"
    [request] = schedule.action.args
    assert isinstance(request, RetentionRequest)
    assert request.upkeep.retention is not None
    assert (request.machines, request.upkeep.retention.only_archives) == ((), True)


@pytest.mark.temporal
def test_applying_twice_changes_nothing_more_and_pruning_is_asked_for(
    dev_server: DevServerAddress, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = Place(tmp_path_factory.mktemp("schedules"), dev_server.grpc)
    text = place.config.read_text().replace("nightly", "scheduled")
    place.config.write_text(text)
    assert place.json("schedule", "apply")["created"] == ["scheduled"]
    asyncio.run(pause(place))
    assert place.json("schedule", "apply")["updated"] == ["scheduled"]
    (listed,) = [entry for entry in place.json("schedule")["schedules"] if entry["job"] == "scheduled"]
    assert (listed["is_paused"], listed["is_configured"], len(listed["next_runs"])) == (True, True, 3)
    assert "paused" in place.run("schedule", "list").stdout
    place.config.write_text(text.replace('schedule = "0 22 * * *"\n', ""))
    stale = place.run("schedule", "apply")
    assert "stale: scheduled" in stale.stdout
    assert "--prune" in stale.stderr
    assert "not in the configuration" in place.run("schedule").stdout
    assert "scheduled" in place.json("schedule", "apply", "--prune")["deleted"]
    assert place.json("schedule", "apply")["stale"] == []


async def pause(place: Place) -> None:
    client = await connect(place.settings.temporal)
    await client.get_schedule_handle("job/scheduled").pause(note="by hand")
