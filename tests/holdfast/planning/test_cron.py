"""Cron fields mean what they mean to Temporal, which runs by them."""

from datetime import date, timedelta

import pytest

from holdfast.errors import RequestInvalid
from holdfast.planning.cron import CronTimes, parse_cron

MIDNIGHT = {
    "minutes": {0},
    "hours": {0},
    "days": set(range(1, 32)),
    "months": set(range(1, 13)),
    "weekdays": set(range(7)),
}
YEAR = [date(2028, 1, 1) + timedelta(days=number) for number in range(366)]


@pytest.mark.parametrize(
    "text, changes",
    [
        ("0 0 * * *", {}),
        ("59 23 31 12 *", {"minutes": {59}, "hours": {23}, "days": {31}, "months": {12}}),
        ("*/20 22-23 * * *", {"minutes": {0, 20, 40}, "hours": {22, 23}}),
        ("7/25 0 * * *", {"minutes": {7, 32, 57}}),
        ("0 8-18/5,1 * * *", {"hours": {1, 8, 13, 18}}),
        ("0 0 1,15 * *", {"days": {1, 15}}),
        ("0 0 * jan,NOV-december *", {"months": {1, 11, 12}}),
        ("0 0 * sept/3 *", {"months": {9, 12}}),
        ("0 0 * * 0", {"weekdays": {6}}),
        ("0 0 * * 7", {"weekdays": {6}}),
        ("0 0 * * 5-7", {"weekdays": {4, 5, 6}}),
        ("0 0 * * */2", {"weekdays": {1, 3, 5, 6}}),
        ("0 0 * * */7", {"weekdays": {6}}),
        ("0 0 * * mo-Fri", {"weekdays": {0, 1, 2, 3, 4}}),
        ("0 0 * * Saturday,su", {"weekdays": {5, 6}}),
    ],
)
def test_each_field_is_read(text: str, changes: dict[str, set[int]]) -> None:
    wanted = {name: frozenset(numbers) for name, numbers in (MIDNIGHT | changes).items()}
    assert parse_cron(text) == CronTimes(**wanted)


@pytest.mark.parametrize(
    "field",
    [
        "",
        "x",
        "60",
        "-1",
        "5-3",
        "1-2-3",
        "1-",
        "*-5",
        "1/0",
        "1/",
        "1/-1",
        "1//2",
        "*/60",
        "1,",
        "**",
        "jan",
        "1_0",
        "٣",
    ],
)
def test_what_no_minute_can_be_is_refused(field: str) -> None:
    with pytest.raises(RequestInvalid, match="no cron fields") as caught:
        parse_cron(f"{field} 0 * * *")
    assert "five fields" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        *("0 24 * * *", "0 0 0 * *", "0 0 32 * *", "0 0 * 0 *", "0 0 * 13 *", "0 0 * ja *", "0 0 * * 8", "0 0 * * s"),
        *("0 0 * * sat-sun", "0 0 * * mon-1-2", "0 0 * * * *", "0 0 * *", "@daily"),
    ],
)
def test_every_field_has_its_bounds(text: str) -> None:
    with pytest.raises(RequestInvalid, match="no cron fields"):
        parse_cron(text)


def test_a_day_has_to_fit_the_day_of_the_month_and_that_of_the_week() -> None:
    times = parse_cron("0 0 1-7 feb,mar sat")
    assert [day for day in YEAR if times.is_on(day)] == [date(2028, 2, 5), date(2028, 3, 4)]


def test_the_first_time_of_a_day_is_the_first_minute_of_the_first_hour() -> None:
    assert parse_cron("45,15 22,4-6 * * *").first_time == (4, 15)
