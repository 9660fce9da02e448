"""Limits that hold several processes together: who gets how much of them.

There is one. It begins with the first process that has a transfer under a limit, and ends when there has been none for
a while. Processes report what they want and hold, several times a minute, and are told what they may have.

Guarantee: what processes may use together never exceeds a limit, whichever of their reports and answers get lost; what
a dead process held is for the others soon. A process that nobody answers keeps what it was told last.
"""

from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Final

from temporalio import workflow

from holdfast.model.limit_shares import LimitsState, Member, Report, Shares
from holdfast.planning.limit_shares import LAPSE, decide, still_there
from workflows.report import facts_table, size_text

KEEPER: Final = "ShareLimits"
"""Type of the workflow."""
KEEPER_ID: Final = "limits"
"""Its id: there is one."""
REPORT: Final = "report"
STATE: Final = "state"

LOOK: Final = LAPSE / 2
_LATE: Final = LOOK + timedelta(seconds=5)
"""Who looks again after so long was away meanwhile, with the server or without."""


@workflow.defn(name=KEEPER)
class ShareLimits:
    """Share limits until nobody is under one."""

    @workflow.init
    def __init__(self, request: LimitsState) -> None:
        """Take over what an earlier run knew."""
        self._members = {member.report.process: member for member in request.members}
        self._shown = ""

    @workflow.query(name=STATE, description="Who shares which limits")
    def state(self) -> LimitsState:
        """Return who shares limits."""
        return LimitsState(members=tuple(self._members.values()))

    @workflow.update(name=REPORT, description="What a process wants, and what it may have")
    def report(self, report: Report) -> Shares:
        """Return what a process may have of the limits that it names."""
        known = self._members.get(report.process)
        if known is not None and report.sequence <= known.report.sequence:
            return Shares(is_settled=False)  # it came late, and nobody waits for the answer
        others = [member for name, member in self._members.items() if name != report.process]
        member, shares = decide(others, report, workflow.now())
        if report.wants:
            self._members[report.process] = member
        else:
            self._members.pop(report.process, None)
        self._show()
        return shares

    @workflow.run
    async def run(self, request: LimitsState) -> LimitsState:
        """Look now and then who is still there."""
        del request  # taken in `__init__`
        since = looked = workflow.now()
        while True:
            with suppress(TimeoutError):
                await workflow.wait_condition(workflow.info().is_continue_as_new_suggested, timeout=LOOK)
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(self.state())
            now = workflow.now()
            since = now if now - looked > _LATE else since
            looked = now
            self._members = {one.report.process: one for one in still_there(self._members.values(), since, now)}
            self._show()
            if not self._members:
                return self.state()

    def _show(self) -> None:
        if (told := details(self._members.values())) != self._shown:
            self._shown = told
            workflow.set_current_details(told)


def details(members: Iterable[Member]) -> str:
    """Return who has how much of which limit, as Markdown."""
    rows = []
    for member in members:
        for name, limit in member.report.limits.items():
            disks, rate = part_of(member, name)
            rows.append((name, member.report.label, str(disks), _rate(rate), _rate(limit)))
    return facts_table(("Limit", "Process", "Disks", "May have", "Of"), sorted(rows))


def part_of(member: Member, limit: str) -> tuple[int, float]:
    """Return how many disks of a process are under a limit, and what they may have of it, in bytes per second."""
    disks = sum(want.count for want in member.report.wants if limit in want.limits)
    return disks, member.holds.get(limit, 0.0)


def _rate(bytes_s: float) -> str:
    return f"{size_text(round(bytes_s))}/s"
