"""Repositories are made once and shown as they stand."""

import random
import shutil

from holdfast.errors import RepositoryUnavailable, RequestInvalid
from holdfast.formats.magic import PIECE_SIZE
from tests.holdfast.storage.driving import back_up, restored
from tests.workers.cli.place import PASSPHRASE, Place


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


def test_a_repository_that_is_gone_ends_the_command_with_its_status(place: Place) -> None:
    place.config.write_text(place.config.read_text() + '[[repositories]]\nname = "second"\npath = "second [/x]"\n')
    document = place.json("repository", status=RepositoryUnavailable.exit_status)
    assert document["error"]["code"] == "repository-unavailable"
    ready, gone = document["repositories"]
    assert (ready["name"], ready["id"]) == ("main", "ab" * 16)
    assert gone["error"] == document["error"]
    shown = place.run("repository")
    assert shown.exit_code == RepositoryUnavailable.exit_status
    assert "ready" in shown.stdout
    assert "second [/x]" in shown.stdout
    assert shown.stderr.startswith("error (repository-unavailable): ")


def test_a_damaged_chain_file_is_rebuilt(place: Place) -> None:
    content = random.Random(4).randbytes(6 * PIECE_SIZE)
    point = back_up(place.repository, content, 0, PASSPHRASE)
    path = place.repository.chain_folder(point.chain) / point.file
    with path.open("r+b") as file:
        file.write(bytes(8192))
    words = ("repository", "rebuild-file", point.chain, point.file, "--credential", "night")
    rebuilt = place.json(*words)["rebuilt"]
    assert rebuilt["points"] == [point.number]
    assert (path.parent / rebuilt["kept_as"]).exists()
    assert restored(place.repository, point, PASSPHRASE) == content
    listed = place.json("points", "--credential", "night")["points"]
    assert [entry["complete"] for entry in listed] == [True]


def test_only_chain_files_of_the_repository_are_rebuilt(place: Place) -> None:
    words = ("repository", "rebuild-file", "machines/a/b", "../../holdfast.toml")
    assert place.json(*words, status=RequestInvalid.exit_status)["error"]["code"] == "request-invalid"
