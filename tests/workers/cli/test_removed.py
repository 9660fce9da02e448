"""What was removed is listed and taken back, locks hold, and room is made for good only when asked."""

import re

import pytest

from holdfast.errors import PassphraseWrong, PointNotFound, ServerUnavailable
from holdfast.model.points import PointSummary
from holdfast.storage.chains.keeping import peek_notes
from holdfast.storage.files.immutable import set_immutable
from holdfast.storage.methods.upkeep import ChainUpkeep
from tests.workers.cli.place import PASSPHRASE, Place
from tests.workers.cli.retained import THREE, protect, rule
from tests.workers.cli.stored import back_up


def removed(place: Place) -> str:
    """Make three points and remove the newest; return the chain."""
    points = protect(place, THREE)
    folder = place.repository.chain_folder(points[0].chain)
    ChainUpkeep(place.repository.files, folder, None).remove([points[-1].file], place.clock.now())
    return points[0].chain


def test_nothing_was_removed(place: Place) -> None:
    assert place.json("retention", "removed") == {"removed": []}
    assert "nothing was removed" in place.run("retention", "removed").stdout


def test_what_was_removed_is_listed_and_taken_back_with_a_lock(place: Place) -> None:
    chain = removed(place)
    [grave] = place.json("retention", "removed")["removed"]
    assert (grave["chain"], grave["file"]["name"]) == (chain, "00000003-increment.hfc")
    assert place.json("retention", "undelete", chain, "--days", "2", "--offline")["files"] == ["00000003-increment.hfc"]
    assert len(place.json("points")["points"]) == 3
    assert place.json("retention", "undelete", chain, status=PointNotFound.exit_status)["error"]


def test_room_is_made_at_once_when_asked(place: Place) -> None:
    chain = removed(place)
    assert place.json("retention", "purge", chain, "--offline")["files"] == 1
    assert place.json("retention", "removed") == {"removed": []}
    assert place.json("retention", "purge", chain, status=PointNotFound.exit_status)["error"]


@pytest.mark.parametrize("verb", ["undelete", "purge"])
def test_without_a_server_what_was_removed_stays_as_it_is(place: Place, verb: str) -> None:
    chain = removed(place)
    assert place.json("retention", verb, chain, status=ServerUnavailable.exit_status)["error"]
    assert len(place.json("retention", "removed")["removed"]) == 1


@pytest.mark.temporal
def test_a_worker_takes_back_what_was_removed_and_deletes_it_for_good(lab: Place) -> None:
    lab.add_machine("brought", 12)  # one of its own: what is locked stays for all tests of the lab
    lab.json("backup", "--machine", "brought")
    made = lab.json("backup", "--machine", "brought")["points"][0]
    folder = lab.repository.chain_folder(made["chain"])

    def remove() -> None:
        ChainUpkeep(lab.repository.files, folder, None).remove([made["file"]], lab.clock.now())

    remove()
    try:
        [[name, words]] = lab.json("retention", "undelete", made["chain"], "--days", "2")["lines"]
        assert name == "Taken back"
        assert words.startswith(f"1 file of {made['chain']} back, locked until ")
        assert lab.json("points", "--machine", "brought")["points"][-1]["id"] == made["point_id"]
        [note] = [one for one in peek_notes(lab.repository.files, folder) if one.point_id == made["point_id"]]
        assert note.locked_until is not None
    finally:
        set_immutable(folder / made["file"], wanted=False)
    other = lab.json("backup", "--machine", "brought", "--full")["points"][0]
    gone = lab.repository.chain_folder(other["chain"])
    ChainUpkeep(lab.repository.files, gone, None).remove([other["file"]], lab.clock.now())
    [[name, words]] = lab.json("retention", "purge", other["chain"])["lines"]
    assert name == "Purged"
    assert re.fullmatch(rf"1 file of {other['chain']} deleted, [\d.]+ [KM]iB freed", words)
    chains = {one["chain"] for one in lab.json("retention", "removed")["removed"]}
    assert not chains & {made["chain"], other["chain"]}


def test_an_archive_is_locked_as_any_other_point(place: Place) -> None:
    [point] = protect(place, THREE[:1])
    folder = place.repository.chain_folder(point.chain)
    archive = folder.rename(folder.with_name(f"archive-{folder.name[-8:]}"))
    try:
        said = place.json("retention", "lock", point.point_id[:8], "--days", "3")
        assert said["how"]
        assert "expire" not in place.run("retention", "archives").stderr
        assert "locked until" in place.run("retention", "archives").stdout
    finally:
        set_immutable(archive / point.file, wanted=False)
    ChainUpkeep(place.repository.files, archive, None).remove([point.file], place.clock.now())
    [grave] = place.json("retention", "removed")["removed"]
    assert place.json("retention", "undelete", grave["chain"], "--offline")["files"] == [point.file]


def test_a_locked_point_stays_whatever_the_rules_say(place: Place) -> None:
    rule(place, "points = 1")
    points = protect(place, THREE)
    try:
        said = place.json("retention", "lock", points[1].point_id[:8], "--days", "3")
        assert said["how"]
        [machine] = place.json("retention", "plan", "nightly")["machines"]
        reasons = {one["point_id"]: one["reason"] for one in machine["points"]}
        assert reasons[points[1].point_id].startswith("locked until ")
        assert "is locked until" in place.run("retention", "lock", points[1].point_id[:8], "--days", "4").stdout
    finally:
        for point in points:
            set_immutable(place.repository.chain_folder(point.chain) / point.file, wanted=False)


def test_every_credential_is_tried_for_a_lock(place: Place) -> None:
    place.add_second_credential("alpha")
    point = back_up(place, 1, b"a" * 200_704, encrypted=True)
    words = ("retention", "lock", point.point_id[:8], "--days", "3")
    try:
        assert place.json(*words)["how"]
    finally:
        set_immutable(place.repository.chain_folder(point.chain) / point.file, wanted=False)
    assert place.json(*words, "--credential", "alpha", status=PointNotFound.exit_status)["error"]


def test_every_credential_is_tried_before_anything_is_taken_back(place: Place) -> None:
    points = [back_up(place, number, bytes([number]) * 200_704, encrypted=True) for number in (1, 2)]
    chain, folder = points[0].chain, place.repository.chain_folder(points[0].chain)
    ChainUpkeep(place.repository.files, folder, PASSPHRASE).remove([points[1].file], place.clock.now())
    error = place.json("retention", "undelete", chain, "--offline", status=PassphraseWrong.exit_status)["error"]
    assert "--credential" in error["hint"]
    assert len(place.json("retention", "removed")["removed"]) == 1
    place.add_second_credential("alpha")
    try:
        assert place.json("retention", "undelete", chain, "--offline")["files"] == [points[1].file]
    finally:
        for point in points:
            set_immutable(folder / point.file, wanted=False)


def test_a_chain_of_which_everything_was_removed_is_taken_back_with_the_passphrase_that_fits(place: Place) -> None:
    place.add_second_credential("alpha")
    point = back_up(place, 1, b"a" * 200_704, encrypted=True)
    folder = place.repository.chain_folder(point.chain)
    ChainUpkeep(place.repository.files, folder, PASSPHRASE).remove([point.file], place.clock.now())
    try:
        assert place.json("retention", "undelete", point.chain, "--offline")["files"] == [point.file]
    finally:
        set_immutable(folder / point.file, wanted=False)


def marks_after_a_lock(place: Place, points: list[PointSummary]) -> list[str]:
    """Lock the newest of some points, and return the marks of the first."""
    folder = place.repository.chain_folder(points[0].chain)
    try:
        place.json("retention", "lock", points[-1].point_id[:8], "--days", "3")
    finally:
        for point in points:
            set_immutable(folder / point.file, wanted=False)
    notes = {note.point_id: note for note in peek_notes(place.repository.files, folder)}
    assert notes[points[-1].point_id].locked_until is not None
    return [mark.kind for mark in notes[points[0].point_id].marks]


@pytest.mark.parametrize("is_known", [True, False])
def test_points_are_noted_by_the_rules_of_the_job_that_has_their_machine(place: Place, *, is_known: bool) -> None:
    rule(place, "weeks = 4")
    other = (
        '[[jobs]]\nname = "other"\nprovider = "lab"\nrepository = "main"\nproxy = "p1"\n[jobs.retention]\ndays = 5\n'
    )
    place.config.write_text(f"{place.config.read_text()}{other}")
    points = protect(place, THREE[:2]) if is_known else [back_up(place, 1, b"a" * 200_704)]
    assert marks_after_a_lock(place, points) == (["weekly"] if is_known else [])
