"""LVM's text is read as LVM writes it, and nothing else."""

import pytest

from holdfast.guest.lvm_text import parse
from holdfast.guest.window import Implausible
from tests.holdfast.guest.drives import linear, lvm_text, lvm_volume


def test_a_text_becomes_sections_and_values() -> None:
    text = (
        'a { # comment\n n = 12\n f = 1.5\n t = "x \\"y\\" }"\n l = ["a", 3,\n4]\n e = []\n b-1.c { }\n}\nversion = -1'
    )
    assert parse(text) == {
        "a": {"n": 12, "f": 1.5, "t": 'x \\"y\\" }', "l": ["a", 3, 4], "e": [], "b-1.c": {}},
        "version": -1,
    }


def test_whole_metadata_is_read() -> None:
    found = parse(lvm_text(lvm_volume("root", linear(0, 10, 0))))["vg0"]
    assert isinstance(found, dict)
    assert found["extent_size"] == 2048


@pytest.mark.parametrize(
    "text",
    ["a", "a =", "a = }", "a = [1", "a { b = 1", "}", "= 1", "a { } }", 'a = "x', "a = 1 ; b", "a { " * 20, '"a" = 1'],
)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(Implausible):
        parse(text)
