"""The plan is shown without a server; what runs is what was shown, and stricter rules ask first."""

import pytest

from holdfast.errors import FileDamaged, MachineNotFound, RequestInvalid
from tests.workers.cli.place import Place
from tests.workers.cli.retained import THREE, protect, rule
from tests.workers.cli.stored import back_up, damage


def test_a_plan_shows_every_point_with_the_reason_and_what_waits(place: Place) -> None:
    rule(place, "points = 1")
    points = protect(place, THREE)
    document = place.json("retention", "plan", "nightly")
    [machine] = document["machines"]
    assert [one["verdict"] for one in machine["points"]] == ["kept"] * 3
    assert machine["waiting_for_consent"] == [point.point_id for point in points[:2]]
    shown = place.run("retention", "plan", "nightly")
    assert points[0].point_id[:12] in shown.stdout
    assert "nobody agreed to the new ones yet" in shown.stdout
    assert "3 kept, 2 wait for consent" in shown.stdout
    assert "`holdfast retention run nightly` asks for it" in shown.stderr


def test_a_plan_is_the_same_when_nothing_changed_and_another_when_something_did(place: Place) -> None:
    rule(place, "points = 2")
    protect(place, THREE[:1])
    first = place.json("retention", "plan", "nightly")["digest"]
    assert place.json("retention", "plan", "nightly")["digest"] == first
    back_up(place, 2, b"d" * 200_704)
    assert place.json("retention", "plan", "nightly")["digest"] != first


def test_the_plan_of_a_machine_or_a_chain(place: Place) -> None:
    rule(place, "points = 9")
    [point] = protect(place, THREE[:1])
    for words in (("nightly", "--machine", "web 01"), (point.chain,)):
        [machine] = place.json("retention", "plan", *words)["machines"]
        assert machine["machine"]["machine_name"] == "web 01"
    assert place.json("retention", "plan", "nightly", "--machine", "db", status=MachineNotFound.exit_status)["error"]
    assert place.json("retention", "plan", "machines/x-0/1", status=MachineNotFound.exit_status)["error"]


def test_a_damaged_chain_is_said_and_nothing_of_its_machine_is_planned(place: Place) -> None:
    rule(place, "points = 1")
    point = protect(place, THREE)[1]
    for offset in (100, 4196):
        damage(place, point, offset)
    document = place.json("retention", "plan", "nightly", status=FileDamaged.exit_status)
    assert document["machines"] == []
    [unplanned] = document["unplanned"]
    assert unplanned["machine"]["machine_name"] == "web 01"
    assert "nothing is planned for web 01" in place.run("retention", "plan", "nightly").stderr
    assert place.json("retention", "run", "nightly", status=FileDamaged.exit_status)["error"]


def test_points_of_a_machine_that_is_gone_are_shown_as_such(place: Place) -> None:
    rule(place, "gone_after = 14")
    protect(place, THREE, tried_days_ago=20)
    [machine] = place.json("retention", "plan", "nightly")["machines"]
    assert machine["machine"]["is_gone"] is True
    assert len(machine["waiting_for_consent"]) == 3


def test_a_job_without_retention_says_how_to_get_one(place: Place) -> None:
    error = place.json("retention", "plan", "nightly", status=RequestInvalid.exit_status)["error"]
    assert "[jobs.retention]" in error["hint"]


def test_stricter_rules_are_not_run_without_consent(place: Place) -> None:
    rule(place, "points = 1")
    protect(place, THREE)
    error = place.json("retention", "run", "nightly", status=RequestInvalid.exit_status)["error"]
    assert "2 points go at once" in error["message"]
    assert "--yes" in error["hint"]


@pytest.mark.temporal
def test_what_is_run_is_what_was_shown(lab: Place) -> None:
    before = lab.config.read_text()
    try:
        for _ in range(3):
            lab.json("backup", "nightly")
        rule(lab, "points = 1")
        [machine] = lab.json("retention", "plan", "nightly")["machines"]
        held = machine["waiting_for_consent"]
        document = lab.json("retention", "run", "nightly", "--yes")
        done = document["retained"]
        assert done["merged"] + done["deleted"] == len(held) >= done["merged"] >= 2
        assert [point["id"] for point in lab.json("points", "--machine", "web")["points"]] == [
            one["point_id"] for one in machine["points"] if one["point_id"] not in held
        ]
        assert lab.json("verify", "--all", "--offline")["report"]["points"] >= 1
        after = lab.json("backup", "nightly")
        assert after["retained"]["merged"] == 1
        assert after["session"]["outcome"] == "success"
        assert "retention" in lab.run("sessions").stdout
    finally:
        lab.config.write_text(before)
