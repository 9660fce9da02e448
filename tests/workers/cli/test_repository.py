"""Repositories are made once and shown as they stand."""

import shutil

from holdfast.errors import RequestInvalid
from tests.workers.cli.place import Place


def test_a_repository_is_made_once(place: Place) -> None:
    shutil.rmtree(place.root / "repository")
    made = place.json("repository", "create", "main")
    assert place.json("repository", "create", "main") == made
    assert place.run("repository", "create", "main").stdout.startswith("repository main is in ")


def test_a_folder_with_other_things_is_not_taken(place: Place) -> None:
    (place.root / "repository" / "repository.json").rename(place.root / "repository" / "mine.txt")
    assert place.json("repository", "create", "main", status=RequestInvalid.exit_status)["error"]


def test_repositories_are_listed_as_they_stand(place: Place) -> None:
    listed = place.json("repository")["repositories"]
    assert (listed[0]["name"], listed[0]["id"]) == ("main", "ab" * 16)
    assert listed[0]["free_bytes"] > 0
    assert "ready" in place.run("repository").stdout
    shutil.rmtree(place.root / "repository")
    assert place.json("repository")["repositories"][0]["error"]["code"] == "repository-unavailable"
    assert "repository-unavailable" in place.run("repository").stdout
