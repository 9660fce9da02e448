"""Times of the configuration: five cron fields, in the words that Temporal understands."""

from datetime import date, timedelta
from itertools import pairwise
from typing import Final

from holdfast.errors import ConfigurationInvalid, RequestInvalid
from holdfast.planning.cron import parse_cron

_SOME_YEAR: Final = 2027
_YEAR_DAYS: Final = 365
_MONTH_DAYS: Final = 31


def check_cron(what: str, text: str | None) -> None:
    """Raise `ConfigurationInvalid` for a text that is no five cron fields; None is no time at all."""
    try:
        if text is not None:
            parse_cron(text)
    except RequestInvalid as error:
        raise ConfigurationInvalid(f"{what} is {text!r}", hint=error.hint) from error


def longest_gap_days(text: str) -> int:
    """Return the most days that lie between two runs of five cron fields; a month when there are no two."""
    times = parse_cron(text)
    days = (date(_SOME_YEAR, 1, 1) + timedelta(days=number) for number in range(2 * _YEAR_DAYS))
    gaps = [(later - earlier).days for earlier, later in pairwise(filter(times.is_on, days))]
    return max(gaps, default=_MONTH_DAYS)
