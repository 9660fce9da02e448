"""Chains are shown and their metadata is made anew, without Temporal and workers."""

import random
import shutil
from pathlib import Path

import pytest

from holdfast.errors import ChainBroken, ChainBusy, PassphraseWrong, PointNotFound, RequestInvalid
from holdfast.storage.chains.metadata import METADATA_NAME
from holdfast.storage.files.chain_lock import acquire_chain_lock
from tests.holdfast.storage import driving
from tests.workers.cli.place import Place, call, one_document
from tests.workers.cli.stored import back_up

CONTENT = random.Random(1).randbytes(4 << 16)
OTHER = random.Random(2).randbytes(4 << 16)


def chain_folder(place: Place, *, encrypted: bool = False) -> Path:
    back_up(place, 1, CONTENT, encrypted=encrypted)
    return place.repository.chain_folder(back_up(place, 2, OTHER, encrypted=encrypted).chain)


def test_a_chain_is_shown_as_a_picture(place: Place) -> None:
    folder = chain_folder(place)
    shown = place.run("chain", "show").stdout
    assert "┌■" in shown
    assert "└▲" in shown
    assert place.repository.relative(folder) in shown


@pytest.mark.parametrize("name", ["mail [old]", "mail [/old]"])
def test_a_name_that_looks_like_markup_is_a_name(place: Place, name: str) -> None:
    chain = driving.back_up(place.repository, CONTENT, 1, None, name=name).chain
    shown = place.run("chain", "show")
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert shown.stdout.splitlines()[0] == f"{chain}  {name}"
    assert place.run("chain", "rebuild-metadata").stdout == f"metadata of chain {chain} written\n"
    assert place.run("health", "show").exit_code == 0


def test_a_chain_is_shown_as_a_document(place: Place) -> None:
    folder = chain_folder(place)
    document = place.json("chain", "show", place.repository.relative(folder))
    chain = document["chains"][0]
    assert (chain["name"], chain["is_sound"]) == (place.repository.relative(folder), True)
    points = [point for file in chain["files"] for point in file["points"]]
    assert [(point["number"], point["needs"], point["size_bytes"]) for point in points] == [
        (1, None, 4 << 16),
        (2, 1, 4 << 16),
    ]


def test_a_repository_without_chains_has_no_picture(place: Place) -> None:
    assert place.run("chain", "show").stdout == "no chains\n"
    assert place.json("chain", "show")["chains"] == []


def test_the_picture_is_written_as_a_file(place: Place, tmp_path: Path) -> None:
    chain_folder(place)
    target = tmp_path / "chain.svg"
    assert place.json("chain", "show", "--svg", str(target))["svg"] == str(target)
    assert target.read_text().startswith("<svg ")
    assert place.json("chain", "show", "--svg", str(tmp_path / "no" / "chain.svg"), status=41)["error"]


def test_a_chain_found_on_a_disk_needs_no_configuration(place: Place) -> None:
    folder = chain_folder(place)
    document = one_document(call("chain", "show", str(folder), "--json"))
    assert document["chains"][0]["machines"] == ["web 01"]


def test_a_damaged_chain_is_shown_and_fails(place: Place) -> None:
    folder = chain_folder(place)
    (folder / "00000001-full.hfc").write_bytes(b"x" * 20000)
    document = place.json("chain", "show", status=ChainBroken.exit_status)
    assert document["chains"][0]["is_sound"] is False
    result = place.run("chain", "show")
    assert "broken" in result.stdout
    assert "error (chain-broken)" in result.stderr


def test_an_encrypted_chain_needs_its_credential(place: Place) -> None:
    chain_folder(place, encrypted=True)
    assert place.json("chain", "show", "--credential", "night")["chains"][0]["encrypted"] is True
    document = place.json("chain", "show", status=PassphraseWrong.exit_status)
    assert document["unreadable"][0]["error"]["code"] == "passphrase-wrong"
    assert "--credential" in document["error"]["hint"]


def test_metadata_is_made_anew(place: Place) -> None:
    folder = chain_folder(place)
    (folder / METADATA_NAME).unlink()
    place.json("chain", "show", status=ChainBroken.exit_status)
    name = place.repository.relative(folder)
    assert place.json("chain", "rebuild-metadata", name) == {"rebuilt": [name]}
    assert place.json("chain", "show")["chains"][0]["is_sound"] is True
    assert place.run("chain", "rebuild-metadata", "--machine", "web 01").stdout == f"metadata of chain {name} written\n"
    place.json("chain", "rebuild-metadata", "machines/a/b", status=RequestInvalid.exit_status)


def test_metadata_of_an_encrypted_chain_is_made_anew_with_its_passphrase(place: Place) -> None:
    folder = chain_folder(place, encrypted=True)
    (folder / METADATA_NAME).unlink()
    place.json("chain", "rebuild-metadata", str(folder), status=PassphraseWrong.exit_status)
    place.json("chain", "rebuild-metadata", str(folder), "--credential", "night")
    assert (folder / METADATA_NAME).exists()


def test_a_chain_that_is_written_to_is_left_alone(place: Place) -> None:
    folder = chain_folder(place)
    lock = acquire_chain_lock(place.repository.files, folder)
    try:
        place.json("chain", "rebuild-metadata", status=ChainBusy.exit_status)
    finally:
        lock.close()


def test_a_chain_found_on_a_disk_is_imported(place: Place, tmp_path: Path) -> None:
    found = tmp_path / "found"
    folder = chain_folder(place, encrypted=True)
    name = place.repository.relative(folder)
    shutil.move(folder, found)
    place.json("chain", "import", str(found), status=PassphraseWrong.exit_status)
    document = place.json("chain", "import", str(found), "--credential", "night")
    assert (document["chain"], document["points"], document["is_continued"]) == (name, 2, True)
    assert len(place.json("points", "--credential", "night")["points"]) == 2
    place.json("chain", "import", str(found), "--credential", "night", status=RequestInvalid.exit_status)
    place.json("chain", "import", str(tmp_path), status=RequestInvalid.exit_status)


def test_an_import_says_what_becomes_of_the_chain(place: Place, tmp_path: Path) -> None:
    found = tmp_path / "found"
    shutil.move(chain_folder(place), found)
    (found / "00000003-increment.hfc").write_bytes(b"")
    result = place.run("chain", "import", str(found))
    assert "2 points of web 01" in result.stdout
    assert "the next run continues it" in result.stdout
    assert "00000003-increment.hfc holds no complete point" in result.stderr


def test_a_machine_that_is_not_there_is_an_error(place: Place) -> None:
    chain_folder(place)
    for words in (("show",), ("rebuild-metadata",)):
        error = place.json("chain", *words, "--machine", "typo", status=PointNotFound.exit_status)["error"]
        assert "holdfast points" in error["hint"]
