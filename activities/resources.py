"""Slots of proxies and repositories: looking at proxies, and talking to the scheduler."""

import asyncio
from collections.abc import Callable
from typing import Final

from temporalio import activity
from temporalio.client import WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError, RPCStatusCode

from activities.binding import implements
from activities.contracts import resources
from activities.openers import ProviderOpener
from activities.pulse import Pulse
from activities.runs import described
from holdfast.clock import Clock
from holdfast.model.ids import MachineId, RepositoryName
from holdfast.model.placement import Claim, Inquiry, SlotsState

RepositoryReach = Callable[[RepositoryName], None]
"""Raises what keeps this process from moving data from or to a repository."""

_AT_ONCE: Final = 8


class ProxyActivities:
    """Serves the look of `activities.contracts.resources`."""

    def __init__(self, providers: ProviderOpener, reach: RepositoryReach, clock: Clock) -> None:
        self._providers = providers
        self._reach = reach
        self._clock = clock

    @implements(resources.look)
    def look(self, request: Inquiry) -> resources.ProxySeen:
        """Return how this process reaches a machine."""
        with Pulse(self._clock):
            self._reach(request.repository)
            provider = self._providers(request.provider)
            return resources.ProxySeen(ways=provider.ways(MachineId(request.machine)) if request.machine else ())


class SchedulerActivities:
    """Serves what of `activities.contracts.resources` talks to the scheduler."""

    @implements(resources.claim)
    async def claim(self, request: Claim) -> resources.Told:
        """Signal a claim, and start the scheduler with it when none runs."""
        await activity.client().start_workflow(
            resources.SCHEDULER,
            SlotsState(),
            id=resources.SCHEDULER_ID,
            task_queue=activity.info().task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            start_signal=resources.CLAIM,
            start_signal_args=[request],
            static_summary="slots of proxies and repositories",
        )
        return resources.Told()

    @implements(resources.release)
    async def release(self, request: resources.Release) -> resources.Told:
        """Signal that a slot is free; without a scheduler there is nothing to free."""
        scheduler = activity.client().get_workflow_handle(resources.SCHEDULER_ID)
        try:
            await scheduler.signal(resources.RELEASE, request)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
        return resources.Told()

    @implements(resources.find_gone)
    async def find_gone(self, request: resources.Runs) -> resources.Runs:
        """Ask Temporal which runs have ended."""
        lanes = asyncio.Semaphore(_AT_ONCE)

        async def is_gone(run: resources.Run) -> bool:
            async with lanes:
                activity.heartbeat()
                return await _is_gone(run)

        gone = await asyncio.gather(*map(is_gone, request.runs))
        return resources.Runs(runs=tuple(run for run, is_over in zip(request.runs, gone, strict=True) if is_over))


async def _is_gone(run: resources.Run) -> bool:
    found = await described(activity.client(), run.workflow_id, run.run_id)
    return found is None or found.status is not WorkflowExecutionStatus.RUNNING
