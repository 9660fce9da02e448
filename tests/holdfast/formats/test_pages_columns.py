"""Whole pages of refs and units are read at once and say the same as entry by entry."""

from holdfast.formats.magic import UNITS_PER_PAGE
from holdfast.formats.pages import (
    DIRECTORY_SIZE,
    Ref,
    UnitEntry,
    empty_units_page,
    put_ref,
    put_unit,
    refs_in,
    unit_places,
)


def test_entries_of_a_directory_come_with_their_places() -> None:
    directory = bytearray(DIRECTORY_SIZE)
    refs = {index: Ref(index << 20, index + 1, bytes([index % 251]) * 16) for index in (0, 7, 511)}
    for index, ref in refs.items():
        put_ref(directory, index, ref)
    assert dict(refs_in(directory)) == refs


def test_places_of_units_come_as_columns() -> None:
    page = empty_units_page()
    put_unit(page, 3, UnitEntry(5 << 40, 1 << 20, 9))
    offsets, lengths = unit_places(page)
    assert len(offsets) == len(lengths) == UNITS_PER_PAGE
    assert (offsets[3], lengths[3], sum(lengths)) == (5 << 40, 1 << 20, 1 << 20)
