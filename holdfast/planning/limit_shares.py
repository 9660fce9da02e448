"""Who gets how much of limits that hold several processes together.

No sum of what processes may use exceeds a limit, whatever gets lost between them and who decides: what is taken from
one counts as its own until it has said that it lets go, and only then somebody else is told that it is his.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from holdfast.model.limit_shares import Member, Report, Share, Shares, Want
from holdfast.planning.throttling import Claim, allot

LAPSE: Final = timedelta(seconds=20)
"""A process that was not heard for so long is dead, and what it held is for the others."""
_SAME: Final = 0.99
"""Shares that differ by less are the same."""


def wants_of(claims: Iterable[Claim]) -> tuple[Want, ...]:
    """Return what transfers want together. Demands are rounded up to powers of two, so that few changes are news."""
    counts = Counter((tuple(sorted(claim.pools)), _rounded(claim.demand_bytes_s)) for claim in claims if claim.pools)
    found = sorted(counts.items(), key=lambda item: (item[0][0], item[0][1] or math.inf))
    return tuple(Want(limits=limits, count=count, demand_bytes_s=demand) for (limits, demand), count in found)


def decide(members: Sequence[Member], report: Report, now: datetime) -> tuple[Member, Shares]:
    """Return what a process may have, and how it stands from then on; ``members`` are the others.

    A process gets its share, as far as nobody else holds it.
    """
    asker = Member(report=report, heard=now, holds=report.holds)
    limits = lowest_limits([*members, asker])
    fair = _fair_shares([*members, asker], limits)[-1]
    told, held, is_settled = {}, {}, True
    for name in report.limits:
        holds = report.holds.get(name, 0.0)
        left = limits[name] - sum(member.holds.get(name, 0.0) for member in members)
        rate = min(fair.get(name, 0.0), max(left, holds))
        told[name] = Share(rate_bytes_s=rate, limit_bytes_s=limits[name])
        held[name] = max(rate, holds)
        is_settled &= rate >= _SAME * fair.get(name, 0.0) and rate >= _SAME * held[name]
    return msgspec.structs.replace(asker, holds=held), Shares(shares=told, is_settled=is_settled)


def lowest_limits(members: Iterable[Member]) -> dict[str, float]:
    """Return the limits of all; of one that processes were told differently of the lowest holds."""
    found: dict[str, float] = {}
    for member in members:
        for name, limit in member.report.limits.items():
            found[name] = min(limit, found.get(name, limit))
    return found


def still_there(members: Iterable[Member], listening_since: datetime, now: datetime) -> list[Member]:
    """Return the processes that were heard of late; while nobody listened none could be."""
    return [member for member in members if now - max(member.heard, listening_since) < LAPSE]


def _fair_shares(members: Sequence[Member], limits: Mapping[str, float]) -> list[dict[str, float]]:
    """Return what each process would have of each limit if nobody held anything."""
    owners: list[int] = []
    claims: list[Claim] = []
    for index, member in enumerate(members):
        for want in member.report.wants:
            demand = math.inf if want.demand_bytes_s is None else want.demand_bytes_s
            claim = Claim(pools={name: limits[name] for name in want.limits}, demand_bytes_s=demand)
            claims += [claim] * want.count
            owners += [index] * want.count
    found: list[dict[str, float]] = [{} for _ in members]
    for owner, claim, allotment in zip(owners, claims, allot(claims), strict=True):
        for name in claim.pools:
            found[owner][name] = found[owner].get(name, 0.0) + (allotment.rate_bytes_s or 0.0)
    return found


def _rounded(demand_bytes_s: float) -> float | None:
    return None if math.isinf(demand_bytes_s) else 2.0 ** math.ceil(math.log2(demand_bytes_s))
