"""The proxy and the slots of one machine's work: which proxy, when there is room, and what when it is lost."""

import asyncio
import builtins
from collections.abc import Awaitable, Callable, Collection
from datetime import timedelta
from typing import Final, TypeVar

import msgspec
from temporalio import workflow
from temporalio.exceptions import ActivityError, FailureError, TimeoutError, TimeoutType  # noqa: A004 - Temporal's own
from temporalio.workflow import ActivityConfig

from activities.contracts import resources as contract
from holdfast.errors import ProxyUnavailable
from holdfast.model.ids import MachineId, ProviderName, RepositoryName
from holdfast.model.placement import Candidate, Claim, Grant, Inquiry, Placement, Priority, ProxyFacts, Resources
from holdfast.planning.placement import rank_proxies
from workflows import options, queues
from workflows.book import Book
from workflows.failures import problem_of
from workflows.report import summary
from workflows.session import CAUGHT
from workflows.undo import shielded

LOOK_AGAIN: Final = timedelta(seconds=15)
"""Between looks at proxies none of which can do the work."""
ASK_AGAIN: Final = timedelta(minutes=30)
"""How often who waits asks again, should the scheduler have been terminated with its line."""

_Result = TypeVar("_Result")

Transfer = Callable[[ActivityConfig], Awaitable[_Result]]
"""Moves a disk by an activity with these options, which say at which proxy."""


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """What the slots are for."""

    provider: ProviderName
    repository: RepositoryName
    priority: Priority
    what: str


class Slots:
    """Slots for the disks of one machine, all at one proxy."""

    def __init__(self, resources: Resources | None, proxy: str, needs: Needs, book: Book) -> None:
        self.proxy = proxy
        """The proxy that does the work; another one after it was lost."""
        self._resources = resources
        self._needs = needs
        self._book = book
        self._machine = MachineId("")
        self._candidate: Candidate | None = None
        self._lost: list[str] = []
        self._spare: Grant | None = None
        self._grants: dict[str, Grant] = {}
        self._tickets = 0
        self._lock = asyncio.Lock()

    def granted(self, grant: Grant) -> None:
        """Take what the scheduler signals."""
        self._grants[grant.ticket] = grant

    async def choose(self, machine: MachineId = MachineId("")) -> None:  # noqa: B008 - a string
        """Choose the proxy and have a first slot there, which the first piece of work takes.

        A session of an earlier version has its proxy, and the slots of its queue are all there is. Raises
        `ProxyUnavailable` when no proxy can do it for half an hour, or has no room for half a day.
        """
        self._machine = machine
        if self._resources is not None:
            async with self._lock:
                await self._choose(self._resources)

    async def run(self, move: Transfer[_Result], what: str, size_bytes: int) -> _Result:
        """Move a disk in a slot of its own; when its proxy is lost that is done again at another.

        ``what`` is told of it, and ``size_bytes`` says how long it may take.
        """
        if self._resources is None:
            return await move(options.transfer(queues.transfer_queue(self.proxy), summary(what), size_bytes))
        begins_within = options.LOST_AFTER if len(self._resources.proxies) > 1 else None
        while True:
            grant = await self._take(self._resources)
            queue = queues.transfer_queue(grant.proxy)
            try:
                result = await move(options.transfer(queue, summary(what), size_bytes, begins_within))
            except CAUGHT as failure:
                await self._give_back(grant.ticket)
                if not _is_lost(failure):
                    raise
                self._lose(grant.proxy)
            else:
                await self._give_back(grant.ticket)
                return result

    async def close(self) -> None:
        """Give back what was not used. Idempotent."""
        spare, self._spare = self._spare, None
        if spare is not None:
            await self._give_back(spare.ticket)

    async def _choose(self, resources: Resources) -> None:
        placement = await find_proxies(resources, self._inquiry(), self._lost, self._book)
        grant = await self._claim(resources, placement.candidates)
        self._spare, self.proxy = grant, grant.proxy
        self._candidate = next(one for one in placement.candidates if one.name == grant.proxy)
        self._book.tell("Proxy", f"{grant.proxy}: {'; '.join((grant.reason, *_passed_over(placement)))}")

    async def _take(self, resources: Resources) -> Grant:
        while True:
            async with self._lock:
                if self._candidate is None:
                    await self._choose(resources)
                spare, self._spare = self._spare, None
                if spare is not None:
                    return spare
                assert self._candidate is not None, "chosen before"
                candidate = self._candidate
            grant = await self._claim(resources, (candidate,))
            # Sessions of earlier versions went to a proxy that was lost while they waited for its slot.
            if self._is_still_used(grant.proxy) or not workflow.patched("leave-a-lost-proxy"):
                return grant
            await self._give_back(grant.ticket)

    def _is_still_used(self, proxy: str) -> bool:
        return self._candidate is not None and self._candidate.name == proxy

    async def _claim(self, resources: Resources, candidates: tuple[Candidate, ...]) -> Grant:
        info = workflow.info()
        self._tickets += 1
        claim = Claim(
            ticket=f"{info.workflow_id}/{info.run_id}/{self._tickets}",
            workflow_id=info.workflow_id,
            run_id=info.run_id,
            candidates=candidates,
            repository=self._needs.repository,
            repository_tasks=resources.repository_tasks,
            priority=self._needs.priority,
            asked=info.start_time,
            what=self._needs.what,
        )
        try:
            return await self._granted(claim)
        except CAUGHT:
            await self._give_back(claim.ticket)
            raise

    async def _granted(self, claim: Claim) -> Grant:
        """Ask until there is an answer."""
        config = options.lookup(queues.CONTROL, summary(f"slot for {claim.what}"))
        latest = workflow.now() + options.QUEUE_WAIT
        while claim.ticket not in self._grants:
            if workflow.now() >= latest:
                names = ", ".join(one.name for one in claim.candidates)
                raise ProxyUnavailable(f"no slot at {names} and repository {claim.repository} became free in time")
            await workflow.execute_activity(contract.claim, claim, **config)
            try:
                await workflow.wait_condition(lambda: claim.ticket in self._grants, timeout=ASK_AGAIN)
            except builtins.TimeoutError:
                continue
        return self._grants.pop(claim.ticket)

    async def _give_back(self, ticket: str) -> None:
        await shielded(self._released(ticket))

    async def _released(self, ticket: str) -> None:
        config = options.record(queues.CONTROL, "slot given back", options.RECORD_PATIENCE)
        try:
            await workflow.execute_activity(contract.release, contract.Release(ticket=ticket), **config)
        except FailureError as error:
            workflow.logger.warning("slot %s is given back when the session has ended: %s", ticket, error)

    def _lose(self, proxy: str) -> None:
        if self._candidate is not None and self._candidate.name == proxy:
            self._candidate = None
        if proxy not in self._lost:
            self._lost.append(proxy)
            self._book.note([f"proxy {proxy} was lost; its disks go on at another one from their last commit"])

    def _inquiry(self) -> Inquiry:
        return Inquiry(provider=self._needs.provider, machine=self._machine, repository=self._needs.repository)


async def find_proxies(resources: Resources, inquiry: Inquiry, lost: Collection[str], book: Book) -> Placement:
    """Return the proxies that can do the work; they are waited for. Raises `ProxyUnavailable`.

    The only one is not looked at: its queue has the patience. ``lost`` are passed over as long as there are others.
    """
    if len(resources.proxies) == 1:
        [only] = resources.proxies
        return Placement(candidates=(Candidate(name=only.name, tasks=only.tasks, reason="the only one allowed"),))
    latest = workflow.now() + options.OUTAGE
    while True:
        facts = await asyncio.gather(*(_look(one.name, one.tasks, inquiry) for one in resources.proxies))
        found = rank_proxies([one for one in facts if one.name not in lost] or facts, resources.preferred)
        if not found.candidates:
            found = rank_proxies(facts, resources.preferred)
        if found.candidates:
            return found
        if workflow.now() >= latest:
            raise ProxyUnavailable(f"no proxy can do the work: {'; '.join(found.passed_over)}")
        book.enter(f"waiting for a proxy: {'; '.join(found.passed_over)}")
        await workflow.sleep(LOOK_AGAIN, summary="until a proxy is there")


async def _look(name: str, tasks: int, inquiry: Inquiry) -> ProxyFacts:
    config = options.look(queues.look_queue(name), summary(f"what {name} reaches"))
    try:
        seen = await workflow.execute_activity(contract.look, inquiry, **config)
    except FailureError as failure:
        problem = "no worker answers" if _is_lost(failure) else problem_of(failure).message
        return ProxyFacts(name=name, tasks=tasks, problem=problem)
    return ProxyFacts(name=name, tasks=tasks, ways=seen.ways)


def _is_lost(failure: BaseException) -> bool:
    """Return whether nobody was there to begin an activity."""
    cause = failure.cause if isinstance(failure, ActivityError) else None
    return isinstance(cause, TimeoutError) and cause.type is TimeoutType.SCHEDULE_TO_START


def _passed_over(placement: Placement) -> tuple[str, ...]:
    return tuple(f"passed over: {words}" for words in placement.passed_over)
