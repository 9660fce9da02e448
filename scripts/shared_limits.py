"""Processes that share a limit, for the history of the workflow that tells them how."""

import asyncio
from contextlib import AsyncExitStack

from temporalio.client import Client

from holdfast.clock import SystemClock
from holdfast.model.ids import RepositoryName
from holdfast.pipeline.pace import Pace
from holdfast.pipeline.throttle import Throttle
from holdfast.planning.throttling import Direction, Limits, RepositoryLimits, Transfer
from workers.limit_sharing import sharing


async def share_a_limit(client: Client, repository: RepositoryName) -> None:
    """Let one process begin under a limit, and another take its part of it."""
    clock = SystemClock()
    limits = Limits(repositories={repository: RepositoryLimits(write_bytes_s=8 << 20)})
    transfer = Transfer(repository=repository, direction=Direction.WRITE)
    async with AsyncExitStack() as stack:
        for part in (8 << 20, 4 << 20):
            throttle = Throttle(clock, limits)
            await stack.enter_async_context(sharing(client, throttle, "proxy proxy-a", clock, print))
            stack.enter_context(throttle.holding(transfer, Pace(clock)))
            while throttle.held()[0].rate_bytes_s != part:  # noqa: ASYNC110 - another thread may set it
                await asyncio.sleep(0.05)
