"""How several processes share a limit: what each one wants of it, and what it may have."""

from collections.abc import Mapping
from datetime import datetime

import msgspec


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """Transfers of one process that are alike."""

    limits: tuple[str, ...]
    """What the limits are called that they are under, in order."""
    count: int
    demand_bytes_s: float | None = None
    """What each of them could use; None: all there is."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What one process wants, and what it holds at this moment. One without wants says that it is done."""

    process: str
    """Which process, from its start to its end; another one that takes its place has another name."""
    label: str
    """The process, in words."""
    sequence: int
    """Grows from report to report."""
    limits: Mapping[str, float] = {}
    """The limits that it is to keep to, in bytes per second, by what they are called."""
    wants: tuple[Want, ...] = ()
    holds: Mapping[str, float] = {}
    """What its transfers may use together of each limit, in bytes per second; nothing of those that are missing."""


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a limit."""

    rate_bytes_s: float
    limit_bytes_s: float
    """The limit that it is a part of: of a lower one the part is smaller."""

    def of(self, limit_bytes_s: float) -> float:
        """Return the part of the limit as it is now; it never grows."""
        return self.rate_bytes_s * min(1.0, limit_bytes_s / self.limit_bytes_s)


class Shares(msgspec.Struct, frozen=True, kw_only=True):
    """What a process may have from now on."""

    shares: Mapping[str, Share] = {}
    is_settled: bool = True
    """Whether it is all that it is to get, and no more than it held; else it reports again soon."""


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A process that shares limits with others."""

    report: Report
    heard: datetime
    holds: Mapping[str, float]
    """What it may be using, at most: what it was told, and what it has not let go of."""


class LimitsState(msgspec.Struct, frozen=True, kw_only=True):
    """Who shares limits."""

    members: tuple[Member, ...] = ()
