"""A merge takes no point that rollback files rest on."""

import pytest

from holdfast.errors import ChainBroken
from tests.fuzz.three_points import FULL, lost, place_of, reverse, three_points
from tests.holdfast.storage.methods.test_upkeep import NOW

NEXT = "00000004-increment.hfc"


def test_a_full_that_rollbacks_rest_on_takes_no_increment_in() -> None:
    place = three_points()
    reverse(place)
    place.machine.back_up()
    before = {path: place.files.content(path) for path in place.files.paths()}
    with pytest.raises(ChainBroken, match="needs point 3"):
        place.upkeep.merge(FULL, NEXT)
    assert {path: place.files.content(path) for path in place.files.paths()} == before
    assert lost(place) == []


def test_it_does_once_they_are_gone_or_the_next_step_keeps_its_point() -> None:
    place = three_points()
    reverse(place)
    place.machine.back_up()
    reverse(place)
    assert lost(place) == []
    place.machine.back_up()
    place.upkeep.remove([f"{number:08d}-rollback.hfc" for number in (1, 2, 3)], NOW)
    place = place_of(place.machine)
    place.upkeep.merge(FULL, "00000005-increment.hfc")
    del place.machine.kept[:-1]
    assert lost(place) == []
