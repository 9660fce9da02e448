"""What holds transfers back: which rule is good for a pair of addresses now, and what share of a limit each one gets.

A limit is shared equally between the transfers under it. What one of them does not use the others get, so that the line
is never idle while somebody waits; as soon as all of them want more, each has the same again.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, tzinfo
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, TypeAlias

import msgspec

from holdfast.model.ids import RepositoryName

Address: TypeAlias = IPv4Address | IPv6Address

IDLE_BYTES_S: Final = 4 << 10
"""A transfer that moves nothing keeps a claim to so much, and to its whole share as soon as it moves anything. Its
first message passes whatever its rate is."""
_LOOK_S: Final = 3.0
"""Senders hear of a new rate up to half a second late."""
_LOOK_MESSAGES: Final = 4
"""Of the largest seen so far: who may send fewer of them has not had the time to show what he wants."""
_BUSY_SHARE: Final = 0.6
"""Who uses as much of what he may is held back; one message more or less must not change that."""
_SLOW_FACTOR: Final = 2.5
"""Of what a slow transfer uses; then it uses less of it than the share above."""
_DAYS: Final = 7


class Direction(StrEnum):
    """What a transfer does at the repository."""

    WRITE = "write"
    READ = "read"


class AddressRange(msgspec.Struct, frozen=True):
    """IP addresses of one family, both ends included."""

    first: Address
    last: Address

    @classmethod
    def parse(cls, text: str) -> "AddressRange":
        """Return the range in ``10.0.0.0/8``, ``10.0.0.5-10.0.0.9`` or ``10.0.0.5``. Raises `ValueError`."""
        first, dash, last = (part.strip() for part in text.partition("-"))
        if dash:
            found = cls(ip_address(first), ip_address(last))
            if found.first.version != found.last.version:
                raise ValueError(f"{text!r} mixes two kinds of addresses")
            if int(found.first) > int(found.last):
                raise ValueError(f"{text!r} ends before it begins")
            return found
        network = ip_network(text.strip())
        return cls(network[0], network[-1])

    def has(self, address: Address) -> bool:
        """Return whether an address is one of them."""
        return address.version == self.first.version and int(self.first) <= int(address) <= int(self.last)


class Hours(msgspec.Struct, frozen=True, kw_only=True):
    """A time of the day on some days of the week, by the clock on the wall of a time zone.

    An hour that summer time leaves out is left out here, and one that comes twice is meant both times.
    """

    days: frozenset[int]
    """On which it begins; Monday is 0."""
    start: int
    """Minute of the day."""
    end: int
    """Minute of the day; one that is not behind ``start`` is of the next day."""
    zone: tzinfo

    def has(self, moment: datetime) -> bool:
        """Return whether a moment is within."""
        local = moment.astimezone(self.zone)
        minute, day = local.hour * 60 + local.minute, local.weekday()
        if self.start < self.end:
            return day in self.days and self.start <= minute < self.end
        if minute >= self.start:
            return day in self.days
        return minute < self.end and (day - 1) % _DAYS in self.days


class Ends(msgspec.Struct, frozen=True):
    """The addresses of a connection."""

    near: Address
    far: Address

    @classmethod
    def parse(cls, near: str, far: str) -> "Ends":
        """Return the ends of a connection as sockets say them; IPv4 within IPv6 is IPv4. Raises `ValueError`."""
        return cls(_plain(near), _plain(far))

    @property
    def are_one_host(self) -> bool:
        """Return whether nothing crosses a network."""
        return self.near == self.far


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """How fast all transfers together may go between two ranges of addresses, either of them being the sender."""

    name: str
    source: AddressRange
    target: AddressRange
    limit_bytes_s: int
    hours: Hours | None = None
    """None: always."""
    holds_restores: bool = False

    def matches(self, ends: Ends) -> bool:
        """Return whether a connection is between the ranges."""
        if ends.are_one_host:
            return False
        forth = self.source.has(ends.near) and self.target.has(ends.far)
        return forth or (self.source.has(ends.far) and self.target.has(ends.near))

    def is_on(self, moment: datetime) -> bool:
        """Return whether it is its time."""
        return self.hours is None or self.hours.has(moment)


class RepositoryLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How fast all transfers together may go at a repository; None: as fast as they can."""

    read_bytes_s: int | None = None
    write_bytes_s: int | None = None

    def of(self, direction: Direction) -> int | None:
        """Return the limit of a direction."""
        return self.write_bytes_s if direction is Direction.WRITE else self.read_bytes_s


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that holds transfers back."""

    rules: tuple[Rule, ...] = ()
    repositories: Mapping[RepositoryName, RepositoryLimits] = {}


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """One disk on its way."""

    repository: RepositoryName
    direction: Direction
    ends: Ends | None = None
    """None when it crosses no network that this process knows of."""
    label: str = ""
    """What it moves, in words."""


def rule_for(rules: Iterable[Rule], transfer: Transfer, moment: datetime) -> Rule | None:
    """Return the rule with the lowest limit of those that hold a transfer at a moment, None without any."""
    ends = transfer.ends
    if ends is None:
        return None
    is_restore = transfer.direction is Direction.READ
    found = (
        rule for rule in rules if (rule.holds_restores or not is_restore) and rule.matches(ends) and rule.is_on(moment)
    )
    return min(found, key=lambda rule: rule.limit_bytes_s, default=None)


def pools_of(limits: Limits, transfer: Transfer, moment: datetime) -> dict[str, float]:
    """Return what a transfer is held back by at a moment: limits in bytes per second, by what they are called."""
    found: dict[str, float] = {}
    rule = rule_for(limits.rules, transfer, moment)
    if rule is not None:
        found[f"throttling rule {rule.name}"] = rule.limit_bytes_s
    limit = limits.repositories.get(transfer.repository, RepositoryLimits()).of(transfer.direction)
    if limit is not None:
        found[f"{transfer.direction.value} limit of repository {transfer.repository}"] = limit
    return found


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What one transfer asks of the limits."""

    pools: Mapping[str, float]
    """The limits it is under, in bytes per second."""
    demand_bytes_s: float = math.inf
    """What it could use."""


class Allotment(msgspec.Struct, frozen=True):
    """What one transfer gets; no limit when it is under none."""

    rate_bytes_s: float | None = None
    because: str = ""
    """The limit that keeps it from getting more."""


def allot(claims: Sequence[Claim]) -> list[Allotment]:
    """Return what each transfer gets: equal shares of each limit, up to what can be used; the rest once more equally.

    No limit is exceeded, and nobody could get more without somebody else who has no more getting less.
    """
    left = {name: limit for claim in claims for name, limit in claim.pools.items()}
    rates = [0.0] * len(claims)
    first = _fill(claims, [claim.demand_bytes_s for claim in claims], left, rates)
    then = _fill(claims, [math.inf] * len(claims), left, rates)
    return [
        Allotment(rate, one or other) if claim.pools else Allotment()
        for claim, rate, one, other in zip(claims, rates, first, then, strict=True)
    ]


def _fill(claims: Sequence[Claim], demands: Sequence[float], left: dict[str, float], rates: list[float]) -> list[str]:
    """Raise all rates together until a limit is used up or a demand is met, and go on with the others.

    Takes from ``left``, adds to ``rates``; returns which limit stopped each.
    """
    because = [""] * len(claims)
    level = 0.0
    rising = {index for index, claim in enumerate(claims) if claim.pools}
    while rising:
        names = Counter(name for index in rising for name in claims[index].pools)
        steps = {name: left[name] / count for name, count in names.items()}
        step = min(*steps.values(), *(demands[index] - level for index in rising), math.inf)
        level += step
        for index in rising:
            rates[index] += step
        for name in steps:
            left[name] = max(0.0, left[name] - step * names[name])
        full = [name for name in steps if steps[name] <= step]
        for index in sorted(rising):
            stopped = next((name for name in full if name in claims[index].pools), "")
            if stopped or demands[index] <= level:
                because[index] = stopped
                rising.discard(index)
    return because


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """What a transfer has used of what it was allowed, since it was judged last, and what that says of its demand."""

    since_s: float
    seen_s: float
    bytes_before: int = 0
    allowed_bytes: float = 0.0
    demand_bytes_s: float = math.inf


def use_after(use: Use, now_s: float, passed_bytes: int, largest: int, rate_bytes_s: float | None) -> Use:
    """Return the use of a transfer at a moment of a steady clock.

    ``passed_bytes`` is what has passed in all, ``largest`` the longest message of it, and ``rate_bytes_s`` what the
    transfer was allowed since the last look. Whoever uses most of it wants more; whoever does not wants two and a half
    times what he uses. A transfer that has just begun is taken to want all there is.
    """
    fresh = Use(since_s=now_s, seen_s=now_s, bytes_before=passed_bytes)
    count, time_s = passed_bytes - use.bytes_before, now_s - use.since_s
    if rate_bytes_s is None or (use.demand_bytes_s <= IDLE_BYTES_S and count):
        return fresh
    allowed = use.allowed_bytes + rate_bytes_s * (now_s - use.seen_s)
    if time_s < _LOOK_S or allowed < _LOOK_MESSAGES * largest:
        return msgspec.structs.replace(use, seen_s=now_s, allowed_bytes=allowed)
    if count >= _BUSY_SHARE * allowed:
        return fresh
    return msgspec.structs.replace(fresh, demand_bytes_s=max(IDLE_BYTES_S, _SLOW_FACTOR * count / time_s))


def _plain(text: str) -> Address:
    found = ip_address(text.partition("%")[0])
    return (isinstance(found, IPv6Address) and found.ipv4_mapped) or found
