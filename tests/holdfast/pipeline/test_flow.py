"""Work in flight is bounded, and results come out in order."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from holdfast.pipeline.flow import batched, in_order


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def test_results_come_in_the_order_of_the_items(pool: ThreadPoolExecutor) -> None:
    first = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert first.wait(30)
        if item == 2:
            first.set()
        return item * item

    assert list(in_order(pool, work, range(20), 4)) == [item * item for item in range(20)]


def test_no_more_than_the_window_is_taken_ahead(pool: ThreadPoolExecutor) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    flow = in_order(pool, lambda item: item, items(), 3)
    for expected in range(50):
        assert next(flow) == expected
        assert len(taken) <= expected + 3


def test_an_error_comes_out_at_its_place_and_nothing_runs_on(pool: ThreadPoolExecutor) -> None:
    running: set[int] = set()

    def work(item: int) -> int:
        running.add(item)
        try:
            if item == 5:
                raise ZeroDivisionError
            return item
        finally:
            running.discard(item)

    flow = in_order(pool, work, range(100), 4)
    assert [next(flow) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ZeroDivisionError):
        next(flow)
    assert running == set()


def test_an_error_of_the_source_comes_out(pool: ThreadPoolExecutor) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(in_order(pool, lambda item: item, items(), 4))


def test_batches_hold_everything_in_order_and_are_full_but_the_last() -> None:
    assert list(batched(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(batched(range(6), 3)) == [[0, 1, 2], [3, 4, 5]]
    assert list(batched([], 3)) == []


def test_nothing_in_gives_nothing_out(pool: ThreadPoolExecutor) -> None:
    assert list(in_order(pool, lambda item: item, [], 4)) == []
