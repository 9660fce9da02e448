"""What is noted of new points: the day they count for, the marks of calendar rules, and their lock.

A point is noted once, when it is first seen; one that was an increment then gets its marks when a full is made of it,
as behind a quick backup, or after a synthetic full that failed. So a rule that is changed later gives no old full a
mark, and a session that died before its points were noted costs none: the next one notes them as that one would have
done.
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
    is_made_full: bool = False
    """Whether its full was made for it, and not for an earlier point from which it moved on, as in a merge."""
    began: datetime | None = None
    """When its session began: it counts for that day, and its lock from then on. None when that is not known; then
    both count from its snapshot."""


def note_points(
    points: Sequence[NewPoint], known: Mapping[PointId, PointNote], options: RetentionOptions, zone: tzinfo
) -> dict[PointId, PointNote]:
    """Return the notes of all points of a machine, which are given oldest first.

    Those that are known stay as they are, but for the marks of an increment of which a full was made since.
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
            note = PointNote(
                point_id=point.point_id, day=day, marks=marks, locked_until=lock, is_increment=not point.is_full
            )
        elif note.is_increment and point.is_made_full:
            marks = marks_for_full(note.day, options.policy, earlier)
            earlier += marks
            note = msgspec.structs.replace(note, marks=marks, is_increment=False)
        notes[point.point_id] = note
    return notes


def with_new_marks(note: PointNote, planned: PointNote | None) -> PointNote:
    """Return a note as it is kept, with the marks that a plan gave it since its point became a full."""
    if planned is None or planned.is_increment or not note.is_increment:
        return note
    return msgspec.structs.replace(note, marks=planned.marks, is_increment=False)
