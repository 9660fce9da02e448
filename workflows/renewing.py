"""Transfers whose data mover was lost: who serves the repository now is asked, and they go on there.

Backups and restores share it. A session asks once for all of its disks whose line was lost.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from temporalio import workflow
from temporalio.exceptions import FailureError
from temporalio.workflow import ActivityConfig

from holdfast.errors import LinkLost
from holdfast.model.points import MoverAccess
from workflows import options
from workflows.book import Book
from workflows.failures import problem_of


class Served(Protocol):
    """A restore point, and how it is reached."""

    @property
    def mover(self) -> MoverAccess | None:
        """Return the data mover that serves it; None when the proxy opens the files itself."""
        ...


P = TypeVar("P", bound=Served)
R = TypeVar("R")


class Renewing(Generic[P]):
    """How the point of a session is reached, renewed when the line to it stays cut."""

    def __init__(self, book: Book, point: P, ask: Callable[[P], Awaitable[P]], *, is_on: bool) -> None:
        """Take a point. Sessions that earlier versions began without slots are not ``is_on``, and only try again."""
        self._book = book
        self._is_on = is_on
        self._point = point
        self._ask = ask
        self._asking = asyncio.Lock()

    async def run(self, transfer: Callable[[P, ActivityConfig], Awaitable[R]], config: ActivityConfig) -> R:
        """Carry out a transfer, given the point and how; again whenever its line was lost, as long as one may wait."""
        if not self._is_on or self._point.mover is None:
            return await transfer(self._point, config)
        latest = workflow.now() + options.QUEUE_WAIT
        renewable = config | ActivityConfig(retry_policy=options.RENEWABLE)
        while True:
            point = self._point
            try:
                return await transfer(point, renewable)
            except FailureError as failure:
                if problem_of(failure).code != LinkLost.code or workflow.now() >= latest:
                    raise
            await self._renew(point)

    async def _renew(self, lost: P) -> None:
        async with self._asking:
            if self._point is not lost:
                return
            self._point = found = await self._ask(lost)
            if _address(found) == _address(lost):
                self._book.tell("Data mover", "was away; the disks went on where they stood")
            else:
                self._book.note(["the repository's data mover was lost; the disks go on at another one"])


def _address(point: Served) -> str:
    return "" if point.mover is None else point.mover.address
