"""The table ``[jobs.retention]`` of the configuration."""

from typing import Final

import msgspec

from holdfast.errors import ConfigurationInvalid
from holdfast.model.retention import (
    MINIMUM_POINTS_DEFAULT,
    WEEK_LAST,
    KeepUnit,
    Method,
    MonthlyRule,
    RetentionOptions,
    RetentionPolicy,
    WeeklyRule,
    YearlyRule,
)
from workers.cron import check_cron

WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTHS: Final = 12
_LOCK_DAYS_MAX: Final = 36500
_COUNT_MAX: Final = 9999
_DAYS_DEFAULT: Final = 7


class RetentionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ``[jobs.retention]`` table: what stays of each machine's points, see docs/retention.md."""

    days: int = 0
    """Days whose points stay, besides those of today. Without ``days`` and ``points``: 7."""
    points: int = 0
    """Or the number of newest points that stay, whatever their age."""
    minimum_points: int = MINIMUM_POINTS_DEFAULT
    """With ``days``: points that stay whatever their age, at least 1."""
    weeks: int = 0
    """For how many weeks the first full of each week stays; 0: weeks are not looked at."""
    weekday: str = "saturday"
    """When such a week begins."""
    months: int = 0
    """For how many months the first full of each month stays; 0: months are not looked at."""
    month_week: int = 1
    """From which seven days of the month on: 1 to 4, or 5 for the last seven."""
    years: int = 0
    """For how many years the first full of each year stays; 0: years are not looked at."""
    year_month: int = 1
    """From which month of the year on, 1 to 12."""
    gone_after: int = 0
    """Days after which the points of a machine go that the job has not tried any more; 0: never."""
    lock: int = 0
    """Days for which a new point is locked: nothing removes it before; 0: it is not."""
    grace: int = 7
    """Days for which `holdfast retention undelete` brings back what was removed."""
    schedule: str | None = None
    """When retention runs besides after each session, as five cron fields in the job's time zone. See
    `holdfast schedule apply`."""


def retention_of(settings: RetentionSettings, timezone: str, method: Method) -> RetentionOptions:
    """Return the rules of a job."""
    return RetentionOptions(
        policy=_policy_of(settings),
        method=method,
        timezone=timezone,
        lock_days=settings.lock,
        grace_days=settings.grace,
        gone_after_days=settings.gone_after or None,
    )


def _policy_of(settings: RetentionSettings) -> RetentionPolicy:
    weekday = WEEKDAYS.index(settings.weekday)
    return RetentionPolicy(
        keep=settings.points or settings.days or _DAYS_DEFAULT,
        unit=KeepUnit.POINTS if settings.points else KeepUnit.DAYS,
        minimum_points=settings.minimum_points,
        weekly=WeeklyRule(weeks=settings.weeks, weekday=weekday) if settings.weeks else None,
        monthly=MonthlyRule(months=settings.months, week=settings.month_week) if settings.months else None,
        yearly=YearlyRule(years=settings.years, month=settings.year_month) if settings.years else None,
    )


def check_retention(what: str, settings: RetentionSettings) -> None:
    """Raise `ConfigurationInvalid` for numbers outside what they may be, and for what contradicts itself."""
    if settings.days and settings.points:
        hint = "Give one of them: days count whatever their points, points whatever their age."
        raise ConfigurationInvalid(f"{what} has both days and points", hint=hint)
    if settings.weekday not in WEEKDAYS:
        raise ConfigurationInvalid(f"weekday of {what} is {settings.weekday!r}", hint=f"Give {', '.join(WEEKDAYS)}.")
    for name, least, most in _BOUNDS:
        value: int = getattr(settings, name)
        if not least <= value <= most:
            raise ConfigurationInvalid(f"{name} of {what} is {value}", hint=f"Give a number from {least} to {most}.")
    check_cron(f"schedule of {what}", settings.schedule)


_BOUNDS: Final = (
    ("days", 0, _COUNT_MAX),
    ("points", 0, _COUNT_MAX),
    ("minimum_points", 1, _COUNT_MAX),
    ("weeks", 0, _COUNT_MAX),
    ("months", 0, _COUNT_MAX),
    ("month_week", 1, WEEK_LAST),
    ("years", 0, 999),
    ("year_month", 1, _MONTHS),
    ("gone_after", 0, _COUNT_MAX),
    ("lock", 0, _LOCK_DAYS_MAX),
    ("grace", 0, _COUNT_MAX),
)
