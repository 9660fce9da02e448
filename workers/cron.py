"""Times of the configuration: five cron fields, in the words that Temporal understands."""

import re
from datetime import date, timedelta
from itertools import pairwise
from typing import Final

from holdfast.errors import ConfigurationInvalid

_FIELDS: Final = 5
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_SOME_YEAR: Final = 2027
_YEAR_DAYS: Final = 365
_MONTH_DAYS: Final = 31
_FIELD: Final = re.compile(r"[0-9A-Za-z*,/-]+")


def check_cron(what: str, text: str | None) -> None:
    """Raise `ConfigurationInvalid` for a text that cannot be five cron fields; None is no time at all."""
    fields = [] if text is None else text.split()
    if text is not None and not (len(fields) == _FIELDS and all(map(_FIELD.fullmatch, fields))):
        hint = "Give five fields: minute, hour, day of month, month, day of week; `0 22 * * *` is ten at night."
        raise ConfigurationInvalid(f"{what} is {text!r}", hint=hint)


def longest_gap_days(text: str) -> int:
    """Return the most days that lie between two runs of five cron fields; a month when that cannot be told.

    Where both a day of the month and one of the week are given, a day has to be both: the longer gap is the safer one.
    """
    _, _, days, months, weekdays = text.split()
    try:
        wanted = (_numbers(days, 1, 31), _numbers(months, 1, 12, _MONTHS), _numbers(weekdays, 0, 7, _WEEKDAYS))
    except ValueError:
        return _MONTH_DAYS
    runs = [
        number for number in range(2 * _YEAR_DAYS) if _is_on(date(_SOME_YEAR, 1, 1) + timedelta(days=number), *wanted)
    ]
    gaps = [later - earlier for earlier, later in pairwise(runs)]
    return max(gaps, default=_MONTH_DAYS)


def _is_on(day: date, days: set[int], months: set[int], weekdays: set[int]) -> bool:
    weekday = day.isoweekday()
    return day.day in days and day.month in months and bool({weekday, weekday % 7} & weekdays)


def _numbers(field: str, low: int, high: int, names: tuple[str, ...] = ()) -> set[int]:
    """Return the numbers that a field stands for. Raises `ValueError`."""
    found: set[int] = set()
    for part in field.lower().split(","):
        span, _, step = part.partition("/")
        first, dash, last = span.partition("-")
        start = low if first == "*" else _number(first, low, names)
        end = high if first == "*" or (step and not dash) else start
        end = _number(last, low, names) if dash else end
        found |= set(range(start, end + 1, int(step or 1)))
    return found


def _number(text: str, low: int, names: tuple[str, ...]) -> int:
    return names.index(text) + low if text in names else int(text)
