"""Runs for fulls come on the days of fulls that have no other run, found by walking the days of three years."""

import calendar
from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from itertools import product

import pytest

from holdfast.model.fulls import FullDays, FullPolicy
from holdfast.planning.cron import parse_cron
from holdfast.planning.full_runs import RunDays, runs_for_fulls

YEARS = (2027, 2028, 2029)
DAYS = [date(2027, 1, 1) + timedelta(days=number) for number in range(3 * 365 + 1)]

CRONS: dict[str, Callable[[date], bool]] = {
    "* * *": lambda day: True,
    "* * 1-5": lambda day: day.isoweekday() <= 5,
    "* * sat": lambda day: day.isoweekday() == 6,
    "* * 0,3": lambda day: day.isoweekday() in {3, 7},
    "*/2 * *": lambda day: day.day % 2 == 1,
    "1 * *": lambda day: day.day == 1,
    "25-31 * sun": lambda day: day.day >= 25 and day.isoweekday() == 7,
    "29 2 *": lambda day: (day.month, day.day) == (2, 29),
    "8-14 jan-jun 6,7": lambda day: 8 <= day.day <= 14 and day.month <= 6 and day.isoweekday() >= 6,
    "30 feb *": lambda day: False,
    "* 4-12/4 mon": lambda day: day.month in {4, 8, 12} and day.isoweekday() == 1,
}
"""Which days of the month, months and weekdays are those of a schedule, and the same said once more."""
EVERY_WEEK = [FullDays(weekdays=days) for days in ((0,), (5,), (6,), (2, 5), (0, 1, 2, 3, 4), tuple(range(7)), ())]
ONCE_A_MONTH = [FullDays(weekdays=(day,), week=week) for day, week in product(range(7), range(1, 6))]


def days_of(full: FullDays) -> set[date]:
    """Return the days of fulls in three years, from the sheets of a calendar."""
    found: set[date] = set()
    for year, month, weekday in product(YEARS, range(1, 13), full.weekdays):
        column = [week[weekday] for week in calendar.monthcalendar(year, month) if week[weekday]]
        chosen = {0: column, 5: column[-1:]}.get(full.week, column[full.week - 1 : full.week])
        found |= {date(year, month, day) for day in chosen}
    return found


def counted(runs: tuple[RunDays, ...]) -> Counter[date]:
    """Return how often each day is named."""
    assert all(all(getattr(one, name) for name in one.__struct_fields__) for one in runs), "an empty set means any"
    return Counter(
        day
        for one in runs
        for day in DAYS
        if day.month in one.months
        and day.day in one.days
        and day.weekday() in one.weekdays
        and calendar.isleap(day.year) in one.leap_years
    )


@pytest.mark.parametrize("fields", CRONS)
def test_each_day_of_a_full_without_a_run_gets_one(fields: str) -> None:
    times, covered = parse_cron(f"0 22 {fields}"), {day for day in DAYS if CRONS[fields](day)}
    for full in EVERY_WEEK + ONCE_A_MONTH:
        found = counted(runs_for_fulls(times, FullPolicy(active=full)))
        assert found == Counter(days_of(full) - covered), full
        assert counted(runs_for_fulls(times, FullPolicy(synthetic=full))) == found, full


@pytest.mark.parametrize("fields", CRONS)
def test_a_day_of_both_kinds_gets_one_run(fields: str) -> None:
    times, covered = parse_cron(f"0 22 {fields}"), {day for day in DAYS if CRONS[fields](day)}
    for active, synthetic in product((EVERY_WEEK[1], EVERY_WEEK[3], ONCE_A_MONTH[29]), EVERY_WEEK + ONCE_A_MONTH[::6]):
        found = counted(runs_for_fulls(times, FullPolicy(active=active, synthetic=synthetic)))
        assert found == Counter((days_of(active) | days_of(synthetic)) - covered), (active, synthetic)


def test_a_schedule_that_covers_the_fulls_gets_no_more_runs() -> None:
    fulls = FullPolicy(active=ONCE_A_MONTH[29], synthetic=EVERY_WEEK[1])
    assert runs_for_fulls(parse_cron("0 22 * * *"), fulls) == ()
    assert runs_for_fulls(parse_cron("0 22 * * fri-6"), fulls) == ()


def test_a_job_without_fulls_gets_no_more_runs() -> None:
    assert runs_for_fulls(parse_cron("0 22 * * 1"), FullPolicy()) == ()
