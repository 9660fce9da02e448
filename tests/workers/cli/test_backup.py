"""A backup is what the job says, unless the command line says otherwise."""

import shutil
from pathlib import Path

import pytest

from holdfast.errors import RequestInvalid
from holdfast.model.ids import JobName, SessionId
from holdfast.model.owners import ChainOwner
from holdfast.model.placement import ProxyLimit, Resources
from tests.workers.cli.place import Place, call, one_document
from workers.cli.backup import JobPlaces, ad_hoc_job, masks_of, options_of, request_of, retention_request_of
from workers.cli.invocation import Flags, Invocation


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


SECOND = '[[jobs]]\nname = "b"\nprovider = "lab"\nrepository = "main"\nproxy = "p1"\n'
ENCRYPTED = 'credential = "night"\n'


@pytest.mark.parametrize(
    "jobs, given, credential",
    [
        ("", None, None),
        ("", "vault", "vault"),
        (ENCRYPTED, None, "night"),
        (ENCRYPTED, "vault", "vault"),
        (ENCRYPTED, "", None),
        (ENCRYPTED + SECOND, "", None),
        (ENCRYPTED + SECOND, "night", "night"),
    ],
)
def test_what_belongs_to_no_job_is_encrypted_as_the_jobs_of_its_repository_are(
    place: Place, jobs: str, given: str | None, credential: str | None
) -> None:
    place.config.write_text(place.config.read_text() + jobs)
    places = JobPlaces(provider=None, proxy=None, repository=None)
    job = ad_hoc_job(Invocation(Flags(config=place.config)), JobName("adhoc"), ("web",), places, given)
    assert job.credential == credential


@pytest.mark.parametrize("words", [("backup", "--machine", "web"), ("archive", "web")])
@pytest.mark.parametrize("second", [SECOND, SECOND + 'credential = "vault"\n'])
def test_where_jobs_encrypt_differently_it_has_to_be_said_how(
    place: Place, words: tuple[str, ...], second: str
) -> None:
    place.config.write_text(place.config.read_text() + ENCRYPTED + second)
    error = place.json(*words, status=RequestInvalid.exit_status)["error"]
    assert "repository main" in error["message"]
    assert "`--encrypt-with night`" in error["hint"]
    assert '`--encrypt-with ""`' in error["hint"]


@pytest.mark.temporal
def test_a_machine_named_on_the_spot_goes_on_in_the_encrypted_chain_of_its_job(lab: Place) -> None:
    config = lab.root / "sealed.toml"
    text = lab.config.read_text().replace('"nightly"', '"sealed"').replace('["web"]', '["sealed"]')
    config.write_text(text + ENCRYPTED)
    lab.add_machine("sealed", 11)
    try:
        go_on_in_one_chain(config)
    finally:  # other tests verify all of the repository, without the passphrase
        for folder in lab.repository.root.glob("machines/sealed-*"):
            shutil.rmtree(folder)


def go_on_in_one_chain(config: Path) -> None:
    kinds, chains = [], set()
    for words in (("sealed",), ("--machine", "sealed"), ("sealed",)):
        document = one_document(call("backup", *words, "--config", str(config), "--json"))
        [point] = document["points"]
        kinds.append(point["kind"])
        chains.add(point["chain"])
    assert (kinds, len(chains)) == (["full", "increment", "increment"], 1)
    by_hand = ("backup", "sealed", "--encrypt-with", "", "--config", str(config), "--json")
    [plain] = one_document(call(*by_hand))["points"]
    assert (plain["kind"], plain["chain"] in chains) == ("full", False)


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
