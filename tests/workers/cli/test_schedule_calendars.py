"""Fulls have a run on their day, asked of a real server: when the schedules that are applied would run."""

import asyncio
import calendar
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from temporalio.api.workflowservice.v1 import ListScheduleMatchingTimesRequest
from temporalio.client import ScheduleRange

from tests.workers.cli.place import Place
from workers.cli.schedule import schedule_of, wanted_schedules
from workers.cli.schedule_calendars import calendars_for_fulls
from workers.devserver import DevServerAddress
from workers.temporal import connect

ZURICH = ZoneInfo("Europe/Zurich")
YEARS = range(2027, 2030)
SCHEDULE = 'schedule = "0 22 * * *"'
FIRST, DAYS = date(YEARS[0], 1, 1), 3 * 365 + 1


def has(day: date, weekday: str, *weeks: int) -> bool:
    """Return whether a day is that weekday, in one of these weeks of its month if any; the last is 5."""
    week = 5 if day.day > calendar.monthrange(day.year, day.month)[1] - 7 else (day.day + 6) // 7
    return day.strftime("%a") == weekday and (not weeks or week in weeks)


Days = Callable[[date], bool]
CASES: dict[str, tuple[str, Days, Days, tuple[time, ...]]] = {
    "30 22 * * mon-fri": (
        'active_full = "last sunday"\nsynthetic_full = "saturday"',
        lambda day: day.weekday() < 5,
        lambda day: has(day, "Sun", 5) or has(day, "Sat"),
        (time(22, 30),),
    ),
    "*/30 6,18-20/2 1-7 * *": (
        'synthetic_full = "last tuesday"',
        lambda day: day.day <= 7,
        lambda day: has(day, "Tue", 5),  # in 2028 the 29th of February, and not the 22nd
        tuple(time(hour, minute) for hour in (6, 18, 20) for minute in (0, 30)),
    ),
    "0 4 10-16 feb-nov sat": (
        'active_full = "second saturday"\nsynthetic_full = "first monday"',
        lambda day: 10 <= day.day <= 16 and 2 <= day.month <= 11 and has(day, "Sat"),
        lambda day: has(day, "Sat", 2) or has(day, "Mon", 1),
        (time(4),),
    ),
}
"""By its cron fields what a job says of fulls, its regular days, those of its fulls, and the times of a regular day."""


def scheduled(place: Place, cron: str, settings: str) -> None:
    """Give the job of a place the name of its folder, a schedule in Zurich, and settings."""
    text = place.config.read_text().replace("nightly", place.root.name)
    more = f'schedule = "{cron}"\ntimezone = "Europe/Zurich"\nmethod = "forward"\n{settings}'
    place.config.write_text(text.replace(SCHEDULE, more))


def expected(cron: str, first: date, days: int) -> list[datetime]:
    """Return when a job of the table should run, on so many days."""
    _, is_regular, has_full, times = CASES[cron]
    found: list[datetime] = []
    for day in (first + timedelta(days=number) for number in range(days)):
        of_day = times if is_regular(day) else times[:1] if has_full(day) else ()
        found += [datetime.combine(day, one, ZURICH) for one in of_day]
    return found


async def would_run(place: Place, name: str) -> list[datetime]:
    """Return when a schedule would run in three years, and leave it paused."""
    client = await connect(place.settings.temporal)
    await client.get_schedule_handle(name).pause()
    found: list[datetime] = []
    for year in YEARS:
        request = ListScheduleMatchingTimesRequest(namespace=client.namespace, schedule_id=name)
        request.start_time.FromDatetime(datetime(year, 1, 1, tzinfo=ZURICH))
        request.end_time.FromDatetime(datetime(year + 1, 1, 1, tzinfo=ZURICH))
        answer = await client.workflow_service.list_schedule_matching_times(request)
        found += [stamp.ToDatetime(UTC) for stamp in answer.start_time]
    return found


def assert_same(found: list[datetime], wanted: list[datetime]) -> None:
    """Fail with the first of the times that are in one of them only: of thousands nobody wants to read more."""
    assert sorted(set(found) ^ set(wanted))[:5] == []
    assert len(found) == len(wanted)


@pytest.fixture
def served(dev_server: DevServerAddress, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """An installation with a server, whose job's schedule does not stay."""
    place = Place(tmp_path_factory.mktemp("fulls"), dev_server.grpc)
    yield place
    asyncio.run(forget(place))


async def forget(place: Place) -> None:
    client = await connect(place.settings.temporal)
    await client.get_schedule_handle(f"job/{place.root.name}").delete()


@pytest.mark.temporal
@pytest.mark.parametrize("cron", CASES)
def test_a_job_runs_on_the_days_of_its_fulls_too_at_its_first_time(served: Place, cron: str) -> None:
    name = served.root.name
    scheduled(served, cron, CASES[cron][0])
    assert served.json("schedule", "apply")["created"] == [name]
    (listed,) = [entry for entry in served.json("schedule")["schedules"] if entry["job"] == name]
    shown = [datetime.fromisoformat(text) for text in listed["next_runs"]]
    now = served.clock.now()
    coming = expected(cron, now.astimezone(ZURICH).date() - timedelta(days=1), 100)
    assert shown == [one for one in coming if one >= min(now, shown[0])][:3]
    assert_same(asyncio.run(would_run(served, f"job/{name}")), expected(cron, FIRST, DAYS))


@pytest.mark.temporal
def test_a_pause_stays_and_a_schedule_of_before_gets_the_days_of_fulls(served: Place) -> None:
    name = served.root.name
    scheduled(served, "30 22 * * mon-fri", 'active_full = "friday"')
    assert served.json("schedule", "apply")["created"] == [name]
    before = asyncio.run(would_run(served, f"job/{name}"))
    assert all(one.weekday() < 5 for one in before)
    served.config.write_text(served.config.read_text().replace('"friday"', '"sunday"'))
    assert served.json("schedule", "apply")["updated"] == [name]
    (listed,) = [entry for entry in served.json("schedule")["schedules"] if entry["job"] == name]
    assert listed["is_paused"]
    sundays = [day for day in map(FIRST.__add__, map(timedelta, range(DAYS))) if has(day, "Sun")]
    after = asyncio.run(would_run(served, f"job/{name}"))
    assert_same(after, before + [datetime.combine(day, time(22, 30), ZURICH) for day in sundays])


def test_a_job_without_a_schedule_has_none_for_its_fulls_either(place: Place) -> None:
    scheduled(place, "0 22 * * mon", 'active_full = "sunday"')
    (schedule,) = wanted_schedules(place.settings).values()
    assert len(schedule.spec.calendars) == 1
    text = place.config.read_text()
    place.config.write_text(text.replace('schedule = "0 22 * * mon"\n', ""))
    assert wanted_schedules(place.settings) == {}


@pytest.mark.parametrize("settings", ['active_full = "sunday"', 'synthetic_full = "last friday"'])
def test_a_daily_job_needs_no_more_runs(place: Place, settings: str) -> None:
    scheduled(place, "0 22 * * *", settings)
    job = place.settings.job(place.root.name)
    assert schedule_of(job, place.settings).spec.calendars == []


def test_every_year_that_the_server_knows_is_a_leap_year_or_is_none(place: Place) -> None:
    scheduled(place, "0 22 * * tue", 'active_full = "last monday"')
    ends = {}
    for found in calendars_for_fulls(place.settings.job(place.root.name)):
        if [(one.start, one.end) for one in found.month] == [(2, 2)]:
            ends[max(one.end for one in found.day_of_month)] = numbers(found.year)
    assert ends[29] == {year for year in range(2000, 2101) if calendar.isleap(year)}
    assert ends[28] == set(range(2000, 2101)) - ends[29]


def numbers(ranges: Sequence[ScheduleRange]) -> set[int]:
    """Return the numbers that ranges stand for; one without an end has a single number."""
    return {number for one in ranges for number in range(one.start, max(one.start, one.end) + 1, max(one.step, 1))}
