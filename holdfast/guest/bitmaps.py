"""Runs of free blocks in an allocation bitmap: one bit a block, lowest bit first, 0 for free."""

import re
from collections.abc import Iterator
from functools import lru_cache


def free_runs(bitmap: bytes, count: int, least: int) -> Iterator[tuple[int, int]]:
    """Yield first block and length of the runs of zeros among the first ``count`` bits.

    Runs shorter than ``least`` are left out unless they touch an end, where they may go on in the next bitmap.
    """
    number = int.from_bytes(bitmap, "little")
    if number == 0:
        yield 0, count
        return
    bits = format(number, f"0{8 * len(bitmap)}b")[::-1][:count]
    for found in _pattern(least).finditer(bits):
        yield found.start(), found.end() - found.start()


def free_count(bitmap: bytes, count: int) -> int:
    """Return how many of the first ``count`` bits are 0."""
    number = int.from_bytes(bitmap, "little") & ((1 << count) - 1)
    return count - number.bit_count()


@lru_cache(maxsize=8)
def _pattern(least: int) -> re.Pattern[str]:
    return re.compile(rf"\A0+|0{{{max(1, least)},}}|0+\Z")
