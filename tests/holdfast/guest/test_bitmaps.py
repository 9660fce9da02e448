"""Runs of free blocks are found whole, at every place of a bitmap."""

import itertools
import random

import pytest

from holdfast.guest.bitmaps import free_count, free_runs


def test_every_small_bitmap_gives_its_runs() -> None:
    for number in range(1 << 11):
        bitmap, count = number.to_bytes(2, "little"), 11
        free = [bit for bit in range(count) if not number >> bit & 1]
        runs = list(free_runs(bitmap, count, 1))
        assert [start + step for start, length in runs for step in range(length)] == free
        assert all(start + length < following for (start, length), (following, _) in itertools.pairwise(runs))
        assert free_count(bitmap, count) == len(free)


@pytest.mark.parametrize("least", [2, 5, 16])
def test_short_runs_are_left_out_unless_they_touch_an_end(least: int, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(200):
        bitmap = bytes(chance.choice((0, 0, 0xFF, chance.randrange(256))) for _ in range(32))
        expected = [r for r in free_runs(bitmap, 250, 1) if r[1] >= least or r[0] == 0 or sum(r) == 250]
        assert list(free_runs(bitmap, 250, least)) == expected
