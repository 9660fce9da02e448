"""Masks mean what is written, from the top of a volume or anywhere, and never everything."""

import random
import time

import pytest

from holdfast.errors import RequestInvalid
from holdfast.guest.masks import MASKS_MAX, parse_mask, parse_masks, pattern


@pytest.mark.parametrize(
    "text, parts, is_anywhere",
    [
        ("/var/tmp/*", ("var", "tmp", "*"), False),
        ("C:\\pagefile.sys", ("pagefile.sys",), False),
        ("c:/Users/*/AppData", ("Users", "*", "AppData"), False),
        ("\\Temp\\", ("Temp",), False),
        ("*.iso", ("*.iso",), True),
        ("core.????", ("core.????",), True),
        ("Temp", ("Temp",), False),
        (" /var//cache ", ("var", "cache"), False),
        ("/a%b", ("a%b",), False),
    ],
)
def test_a_mask_is_read(text: str, parts: tuple[str, ...], *, is_anywhere: bool) -> None:
    mask = parse_mask(text)
    assert (mask.text, mask.parts, mask.is_anywhere) == (text, parts, is_anywhere)


@pytest.mark.parametrize("text", ["", "/", "C:\\", "  ", "/a/../b", ".", "a\0b", "x" * 2000])
def test_a_mask_that_names_no_file_is_refused(text: str) -> None:
    with pytest.raises(RequestInvalid, match="names no file"):
        parse_mask(text)


@pytest.mark.parametrize("text", ["*", "/*", "*.*", "C:\\*", "/*/*", "**", "*?"])
def test_a_mask_that_means_everything_is_refused(text: str) -> None:
    with pytest.raises(RequestInvalid, match="means every file"):
        parse_mask(text)


@pytest.mark.parametrize("text", ["%TEMP%\\*", "$HOME/x", "/a/${b}", "~/x"])
def test_variables_are_refused(text: str) -> None:
    with pytest.raises(RequestInvalid, match="has a variable"):
        parse_mask(text)


def test_masks_are_kept_once_and_are_not_too_many() -> None:
    assert [mask.text for mask in parse_masks(["/b", "/a", "/b"])] == ["/b", "/a"]
    with pytest.raises(RequestInvalid, match="more than"):
        parse_masks([f"/{number}" for number in range(MASKS_MAX + 1)])


@pytest.mark.parametrize(
    "part, name, is_meant",
    [
        ("*.iso", "a.iso", True),
        ("*.iso", "a.iso.part", False),
        ("a?c", "abc", True),
        ("a?c", "ac", False),
        ("[ab]", "[ab]", True),
        ("[ab]", "a", False),
        ("a.c", "abc", False),
        ("*", "with\nline", True),
    ],
)
def test_only_two_letters_stand_for_others(part: str, name: str, *, is_meant: bool) -> None:
    assert (pattern(part, is_caseless=False).fullmatch(name) is not None) is is_meant


def test_case_matters_only_where_it_does() -> None:
    assert pattern("A*", is_caseless=False).fullmatch("abc") is None
    assert pattern("A*", is_caseless=True).fullmatch("abc") is not None


def test_a_name_made_to_be_slow_is_not(seed: int) -> None:
    name = "".join(random.Random(seed).choice("ab") for _ in range(254)) + "x"
    started = time.perf_counter()
    assert pattern("*a*b*a*b*a*b*a*b*a*b*c", is_caseless=True).fullmatch(name) is None
    assert time.perf_counter() - started < 1
