"""Verification finds damage, with and without a server."""

import shutil

import pytest

from holdfast.errors import ChainBusy, CredentialMissing, DataDamaged, PassphraseWrong, PointNotFound, RequestInvalid
from holdfast.model.points import PointSummary
from holdfast.storage.chain_files.inspector import inspect_file
from holdfast.storage.files.chain_lock import acquire_chain_lock
from tests.workers.cli.place import PASSPHRASE, Place
from tests.workers.cli.stored import back_up, back_up_other, damage


@pytest.mark.parametrize("words", [(), ("--all", "--machine", "web"), ("--all", "7f"), ("--offline",)])
def test_it_has_to_be_clear_what(place: Place, words: tuple[str, ...]) -> None:
    assert place.json("verify", *words, status=RequestInvalid.exit_status)["error"]


def test_sound_points_are_good_offline(place: Place) -> None:
    first = back_up(place, 1, b"a" * 200_704)
    back_up(place, 2, b"b" * 200_704)
    assert place.json("verify", "--all", "--offline")["report"]["points"] == 2
    assert place.json("verify", "latest", "--offline")["report"]["points"] == 1
    assert place.json("verify", first.point_id[:8], "--offline")["report"]["points"] == 1
    assert place.json("verify", "--machine", "web 01", "--offline")["report"]["points"] == 2
    assert place.run("verify", "--all", "--offline").stdout.startswith("good: 2 points in 1 chain")


def test_damage_is_named_offline(place: Place) -> None:
    point = back_up(place, 1, bytes(range(256)) * 784)
    damage(place, point, first_unit(place, point) + 300)
    document = place.json("verify", "--all", "--offline", status=DataDamaged.exit_status)
    assert document["report"]["damages"][0]["machine"] == "web 01"
    assert document["error"]["code"] == "data-damaged"
    result = place.run("verify", "--all", "--offline")
    assert "damaged" in result.stdout
    assert "disk0" in result.stdout


def first_unit(place: Place, point: PointSummary) -> int:
    """Return where the first unit of a point's file is."""
    path = place.repository.chain_folder(point.chain) / point.file
    scan = inspect_file(place.repository.files, path, records_listed=100).scan
    assert scan is not None
    return next(record.offset for record in scan.listed if record.kind == "unit")


def test_encrypted_and_plain_chains_are_verified_together(place: Place) -> None:
    back_up(place, 1, b"a" * 512)
    back_up(place, 2, b"a" * 512, encrypted=True)
    assert place.json("verify", "--all", "--offline", "--credential", "night")["report"]["chains"] == 2


def test_a_chain_of_an_unknown_passphrase_is_damage_and_the_others_are_read_offline(place: Place) -> None:
    back_up(place, 1, b"a" * 200_704)
    closed = back_up_other(place, 2, "db", "another passphrase")
    document = place.json("verify", "--all", "--offline", status=DataDamaged.exit_status)
    assert document["report"]["points"] == 1
    assert [(one["chain"], one["code"]) for one in document["report"]["damages"]] == [
        (closed.chain, PassphraseWrong.code)
    ]
    assert "--credential" in document["error"]["hint"]
    assert "(passphrase-wrong)" in place.run("verify", "--all", "--offline").stdout


def test_chains_of_two_credentials_are_verified_together_offline(place: Place) -> None:
    place.add_second_credential("beta")
    back_up_other(place, 1, "web", PASSPHRASE)
    back_up_other(place, 2, "db", "the passphrase beta")
    assert place.json("verify", "--all", "--offline")["report"]["chains"] == 2


def test_a_closed_chain_of_another_machine_does_not_matter_to_one_that_is_named(place: Place) -> None:
    place.add_second_credential("beta")
    back_up_other(place, 1, "web", PASSPHRASE)
    back_up_other(place, 2, "db", "the passphrase beta")
    words = ("verify", "--offline", "--credential", "beta", "--machine")
    assert place.json(*words, "db")["report"]["points"] == 1
    document = place.json(*words, "web", status=DataDamaged.exit_status)
    assert document["report"]["damages"][0]["code"] == PassphraseWrong.code


def test_a_machine_that_is_not_there_is_not_good(place: Place) -> None:
    back_up(place, 1, b"a" * 512)
    for words in (("--offline",), ("--rebuild-metadata", "--offline")):
        error = place.json("verify", "--machine", "typo", *words, status=PointNotFound.exit_status)["error"]
        assert "typo" in error["message"]
        assert "holdfast points" in error["hint"]


def test_latest_is_no_older_point_than_that_of_a_chain_that_cannot_be_opened(place: Place) -> None:
    back_up(place, 1, b"a" * 512)
    back_up(place, 2, b"b" * 512, encrypted=True)
    place.json("verify", "latest", "--offline", status=PassphraseWrong.exit_status)
    assert place.json("verify", "latest", "--offline", "--credential", "night")["report"]["points"] == 1


def test_lost_metadata_is_made_again(place: Place) -> None:
    point = back_up(place, 1, b"a" * 512, encrypted=True)
    metadata = place.repository.chain_folder(point.chain) / "chain.hfm"
    metadata.write_bytes(b"nothing")
    words = ("verify", "--rebuild-metadata", "--offline", "--credential", "night")
    result = place.run(*words, "--machine", "web 01")
    assert result.exit_code == 0, result.output
    assert f"metadata of chain {point.chain} written" in result.stderr
    assert metadata.stat().st_size > 100
    metadata.unlink()
    assert place.run(*words).exit_code == 0
    assert metadata.exists()


def test_metadata_is_not_touched_under_a_running_session(place: Place) -> None:
    point = back_up(place, 1, b"a" * 512)
    lock = acquire_chain_lock(place.repository.files, place.repository.chain_folder(point.chain))
    try:
        document = place.json("verify", "--rebuild-metadata", "--offline", status=ChainBusy.exit_status)
    finally:
        lock.close()
    assert document["error"]["code"] == "chain-busy"


@pytest.mark.temporal
def test_a_repository_is_verified_by_its_worker(lab: Place) -> None:
    lab.json("backup", "nightly", "--full")
    document = lab.json("verify", "latest", "--machine", "web")
    assert document["session"]["kind"] == "verify"
    assert document["report"]["points"] == 1


@pytest.mark.temporal
def test_a_session_verifies_chains_of_two_credentials_together(lab: Place) -> None:
    lab.json("backup", "nightly", "--full")
    before = lab.config.read_text()
    points = [back_up_other(lab, 1, "mail", PASSPHRASE), back_up_other(lab, 2, "db", "the passphrase beta")]
    lab.add_second_credential("beta")
    try:
        report = lab.json("verify", "--all")["report"]
        assert report["chains"] >= 3
        assert lab.json("verify", "latest", "--machine", "db")["report"]["points"] == 1
        lab.json("verify", "--machine", "db", "--credential", "beta")
        words = ("verify", "--machine", "db", "--credential", "night")
        failed = lab.json(*words, status=DataDamaged.exit_status)
        assert [one["code"] for one in failed["report"]["damages"]] == [PassphraseWrong.code]
        (lab.root / "home" / "credentials" / "beta").unlink()
        failed = lab.json("verify", "--all", status=DataDamaged.exit_status)
        assert [one["code"] for one in failed["report"]["damages"]] == [CredentialMissing.code]
        assert failed["report"]["points"] == report["points"] - 1
    finally:
        lab.config.write_text(before)
        for point in points:
            shutil.rmtree(lab.repository.chain_folder(point.chain).parent)


@pytest.mark.temporal
def test_a_session_fails_for_a_machine_that_is_not_there(lab: Place) -> None:
    lab.json("backup", "nightly")
    error = lab.json("verify", "--machine", "typo", status=PointNotFound.exit_status)["error"]
    assert "holdfast points" in error["hint"]
