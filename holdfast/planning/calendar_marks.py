"""Calendar rules: which full is kept for its week, month or year, and until when.

A week of the rule begins on its weekday, a month on its first, eighth, fifteenth or twenty-second day or seven days
before its end, a year with its month. The first full on or after that day is marked, so a full that came late is not
missed. A mark of a higher kind goes only to a full that has the one below, where a rule for that is set.
"""

import calendar
from collections.abc import Iterable
from datetime import date, timedelta

from holdfast.model.retention import (
    WEEK_LAST,
    CalendarMark,
    MarkKind,
    MonthlyRule,
    RetentionPolicy,
    WeeklyRule,
    YearlyRule,
)

_WEEK = 7
_MONTHS = 12
_BELOW = {MarkKind.MONTHLY: MarkKind.WEEKLY, MarkKind.YEARLY: MarkKind.MONTHLY}


def marks_for_full(day: date, policy: RetentionPolicy, earlier: Iterable[CalendarMark]) -> tuple[CalendarMark, ...]:
    """Return the marks of a full whose session began on ``day``, given those that earlier fulls got."""
    given: dict[MarkKind, date] = {}
    for mark in earlier:
        given[mark.kind] = max(mark.given, given.get(mark.kind, mark.given))
    marks: dict[MarkKind, CalendarMark] = {}
    starts = _period_starts(day, policy)
    for kind, start in starts.items():
        below = _BELOW.get(kind)
        has_below = below not in starts or below in marks
        last = given.get(kind)
        if has_below and (last is None or last < start):
            marks[kind] = CalendarMark(kind=kind, given=day)
    return tuple(marks.values())


def _period_starts(day: date, policy: RetentionPolicy) -> dict[MarkKind, date]:
    """Return when the period of each rule that is set began that ``day`` is in; lower kinds first."""
    starts = {}
    if policy.weekly is not None:
        starts[MarkKind.WEEKLY] = _week_start(day, policy.weekly)
    if policy.monthly is not None:
        starts[MarkKind.MONTHLY] = _month_start(day, policy.monthly)
    if policy.yearly is not None:
        starts[MarkKind.YEARLY] = _year_start(day, policy.yearly)
    return starts


def _week_start(day: date, rule: WeeklyRule) -> date:
    return day - timedelta(days=(day.weekday() - rule.weekday) % _WEEK)


def _month_start(day: date, rule: MonthlyRule) -> date:
    start = _first_day_of_rule(day.year, day.month, rule.week)
    if start <= day:
        return start
    before = day.replace(day=1) - timedelta(days=1)
    return _first_day_of_rule(before.year, before.month, rule.week)


def _first_day_of_rule(year: int, month: int, week: int) -> date:
    if week == WEEK_LAST:
        return date(year, month, calendar.monthrange(year, month)[1] - _WEEK + 1)
    return date(year, month, (week - 1) * _WEEK + 1)


def _year_start(day: date, rule: YearlyRule) -> date:
    start = date(day.year, rule.month, 1)
    return start if start <= day else start.replace(year=day.year - 1)


def kept_until(mark: CalendarMark, policy: RetentionPolicy) -> date:
    """Return the day on which a mark stops keeping its full; the day it was given when there is no such rule now."""
    if mark.kind is MarkKind.WEEKLY and policy.weekly is not None:
        return mark.given + timedelta(days=_WEEK * policy.weekly.weeks)
    if mark.kind is MarkKind.MONTHLY and policy.monthly is not None:
        return _months_later(mark.given, policy.monthly.months) + timedelta(days=1)
    if mark.kind is MarkKind.YEARLY and policy.yearly is not None:
        return _months_later(mark.given, policy.yearly.years * _MONTHS) + timedelta(days=1)
    return mark.given


def _months_later(day: date, months: int) -> date:
    """Return the same day of a later month, or its last one when it has no such day."""
    years, month = divmod(day.month - 1 + months, _MONTHS)
    year = day.year + years
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))
