"""The scheduler: gives slots of proxies and repositories to who asks.

There is one. It begins with a claim and ends when nobody has or wants a slot any more. Whoever waits asks again now and
then, so a scheduler that was terminated costs time and nothing else.

Guarantee: no proxy and no repository works on more disks at once than its limit, as far as sessions ask; every claim is
answered as soon as there is room, the most urgent first; what a dead session held is given back.
"""

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import FailureError

from activities.contracts import resources
from holdfast.model.placement import Claim, Grant, Held, SlotsState
from holdfast.planning.slots import give_slots
from workflows import options, queues
from workflows.report import facts_table, summary


@workflow.defn(name=resources.SCHEDULER)
class GrantSlots:
    """Give slots until nobody needs any."""

    @workflow.init
    def __init__(self, request: SlotsState) -> None:
        """Take over what an earlier run knew."""
        self._held = {held.claim.ticket: held for held in request.held}
        self._waiting = {claim.ticket: claim for claim in request.waiting}
        self._to_tell: list[tuple[Claim, Grant]] = []
        self._has_news = True

    @workflow.query(name="state", description="Who has a slot and who waits")
    def state(self) -> SlotsState:
        """Return who has a slot and who waits."""
        return SlotsState(held=tuple(self._held.values()), waiting=tuple(self._waiting.values()))

    @workflow.signal(name=resources.CLAIM, description="Ask for a slot")
    def claim(self, claim: Claim) -> None:
        """Put a claim into the line; one that was granted is told again."""
        held = self._held.get(claim.ticket)
        if held is None:
            self._waiting[claim.ticket] = claim
        else:
            self._to_tell.append((held.claim, held.grant))
        self._has_news = True

    @workflow.signal(name=resources.RELEASE, description="Give a slot back")
    def release(self, release: resources.Release) -> None:
        """Take a slot back, or a claim out of the line."""
        self._held.pop(release.ticket, None)
        self._waiting.pop(release.ticket, None)
        self._has_news = True

    @workflow.run
    async def run(self, request: SlotsState) -> SlotsState:
        """Give slots."""
        del request  # taken in `__init__`
        looked = workflow.now()
        while True:
            await self._give()
            if self._is_over():
                return self.state()
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(self.state())
            left = looked + options.RECLAIM_INTERVAL - workflow.now()
            with suppress(TimeoutError):
                await workflow.wait_condition(lambda: self._has_news, timeout=max(left, timedelta(0)))
            if workflow.now() - looked >= options.RECLAIM_INTERVAL:
                await self._reclaim()
                looked = workflow.now()

    def _is_over(self) -> bool:
        return not (self._held or self._waiting or self._has_news)

    async def _give(self) -> None:
        """Give what can be given, and tell who got it, until there is nothing new."""
        while self._has_news:
            self._has_news = False
            for grant in give_slots(tuple(self._held.values()), tuple(self._waiting.values())):
                claim = self._waiting.pop(grant.ticket)
                self._held[grant.ticket] = Held(claim=claim, grant=grant, since=workflow.now())
                self._to_tell.append((claim, grant))
            self._show()
            while self._to_tell:
                await self._tell(*self._to_tell.pop(0))

    async def _tell(self, claim: Claim, grant: Grant) -> None:
        asker = workflow.get_external_workflow_handle(claim.workflow_id, run_id=claim.run_id)
        try:
            await asker.signal(resources.GRANTED, grant)
        except FailureError:
            # It has ended: nobody will give the slot back.
            self._held.pop(grant.ticket, None)
            self._has_news = True

    async def _reclaim(self) -> None:
        """Take back what is held or wanted by workflows that are gone."""
        claims = (*self._waiting.values(), *(held.claim for held in self._held.values()))
        runs = dict.fromkeys((claim.workflow_id, claim.run_id) for claim in claims)
        asked = resources.Runs(runs=tuple(resources.Run(workflow_id=one[0], run_id=one[1]) for one in runs))
        config = options.lookup(queues.CONTROL, summary(f"who of {len(runs)} is gone"))
        try:
            found = await workflow.execute_activity(resources.find_gone, asked, **config)
        except FailureError:
            return  # asked again in a while
        gone = {(run.workflow_id, run.run_id) for run in found.runs}
        for claim in claims:
            if (claim.workflow_id, claim.run_id) in gone:
                self._held.pop(claim.ticket, None)
                self._waiting.pop(claim.ticket, None)
                self._has_news = True

    def _show(self) -> None:
        workflow.set_current_details(details(self._held.values(), self._waiting.values(), workflow.now()))


def details(held: Iterable[Held], waiting: Iterable[Claim], now: datetime) -> str:
    """Return who has a slot and who waits, as Markdown."""
    rows = [
        (one.claim.what, one.grant.proxy, one.claim.repository, f"since {_ago(now, one.since)}: {one.grant.reason}")
        for one in held
    ]
    rows += [
        (claim.what, " or ".join(one.name for one in claim.candidates), claim.repository, "waits") for claim in waiting
    ]
    return facts_table(("Disk", "Proxy", "Repository", "Slot"), rows)


def _ago(now: datetime, then: datetime) -> str:
    return f"{round((now - then).total_seconds())} s"
