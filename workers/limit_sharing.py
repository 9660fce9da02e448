"""Shares the limits of this process with the other processes of the installation, by the workflow that knows them all.

Only while transfers of this process are under a limit is anything said: when what they want changes, and every few
seconds, which also says that the process lives. When nobody answers the process keeps what it was told last, and what
was never told stands still; that happens when no control worker is there, without which no transfer begins either.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Final

from temporalio.client import Client, WithStartWorkflowOperation, WorkflowUpdateFailedError
from temporalio.client import WorkflowUpdateRPCTimeoutOrCancelledError as NoAnswer
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError

from holdfast.clock import Clock
from holdfast.measures import LIMIT_SHARE
from holdfast.model.limit_shares import LimitsState, Report, Share, Shares
from holdfast.pipeline.throttle import Throttle, Wanted
from workflows import queues
from workflows.limits import KEEPER, KEEPER_ID, REPORT

_LOOK_S: Final = 0.2
_PAUSE_S: Final = 1.0
"""The shortest between two reports, and from a report to the next when shares are on their way to somebody else."""
_RENEW_S: Final = 5.0
"""How soon a process hears that others want a share of what it has."""
_ANSWER_S: Final = 5.0
_FAREWELL_S: Final = 2.0
_COMPLAINT_S: Final = 60.0


@asynccontextmanager
async def sharing(
    client: Client, throttle: Throttle, label: str, clock: Clock, say: Callable[[str], None]
) -> AsyncIterator[None]:
    """Share the limits of a process that is known as ``label`` while the block runs; ``say`` is told of trouble."""
    sharer = LimitSharer(client, throttle, label, clock, say)
    throttle.share_with_others()
    ended = asyncio.Event()
    running = asyncio.create_task(sharer.run(ended))
    try:
        yield
    finally:
        ended.set()
        running.cancel()  # of a question; the client takes it for one that was not answered
        with suppress(asyncio.CancelledError):
            await running
        await sharer.farewell()


class LimitSharer:
    """Reports what a process wants of its limits, and gives its throttle what it is told."""

    def __init__(
        self, client: Client, throttle: Throttle, label: str, clock: Clock, say: Callable[[str], None]
    ) -> None:
        self._client = client
        self._throttle = throttle
        self._label = label
        self._clock = clock
        self._say = say
        self._process = secrets.token_hex(8)
        self._sequence = 0
        self._told: Wanted | None = None
        """What was reported last, None when that is nothing."""
        self._measured: set[str] = set()
        self._is_settled = True
        self._reported_s = clock.monotonic_s() - _RENEW_S
        self._complained_s = clock.monotonic_s() - _COMPLAINT_S

    async def run(self, ended: asyncio.Event) -> None:
        """Report until it has ended."""
        while not ended.is_set():
            await self.look()
            await asyncio.sleep(_LOOK_S)

    async def look(self) -> None:
        """Report if there is anything to say."""
        past_s = self._clock.monotonic_s() - self._reported_s
        wanted = self._throttle.want()
        told = self._told
        if not wanted.wants and told is None:
            return
        is_news = told is None or (wanted.limits, wanted.wants) != (told.limits, told.wants)
        is_due = past_s >= (_RENEW_S if self._is_settled and not is_news else _PAUSE_S)
        if is_due or (told is None and self._is_settled):
            await self._report(wanted)

    async def farewell(self) -> None:
        """Give back what the process has, if it can still be said."""
        if self._told is not None:
            with suppress(RPCError, NoAnswer, WorkflowUpdateFailedError):
                await self._ask(Wanted(limits={}, wants=(), holds={}), _FAREWELL_S)

    async def _report(self, wanted: Wanted) -> None:
        self._reported_s = self._clock.monotonic_s()
        try:
            answer = await self._ask(wanted, _ANSWER_S)
        except (RPCError, NoAnswer, WorkflowUpdateFailedError) as error:
            self._is_settled = False
            self._complain(error)
            return
        self._told = wanted if wanted.wants else None
        self._is_settled = answer.is_settled
        self._throttle.give(answer.shares)
        self._measure(answer.shares)

    def _measure(self, shares: Mapping[str, Share]) -> None:
        """Record the shares, and that there are none of those that were."""
        rates = dict.fromkeys(self._measured, 0.0) | {name: share.rate_bytes_s for name, share in shares.items()}
        for name, rate_bytes_s in rates.items():
            LIMIT_SHARE.record(rate_bytes_s, limit=name)
        self._measured = set(shares)

    async def _ask(self, wanted: Wanted, timeout_s: float) -> Shares:
        self._sequence += 1
        report = Report(
            process=self._process,
            label=self._label,
            sequence=self._sequence,
            limits=wanted.limits,
            wants=wanted.wants,
            holds=wanted.holds,
        )
        begin: WithStartWorkflowOperation[object, LimitsState] = WithStartWorkflowOperation(
            KEEPER,
            LimitsState(),
            id=KEEPER_ID,
            task_queue=queues.CONTROL,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary="limits that processes share",
        )
        try:
            answer: Shares = await self._client.execute_update_with_start_workflow(
                REPORT,
                report,
                start_workflow_operation=begin,
                result_type=Shares,
                rpc_timeout=timedelta(seconds=timeout_s),
            )
        except (RPCError, NoAnswer):
            with suppress(RPCError, NoAnswer):
                await begin.workflow_handle()  # the same error; one that nobody takes is a complaint of asyncio
            raise
        return answer

    def _complain(self, error: Exception) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._complained_s >= _COMPLAINT_S:
            self._complained_s = now_s
            self._say(f"holdfast worker keeps the shares of limits that it has, for nobody tells others: {error}")
