"""Five cron fields, read as Temporal reads them: minute, hour, day of the month, month, day of the week.

Unlike in old programs of this name, a day has to fit both its fields: ``0 3 1-7 * sat`` is the first Saturday of each
month, and not its first week and all Saturdays.
"""

import re
from datetime import date
from typing import Final

import msgspec

from holdfast.errors import RequestInvalid

HINT: Final = "Give five fields: minute, hour, day of month, month, day of week; `0 22 * * *` is ten at night."
_MONTHS: Final = "january february march april may june july august september october november december"
_WEEKDAYS: Final = "sunday monday tuesday wednesday thursday friday saturday"
_DIGITS: Final = re.compile(r"[0-9]+")


class CronTimes(msgspec.Struct, frozen=True, kw_only=True):
    """The times that cron fields stand for: all of which each part is among these."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    """Of the month."""
    months: frozenset[int]
    weekdays: frozenset[int]
    """0 is Monday, 6 is Sunday."""

    @property
    def first_time(self) -> tuple[int, int]:
        """Return hour and minute of the first time of a day."""
        return min(self.hours), min(self.minutes)

    def is_on(self, day: date) -> bool:
        """Return whether a day has any of the times."""
        return day.day in self.days and day.month in self.months and day.weekday() in self.weekdays


def parse_cron(text: str) -> CronTimes:
    """Return the times that five cron fields stand for. Raises `RequestInvalid`."""
    try:
        read = (kind.numbers(field) for kind, field in zip(_KINDS, text.split(), strict=True))
        minutes, hours, days, months, weekdays = read
    except ValueError as error:
        raise RequestInvalid(f"{text!r} are no cron fields", hint=HINT) from error
    # Sunday is both 0 and 7 there.
    weekdays = frozenset((number - 1) % 7 for number in weekdays)
    return CronTimes(minutes=minutes, hours=hours, days=days, months=months, weekdays=weekdays)


class _Kind(msgspec.Struct, frozen=True):
    """What a field may say; each method raises `ValueError` for anything else."""

    low: int
    high: int
    names: tuple[str, ...] = ()
    """Of the numbers from the lowest on."""
    letters: int = 0
    """A name may be cut short to so many."""

    def numbers(self, field: str) -> frozenset[int]:
        """Return the numbers that a field stands for."""
        return frozenset(number for part in field.lower().split(",") for number in self._span(part))

    def _span(self, part: str) -> range:
        span, slash, every = part.partition("/")
        step = _number(every, 1, self.high) if slash else 1
        if span == "*":
            return range(self.low, self.high + 1, step)
        first, dash, last = span.partition("-")
        start = self._one(first, self.low)
        end = self._one(last, start) if dash else self.high if slash else start
        return range(start, end + 1, step)

    def _one(self, text: str, low: int) -> int:
        if self.names and len(text) >= self.letters:
            number = next((i for i, name in enumerate(self.names, self.low) if name.startswith(text)), None)
            text = text if number is None else str(number)
        return _number(text, low, self.high)


_KINDS: Final = (
    _Kind(0, 59),
    _Kind(0, 23),
    _Kind(1, 31),
    _Kind(1, 12, tuple(_MONTHS.split()), 3),
    _Kind(0, 7, tuple(_WEEKDAYS.split()), 2),
)


def _number(text: str, low: int, high: int) -> int:
    if _DIGITS.fullmatch(text) is None or not low <= int(text) <= high:
        raise ValueError(text)
    return int(text)
