"""A session is started once and followed, or left to itself."""

import re

import pytest

from holdfast.errors import ChainBusy, ServerUnavailable
from tests.workers.cli.place import Place
from workers.cli.invocation import Flags, Invocation
from workers.cli.starting import credential_for, new_session_id
from workers.devserver import DevServerAddress


def test_ids_sort_by_time_and_differ(place: Place) -> None:
    run = Invocation(Flags(config=place.config))
    first, second = new_session_id(run), new_session_id(run)
    assert re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{6}", first)
    assert first != second


@pytest.mark.parametrize(
    "jobs, named, found",
    [
        ("", None, None),
        ('credential = "night"\n', None, "night"),
        ('credential = "night"\n', "", None),
        ('credential = "night"\n', "other", "other"),
        ('[[jobs]]\nname = "b"\nprovider = "lab"\nrepository = "main"\nproxy = "p1"\ncredential = "x"\n', None, None),
    ],
)
def test_the_credential_is_the_one_named_or_shared_by_all_jobs(
    place: Place, jobs: str, named: str | None, found: str | None
) -> None:
    place.config.write_text(place.config.read_text() + jobs)
    assert credential_for(Invocation(Flags(config=place.config)), "main", named) == found


def test_without_a_server_nothing_is_started(place: Place) -> None:
    assert (
        place.json("backup", "nightly", status=ServerUnavailable.exit_status)["error"]["code"] == "server-unavailable"
    )


@pytest.mark.temporal
def test_the_same_job_is_not_started_twice(
    dev_server: DevServerAddress, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = Place(tmp_path_factory.mktemp("twice"), dev_server.grpc)
    place.config.write_text(place.config.read_text().replace("nightly", "twice"))
    ids = place.json("backup", "twice", "--detach")
    assert set(ids) == {"session_id", "workflow_id", "run_id"}
    error = place.json("backup", "twice", status=ChainBusy.exit_status)["error"]
    assert "holdfast watch backup/twice" in error["hint"]
