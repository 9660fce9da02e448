"""Of each byte is known when it was read last."""

import itertools
import random
from datetime import UTC, datetime, timedelta

import pytest

from holdfast.model.reads import ReadSpan, ReadTimes, carried, filled, laid_over

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def test_neighbours_of_one_moment_become_one_span() -> None:
    reads = laid_over((), ReadSpan(0, 5, NOW))
    assert laid_over(reads, ReadSpan(5, 9, NOW)) == (ReadSpan(0, 9, NOW),)


def test_an_empty_span_changes_nothing() -> None:
    reads = (ReadSpan(0, 5, NOW),)
    assert laid_over(reads, ReadSpan(3, 3, NOW)) == reads


@pytest.mark.parametrize("seed", range(50))
def test_spans_say_of_each_byte_what_was_said_last(seed: int) -> None:
    rng = random.Random(seed)
    reads: tuple[ReadSpan, ...] = ()
    expected: dict[int, datetime] = {}
    for turn in range(30):
        start = rng.randrange(60)
        span = ReadSpan(start, start + rng.randrange(20), NOW + timedelta(hours=turn % 7))
        reads = laid_over(reads, span)
        expected |= dict.fromkeys(range(span.start, span.end), span.read)
        assert {at: one.read for one in reads for at in range(one.start, one.end)} == expected
        assert all(one.end <= other.start for one, other in itertools.pairwise(reads))


def day(number: int) -> datetime:
    return NOW + timedelta(days=number)


def test_what_spans_leave_out_counts_as_read_at_one_moment() -> None:
    reads = (ReadSpan(2, 4, day(1)), ReadSpan(4, 9, day(2)))
    assert filled(reads, 6, NOW) == (ReadSpan(0, 2, NOW), ReadSpan(2, 4, day(1)), ReadSpan(4, 6, day(2)))
    assert filled(reads, 12, NOW)[-1] == ReadSpan(9, 12, NOW)
    assert filled((), 0, NOW) == ()


def test_each_byte_has_its_time() -> None:
    times = ReadTimes(filled((ReadSpan(2, 4, day(1)),), 6, day(3)), day(5))
    assert [times.at(offset) for offset in (0, 2, 3, 4, 5, 6)] == [day(n) for n in (3, 1, 1, 3, 3, 5)]
    assert times.oldest() == day(1)
    assert ReadTimes((), day(5)).at(0) == ReadTimes((), day(5)).oldest() == day(5)


def test_what_moved_side_by_side_and_was_read_at_once_is_one_span() -> None:
    moved = [(8, 12, NOW), (16, 20, NOW), (24, 28, day(1))]
    assert carried(moved, 10) == (ReadSpan(8, 20, NOW), ReadSpan(24, 28, day(1)))


@pytest.mark.parametrize("spans_max", [1, 3, 100])
@pytest.mark.parametrize("seed", range(20))
def test_nothing_that_moved_counts_as_read_later_than_it_was(seed: int, spans_max: int) -> None:
    rng = random.Random(seed)
    places = rng.sample(range(40), 20)
    if seed % 2:
        places.sort()
    moved = [(place * 4, place * 4 + rng.randint(1, 4), day(rng.randrange(3))) for place in places]
    found = carried(moved, spans_max)
    assert all(one.end <= other.start for one, other in itertools.pairwise(found))
    times = {at: span.read for span in found for at in range(span.start, span.end)}
    assert all(times[at] <= read for start, end, read in moved for at in range(start, end))
    if spans_max == 100 and seed % 2:
        assert all(times[at] == read for start, end, read in moved for at in range(start, end))
