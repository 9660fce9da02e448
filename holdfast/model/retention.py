"""Retention: what a job keeps, and the facts about chains that a plan is made of."""

from datetime import date, datetime
from enum import StrEnum

import msgspec

from holdfast.model.archives import Archive
from holdfast.model.ids import PointId

MINIMUM_POINTS_DEFAULT = 3
WEEK_LAST = 5
"""Stands for the last seven days of a month."""


class Method(StrEnum):
    """How the points of a machine depend on each other, and so what retention may do with them."""

    FOREVER = "forever"
    """One full, then increments only; the oldest increment is merged into the full when its point is outdated."""
    FORWARD = "forward"
    """Increments, and a full now and then; a full and its increments are removed together."""
    REVERSE = "reverse"
    """The full is always the newest point; the oldest rollback file is removed when its point is outdated."""


class KeepUnit(StrEnum):
    """What the number of a retention rule counts."""

    DAYS = "days"
    POINTS = "points"


class WeeklyRule(msgspec.Struct, frozen=True, kw_only=True):
    """Keep the first full of each week for a number of weeks."""

    weeks: int
    weekday: int = 5
    """When the week of the rule begins: 0 is Monday, 6 is Sunday."""


class MonthlyRule(msgspec.Struct, frozen=True, kw_only=True):
    """Keep the first full of each month for a number of months."""

    months: int
    week: int = 1
    """From which seven days of the month on: 1 to 4, or 5 for the last seven."""


class YearlyRule(msgspec.Struct, frozen=True, kw_only=True):
    """Keep the first full of each year for a number of years."""

    years: int
    month: int = 1
    """From which month on: 1 to 12."""


class RetentionPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What a job keeps of each machine."""

    keep: int = 7
    unit: KeepUnit = KeepUnit.DAYS
    minimum_points: int = MINIMUM_POINTS_DEFAULT
    """Points that stay whatever their age, when days are counted."""
    weekly: WeeklyRule | None = None
    monthly: MonthlyRule | None = None
    yearly: YearlyRule | None = None


class RetentionOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a job looks after the points of its machines once a session is over."""

    policy: RetentionPolicy = RetentionPolicy()
    method: Method = Method.FOREVER
    timezone: str = "UTC"
    """Whose days are counted."""
    lock_days: int = 0
    """Days for which each new point is locked, from the start of its session on; 0: it is not."""
    grace_days: int = 7
    """Days for which what was removed can be taken back."""
    gone_after_days: int | None = None
    """Days after which the points of a machine go that the job does not try any more; None: never."""
    only_archives: bool = False
    """Only archives are looked at, which no job owns, and those go that have expired; nothing else here but the days of
    grace has a meaning then."""


class MarkKind(StrEnum):
    """For which calendar rule a full is kept; the lower kinds come first."""

    WEEKLY = "weekly"
    MONTHLY = "monthly"
    YEARLY = "yearly"


class CalendarMark(msgspec.Struct, frozen=True, kw_only=True):
    """Says that a full is kept by a calendar rule. Until when follows from the rule as it is today."""

    kind: MarkKind
    given: date


class PointNote(msgspec.Struct, frozen=True, kw_only=True):
    """What is noted of a point once, and kept with it in the repository."""

    point_id: PointId
    day: date
    """On which its session began, in the time zone of its job."""
    marks: tuple[CalendarMark, ...] = ()
    locked_until: datetime | None = None
    """Before then it cannot be removed; a lock only ever gets longer."""
    archive: Archive | None = None
    """Of an archive: until when it is kept; None for points of jobs."""
    is_quick: bool = False
    """Whether it was made by a quick backup: then it goes with the point of its job before it."""
    is_increment: bool = False
    """Whether it was an increment when it was noted: it gets its marks when a full is made of it."""


class PointFact(msgspec.Struct, frozen=True, kw_only=True):
    """A complete point as retention sees it."""

    number: int
    point_id: PointId
    day: date
    """On which its session began, in the time zone of its job."""
    locked_until: datetime | None = None
    marks: tuple[CalendarMark, ...] = ()
    is_quick: bool = False
    """Whether a quick backup made it; then it belongs to the point of its job before it."""

    def is_locked(self, now: datetime) -> bool:
        """Return whether the point must not be removed yet, nor a file that holds it."""
        return self.locked_until is not None and self.locked_until > now


class FileFact(msgspec.Struct, frozen=True, kw_only=True):
    """A chain file as retention sees it; one that has no complete point is nobody's business here."""

    name: str
    kind: str
    """``full``, ``increment`` or ``rollback``."""
    size_bytes: int
    point: PointFact


class ChainFact(msgspec.Struct, frozen=True, kw_only=True):
    """A chain as retention sees it: its files by the numbers of their points, oldest first."""

    chain: str
    files: tuple[FileFact, ...]
    is_continued: bool = False
    """Whether the next increment goes into it; then its newest point always stays."""


class QuickBackup(msgspec.Struct, frozen=True, kw_only=True):
    """A quick backup, an increment between two runs of a job: what is noted of its point beforehand."""

    timezone: str = "UTC"
    """Of the job, whose days are counted."""
    lock_days: int = 0
    """Days for which the job locks new points; 0: it does not."""
    began: datetime | None = None
    """When the session began, from which both count; None: when the snapshot was taken, as workers of earlier versions
    ask."""
