"""A backup is what the job says, unless the command line says otherwise."""

import pytest

from holdfast.errors import RequestInvalid
from holdfast.model.ids import JobName, SessionId
from holdfast.model.owners import ChainOwner
from holdfast.model.placement import ProxyLimit, Resources
from tests.workers.cli.place import Place
from workers.cli.backup import masks_of, options_of, request_of, retention_request_of


def test_something_has_to_be_named(place: Place) -> None:
    error = place.json("backup", status=RequestInvalid.exit_status)["error"]
    assert error["hint"] == "Jobs of the configuration: nightly."
    assert (
        place.json("backup", "nihgtly", status=RequestInvalid.exit_status)["error"]["hint"] == "Did you mean `nightly`?"
    )


def test_the_request_is_what_the_job_says(place: Place) -> None:
    place.config.write_text(place.config.read_text() + 'verify = true\ncredential = "night"\nmachines_at_once = 5\n')
    job = place.settings.job("nightly")
    request = request_of(place.settings, job, SessionId("s1"))
    assert (request.job, request.provider, request.repository, request.proxy) == ("nightly", "lab", "main", "p1")
    assert (request.machines, request.session_id) == (("web",), "s1")
    assert request.resources == Resources(proxies=(ProxyLimit(name="p1", tasks=2),), repository_tasks=4)
    assert request.options == options_of(job)
    assert (request.options.verify, request.options.credential, request.options.machines_at_once) == (True, "night", 5)


def test_a_job_that_shares_its_chain_says_so_to_its_sessions_and_to_retention(place: Place) -> None:
    layout = 'chain = "per-job"\nmethod = "forward"\nactive_full = "saturday"\n'
    place.config.write_text(place.config.read_text() + layout)
    job, owner = place.settings.job("nightly"), ChainOwner.of_job(JobName("nightly"))
    request = request_of(place.settings, job, SessionId("s1"))
    assert (request.options.owner, request.upkeep) == (owner, None)
    place.config.write_text(place.config.read_text() + "[jobs.retention]\ndays = 7\n")
    job = place.settings.job("nightly")
    upkeep = request_of(place.settings, job, SessionId("s1")).upkeep
    assert upkeep is not None
    assert (upkeep.owner, retention_request_of(job, SessionId("s2")).upkeep.owner) == (owner, owner)


@pytest.mark.temporal
def test_a_job_is_run_and_followed(lab: Place) -> None:
    document = lab.json("backup", "nightly", "--full", "--verify")
    assert document["session"]["outcome"] == "success"
    assert document["tasks"][0]["disk"] == "boot"
    assert document["points"][0]["kind"] == "full"
    assert lab.json("sessions", "show", document["session"]["session_id"])["session"]["job"] == "nightly"


@pytest.mark.temporal
def test_machines_are_named_on_the_spot(lab: Place) -> None:
    result = lab.run("backup", "--machine", "web", "--distrust-changes", "--compression", "none")
    assert result.exit_code == 0, result.output
    assert "phase: " in result.stderr
    assert "point " in result.stdout


@pytest.mark.temporal
def test_a_machine_that_is_not_there_fails_the_session(lab: Place) -> None:
    document = lab.json("backup", "--machine", "nobody", status=13)
    assert document["error"]["code"] == "machine-not-found"
    assert document["session"]["outcome"] == "failed"


def test_masks_of_the_command_come_to_those_of_the_job(place: Place) -> None:
    text = place.config.read_text().replace("schedule =", 'exclude_files = ["/var/tmp/*"]\nschedule =')
    place.config.write_text(text)
    settings = place.settings.job("nightly")
    assert options_of(settings).exclude_files == ("/var/tmp/*",)
    assert masks_of(settings, ["*.iso", "/var/tmp/*"]) == ("/var/tmp/*", "*.iso")
    error = place.json("backup", "nightly", "--exclude-file", "C:\\*", status=RequestInvalid.exit_status)["error"]
    assert "means every file" in error["message"]
