"""The ``[[throttling]]`` tables of the configuration, and what they mean together with limits of repositories."""

import re
from collections.abc import Iterable
from datetime import tzinfo
from typing import Final, Literal, get_args
from zoneinfo import ZoneInfo

import msgspec

from holdfast.errors import ConfigurationInvalid
from holdfast.planning.throttling import AddressRange, Hours, Rule

LIMIT_MIN: Final = 64 << 10
"""Lower limits are slips of the pen: megabytes or bits where bytes are meant."""

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: Final[tuple[Day, ...]] = get_args(Day)
_HOURS: Final = re.compile(r"([0-9]{1,2}):([0-9]{2})-([0-9]{1,2}):([0-9]{2})")
_DAY_MINUTES: Final = 24 * 60
_HOUR_MINUTES: Final = 60
_RANGE_HINT: Final = "Write 10.0.0.0/8, 10.0.0.5-10.0.0.9 or 10.0.0.5; an IPv6 address does as well."


class ThrottlingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ``[[throttling]]`` table: how fast data may go between two ranges of IP addresses, see docs/data-plane.md."""

    name: str
    """How sessions and logs refer to it."""
    source: str
    """One range, such as ``10.0.0.0/8``, ``10.0.0.5-10.0.0.9`` or ``10.0.0.5``; which of the two sends does not
    matter."""
    target: str
    """The other range."""
    limit: int
    """Bytes per second of all transfers under the rule together, at least 65536."""
    days: tuple[Day, ...] = DAYS
    """On which it holds."""
    hours: str = "00:00-24:00"
    """At which it holds; ``22:00-06:00`` begins on the days above and ends on the next morning."""
    timezone: str = "UTC"
    """Time zone of ``days`` and ``hours``, such as ``Europe/Zurich``."""
    restores: bool = False
    """Whether it holds restores, too."""


def rules_of(tables: Iterable[ThrottlingSettings]) -> tuple[Rule, ...]:
    """Return the rules that tables describe. Raises `ConfigurationInvalid` naming the rule."""
    return tuple(_rule(table) for table in tables)


def check_limit(what: str, limit: int) -> None:
    """Raise `ConfigurationInvalid` for a limit that nobody means."""
    if limit < LIMIT_MIN:
        hint = f"Limits are in bytes per second; give at least {LIMIT_MIN}. 1000000 is 8 Mbit/s."
        raise ConfigurationInvalid(f"{what} is {limit}", hint=hint)


def _rule(table: ThrottlingSettings) -> Rule:
    check_limit(f"limit of throttling rule {table.name}", table.limit)
    return Rule(
        name=table.name,
        source=_range("source", table.source, table.name),
        target=_range("target", table.target, table.name),
        limit_bytes_s=table.limit,
        hours=_hours(table),
        holds_restores=table.restores,
    )


def _range(key: str, text: str, rule: str) -> AddressRange:
    try:
        return AddressRange.parse(text)
    except ValueError as error:
        what = f"{key} of throttling rule {rule} is no range of addresses: {error}"
        raise ConfigurationInvalid(what, hint=_RANGE_HINT) from error


def _hours(table: ThrottlingSettings) -> Hours | None:
    found = _HOURS.fullmatch(table.hours)
    if found is None:
        raise _no_hours(table, "Write them as 08:00-18:00.")
    start, end = _minute(found[1], found[2]), _minute(found[3], found[4])
    if max(start, end) > _DAY_MINUTES or start == _DAY_MINUTES or max(found[2], found[4]) >= "60":
        raise _no_hours(table, "Hours go from 00:00 to 24:00.")
    if start == end:
        raise _no_hours(table, "They end when they begin; 00:00-24:00 is the whole day.")
    if not table.days:
        raise ConfigurationInvalid(f"days of throttling rule {table.name} are none", hint="Leave the key out for all.")
    zone = _zone(table)
    if set(table.days) == set(DAYS) and (start, end) == (0, _DAY_MINUTES):
        return None
    return Hours(days=frozenset(map(DAYS.index, table.days)), start=start, end=end, zone=zone)


def _no_hours(table: ThrottlingSettings, hint: str) -> ConfigurationInvalid:
    return ConfigurationInvalid(f"hours of throttling rule {table.name} are {table.hours!r}", hint=hint)


def _minute(hour: str, minute: str) -> int:
    return int(hour) * _HOUR_MINUTES + int(minute)


def _zone(table: ThrottlingSettings) -> tzinfo:
    try:
        return ZoneInfo(table.timezone)
    except (LookupError, OSError, ValueError) as error:
        what = f"throttling rule {table.name}: no time zone {table.timezone!r}"
        raise ConfigurationInvalid(what, hint="Use a name of the time zone database, such as Europe/Zurich.") from error
