"""Decides which kind the next point of a machine is, and reads the days on which fulls are due.

A full is due from a day of its schedule on, until there is one: a day on which nothing ran is made up for by the next
run. A second run after it makes an increment. When both kinds are due the active one is made, which is the other, too.
"""

from collections.abc import Iterator
from datetime import date, timedelta

import msgspec

from holdfast.errors import RequestInvalid
from holdfast.model.fulls import FullDays, FullPolicy, PointKind

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_WEEKS = {"first": 1, "second": 2, "third": 3, "fourth": 4, "last": 5}
LAST_WEEK = 5
"""Stands for the last seven days of a month."""
WEEK_DAYS = 7
_SEARCHED = 70
"""A day of a month comes round within so many days, whatever the months are."""
HINT = "Write weekdays, such as `saturday` or `sunday, wednesday`, or a day of the month, such as `first sunday`."


class FullDecision(msgspec.Struct, frozen=True, kw_only=True):
    """Which kind the next point is, and why, to be printed."""

    kind: PointKind
    reason: str


class FullFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the decision rests on."""

    today: date
    """In the time zone of the policy: the day on which the session began."""
    last_full: date | None
    """Of the full of the chain that would be continued; None when there is no chain."""
    is_asked_for: bool = False
    """Whether a full was asked for by hand."""


def plan_point(policy: FullPolicy, facts: FullFacts) -> FullDecision:
    """Return of which kind the next point is."""
    if facts.last_full is None:
        return FullDecision(kind=PointKind.ACTIVE, reason="no chain of this machine yet")
    if facts.is_asked_for:
        return FullDecision(kind=PointKind.ACTIVE, reason="a full was asked for")
    for kind, days in ((PointKind.ACTIVE, policy.active), (PointKind.SYNTHETIC, policy.synthetic)):
        due = None if days is None else due_since(days, facts.today)
        if days is not None and due is not None and facts.last_full < due:
            reason = f"due on {describe(days)}: since {due} there was none, the last full is of {facts.last_full}"
            return FullDecision(kind=kind, reason=reason)
    return FullDecision(kind=PointKind.INCREMENT, reason=f"no full is due, the last one is of {facts.last_full}")


def due_since(days: FullDays, today: date) -> date | None:
    """Return the last day of a schedule up to today; None where a schedule has no day at all."""
    return next((day for day in _backwards(today) if _is_due(days, day)), None)


def parse_full_days(text: str) -> FullDays:
    """Return the days that a setting names. Raises `RequestInvalid`."""
    words = [word.strip() for word in text.lower().split(",")]
    week = 0
    if len(words) == 1 and len(words[0].split()) > 1:
        first, _, rest = words[0].partition(" ")
        week, words = _WEEKS.get(first, 0), [rest.strip()]
        if not week:
            raise RequestInvalid(f"{text!r} names no day: {first!r} is no week of a month", hint=HINT)
    unknown = [word for word in words if word not in WEEKDAYS]
    if unknown:
        raise RequestInvalid(f"{text!r} names no day: {unknown[0]!r} is no weekday", hint=HINT)
    return FullDays(weekdays=tuple(sorted({WEEKDAYS.index(word) for word in words})), week=week)


def describe(days: FullDays) -> str:
    """Return the days in words, as `parse_full_days` reads them."""
    names = ", ".join(WEEKDAYS[weekday] for weekday in days.weekdays)
    week = next((name for name, number in _WEEKS.items() if number == days.week), "")
    return f"{week} {names}".strip()


def _backwards(today: date) -> Iterator[date]:
    return (today - timedelta(days=past) for past in range(_SEARCHED))


def _is_due(days: FullDays, day: date) -> bool:
    if day.weekday() not in days.weekdays:
        return False
    if days.week == LAST_WEEK:
        return (day + timedelta(days=WEEK_DAYS)).month != day.month
    return not days.week or (day.day - 1) // WEEK_DAYS + 1 == days.week
