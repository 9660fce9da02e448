"""Points are listed from the files alone."""

import re
import shutil

import pytest

from holdfast.errors import (
    CredentialMissing,
    PassphraseWrong,
    PointNotFound,
    RepositoryNotFound,
    RepositoryUnavailable,
)
from holdfast.model.ids import MachineId
from tests.holdfast.storage import driving
from tests.workers.cli.place import Place
from tests.workers.cli.stored import back_up, damage


def test_a_repository_without_points(place: Place) -> None:
    assert place.json("points") == {"points": [], "unreadable": []}
    assert place.run("points").stdout == "no restore points\n"


def test_points_are_listed_with_their_disks(place: Place) -> None:
    first = back_up(place, 1, b"a" * 200_000 + bytes(704))
    second = back_up(place, 2, b"b" * 200_000 + bytes(704))
    listed = place.json("points")["points"]
    assert [entry["id"] for entry in listed] == [first.point_id, second.point_id]
    assert listed[1]["kind"] == "increment"
    assert listed[1]["machine"] == {"id": "m1", "name": "web 01"}
    assert listed[1]["disks"] == [{"key": "disk0", "size_bytes": 200_704, "detail": ""}]
    shown = place.run("points", "--disks").stdout
    assert second.point_id[:12] in shown
    assert "disk0" in shown
    assert "complete" in shown


@pytest.mark.parametrize("name", ["mail [old]", "mail [/old]"])
def test_a_name_that_looks_like_markup_is_a_name(place: Place, name: str) -> None:
    driving.back_up(place.repository, b"a" * 512, 1, None, name=name)
    listed = place.run("points", "--disks")
    assert (listed.exit_code, listed.stderr) == (0, "")
    assert f"  {name}  " in listed.stdout


def test_the_repository_is_shown_where_there_are_several(place: Place) -> None:
    point = back_up(place, 1, b"a" * 512)
    heading, row = place.run("points").stdout.splitlines()
    assert re.split(r"  +", heading) == ["POINT", "MACHINE", "CREATED", "KIND", "DISKS", "STORED", "STATE", "CHAIN"]
    assert row.endswith(point.chain.rpartition("/")[2])
    place.config.write_text(place.config.read_text() + '[[repositories]]\nname = "second"\npath = "second"\n')
    place.run("repository", "create", "second")
    heading, row = place.run("points").stdout.splitlines()
    assert re.split(r"  +", heading)[-3:] == ["STATE", "REPOSITORY", "CHAIN"]
    assert re.split(r"  +", row)[-3:-1] == ["complete", "main"]
    assert "REPOSITORY" not in place.run("points", "--repository", "main").stdout
    assert place.json("points")["points"][0]["repository"] == "main"


def test_only_those_of_a_machine(place: Place) -> None:
    back_up(place, 1, b"a" * 512)
    assert len(place.json("points", "--machine", "web 01")["points"]) == 1
    assert len(place.json("points", "--machine", "m1")["points"]) == 1


def test_a_machine_that_nobody_knows_is_an_error_and_one_without_points_is_not(place: Place) -> None:
    back_up(place, 1, b"a" * 512)
    assert place.json("points", "--machine", "typo", status=PointNotFound.exit_status)["error"]["hint"]
    assert place.json("points", "--machine", "Web-01", status=PointNotFound.exit_status)["error"]
    assert place.json("points", "--machine", "web")["points"] == [], "the job names it"
    place.repository.machine_folder(MachineId("m7"), "mail").mkdir()
    for name in ("mail", "m7"):
        assert place.run("points", "--machine", name).stdout == "no restore points\n"


def test_a_file_that_cannot_be_read_is_told_with_the_other_points(place: Place) -> None:
    first = back_up(place, 1, b"a" * 512)
    second = back_up(place, 2, b"b" * 512)
    damage(place, second, 100)
    damage(place, second, 4196)
    document = place.json("points")
    assert [entry["id"] for entry in document["points"]] == [first.point_id]
    assert document["unreadable"][0]["chain"] == first.chain
    assert second.file in place.run("points").stderr


def test_encrypted_points_need_their_credential(place: Place) -> None:
    back_up(place, 1, b"a" * 512, encrypted=True)
    document = place.json("points", status=PassphraseWrong.exit_status)
    assert document["points"] == []
    assert document["error"]["code"] == "passphrase-wrong"
    assert "--credential" in document["error"]["hint"]
    assert place.json("points", "--credential", "night")["points"][0]["encrypted"] is True
    assert place.json("points", "--credential", "x", status=CredentialMissing.exit_status)["error"]


def test_the_credential_of_the_jobs_is_tried_by_itself(place: Place) -> None:
    back_up(place, 1, b"a" * 512, encrypted=True)
    place.config.write_text(place.config.read_text() + 'credential = "night"\n')
    assert len(place.json("points")["points"]) == 1


def test_a_chain_that_cannot_be_read_hides_no_other(place: Place) -> None:
    lost = back_up(place, 1, b"a" * 512)
    kept = back_up(place, 2, b"a" * 512, encrypted=True)
    damage(place, lost, 100)
    damage(place, lost, 4196)
    document = place.json("points", "--credential", "night", status=53)
    assert [entry["id"] for entry in document["points"]] == [kept.point_id]
    assert document["unreadable"][0]["chain"] == lost.chain
    result = place.run("points", "--credential", "night")
    assert kept.point_id[:12] in result.stdout
    assert "error (file-damaged)" in result.stderr


def test_a_repository_that_is_gone_is_not_an_empty_one(place: Place) -> None:
    shutil.rmtree(place.root / "repository")
    assert place.json("points", status=RepositoryUnavailable.exit_status)["error"]["code"] == "repository-unavailable"


def test_an_unknown_repository_is_refused(place: Place) -> None:
    document = place.json("points", "--repository", "mane", status=RepositoryNotFound.exit_status)
    assert document["error"]["hint"] == "Did you mean `main`?"
