"""Days on which fulls need a run of their own, as calendars of a schedule of Temporal."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final

from temporalio.client import ScheduleCalendarSpec, ScheduleRange

from holdfast.planning.cron import parse_cron
from holdfast.planning.full_runs import RunDays, runs_for_fulls
from workers.job_settings import JobSettings
from workers.method_settings import fulls_of

_LEAP_YEARS: Final = (ScheduleRange(2000, 2096, 4),)
_COMMON_YEARS: Final = (*(ScheduleRange(year, 2100, 4) for year in (2001, 2002, 2003)), ScheduleRange(2100))
"""Temporal knows no calendar beyond 2100."""


def calendars_for_fulls(job: JobSettings) -> list[ScheduleCalendarSpec]:
    """Return when a job that has a schedule runs besides, so that each of its fulls has a run on its day."""
    fulls = fulls_of(job)
    if job.schedule is None or fulls is None:
        return []
    times = parse_cron(job.schedule)
    return [_calendar(days, times.first_time) for days in runs_for_fulls(times, fulls)]


def _calendar(days: RunDays, time: tuple[int, int]) -> ScheduleCalendarSpec:
    hour, minute = time
    return ScheduleCalendarSpec(
        minute=[ScheduleRange(minute)],
        hour=[ScheduleRange(hour)],
        day_of_month=_ranges(days.days),
        month=_ranges(days.months),
        year=_years(days.leap_years),
        day_of_week=_ranges((weekday + 1) % 7 for weekday in days.weekdays),
        comment="full on a day without another run",
    )


def _ranges(numbers: Iterable[int]) -> list[ScheduleRange]:
    return [ScheduleRange(run[0], run[-1]) for run in _runs(numbers)]


def _runs(numbers: Iterable[int]) -> Iterator[list[int]]:
    """Yield numbers that follow each other."""
    pairs = enumerate(sorted(numbers))
    for _, run in groupby(pairs, key=lambda pair: pair[1] - pair[0]):
        yield [number for _, number in run]


def _years(leap_years: frozenset[bool]) -> tuple[ScheduleRange, ...]:
    if len(leap_years) > 1:
        return ()
    return _LEAP_YEARS if True in leap_years else _COMMON_YEARS
