"""Of each byte is known when it was read last."""

import itertools
import random
from datetime import UTC, datetime, timedelta

import pytest

from holdfast.model.reads import ReadSpan, laid_over

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
