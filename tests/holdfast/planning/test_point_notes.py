"""Points are noted once, in the order in which they were made."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from holdfast.model.ids import PointId
from holdfast.model.retention import CalendarMark, MarkKind, PointNote, RetentionOptions, RetentionPolicy, WeeklyRule
from holdfast.planning.point_notes import NewPoint, note_points, with_new_marks

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


def test_an_increment_gets_its_marks_when_a_full_is_made_of_it() -> None:
    first = note_points([new(1, SATURDAY, is_full=False)], {}, WEEKLY, UTC)
    assert first[PointId("1")].marks == ()
    made = NewPoint(point_id=PointId("1"), is_full=True, created=SATURDAY, is_made_full=True)
    second = note_points([made, new(2, SATURDAY + timedelta(days=1))], first, WEEKLY, UTC)
    assert [mark.given for mark in second[PointId("1")].marks] == [date(2026, 11, 7)]
    assert second[PointId("2")].marks == (), "the full of the week is there already"
    assert note_points([made], second, RetentionOptions(), UTC)[PointId("1")] == second[PointId("1")]


def test_a_full_that_moved_on_to_an_increment_by_a_merge_gets_no_marks() -> None:
    first = note_points([new(1, SATURDAY, is_full=False)], {}, WEEKLY, UTC)
    assert note_points([new(1, SATURDAY)], first, WEEKLY, UTC) == first


def test_only_marks_are_put_to_what_is_kept() -> None:
    later = SATURDAY + timedelta(days=9)
    kept = PointNote(point_id=PointId("1"), day=SATURDAY.date(), locked_until=later, is_increment=True)
    mark = CalendarMark(kind=MarkKind.WEEKLY, given=SATURDAY.date())
    planned = PointNote(point_id=PointId("1"), day=SATURDAY.date(), marks=(mark,))
    assert with_new_marks(kept, None) == kept
    assert with_new_marks(kept, kept) == kept
    marked = with_new_marks(kept, planned)
    assert (marked.marks, marked.locked_until, marked.is_increment) == ((mark,), later, False)
    assert with_new_marks(marked, PointNote(point_id=PointId("1"), day=SATURDAY.date())) == marked


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
