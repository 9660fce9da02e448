"""Points are noted once, in the order in which they were made."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from holdfast.model.ids import PointId
from holdfast.model.retention import CalendarMark, MarkKind, PointNote, RetentionOptions, RetentionPolicy, WeeklyRule
from holdfast.planning.point_notes import NewPoint, note_points

WEEKLY = RetentionOptions(policy=RetentionPolicy(weekly=WeeklyRule(weeks=4)))
SATURDAY = datetime(2026, 11, 7, 22, tzinfo=UTC)


def new(number: int, created: datetime, *, is_full: bool = True, began: datetime | None = None) -> NewPoint:
    return NewPoint(point_id=PointId(str(number)), is_full=is_full, created=created, began=began)


def test_the_first_full_of_a_week_is_marked_and_no_increment() -> None:
    points = [new(n, SATURDAY + timedelta(days=n), is_full=n != 0) for n in range(9)]
    notes = note_points(points, {}, WEEKLY, UTC)
    assert [number for number, note in notes.items() if note.marks] == ["1", "7"]


def test_what_was_noted_stays_as_it_is() -> None:
    known = {PointId("1"): PointNote(point_id=PointId("1"), day=date(2020, 1, 1))}
    assert note_points([new(1, SATURDAY)], known, WEEKLY, UTC) == known


def test_a_mark_that_was_given_counts_although_its_point_is_gone() -> None:
    mark = CalendarMark(kind=MarkKind.WEEKLY, given=date(2026, 11, 7))
    known = {PointId("0"): PointNote(point_id=PointId("0"), day=mark.given, marks=(mark,))}
    [note] = note_points([new(1, SATURDAY + timedelta(days=1))], known, WEEKLY, UTC).values()
    assert note.marks == ()


def test_a_session_past_midnight_counts_for_the_day_it_began_in_the_time_zone_of_the_job() -> None:
    began = datetime(2026, 11, 7, 22, 30, tzinfo=UTC)  # half past eleven in Zurich
    created = began + timedelta(hours=1)
    zone = ZoneInfo("Europe/Zurich")
    with_start, without = (
        note_points([new(1, created, began=start)], {}, RetentionOptions(), zone)[PointId("1")]
        for start in (began, None)
    )
    assert (with_start.day, without.day) == (date(2026, 11, 7), date(2026, 11, 8))


@pytest.mark.parametrize("year", [2000, 2099])
def test_a_lock_counts_from_the_start_of_the_session_and_not_by_the_clock_of_a_host(year: int) -> None:
    created = SATURDAY.replace(year=year)
    [note] = note_points([new(1, created, began=SATURDAY)], {}, RetentionOptions(lock_days=3), UTC).values()
    assert note.locked_until == SATURDAY + timedelta(days=3)


def test_a_lock_counts_from_the_snapshot_where_the_session_is_not_known() -> None:
    [note] = note_points([new(1, SATURDAY)], {}, RetentionOptions(lock_days=3), UTC).values()
    assert note.locked_until == SATURDAY + timedelta(days=3)
