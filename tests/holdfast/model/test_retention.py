"""Locks of points: they hold until their moment, and not at it."""

from datetime import UTC, date, datetime, timedelta

from holdfast.model.ids import PointId
from holdfast.model.retention import PointFact

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def point(locked_until: datetime | None) -> PointFact:
    return PointFact(number=1, point_id=PointId("a"), day=date(2026, 1, 2), locked_until=locked_until)


def test_a_point_without_a_lock_is_not_locked() -> None:
    assert not point(None).is_locked(NOON)


def test_a_lock_holds_until_its_moment() -> None:
    assert point(NOON).is_locked(NOON - timedelta(microseconds=1))
    assert not point(NOON).is_locked(NOON)
