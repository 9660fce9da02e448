"""A chain file is shown as it is built, and as it is damaged."""

from pathlib import Path

import pytest

from holdfast.errors import FileDamaged, FormatUnknown, PassphraseWrong, RequestInvalid
from holdfast.model.points import PointSummary
from tests.workers.cli.place import Place
from tests.workers.cli.stored import back_up, damage


def file_of(place: Place, point: PointSummary) -> str:
    return str(place.repository.chain_folder(point.chain) / point.file)


def test_a_sound_file_is_shown(place: Place) -> None:
    point = back_up(place, 1, b"a" * 200_000 + bytes(704))
    document = place.json("inspect", file_of(place, point), "--records", "2")
    assert document["is_sound"] is True
    assert document["report"]["contents"]["points"][0]["id"] == point.point_id
    assert len(document["report"]["scan"]["listed"]) == 2
    shown = place.run("inspect", file_of(place, point), "--records", "2").stdout
    for word in ("slot 0", "the file's state", "web 01", "map of disk0 at point 1", "OFFSET", "behind the end"):
        assert word in shown


def test_damage_is_named_and_all_else_is_shown(place: Place) -> None:
    point = back_up(place, 1, b"a" * 512)
    damage(place, point, 100)
    document = place.json("inspect", file_of(place, point), status=FileDamaged.exit_status)
    assert document["report"]["contents"]["points"][0]["id"] == point.point_id
    result = place.run("inspect", file_of(place, point))
    assert "checksum does not match" in result.stdout
    assert "superblock 0: superblock checksum does not match" in result.stderr


def test_an_encrypted_file_needs_its_passphrase_for_more(place: Place) -> None:
    point = back_up(place, 1, b"a" * 512, encrypted=True)
    file = file_of(place, point)
    assert place.json("inspect", file)["report"]["slots"][0]["cipher"] == "aes_256_gcm"
    assert place.json("inspect", file, "--credential", "night")["is_sound"] is True
    (place.root / "home" / "credentials" / "night").write_text("wrong\n")
    document = place.json("inspect", file, "--credential", "night", status=PassphraseWrong.exit_status)
    assert document["error"]["code"] == "passphrase-wrong"


def test_bytes_are_shown(place: Place) -> None:
    file = file_of(place, back_up(place, 1, b"a" * 512))
    shown = place.run("inspect", file, "--hex", "0", "--length", "16").stdout
    assert shown.startswith("000000000000  48 46 43 48 41 49 4e 31 ")
    assert "HFCHAIN1" in shown
    assert len(place.json("inspect", file, "--hex", "4096")["lines"]) == 16
    assert place.json("inspect", file, "--hex", "0", "--length", "9999999", status=RequestInvalid.exit_status)


@pytest.mark.parametrize("name, status", [("holdfast.toml", FormatUnknown.exit_status), ("nothing", 12), (".", 12)])
def test_what_is_no_chain_file_is_refused(place: Place, name: str, status: int) -> None:
    assert place.json("inspect", str(Path(place.root) / name), status=status)["error"]
