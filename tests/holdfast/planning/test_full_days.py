"""Which kind the next point is follows from days alone, and can be read."""

from datetime import date, timedelta

import pytest

from holdfast.errors import RequestInvalid
from holdfast.model.fulls import FullDays, FullPolicy, PointKind
from holdfast.planning.full_days import FullDecision, FullFacts, describe, due_since, parse_full_days, plan_point

SATURDAY = date(2026, 11, 21)
SATURDAYS = FullDays(weekdays=(5,))
WEDNESDAYS = FullDays(weekdays=(2,))


def decide(policy: FullPolicy, today: date, last_full: date | None, *, is_asked_for: bool = False) -> FullDecision:
    return plan_point(policy, FullFacts(today=today, last_full=last_full, is_asked_for=is_asked_for))


def test_the_first_point_is_a_full() -> None:
    found = decide(FullPolicy(), SATURDAY, None, is_asked_for=True)
    assert (found.kind, found.reason) == (PointKind.ACTIVE, "no chain of this machine yet")


def test_without_a_schedule_increments_go_on_for_ever() -> None:
    found = decide(FullPolicy(), SATURDAY, date(2020, 1, 1))
    assert (found.kind, found.reason) == (PointKind.INCREMENT, "no full is due, the last one is of 2020-01-01")


def test_a_full_that_is_asked_for_is_made() -> None:
    assert decide(FullPolicy(), SATURDAY, SATURDAY, is_asked_for=True).reason == "a full was asked for"


@pytest.mark.parametrize("kind", [PointKind.ACTIVE, PointKind.SYNTHETIC])
def test_one_full_is_made_on_each_day_of_the_schedule(kind: PointKind) -> None:
    policy = FullPolicy(active=SATURDAYS) if kind is PointKind.ACTIVE else FullPolicy(synthetic=SATURDAYS)
    found = decide(policy, SATURDAY, SATURDAY - timedelta(days=7))
    assert found.kind is kind
    assert found.reason == "due on saturday: since 2026-11-21 there was none, the last full is of 2026-11-14"
    assert decide(policy, SATURDAY, SATURDAY).kind is PointKind.INCREMENT


def test_a_day_on_which_nothing_ran_is_made_up_for() -> None:
    policy = FullPolicy(active=SATURDAYS)
    assert decide(policy, date(2026, 11, 23), date(2026, 11, 20)).kind is PointKind.ACTIVE
    assert decide(policy, date(2026, 11, 24), date(2026, 11, 23)).kind is PointKind.INCREMENT


def test_of_two_kinds_on_one_day_the_active_one_is_made() -> None:
    policy = FullPolicy(active=SATURDAYS, synthetic=SATURDAYS)
    assert decide(policy, SATURDAY, date(2026, 11, 14)).kind is PointKind.ACTIVE


def test_both_kinds_take_turns() -> None:
    policy = FullPolicy(active=FullDays(weekdays=(5,), week=1), synthetic=WEDNESDAYS)
    day, last, made = date(2026, 11, 1), date(2026, 10, 31), []
    for _ in range(30):
        found = decide(policy, day, last)
        if found.kind is not PointKind.INCREMENT:
            made.append((day.day, found.kind))
            last = day
        day += timedelta(days=1)
    active = [(7, PointKind.ACTIVE)]
    # Of the week before, and of every week.
    assert made == [(4, PointKind.SYNTHETIC), *active, *((day, PointKind.SYNTHETIC) for day in (11, 18, 25))]


@pytest.mark.parametrize(
    "text, days",
    [
        ("saturday", SATURDAYS),
        (" Sunday, wednesday,sunday ", FullDays(weekdays=(2, 6))),
        ("first sunday", FullDays(weekdays=(6,), week=1)),
        ("Last  Friday", FullDays(weekdays=(4,), week=5)),
    ],
)
def test_days_are_read(text: str, days: FullDays) -> None:
    assert parse_full_days(text) == days
    assert parse_full_days(describe(days)) == days


@pytest.mark.parametrize("text", ["", "someday", "fifth sunday", "first sunday, monday", "first someday", "saturday,"])
def test_what_is_no_day_is_refused(text: str) -> None:
    with pytest.raises(RequestInvalid, match="names no day"):
        parse_full_days(text)


@pytest.mark.parametrize(
    "days, today, due",
    [
        ("saturday", date(2026, 11, 27), SATURDAY),
        ("saturday, monday", date(2026, 11, 27), date(2026, 11, 23)),
        ("first saturday", date(2026, 11, 6), date(2026, 10, 3)),
        ("first saturday", date(2026, 11, 7), date(2026, 11, 7)),
        ("fourth sunday", date(2026, 11, 30), date(2026, 11, 22)),
        ("last monday", date(2026, 11, 29), date(2026, 10, 26)),
        ("last monday", date(2026, 11, 30), date(2026, 11, 30)),
        ("last saturday", date(2026, 3, 1), date(2026, 2, 28)),
    ],
)
def test_the_last_day_of_a_schedule_is_found(days: str, today: date, due: date) -> None:
    assert due_since(parse_full_days(days), today) == due


def test_a_schedule_without_days_is_never_due() -> None:
    assert due_since(FullDays(weekdays=()), SATURDAY) is None
    assert decide(FullPolicy(active=FullDays(weekdays=())), SATURDAY, SATURDAY).kind is PointKind.INCREMENT
