"""Changing a chain by hand: what is refused at once, and what a worker does."""

import pytest

from holdfast.errors import PointNotFound, RequestInvalid, ServerUnavailable
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.storage.jobs import Job
from tests.workers.cli.place import Place
from tests.workers.cli.stored import back_up


def test_a_machine_without_points_is_refused(place: Place) -> None:
    document = place.json("compact", "--machine", "mail", status=PointNotFound.exit_status)
    assert "mail has no finished restore point" in document["error"]["message"]


def test_without_a_server_nothing_is_changed(place: Place) -> None:
    back_up(place, 1, b"a" * 512)
    assert place.json("compact", "--machine", "web 01", status=ServerUnavailable.exit_status)["error"]


def test_a_chain_that_machines_share_is_left_as_it_is(place: Place) -> None:
    Job(CrashFiles(), None, place.repository).run()
    document = place.json("compact", "--machine", "a", "--synthetic-full", status=RequestInvalid.exit_status)
    assert "which several machines share" in document["error"]["message"]


@pytest.mark.temporal
def test_the_newest_point_becomes_a_full_by_hand(lab: Place) -> None:
    for _ in range(2):
        lab.json("backup", "--machine", "web")
    before = lab.json("points", "--machine", "web")["points"][-1]
    document = lab.json("compact", "--machine", "web", "--synthetic-full")
    [[name, words]] = document["lines"]
    assert name == "Method"
    now = lab.json("points", "--machine", "web")["points"][-1]
    assert (now["kind"], now["chain"] != before["chain"] or before["kind"] == "full") == ("full", True)
    assert "it was asked for" in words
    assert lab.json("verify", "latest", "--machine", "web", "--offline")["report"]["damages"] == []
