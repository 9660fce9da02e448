"""Where a new file goes."""

import pytest

from holdfast.errors import RepositoryFull, RepositoryUnavailable
from holdfast.model.extents import ExtentFacts
from holdfast.planning.extent_selection import RESERVE_BYTES, choose_extent

GIB = 1 << 30


def extent(name: str, free_bytes: int | None, problem: str = "") -> ExtentFacts:
    """Return facts; ``free_bytes`` None stands for an extent that cannot be reached."""
    return ExtentFacts(name=name, reachable=free_bytes is not None, free_bytes=free_bytes or 0, problem=problem)


@pytest.mark.parametrize(
    "extents, needed, chosen, reason",
    [
        ([extent("a", GIB)], 0, "a", "only extent"),
        ([extent("a", RESERVE_BYTES)], 0, "a", "only extent"),
        ([extent("a", RESERVE_BYTES + 7)], 7, "a", "only extent"),
        ([extent("a", GIB), extent("b", 2 * GIB)], 0, "b", "most free space of 2 reachable extents"),
        ([extent("a", 2 * GIB), extent("b", GIB)], 0, "a", "most free space of 2 reachable extents"),
        ([extent("a", GIB), extent("b", GIB)], 0, "a", "most free space of 2 reachable extents"),
        ([extent("a", None), extent("b", GIB)], 0, "b", "most free space of 1 reachable extents"),
        (
            [extent("a", GIB), extent("b", None), extent("c", 3 * GIB), extent("d", 2 * GIB)],
            GIB,
            "c",
            "most free space of 3 reachable extents",
        ),
    ],
)
def test_the_reachable_extent_with_the_most_space_is_chosen(
    extents: list[ExtentFacts], needed: int, chosen: str, reason: str
) -> None:
    choice = choose_extent("cellar", extents, needed)
    assert (choice.extent, choice.reason) == (chosen, reason)


@pytest.mark.parametrize(
    "extents, needed",
    [
        ([extent("a", 0)], 0),
        ([extent("a", RESERVE_BYTES - 1)], 0),
        ([extent("a", RESERVE_BYTES + 6)], 7),
        ([extent("a", GIB), extent("b", 2 * GIB)], 2 * GIB),
        ([extent("a", None), extent("b", 1)], 0),
    ],
)
def test_an_extent_without_room_and_reserve_is_not_chosen(extents: list[ExtentFacts], needed: int) -> None:
    best = max(extents, key=lambda extent: extent.free_bytes)
    message = f"^repository cellar needs {needed + RESERVE_BYTES} bytes, extent {best.name} has {best.free_bytes}$"
    with pytest.raises(RepositoryFull, match=message):
        choose_extent("cellar", extents, needed)


def test_without_a_reachable_extent_every_problem_is_named() -> None:
    extents = [extent("a", None, "not mounted"), extent("b", None, "no answer")]
    with pytest.raises(RepositoryUnavailable, match=r"cellar can be reached \(a: not mounted; b: no answer\)$"):
        choose_extent("cellar", extents, 0)


def test_a_repository_without_extents_is_unavailable() -> None:
    with pytest.raises(RepositoryUnavailable, match=r"\(none\)$"):
        choose_extent("cellar", [], 0)
