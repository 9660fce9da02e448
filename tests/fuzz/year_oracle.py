"""What has to be there of a machine on a day: days, calendars and dependence, and nothing of how it is planned.

A day is looked for by walking back from another, one at a time, so that no rule is worked out as the product does it.
"""

from collections.abc import Collection, Mapping
from datetime import date, timedelta

import msgspec

from holdfast.model.ids import PointId
from holdfast.model.retention import KeepUnit, MarkKind, RetentionOptions, RetentionPolicy
from holdfast.testing.disks import PatternedDisk

_DAY = timedelta(days=1)
_NEEDS_BELOW = {MarkKind.MONTHLY: MarkKind.WEEKLY, MarkKind.YEARLY: MarkKind.MONTHLY}


class Remembered(msgspec.Struct, kw_only=True):
    """A point as the oracle knows it."""

    day: date
    disks: dict[str, PatternedDisk]
    is_full: bool | None = None
    """Whether it was a full when it was noted, or was made one since; None while it is not noted."""
    is_judged: bool = False
    """Whether calendars have been asked for this full."""
    marked_until: date | None = None


class Oracle:
    """Knows the points of one machine."""

    def __init__(self, options: RetentionOptions) -> None:
        self._options = options
        self._marks: dict[MarkKind, list[date]] = {kind: [] for kind in MarkKind}
        self.points: dict[PointId, Remembered] = {}

    def wanted(self, today: date, *, is_gone: bool) -> set[PointId]:
        """Return the points that must stay whatever chains look like."""
        policy = self._options.policy
        by_age = self._by_age
        locked_since = today - timedelta(days=self._options.lock_days)
        wanted = {p for p in by_age if self.points[p].day > locked_since}
        marked = {p for p in by_age if (self.points[p].marked_until or date.min) > today}
        wanted |= marked
        if is_gone:
            return wanted
        counted = [p for p in by_age if p not in marked]
        if policy.unit is KeepUnit.POINTS:
            return wanted | set(counted[-policy.keep :])
        recent = {p for p in counted if self.points[p].day >= today - timedelta(days=policy.keep)}
        return wanted | recent | set(counted[-policy.minimum_points :])

    def surplus(self, wanted: Collection[PointId], chain_of: Mapping[PointId, str]) -> set[PointId]:
        """Return the points that are there and should not be: nobody wants them, and nothing wanted rests on them."""

        def carries(point: PointId) -> bool:
            day, chain = self.points[point].day, chain_of[point]
            return any(chain_of[other] == chain and self.points[other].day >= day for other in wanted)

        return {point for point in chain_of if not carries(point)}

    def look(self, fulls: Collection[PointId], made: Collection[PointId]) -> None:
        """Say which points are fulls at a look, and of which of these the full was made: calendars mark the first ones.

        A point counts as what it was when it was noted, unless it is made a full later; a look that dies before it
        noted anything is made up for by the next one.
        """
        for point in self._by_age:
            known = self.points[point]
            is_full = point in fulls if known.is_full is None else known.is_full or point in made
            if is_full and not known.is_judged:
                known.is_judged = True
                self._mark(known)

    def noted(self, fulls: Collection[PointId], made: Collection[PointId]) -> None:
        """Say that what a look saw was noted."""
        for point, known in self.points.items():
            known.is_full = point in fulls if known.is_full is None else known.is_full or point in made

    @property
    def _by_age(self) -> list[PointId]:
        return sorted(self.points, key=lambda point: self.points[point].day)

    def _mark(self, point: Remembered) -> None:
        """Mark the first full of each week, month and year."""
        policy, given = self._options.policy, set[MarkKind]()
        for kind, until in _rules(policy, point.day).items():
            begin = _period_begin(kind, point.day, policy)
            is_first = not any(day >= begin for day in self._marks[kind])
            below = _NEEDS_BELOW.get(kind)
            has_below = below in given or below not in _rules(policy, point.day)
            if is_first and has_below:
                given.add(kind)
                self._marks[kind].append(point.day)
                point.marked_until = max(until, point.marked_until or until)


def _rules(policy: RetentionPolicy, day: date) -> dict[MarkKind, date]:
    """Return until when each rule that there is keeps a full of a day; it goes on that day."""
    found = {}
    if policy.weekly is not None:
        found[MarkKind.WEEKLY] = day + timedelta(weeks=policy.weekly.weeks)
    if policy.monthly is not None:
        found[MarkKind.MONTHLY] = _months_on(day, policy.monthly.months) + _DAY
    if policy.yearly is not None:
        found[MarkKind.YEARLY] = _months_on(day, 12 * policy.yearly.years) + _DAY
    return found


def _period_begin(kind: MarkKind, day: date, policy: RetentionPolicy) -> date:
    while not _begins(kind, day, policy):
        day -= _DAY
    return day


def _begins(kind: MarkKind, day: date, policy: RetentionPolicy) -> bool:
    if kind is MarkKind.WEEKLY:
        return policy.weekly is not None and day.weekday() == policy.weekly.weekday
    if kind is MarkKind.YEARLY:
        return policy.yearly is not None and (day.month, day.day) == (policy.yearly.month, 1)
    assert policy.monthly is not None
    is_last_seven = (day + 7 * _DAY).day == 1
    return is_last_seven if policy.monthly.week == 5 else day.day == 1 + 7 * (policy.monthly.week - 1)


def _months_on(day: date, months: int) -> date:
    """Return the same day so many months on, or the last one of that month."""
    later = day
    for _ in range(months):
        later = later.replace(day=1) + 31 * _DAY
    while True:
        try:
            return later.replace(day=day.day)
        except ValueError:
            day -= _DAY
