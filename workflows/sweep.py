"""The removal of what dead sessions left at a provider.

Guarantee: what a running session needs stays; what is removed was made by a session that is over, and everything that
stays is listed with the reason.
"""

from collections.abc import Sequence
from functools import partial

import msgspec
from temporalio import workflow
from temporalio.exceptions import FailureError

from activities.contracts import snapshot, sweep, target
from holdfast.model.ids import RepositoryName, SessionId
from holdfast.model.session import SessionKind
from holdfast.model.tags import session_of
from holdfast.planning.sweep import DIGITS, Decision, Kind, Owner, SweepFacts, SweepRules, doubtful_choices, plan_sweep
from workflows import options, queues
from workflows.failures import problem_of
from workflows.messages import SessionProgress, SessionResult, SweepReport, SweepRequest
from workflows.report import summary
from workflows.session import LISTED_MAX, SessionRun
from workflows.steps import in_lanes, step, stop_if_cancelled

HOLDERS = ("BackupJob", "MachineBackup", "RestoreMachine")
"""The workflows whose sessions make snapshots or targets."""
_AT_ONCE = 4
"""Removals at once: each waits for its hypervisor, and a datastore bears few."""
_TOLD_MAX = 50


@workflow.defn(name="SweepProvider")
class SweepProvider:
    """List, ask whose it is, decide, remove."""

    @workflow.init
    def __init__(self, request: SweepRequest) -> None:
        """Take the request, so that questions can be answered from the first moment."""
        self._request = request
        self._run = SessionRun(
            SessionKind.SWEEP,
            request.job,
            RepositoryName(""),
            request.session_id,
            request.provider,
            title=f"sweep of {request.provider}",
        )
        self._book = self._run.book
        self._proxy = queues.proxy_queue(request.proxy)
        self._removed = 0

    @workflow.query(name="progress", description="Where the sweep stands")
    def progress(self) -> SessionProgress:
        """Return where the session stands."""
        return self._book.progress()

    @workflow.run
    async def run(self, request: SweepRequest) -> SessionResult:
        """Sweep one provider."""
        self._book.tell("Provider", request.provider)
        return await self._run.carry_out(self._sweep)

    async def _sweep(self) -> None:
        request = self._request
        left = await self._leftovers()
        rules = SweepRules(age_min_s=request.age_min_s, with_unknown=request.with_unknown, choices=request.choices)
        facts = await self._facts(left)
        plan = list(plan_sweep(facts, workflow.now(), rules))
        self._book.note(doubtful_choices(facts, rules))
        self._tell(plan)
        if not request.is_dry_run:
            self._book.enter("removing")
            doomed = [number for number, decision in enumerate(plan) if decision.is_removed]
            # A snapshot or target whose disk is attached somewhere cannot be removed.
            attached = [number for number in doomed if plan[number].kind is Kind.ATTACHED]
            others = [number for number in doomed if plan[number].kind is not Kind.ATTACHED]
            for numbers in filter(None, (attached, others)):
                await in_lanes([partial(self._remove, plan, number) for number in numbers], _AT_ONCE)
        self._run.swept = SweepReport(
            decisions=tuple(plan[:LISTED_MAX]),
            removed=self._removed,
            kept=sum(not decision.is_removed for decision in plan),
            is_dry_run=request.is_dry_run,
        )
        stop_if_cancelled()

    async def _leftovers(self) -> sweep.Leftovers:
        request = self._request
        self._book.enter("looking for what is left")
        return await step(
            sweep.find_leftovers,
            sweep.FindLeftovers(provider=request.provider),
            options.lookup(self._proxy, summary(f"snapshots and targets of {request.provider}")),
        )

    async def _facts(self, left: sweep.Leftovers) -> SweepFacts:
        """Return what is left and who made it; nobody is asked when nothing is left."""
        if not left.snapshots and not left.targets and not left.attached:
            return SweepFacts()
        self._book.enter("asking whose it is")
        tags = (*(one.tag for one in left.snapshots), *(one.tag for one in left.attached))
        named = {session_id for tag in tags if (session_id := session_of(tag)) is not None}
        held = (one.target_id for one in left.attached if one.target_id)
        targets = tuple(dict.fromkeys((*(one.target_id for one in left.targets), *held)))
        found = await step(
            sweep.find_sessions,
            sweep.FindSessions(sessions=tuple(sorted(named)), targets=targets),
            options.lookup(queues.CONTROL, summary("sessions of the catalog")),
        )
        running = await step(
            sweep.find_running,
            sweep.FindRunning(
                workflow_types=HOLDERS,
                listed=tuple(one for one in found.sessions if one.ended is None),
                targets=targets,
            ),
            options.lookup(queues.CONTROL, summary("sessions that run")),
        )
        return SweepFacts(
            snapshots=left.snapshots,
            targets=left.targets,
            attached=left.attached,
            owners=_owners(found, running),
            target_owners=found.target_owners | running.target_owners,
        )

    async def _remove(self, plan: list[Decision], number: int) -> None:
        """Remove one thing; what goes wrong is noted in the plan and keeps no other from being removed."""
        decision = plan[number]
        what = _what(decision)
        try:
            await self._removal(decision)
        except FailureError as error:
            stop_if_cancelled()
            plan[number] = msgspec.structs.replace(decision, problem=problem_of(error).message)
            self._book.note([f"{what} is not removed: {plan[number].problem}"])
            return
        self._removed += 1
        self._book.tell(what[:1].upper() + what[1:], f"removed: {decision.reason}")

    async def _removal(self, decision: Decision) -> None:
        provider, what = self._request.provider, summary(_what(decision))
        if decision.kind is Kind.SNAPSHOT:
            removal = snapshot.RemoveSnapshot(provider=provider, machine_id=decision.machine_id, tag=decision.tag)
            await step(snapshot.remove_snapshot, removal, options.removal(self._proxy, what))
        elif decision.attached is not None:
            await step(
                sweep.detach_disk,
                sweep.DetachDisk(provider=provider, attached=decision.attached),
                options.undo(self._proxy, what),
            )
        else:
            abandon = target.AbandonTarget(
                provider=provider, token="", target_id=decision.target_id, choice=decision.choice
            )
            await step(target.abandon_target, abandon, options.ending(self._proxy, what))

    def _tell(self, plan: Sequence[Decision]) -> None:
        counts = {kind: sum(one.kind is kind for one in plan) for kind in Kind}
        shown = (kind for kind in Kind if counts[kind] or kind is not Kind.ATTACHED)
        self._book.tell("Found", ", ".join(f"{counts[kind]} {kind}s" for kind in shown))
        self._book.note([f"{_what(one)} is for you to decide: {one.reason}" for one in plan if one.is_undecided])
        for decision in plan[:_TOLD_MAX]:
            what = _what(decision)
            verb = "to be removed" if decision.is_removed else "kept"
            self._book.tell(what[:1].upper() + what[1:], f"{verb}: {decision.reason}")


def _what(decision: Decision) -> str:
    if decision.kind is Kind.SNAPSHOT:
        return f"snapshot {decision.tag or 'without a tag'} of {decision.machine_name}"
    if decision.attached is not None:
        return f"disk {decision.attached.file} attached to {decision.machine_name}"
    return f"restore target {decision.target_id[:DIGITS]} of {decision.machine_name}"


def _owners(found: sweep.SessionsFound, running: sweep.RunningFound) -> dict[SessionId, Owner]:
    """Return what is known of each session; who runs counts more than what was written down."""
    owners = {
        one.session_id: Owner(
            session_id=one.session_id,
            is_running=False,
            over_since=one.ended or running.closed.get(one.session_id, one.started),
        )
        for one in found.sessions
    }
    return owners | {one: Owner(session_id=one, is_running=True) for one in running.sessions}
