"""As many units are ahead as the line brings in some round trips, and never more than the bounds."""

from concurrent.futures import Executor, Future, ThreadPoolExecutor

import msgspec
import pytest

from holdfast.formats.magic import PIECE_SIZE
from holdfast.pipeline.units_ahead import BYTES_MAX, UNITS_MAX, UNITS_MIN, UnitCache, UnitsAhead

MIB = 1 << 20


class File(msgspec.Struct):
    pieces_per_unit: int
    fetched: list[int] = []

    def fetch(self, number: int, pool: Executor, key: bytes) -> "Future[bytes | memoryview]":
        del pool, key
        self.fetched.append(number)
        answer: Future[bytes | memoryview] = Future()
        answer.set_result(b"")
        return answer


def of_size(size: int) -> File:
    return File(size // PIECE_SIZE)


def fill(ahead: UnitsAhead, file: File) -> int:
    """Ask until no more may be ahead; return how many are."""
    while not ahead.is_full:
        ahead.asked(file)
    return ahead.units


@pytest.mark.parametrize("size, units", [(4 * MIB, 17), (MIB, 17), (MIB // 4, 65)])
def test_at_least_16_units_are_ahead_and_16_mib(size: int, units: int) -> None:
    assert fill(UnitsAhead(), of_size(size)) == units


@pytest.mark.parametrize("size, units", [(4 * MIB, UNITS_MIN + 1), (MIB, 65), (MIB // 4, UNITS_MAX + 1)])
def test_on_a_long_line_more_are_ahead_up_to_the_bounds(size: int, units: int) -> None:
    ahead, file = UnitsAhead(), of_size(size)
    for second in range(20):
        fill(ahead, file)
        for _ in range(5 * MIB * 20 // size):
            ahead.asked(file)
            ahead.used(file, second * 0.1, 0.2)
    assert fill(ahead, file) >= units
    assert units * size <= BYTES_MAX + 16 * MIB


def test_what_is_ahead_is_kept_and_some_more() -> None:
    file, key = File(16), b""
    with ThreadPoolExecutor(1) as pool:
        cache = UnitCache(pool, key)
        cache.keep(48)
        for number in (*range(64), *range(64)):
            cache.request(file, number)
        assert file.fetched == list(range(64))
        cache.request(file, 64)
        cache.request(file, 0)
    assert file.fetched[64:] == [64, 0]
