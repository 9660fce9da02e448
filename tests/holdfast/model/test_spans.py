"""The algebra on spans agrees with sets of bytes, for all small inputs and for many larger ones."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations_with_replacement, product

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.model.spans import Span, align, align_inward, clip, coalesce, intersect, subtract, total_length

WIDTH = 6


def bytes_of(spans: Iterable[Span]) -> set[int]:
    return {byte for span in spans for byte in range(span.start, span.end)}


def spans_of(covered: set[int]) -> list[Span]:
    """Return the sorted stream that holds exactly these bytes."""
    found: list[Span] = []
    for byte in sorted(covered):
        if found and found[-1].end == byte:
            found[-1] = Span(found[-1].start, found[-1].length + 1)
        else:
            found.append(Span(byte, 1))
    return found


EVERY_STREAM = [spans_of({byte for byte in range(WIDTH) if bits >> byte & 1}) for bits in range(1 << WIDTH)]
"""Every sorted stream on a disk of WIDTH bytes."""


@st.composite
def streams(draw: st.DrawFn) -> list[Span]:
    """A sorted stream of up to 20 spans."""
    found: list[Span] = []
    position = 0
    for gap, length in draw(st.lists(st.tuples(st.integers(0, 99), st.integers(1, 99)), max_size=20)):
        start = position + gap + (1 if found else 0)
        found.append(Span(start, length))
        position = start + length
    return found


def test_a_span_excludes_its_end() -> None:
    assert Span(3, 4).end == 7
    assert Span(3, 0).end == 3


def test_a_span_travels_as_two_numbers() -> None:
    assert msgspec.json.encode(Span(3, 4)) == b"[3,4]"
    assert msgspec.json.decode(b"[3,4]", type=Span) == Span(3, 4)


def test_coalescing_keeps_every_byte_of_every_small_input() -> None:
    pieces = [Span(start, length) for start in range(4) for length in range(4)]
    for count in range(4):
        for spans in combinations_with_replacement(pieces, count):
            ascending = sorted(spans, key=lambda span: span.start)
            assert list(coalesce(ascending)) == spans_of(bytes_of(spans)), spans


def test_coalescing_drops_spans_of_no_or_negative_length() -> None:
    assert list(coalesce([Span(0, 0), Span(1, -3), Span(5, 0)])) == []
    assert list(coalesce([Span(0, 2), Span(1, -3), Span(9, 0), Span(9, 1)])) == [
        Span(0, 2),
        Span(9, 1),
    ]


@pytest.mark.parametrize("granularity", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("size", range(WIDTH + 2))
def test_alignment_widens_every_small_stream(granularity: int, size: int) -> None:
    for spans in EVERY_STREAM:
        wanted = {
            byte
            for byte in range(size)
            if any(other // granularity == byte // granularity for other in bytes_of(spans))
        }
        assert list(align(spans, granularity, size)) == spans_of(wanted), spans


def test_clipping_keeps_what_is_inside_for_every_small_stream() -> None:
    for spans, start, end in product(EVERY_STREAM, range(WIDTH + 1), range(WIDTH + 1)):
        wanted = spans_of(bytes_of(spans) & set(range(start, end)))
        assert list(clip(spans, start, end)) == wanted, (spans, start, end)


def test_intersection_keeps_common_bytes_of_every_two_small_streams() -> None:
    for left, right in product(EVERY_STREAM, EVERY_STREAM):
        assert list(intersect(left, right)) == spans_of(bytes_of(left) & bytes_of(right))


def test_subtraction_keeps_the_rest_of_every_two_small_streams() -> None:
    for left, right in product(EVERY_STREAM, EVERY_STREAM):
        assert list(subtract(left, right)) == spans_of(bytes_of(left) - bytes_of(right))


def test_the_total_counts_every_byte_of_every_small_stream() -> None:
    for spans in EVERY_STREAM:
        assert total_length(spans) == len(bytes_of(spans))


@given(streams(), streams())
def test_larger_streams_obey_the_same_algebra(left: list[Span], right: list[Span]) -> None:
    a, b = bytes_of(left), bytes_of(right)
    assert bytes_of(intersect(left, right)) == a & b
    assert bytes_of(subtract(left, right)) == a - b
    assert list(intersect(left, right)) == list(intersect(right, left))
    assert list(subtract(left, right)) == list(subtract(left, intersect(left, right)))
    merged = sorted([*left, *right], key=lambda span: span.start)
    assert bytes_of(coalesce(merged)) == a | b


@given(streams(), st.integers(1, 64), st.integers(0, 3000))
def test_aligning_twice_is_aligning_once(spans: list[Span], granularity: int, size: int) -> None:
    once = list(align(spans, granularity, size))
    assert list(align(once, granularity, size)) == once
    assert all(span.start % granularity == 0 for span in once)
    assert all(span.end % granularity == 0 or span.end == size for span in once)


def test_nothing_is_read_before_it_is_needed() -> None:
    def endless() -> Iterator[Span]:
        start = 0
        while True:
            yield Span(start, 1)
            start += 4

    assert next(coalesce(endless())) == Span(0, 1)
    assert next(align(endless(), 2, 1 << 60)) == Span(0, 2)
    assert list(clip(endless(), 4, 9)) == [Span(4, 1), Span(8, 1)]
    assert next(intersect(endless(), endless())) == Span(0, 1)
    assert next(subtract(endless(), [])) == Span(0, 1)
    assert list(intersect(endless(), [Span(3, 4)])) == [Span(4, 1)]
    assert list(subtract([Span(3, 4)], endless())) == [Span(3, 1), Span(5, 2)]


def test_sizes_beyond_any_disk_are_exact() -> None:
    huge: Sequence[Span] = [Span((64 << 40) - 1, 1), Span(64 << 40, 1)]
    assert list(coalesce(huge)) == [Span((64 << 40) - 1, 2)]
    assert list(align(huge, 1 << 20, 64 << 40)) == [Span((64 << 40) - (1 << 20), 1 << 20)]


@pytest.mark.parametrize("size", [5, 6, 7])
@pytest.mark.parametrize("granularity", [1, 2, 3])
def test_inward_alignment_keeps_whole_units_of_every_small_stream(granularity: int, size: int) -> None:
    units = [range(start, min(start + granularity, size)) for start in range(0, size, granularity)]
    for spans in EVERY_STREAM:
        held = bytes_of(clip(spans, 0, size))
        wanted = {byte for unit in units if held.issuperset(unit) for byte in unit}
        found = list(align_inward(clip(spans, 0, size), granularity, size))
        assert bytes_of(found) == wanted
        assert found == list(coalesce(found))
