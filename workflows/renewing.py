"""Transfers whose data mover was lost: who serves the repository now is asked, and they go on there.

Backups and restores share it. A session asks once for all of its disks whose line was lost.
"""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Generic, TypeVar

import msgspec
from temporalio import workflow
from temporalio.exceptions import FailureError
from temporalio.workflow import ActivityConfig

from holdfast.errors import LinkLost
from holdfast.model.points import FoundPoint, OpenPoint
from workflows import options
from workflows.book import Book
from workflows.failures import problem_of

P = TypeVar("P", OpenPoint, FoundPoint)
R = TypeVar("R")


class Renewing(Generic[P]):
    """How the point of a session is reached, renewed when the line to it stays cut."""

    def __init__(self, book: Book, point: P, ask: Callable[[P], Awaitable[P]], *, is_on: bool) -> None:
        """Take a point. Sessions that earlier versions began without slots are not ``is_on``, and only try again."""
        self._book = book
        self._is_on = is_on
        self._point: P = point
        self._ask: Callable[[P], Awaitable[P]] = ask
        self._asking = asyncio.Lock()
        self._uses = count(1)

    async def run(self, transfer: Callable[[P, ActivityConfig], Awaitable[R]], config: ActivityConfig) -> R:
        """Carry out a transfer, given the point and how; again whenever its line was lost, as long as one may wait.

        Each transfer gets the point with a higher ``use`` of its mover, by which that knows the later of two.
        """
        if not self._is_on or self._point.mover is None:
            return await transfer(self._used_once_more(self._point), config)
        latest = workflow.now() + options.QUEUE_WAIT
        renewable = config | ActivityConfig(retry_policy=options.RENEWABLE)
        while True:
            point = self._point
            try:
                return await transfer(self._used_once_more(point), renewable)
            except FailureError as failure:
                if problem_of(failure).code != LinkLost.code or workflow.now() >= latest:
                    raise
            await self._renew(point)

    def _used_once_more(self, point: P) -> P:
        if point.mover is None:
            return point
        return msgspec.structs.replace(point, mover=msgspec.structs.replace(point.mover, use=next(self._uses)))

    async def _renew(self, lost: P) -> None:
        async with self._asking:
            if self._point is not lost:
                return
            self._point = found = await self._ask(lost)
            if _address(found) == _address(lost):
                self._book.tell("Data mover", "was away; the disks went on where they stood")
            else:
                self._book.note(["the repository's data mover was lost; the disks go on at another one"])


def _address(point: OpenPoint | FoundPoint) -> str:
    return "" if point.mover is None else point.mover.address
