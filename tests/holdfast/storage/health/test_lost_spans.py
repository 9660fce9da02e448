"""What a point has lost to damaged units is told in few spans, and the next point does not rest on it."""

import random

import pytest

from holdfast.storage.health.health_file import change_health, with_damage
from holdfast.storage.health.lost_spans import SPANS_MAX, joined_to, lost_pieces, lost_spans
from tests.fuzz.damage import KEY, SmallChain


@pytest.fixture
def small() -> SmallChain:
    return SmallChain(7)


def test_without_damage_nothing_is_lost(small: SmallChain) -> None:
    with small.open() as chain:
        assert lost_spans(small.files, chain, chain.point(3)[1]) == ()
        assert lost_pieces(chain.disk(3, KEY), {}) == []


def test_the_pieces_of_damaged_units_are_lost(small: SmallChain) -> None:
    with small.open() as chain:
        file = chain.files[0]
        change_health(small.files, small.folder, lambda health: with_damage(health, file.contents.file, {0: "torn"}))
        (span,) = lost_spans(small.files, chain, chain.point(1)[1])
        assert (span.disk, span.start, span.length) == (KEY, 0, 4 * 65536)
        assert lost_spans(small.files, chain, chain.point(3)[1]) == ()


@pytest.mark.parametrize("seed", range(10))
def test_few_ranges_cover_all_of_many(seed: int) -> None:
    rng = random.Random(seed)
    starts = sorted(rng.sample(range(0, 100_000, 3), 900))
    ranges = [(start, start + 1 + rng.randrange(2)) for start in starts]
    joined = list(joined_to(ranges, SPANS_MAX))
    assert len(joined) == SPANS_MAX
    assert all(any(start <= first and last <= end for start, end in joined) for first, last in ranges)
    assert joined_to(ranges[:5], 5) == ranges[:5]
