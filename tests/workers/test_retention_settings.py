"""The retention of a job: what its words mean, and what is wrong with them."""

from pathlib import Path

import pytest

from holdfast.errors import ConfigurationInvalid
from holdfast.model.retention import (
    KeepUnit,
    MonthlyRule,
    RetentionOptions,
    RetentionPolicy,
    WeeklyRule,
    YearlyRule,
)
from tests.workers.test_config import BASE, load
from workers.retention_settings import RetentionSettings, retention_of

JOB_TEXT = """
[[jobs]]
name = "nightly"
provider = "lab"
repository = "main"
timezone = "Europe/Zurich"
[jobs.retention]
"""


def options(tmp_path: Path, text: str) -> RetentionOptions:
    [job] = load(tmp_path, BASE + JOB_TEXT + text).jobs
    assert job.retention is not None
    return retention_of(job.retention, job.timezone, job.method)


def test_an_empty_table_keeps_seven_days(tmp_path: Path) -> None:
    assert options(tmp_path, "") == RetentionOptions(timezone="Europe/Zurich")
    assert RetentionOptions().policy == RetentionPolicy(keep=7, unit=KeepUnit.DAYS, minimum_points=3)


def test_every_rule_is_read(tmp_path: Path) -> None:
    text = """points = 14
weeks = 4
weekday = "sunday"
months = 12
month_week = 5
years = 7
year_month = 6
gone_after = 14
lock = 3
grace = 0
"""
    assert options(tmp_path, text) == RetentionOptions(
        policy=RetentionPolicy(
            keep=14,
            unit=KeepUnit.POINTS,
            weekly=WeeklyRule(weeks=4, weekday=6),
            monthly=MonthlyRule(months=12, week=5),
            yearly=YearlyRule(years=7, month=6),
        ),
        timezone="Europe/Zurich",
        lock_days=3,
        grace_days=0,
        gone_after_days=14,
    )


@pytest.mark.parametrize(
    "text, message",
    [
        ("days = 7\npoints = 7", "has both days and points"),
        ("days = -1", "days of retention of job nightly is -1"),
        ("minimum_points = 0", "minimum_points of retention of job nightly is 0"),
        ("month_week = 6", "month_week of retention of job nightly is 6"),
        ("year_month = 13", "year_month of retention of job nightly is 13"),
        ('weekday = "caturday"', "weekday of retention of job nightly is 'caturday'"),
        ('schedule = "at night"', "schedule of retention of job nightly is 'at night'"),
        ("week = 4", "week"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationInvalid, match=message):
        options(tmp_path, text)


def test_settings_have_the_defaults_of_their_page() -> None:
    assert RetentionSettings().grace == 7
