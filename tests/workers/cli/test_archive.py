"""Archives are made beside the points of jobs, told apart from them, and removed when their time is over."""

from datetime import timedelta

import pytest

from holdfast.errors import RequestInvalid
from holdfast.storage.retention.archiving import keep_archive
from tests.workers.cli.place import PASSPHRASE, Place
from tests.workers.cli.retained import THREE, protect, rule


def test_what_cannot_be_a_time_is_refused_before_anything_is_started(place: Place) -> None:
    error = place.json("archive", "web", "--expires", "soon", status=RequestInvalid.exit_status)["error"]
    assert "`30d`" in error["hint"]
    error = place.json("archive", "web", "--expires", "2020-01-01", status=RequestInvalid.exit_status)["error"]
    assert "is past" in error["message"]


def test_a_repository_without_archives_has_nothing_to_show(place: Place) -> None:
    assert place.json("retention", "archives")["machines"] == []
    assert "no points" in place.run("retention", "archives").stdout


def test_a_point_of_a_job_is_no_archive_to_keep(place: Place) -> None:
    rule(place, "points = 9")
    [point] = protect(place, THREE[:1])
    words = ("retention", "keep", point.point_id[:12], "--expires", "30d")
    assert "is no archive" in place.json(*words, status=RequestInvalid.exit_status)["error"]["message"]
    latest = ("retention", "keep", "latest", "--expires", "30d")
    assert "names no archive" in place.json(*latest, status=RequestInvalid.exit_status)["error"]["message"]


@pytest.mark.temporal
def test_an_archive_from_its_beginning_to_its_end(lab: Place) -> None:
    lab.json("backup", "nightly")
    done = lab.json("archive", "web", "--expires", "30d", "--encrypt-with", "night", "--verify")
    assert (done["session"]["kind"], done["session"]["outcome"]) == ("archive", "success")
    [made] = done["points"]
    after = lab.json("backup", "nightly")
    [point] = after["points"]
    assert point["kind"] == "increment"
    assert point["chain"] != made["chain"]

    listed = {one["id"]: one for one in lab.json("points", "--machine", "web")["points"]}
    assert listed[made["point_id"]]["archive"]["expires"] is not None
    assert listed[made["point_id"]]["archive"]["credential"] == "night"
    assert listed[point["point_id"]]["archive"] is None
    table = lab.run("points").stdout
    assert "archive" in table
    assert "kept until" in table
    assert "archive, kept until" in lab.run("chain", "show", made["chain"]).stdout
    assert lab.json("verify", "--all")["session"]["outcome"] == "success"
    assert lab.json("health", "scrub")["session"]["outcome"] == "success"
    words = (made["point_id"][:12], "--as", "from-archive", "--credential", "night")
    assert lab.json("restore", *words)["session"]["outcome"] == "success"

    reference = made["point_id"][:12]
    [machine] = lab.json("retention", "archives")["machines"]
    assert [one["verdict"] for one in machine["points"]] == ["kept"]
    assert "for ever" in lab.run("retention", "keep", reference, "--expires", "never").stdout
    assert "kept for ever" in lab.run("retention", "archives").stdout
    kept = lab.json("retention", "expire")
    assert kept["retained"]["kept"] == 1
    past = lab.clock.now() - timedelta(seconds=1)
    keep_archive(lab.repository, made["chain"], PASSPHRASE, past)
    gone = lab.json("retention", "expire")
    assert (gone["retained"]["deleted"], gone["session"]["outcome"]) == (1, "success")
    assert made["point_id"] not in {one["id"] for one in lab.json("points")["points"]}
    assert made["chain"] in {one["chain"] for one in lab.json("retention", "removed")["removed"]}
    lab.json("retention", "purge", made["chain"])
