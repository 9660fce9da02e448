"""Upkeep that a process did not end is no damage."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest

from holdfast.faults import set_hook
from holdfast.storage.health.folder import verify_folder
from tests.fuzz.three_points import FULL, SECOND, THIRD, Place, merge, remove_newest, reverse, three_points

CHANGES: list[tuple[Callable[[Place], object], str]] = [
    (merge, "upkeep.announced"),
    (merge, "merge.moved"),
    (merge, "merge.switched"),
    (merge, "upkeep.merged"),
    (reverse, "reverse.displaced"),
    (reverse, "merge.switched"),
    (reverse, "upkeep.merged"),
    (remove_newest, "upkeep.announced"),
    (remove_newest, "upkeep.removed"),
]


class Died(Exception):
    """The process is gone."""


@pytest.fixture(autouse=True)
def no_hook() -> Iterator[None]:
    yield
    set_hook(None)


def die(at: str, name: str) -> None:
    if name == at:
        raise Died


def verified(place: Place) -> list[int]:
    """Return the points of which something is damaged."""
    return sorted({damage.point for damage in verify_folder(place.files, place.folder, None, lambda _: None).damages})


@pytest.mark.parametrize("change, at", CHANGES, ids=lambda value: value if isinstance(value, str) else value.__name__)
def test_a_change_that_died_is_no_damage(change: Callable[[Place], object], at: str) -> None:
    place = three_points()
    set_hook(partial(die, at))
    with pytest.raises(Died):
        change(place)
    set_hook(None)
    assert verified(place) == []


@pytest.mark.parametrize("lost", [FULL, SECOND, THIRD])
def test_a_file_that_is_lost_in_the_middle_of_a_merge_is_told(lost: str) -> None:
    place = three_points()
    set_hook(partial(die, "merge.moved"))
    with pytest.raises(Died):
        merge(place)
    set_hook(None)
    place.files.drop(place.folder / lost)
    assert 3 in verified(place)  # the others were about to go
