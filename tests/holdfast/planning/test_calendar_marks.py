"""Calendar rules: the tables of their page, and whatever the days, one mark for each period that has a full."""

import calendar
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.model.retention import (
    CalendarMark,
    MarkKind,
    MonthlyRule,
    RetentionPolicy,
    WeeklyRule,
    YearlyRule,
)
from holdfast.planning.calendar_marks import kept_until, marks_for_full
from tests.docs.pages import rows

PAGE = "docs/retention.md"
WEEKDAYS = list(calendar.day_name)


def policy_of(weekday: str, week: str, month: str) -> RetentionPolicy:
    return RetentionPolicy(
        weekly=None if weekday == "-" else WeeklyRule(weeks=1, weekday=WEEKDAYS.index(weekday)),
        monthly=None if week == "-" else MonthlyRule(months=1, week=int(week)),
        yearly=None if month == "-" else YearlyRule(years=1, month=int(month)),
    )


@pytest.mark.parametrize("weekday, week, month, fulls", rows(PAGE, "Weekly from"))
def test_the_fulls_of_the_page_get_their_marks(weekday: str, week: str, month: str, fulls: str) -> None:
    given_so_far: list[CalendarMark] = []
    policy, told = policy_of(weekday, week, month), []
    for words in fulls.split(", "):
        day = date.fromisoformat(words.split()[0])
        marks = marks_for_full(day, policy, given_so_far)
        given_so_far += marks
        told.append(" ".join([day.isoformat(), *filter(None, ["".join(mark.kind[0] for mark in marks)])]))
    assert ", ".join(told) == fulls


@pytest.mark.parametrize("kind, given_on, rule, until", rows(PAGE, "Mark"))
def test_a_mark_keeps_until_the_day_of_the_page(kind: str, given_on: str, rule: str, until: str) -> None:
    count = 0 if rule == "none" else int(rule.split(maxsplit=1)[0])
    policies = {
        "weekly": RetentionPolicy(weekly=WeeklyRule(weeks=count)),
        "monthly": RetentionPolicy(monthly=MonthlyRule(months=count)),
        "yearly": RetentionPolicy(yearly=YearlyRule(years=count)),
    }
    mark = CalendarMark(kind=MarkKind(kind), given=date.fromisoformat(given_on))
    policy = policies[kind] if count else RetentionPolicy()
    assert kept_until(mark, policy) == date.fromisoformat(until)


@given(
    st.lists(st.integers(0, 900), min_size=1, max_size=60, unique=True),
    st.integers(0, 6),
)
def test_each_week_with_a_full_has_one_marked_full_and_it_is_the_first(days: list[int], weekday: int) -> None:
    policy = RetentionPolicy(weekly=WeeklyRule(weeks=1, weekday=weekday))
    start = date(2026, 1, 1)
    marked: list[CalendarMark] = []
    fulls = [start + timedelta(days=day) for day in sorted(days)]
    for day in fulls:
        marked += marks_for_full(day, policy, marked)
    firsts: dict[int, date] = {}
    for day in fulls:
        firsts.setdefault((day.toordinal() - 1 - weekday) // 7, day)
    assert [mark.given for mark in marked] == list(firsts.values())


def test_marks_given_in_any_order_count() -> None:
    policy = RetentionPolicy(weekly=WeeklyRule(weeks=1, weekday=0))
    earlier = [
        CalendarMark(kind=MarkKind.WEEKLY, given=date(2026, 11, 16)),
        CalendarMark(kind=MarkKind.WEEKLY, given=date(2026, 11, 2)),
    ]
    assert not marks_for_full(date(2026, 11, 18), policy, earlier)
