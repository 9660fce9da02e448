"""``holdfast health``: what is known, sessions that read and repair, and the decision of a machine that asks."""

import pytest

from holdfast.errors import DataDamaged, MachineNotFound
from holdfast.storage.health.health_file import change_health, with_damage, with_points
from holdfast.storage.health.marking import facts_of
from tests.workers.cli.place import Place
from tests.workers.cli.stored import back_up


def test_a_repository_of_which_nothing_bad_is_known(place: Place) -> None:
    assert "nothing is stored" in place.run("health").stdout
    back_up(place, 1, b"a" * 200_704)
    document = place.json("health", "show")
    assert document["stored_bytes"] > 0
    assert (document["points"], document["overdue_bytes"], document["scrub_days"]) == ([], 0, 30)
    assert "nothing is known to be damaged" in place.run("health").stdout


def test_a_chain_without_its_passphrase_is_shown_as_not_read(place: Place) -> None:
    point = back_up(place, 1, b"a" * 200_704, encrypted=True)
    (closed,) = place.json("health")["closed"]
    assert (closed["chain"], closed["code"]) == (point.chain, "passphrase-wrong")
    assert closed["due_bytes"] > 0
    assert "not read: " in place.run("health").stdout


def test_what_is_known_to_be_damaged_is_shown_here_and_with_the_points(place: Place) -> None:
    point = back_up(place, 1, b"a" * 200_704)
    with place.repository.open_chain(point.chain, None) as chain:
        facts, file = facts_of(place.repository.files, chain), chain.files[0].contents.file
        change_health(
            place.repository.files,
            chain.folder,
            lambda health: with_points(with_damage(health, file, {0: "torn"}, "a table"), facts, {1}, {1: "torn"}),
        )
    document = place.json("health")
    assert document["damaged_units"] == 1
    assert document["points"][0]["point_id"] == point.point_id
    shown = place.run("health").stdout
    assert "damaged: 1 unit" in shown
    assert "a table" in shown
    (listed,) = place.json("points")["points"]
    assert listed["damage"] == "torn"
    assert "damaged" in place.run("points").stdout


@pytest.mark.temporal
def test_a_repository_is_read_and_repaired_by_its_worker(lab: Place) -> None:
    lab.json("backup", "nightly", "--full")
    assert lab.json("health", "check")["report"]["points"] >= 1
    document = lab.json("health", "scrub", "--days", "1")
    assert document["scrub"]["done_bytes"] == document["scrub"]["planned_bytes"] > 0
    assert "read again" in lab.run("health", "scrub", "--days", "1", "--deep").stdout
    assert lab.json("health", "repair")["repair"]["damages"] == []
    assert "nothing is damaged" in lab.run("health", "repair").stdout
    assert "session_id" in lab.json("health", "scrub", "--detach")


@pytest.mark.temporal
def test_nobody_waits_for_a_decision(lab: Place) -> None:
    document = lab.json("health", "decide", "nobody", "full", status=MachineNotFound.exit_status)
    assert document["error"]["code"] == "machine-not-found"


@pytest.mark.temporal
def test_damage_is_found_named_and_marked(lab: Place) -> None:
    lab.json("backup", "nightly", "--full")
    point = max(lab.json("points")["points"], key=lambda found: found["created"])
    path = lab.repository.chain_folder(point["chain"]) / point["file"]
    content = bytearray(path.read_bytes())
    with lab.repository.open_chain(point["chain"], None) as chain:
        unit = next(file for file in chain.files if file.path == path).unit(0)
    assert unit is not None
    content[unit.offset + unit.length - 1] ^= 1
    path.write_bytes(bytes(content))
    words = ("health", "scrub", "--days", "1", "--no-repair")
    document = lab.json(*words, status=DataDamaged.exit_status)
    assert document["error"]["code"] == "data-damaged"
    assert point["id"] in {one["point_id"] for one in lab.json("health")["points"] if one["state"] == "damaged"}
    lab.json("backup", "nightly", "--full")
    assert lab.json("health", "repair")["repair"]["from_chains"] > 0, "the new chain has the same bytes"
    assert "damaged" not in {one["state"] for one in lab.json("health")["points"]}
