"""Of each machine the last point stays, wherever it is; one that is gone is left out when that is wanted."""

from datetime import UTC, datetime

from holdfast.formats.contents import Point, PointMachine
from holdfast.storage.methods.succession import Succession, succeed


def points(words: str) -> list[Point]:
    """Return points such as ``a1 b2``: machine a at number 1, machine b at number 2."""
    return [
        Point(
            number=int(word[1:]),
            id=word,
            session="s",
            machine=PointMachine(machine_id=word[0], name=word[0]),
            created=datetime(2026, 11, 22, tzinfo=UTC),
        )
        for word in words.split()
    ]


def told(found: Succession) -> tuple[str, str, str]:
    stays = " ".join(point.id for point in found.stays)
    taken = " ".join(f"{point.id}@{index}" for index, point in found.taken)
    return stays, taken, " ".join(point.id for point in found.going)


def test_of_one_machine_the_last_point_comes_in_and_all_others_go() -> None:
    assert told(succeed(points("a1"), [points("a2"), points("a3")])) == ("", "a3@1", "a1 a2")


def test_each_machine_keeps_its_last_point_in_the_order_of_numbers() -> None:
    sources = [points("a4 b5 c6"), points("b7"), points("a8 d9")]
    assert told(succeed(points("a1 b2 e3"), sources)) == ("e3", "c6@0 b7@1 a8@2 d9@2", "a1 b2 a4 b5")


def test_what_is_let_go_is_left_out_but_of_the_last_source() -> None:
    sources = [points("c4"), points("a5 d6")]
    found = succeed(points("a1 b2 c3"), sources, {"b2", "c4", "d6"})
    assert told(found) == ("", "a5@1 d6@1", "a1 b2 c3 c4")


def test_a_point_that_is_let_go_and_has_a_later_one_goes_for_that() -> None:
    assert told(succeed(points("a1"), [points("a2"), points("b3")], {"a1"})) == ("", "a2@0 b3@1", "a1")
