"""Bounded flow: work in flight on a few threads, results in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in lists of ``size``, the last of what is left."""
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch


def in_order(executor: Executor, work: Callable[[T], R], items: Iterable[T], window: int) -> Iterator[R]:
    """Yield ``work(item)`` in the order of ``items`` with at most ``window`` of them in flight.

    An error comes out at its place; what is in flight then is waited for, so that nothing runs on behind.
    """
    flights: deque[Future[R]] = deque()
    source = iter(items)
    try:
        for item in source:
            flights.append(executor.submit(work, item))
            if len(flights) >= window:
                yield flights.popleft().result()
        while flights:
            yield flights.popleft().result()
    finally:
        for flight in flights:
            flight.cancel()
        for flight in flights:
            if not flight.cancelled():
                flight.exception()
