"""Which runs a job needs besides those of its schedule, so that each of its fulls has a run on its day.

A scheduled full is made on its day also when the job does not run on that day, at the usual time of the job. Which
full it is, an active or a synthetic one, is decided by the run (see `full_days`), as in any other.
"""

from typing import Final

import msgspec

from holdfast.model.fulls import FullDays, FullPolicy
from holdfast.planning.cron import CronTimes
from holdfast.planning.full_days import LAST_WEEK, WEEK_DAYS

_ALL_DAYS: Final = frozenset(range(1, 32))
_ALL_MONTHS: Final = frozenset(range(1, 13))
_ALL_YEARS: Final = frozenset((False, True))


class RunDays(msgspec.Struct, frozen=True, kw_only=True):
    """All days that fit each of these; no set is empty."""

    weekdays: frozenset[int]
    """0 is Monday, 6 is Sunday."""
    days: frozenset[int] = _ALL_DAYS
    """Of the month."""
    months: frozenset[int] = _ALL_MONTHS
    leap_years: frozenset[bool] = _ALL_YEARS
    """Whether the year has a 29th of February: the last week of that month depends on it."""


_MONTH_ENDS: Final = (
    (31, frozenset((1, 3, 5, 7, 8, 10, 12)), _ALL_YEARS),
    (30, frozenset((4, 6, 9, 11)), _ALL_YEARS),
    (29, frozenset((2,)), frozenset((True,))),
    (28, frozenset((2,)), frozenset((False,))),
)


def runs_for_fulls(schedule: CronTimes, fulls: FullPolicy) -> tuple[RunDays, ...]:
    """Return the days of fulls on which a schedule has no run, each in one entry only."""
    runs = [RunDays(weekdays=schedule.weekdays, days=schedule.days, months=schedule.months)]
    more: list[RunDays] = []
    for full in (fulls.active, fulls.synthetic):
        for days in [] if full is None else _days_of(full):
            new = _without_all(days, runs + more)
            more += new
    return tuple(more)


def _days_of(full: FullDays) -> list[RunDays]:
    weekdays = frozenset(full.weekdays)
    if not weekdays:
        return []
    if not full.week:
        return [RunDays(weekdays=weekdays)]
    if full.week != LAST_WEEK:
        return [RunDays(weekdays=weekdays, days=_week_before(full.week * WEEK_DAYS))]
    return [
        RunDays(weekdays=weekdays, days=_week_before(end), months=months, leap_years=years)
        for end, months, years in _MONTH_ENDS
    ]


def _week_before(end: int) -> frozenset[int]:
    return frozenset(range(end - WEEK_DAYS + 1, end + 1))


def _without_all(days: RunDays, others: list[RunDays]) -> list[RunDays]:
    left = [days]
    for other in others:
        left = [part for one in left for part in _without(one, other)]
    return left


def _without(days: RunDays, other: RunDays) -> list[RunDays]:
    """Return what is left of days without others, no day in two parts.

    One after the other, each field parts what cannot be among the others from what still can.
    """
    fields = RunDays.__struct_fields__
    if not all(getattr(days, field) & getattr(other, field) for field in fields):
        return [days]
    parts: list[RunDays] = []
    for field in fields:
        mine, theirs = getattr(days, field), getattr(other, field)
        if mine - theirs:
            parts.append(msgspec.structs.replace(days, **{field: mine - theirs}))
        days = msgspec.structs.replace(days, **{field: mine & theirs})
    return parts
