"""Counts are said the same way everywhere."""

from holdfast.model.words import count_text


def test_things_are_counted_as_people_do() -> None:
    assert [count_text(number, "point") for number in (0, 1, 2)] == ["0 points", "1 point", "2 points"]
