"""What is noted of new points: the day they count for, the marks of calendar rules, and their lock.

A point is noted once, when it is first seen. So a rule that is changed later gives no old point a mark, and a session
that died before its points were noted costs none: the next one notes them as that one would have done.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, tzinfo

import msgspec

from holdfast.model.ids import PointId
from holdfast.model.retention import PointNote, RetentionOptions
from holdfast.planning.calendar_marks import marks_for_full


class NewPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A complete point of a machine, noted or not."""

    point_id: PointId
    is_full: bool
    created: datetime
    """When its snapshot was taken, by the clock of the hypervisor's host, which may be wrong."""
    began: datetime | None = None
    """When its session began: it counts for that day, and its lock from then on. None when that is not known; then
    both count from its snapshot."""


def note_points(
    points: Sequence[NewPoint], known: Mapping[PointId, PointNote], options: RetentionOptions, zone: tzinfo
) -> dict[PointId, PointNote]:
    """Return the notes of all points of a machine, which are given oldest first; those that are known stay as they are.

    ``zone`` is the time zone that the options name.
    """
    notes: dict[PointId, PointNote] = {}
    earlier = [mark for note in known.values() for mark in note.marks]
    for point in points:
        note = known.get(point.point_id)
        if note is None:
            began = point.began or point.created
            day = began.astimezone(zone).date()
            marks = marks_for_full(day, options.policy, earlier) if point.is_full else ()
            earlier += marks
            lock = began + timedelta(days=options.lock_days) if options.lock_days else None
            note = PointNote(point_id=point.point_id, day=day, marks=marks, locked_until=lock)
        notes[point.point_id] = note
    return notes
