"""The point a person means is found, or it is said why it is not clear which."""

import pytest

from holdfast.errors import FileDamaged, PassphraseWrong, PointNotFound, RequestInvalid
from tests.workers.cli.place import PASSPHRASE, Place
from tests.workers.cli.stored import back_up, back_up_other, damage
from workers.cli.invocation import Flags, Invocation
from workers.cli.reading import ListedPoint, find_listed, open_chain, passphrases_for, read_points


def listed(place: Place) -> list[ListedPoint]:
    run = Invocation(Flags(config=place.config))
    found, unreadable = read_points(run, run.repository_settings(None), "night")
    assert unreadable == []
    return found


def test_latest_is_the_newest_complete_one(place: Place) -> None:
    back_up(place, 1, b"a" * 512)
    second = back_up(place, 2, b"b" * 512)
    assert find_listed(listed(place), "latest", []).point.id == second.point_id


def test_the_first_digits_are_enough(place: Place) -> None:
    point = back_up(place, 1, b"a" * 512)
    assert find_listed(listed(place), point.point_id[:6].upper(), []).point.id == point.point_id
    assert listed(place)[0].reference == point.point_id[:12]


def test_what_is_not_there_or_not_clear_is_said(place: Place) -> None:
    with pytest.raises(PointNotFound):
        find_listed(listed(place), "latest", [])
    back_up(place, 1, b"a" * 512)
    back_up(place, 2, b"b" * 512)
    with pytest.raises(PointNotFound):
        find_listed(listed(place), "zz", [])
    with pytest.raises(RequestInvalid, match="2 points"):
        find_listed(listed(place), "", [])


def test_a_chain_opens_with_the_passphrase_that_fits(place: Place) -> None:
    point = back_up(place, 1, b"a" * 512, encrypted=True)
    open_chain(place.repository, point.chain, ["wrong", PASSPHRASE]).close()
    with pytest.raises(PassphraseWrong):
        open_chain(place.repository, point.chain, ["wrong"])


def test_a_credential_of_a_job_that_is_missing_is_told(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.config.write_text(place.config.read_text() + 'credential = "lost"\n')
    run = Invocation(Flags(config=place.config))
    assert passphrases_for(run, run.repository_settings(None), None) == []
    assert "no credential lost" in capsys.readouterr().err


def found(place: Place, reference: str, credential: str | None, machine: str | None = None) -> str:
    run = Invocation(Flags(config=place.config))
    points, unreadable = read_points(run, run.repository_settings(None), credential, machine)
    return find_listed(points, reference, unreadable, machine).point.id


def test_latest_is_refused_when_a_chain_of_the_machine_cannot_be_read(place: Place) -> None:
    older = back_up(place, 1, b"a" * 512)
    newer = back_up(place, 2, b"b" * 512, encrypted=True)
    assert newer.chain != older.chain
    assert found(place, "latest", "night") == newer.point_id
    for machine in (None, "web 01", "m1"):
        with pytest.raises(PassphraseWrong):
            found(place, "latest", None, machine)
    assert found(place, older.point_id[:8], None) == older.point_id


def test_latest_is_refused_when_a_file_of_the_chain_cannot_be_read(place: Place) -> None:
    back_up(place, 1, b"a" * 512)
    newer = back_up(place, 2, b"b" * 512)
    damage(place, newer, 100)
    damage(place, newer, 4196)
    with pytest.raises(FileDamaged):
        found(place, "latest", None)


def test_chains_of_other_machines_and_archives_do_not_matter_to_latest(place: Place) -> None:
    point = back_up(place, 1, b"a" * 512)
    other = back_up_other(place, 2, "db", PASSPHRASE)
    assert found(place, "latest", None) == point.point_id
    with pytest.raises(PointNotFound):
        found(place, "latest", None, "ghost")
    with pytest.raises(PassphraseWrong):
        found(place, "latest", None, "db")
    home = place.repository.chain_folder(point.chain).parent
    place.repository.chain_folder(other.chain).rename(home / "archive-00000000")
    assert found(place, "latest", None) == point.point_id
