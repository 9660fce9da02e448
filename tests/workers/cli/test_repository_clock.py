"""``holdfast retention clock``: what the clock looks like, a warning where it matters, and the word of somebody."""

from datetime import timedelta

import msgspec

from holdfast.storage.chains.last_used import LAST_USED_NAME, LastUsed
from tests.workers.cli.place import Place
from tests.workers.cli.retained import THREE, protect, rule


def last_used(place: Place, days_ago: int) -> None:
    moment = place.clock.now() - timedelta(days=days_ago)
    place.repository.files.replace(place.repository.root / LAST_USED_NAME, msgspec.json.encode(LastUsed(at=moment)))


def test_a_repository_that_was_not_used_before_is_steady(place: Place) -> None:
    assert place.json("retention", "clock")["state"] == "steady"
    assert "was not used before" in place.run("retention", "clock").stdout


def test_a_clock_that_jumped_is_shown_and_confirmed(place: Place) -> None:
    last_used(place, 40)
    assert place.json("retention", "clock")["state"] == "ahead"
    assert "--accept" in place.run("retention", "clock").stdout
    assert place.json("retention", "clock", "--accept")["state"] == "steady"
    assert place.json("retention", "clock")["state"] == "steady"
    last_used(place, -2)
    assert place.json("retention", "clock")["state"] == "back"


def test_a_plan_warns_of_it(place: Place) -> None:
    rule(place, "points = 1")
    protect(place, THREE[:1])
    assert "holdfast retention clock" not in place.run("retention", "plan", "nightly").stderr
    last_used(place, 40)
    assert "holdfast retention clock" in place.run("retention", "plan", "nightly").stderr
