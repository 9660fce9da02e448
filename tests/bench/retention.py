"""How long retention takes to plan, for as many machines as one installation may have."""

from datetime import UTC, datetime, timedelta

from holdfast.clock import SystemClock
from holdfast.model.ids import PointId
from holdfast.model.retention import (
    CalendarMark,
    ChainFact,
    FileFact,
    MarkKind,
    PointFact,
    RetentionOptions,
    RetentionPolicy,
    WeeklyRule,
)
from holdfast.planning.consent import Rules, judge
from holdfast.planning.retention_steps import steps_of
from tests.bench.ledger import Ledger

RETENTION = "Planning retention"
PLANNED = "10,000 machines with 60 points each, without reading their chains"
PLANNED_S_MAX = 2.0
_MACHINES = 10_000
_POINTS = 60
_NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
_RULES = RetentionOptions(policy=RetentionPolicy(keep=30, weekly=WeeklyRule(weeks=8)))


def chains_of(machine: int, points: int = _POINTS) -> tuple[ChainFact, ...]:
    """Return an old chain with a marked full, and the one that is continued; a point a day."""
    half = points // 3
    return (
        ChainFact(chain=f"{machine}/1", files=tuple(_file(machine, points, number) for number in range(half))),
        ChainFact(
            chain=f"{machine}/2",
            files=tuple(_file(machine, points, number) for number in range(half, points)),
            is_continued=True,
        ),
    )


def _file(machine: int, points: int, number: int) -> FileFact:
    day = (_NOW - timedelta(days=points - 1 - number)).date()
    marks = (CalendarMark(kind=MarkKind.WEEKLY, given=day),) if number == 0 else ()
    point = PointFact(number=number, point_id=PointId(f"{machine}-{number}"), day=day, marks=marks)
    kind = "full" if number in {0, points // 3} else "increment"
    return FileFact(name=f"{number:08d}-{kind}.hfc", kind=kind, size_bytes=1 << 30, point=point)


def plan_all(machines: list[tuple[ChainFact, ...]]) -> int:
    """Plan for all machines, with rules that held before; return how many steps that gives."""
    rules = Rules(now=_RULES, before=_RULES)
    return sum(len(steps_of(judge(chains, rules, _NOW).plan)) for chains in machines)


def run_retention(ledger: Ledger) -> None:
    """Plan once for each run of the ledger."""
    clock = SystemClock()
    machines = [chains_of(number) for number in range(_MACHINES)]
    ledger.set_goal(RETENTION, PLANNED, PLANNED_S_MAX)
    for _ in range(ledger.runs):
        began_s = clock.monotonic_s()
        steps = plan_all(machines)
        ledger.add(RETENTION, PLANNED, clock.monotonic_s() - began_s, "s")
        ledger.add(RETENTION, "steps of all plans together", steps, "")
