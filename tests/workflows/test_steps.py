"""Lanes: bounded, ordered, and nothing runs on behind the first failure."""

import asyncio
from functools import partial

import pytest

from workflows.steps import in_lanes


class Track:
    """Pieces of work that write down when they begin and end."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.most = 0
        self.two_begun = asyncio.Event()

    async def run(self, number: int, turns: int = 3) -> None:
        self.begun.append(number)
        if len(self.begun) > 1:
            self.two_begun.set()
        self.most = max(self.most, len(self.begun) - len(self.ended))
        try:
            for _ in range(turns):
                await asyncio.sleep(0)
        finally:
            self.ended.append(number)


async def test_work_is_begun_in_order_and_bounded() -> None:
    track = Track()
    await in_lanes([partial(track.run, n) for n in range(7)], 3)
    assert track.begun == list(range(7))
    assert track.most == 3


async def test_no_work_is_done_at_once() -> None:
    await in_lanes([], 3)


async def test_the_first_failure_stops_the_others_and_is_raised() -> None:
    track = Track()

    async def fail() -> None:
        await asyncio.sleep(0)
        message = "first"
        raise ValueError(message)

    with pytest.raises(ValueError, match="first"):
        await in_lanes([partial(track.run, 0, 100), fail, partial(track.run, 1)], 2)
    assert track.begun == [0]
    assert track.ended == [0]


async def test_a_cancelled_caller_waits_for_what_it_started() -> None:
    track = Track()
    running = asyncio.create_task(in_lanes([partial(track.run, n, 10_000) for n in range(5)], 2))
    await track.two_begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert sorted(track.ended) == track.begun == [0, 1]
