"""A list of free spans joins, forgets what is short, and never outgrows its bound."""

import random

from holdfast.guest.free_list import FreeList
from holdfast.model.spans import Span, total_length


def filled(least: int, spans: list[Span], runs_max: int = 100) -> FreeList:
    found = FreeList(least, runs_max)
    found.extend(spans)
    found.finish()
    return found


def test_touching_spans_are_joined_before_short_ones_are_forgotten() -> None:
    found = filled(8, [Span(0, 4), Span(4, 4), Span(10, 7), Span(20, 8)])
    assert list(found) == [Span(0, 8), Span(20, 8)]
    assert found.total_bytes == 16


def test_spans_come_out_sorted() -> None:
    assert list(filled(1, [Span(50, 5), Span(10, 5)])) == [Span(10, 5), Span(50, 5)]


def test_the_shortest_are_forgotten_when_there_are_too_many(seed: int) -> None:
    chance = random.Random(seed)
    spans = [Span(at * 10_000, 1 << chance.randrange(13)) for at in range(300)]
    found = filled(1, spans)
    kept = list(found)
    assert 0 < len(kept) <= 100
    assert set(kept) <= set(spans)
    assert max(span.length for span in kept) == max(span.length for span in spans)
    assert found.total_bytes == total_length(kept)


def test_equal_spans_beyond_the_bound_are_all_forgotten() -> None:
    assert len(list(filled(1, [Span(at * 10, 4) for at in range(1000)]))) <= 100
