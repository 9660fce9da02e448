"""What is done about slow datastores: whether something new may begin, and how fast a copy may go on.

A copy has a share of its full speed. From the second limit on the share is multiplied down, below the first it is added
to, in between it stays: that settles where the datastore is just fast enough. From one measurement to the next the
share at most halves or doubles, and it never falls below a floor, so every copy ends.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

import msgspec

from holdfast.model.latency import DatastoreLatency, LatencyLimits

SHARE_MIN: Final = 0.05
FLOOR_BYTES_S: Final = 10 << 20
"""A copy is never slowed to less: slower ones keep their snapshot open for too long, and run out of time."""
UNMEASURED_BYTES_S: Final = 40 << 20
"""What is taken for the full speed of a copy that begins on a slow datastore, so that nobody has seen its speed."""
START_PAUSE_MAX_S: Final = 600
"""As long as the longest time between two measurements."""
REMOVAL_WAIT_MAX_MINUTES: Final = 60
"""A snapshot that stays open for longer does more harm than its removal."""
_CUT_MAX: Final = 0.5
_CUT_MIN: Final = 0.9
_RISE_MAX: Final = 0.25
_RISE_MIN: Final = 0.05
_RISE_LEAST: Final = 0.25
"""Of the share, where that is less still."""
_PERCENT: Final = 100


class LatencyRules(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of all datastores of a provider."""

    limits: LatencyLimits = LatencyLimits()
    by_datastore: Mapping[str, LatencyLimits] = {}
    """Those that have limits of their own, by name."""

    @property
    def is_off(self) -> bool:
        """Return whether no datastore has a limit."""
        return self.limits.is_off and all(limits.is_off for limits in self.by_datastore.values())

    def of(self, datastore: str) -> LatencyLimits:
        """Return the limits of a datastore."""
        return self.by_datastore.get(datastore, self.limits)


class Slowing(msgspec.Struct, frozen=True, kw_only=True):
    """How a copy has been slowed down until now."""

    share: float = 1.0
    """Of its full speed, now; 1.0 is as fast as it can."""
    share_min: float = 1.0
    worst: DatastoreLatency | None = None
    """The measurement with the highest latency of those that slowed it down."""
    began: datetime | None = None
    ended: datetime | None = None
    """When it was last let go; None while it is slowed down."""


def reason_to_wait(latency: DatastoreLatency) -> str | None:
    """Return why nothing new begins on a datastore, None when it may or when nothing is known."""
    limit, found = latency.limits.start_max_ms, latency.latency_ms
    if not limit or found is None or found < limit:
        return None
    return f"the latency of datastore {latency.datastore} is {found:.0f} ms, nothing new begins from {limit} ms on"


def reasons_to_wait(latencies: Iterable[DatastoreLatency]) -> list[str]:
    """Return the reasons of all datastores, each once."""
    return list(dict.fromkeys(reason for one in latencies if (reason := reason_to_wait(one)) is not None))


def seconds_to_start(running_since_s: Iterable[float], now_s: float, limits: LatencyLimits) -> float:
    """Return how long a copy waits before it begins to read a datastore; 0: it begins now.

    ``running_since_s`` tells when the copies began that read it now. Hosts measure a little later what a copy does to a
    datastore: of several that begin at once, each would see it calm. A copy alone takes the place of those that ended,
    and does not wait.
    """
    latest_s = max(running_since_s, default=None)
    if limits.is_off or latest_s is None:
        return 0.0
    return max(0.0, latest_s + limits.start_pause_s - now_s)


def next_share(share: float, latency_ms: float | None, limits: LatencyLimits) -> float:
    """Return the share of its full speed that a copy gets after a measurement; ``share`` is what it has had.

    Nobody is held by what is not known: then it rises slowly.
    """
    slow_from, calm_below = limits.slow_from_ms, limits.start_max_ms or limits.slow_from_ms
    if not slow_from:
        return 1.0
    if latency_ms is None:
        return min(1.0, share + _RISE_MIN)
    if latency_ms >= slow_from:
        return max(SHARE_MIN, share * min(_CUT_MIN, max(_CUT_MAX, slow_from / latency_ms)))
    if latency_ms >= calm_below:
        return share
    # A datastore at half of the limit and below has room; nearer to it the steps become small, also beside a small
    # share: a slow copy that doubled there would go straight over the limit, and back, again and again.
    room = min(1.0, 2 * (calm_below - latency_ms) / calm_below)
    least = min(_RISE_MIN, share * _RISE_LEAST)
    return min(1.0, share + max(least, min(share, _RISE_MAX) * room))


def after(slowing: Slowing, latency: DatastoreLatency, now: datetime) -> Slowing:
    """Return how a copy is slowed down after a measurement."""
    share = next_share(slowing.share, latency.latency_ms, latency.limits)
    if share == 1.0:
        ended = now if slowing.share < 1.0 else slowing.ended
        return msgspec.structs.replace(slowing, share=share, ended=ended)
    worst = slowing.worst
    if share < slowing.share and _is_worse(latency, worst):
        worst = latency
    return Slowing(
        share=share,
        share_min=min(share, slowing.share_min),
        worst=worst,
        began=slowing.began if slowing.began is not None else now,
    )


def rate_bytes_s(share: float, full_bytes_s: float) -> float | None:
    """Return how fast a copy may read; None: as fast as it can. ``full_bytes_s`` is what it did when it was free."""
    return None if share >= 1.0 else max(FLOOR_BYTES_S, share * full_bytes_s)


def slowing_words(slowing: Slowing, throttled_s: float) -> str:
    """Return when, why and how much a copy was slowed down; empty when it was not.

    ``throttled_s`` is how long its readers waited, summed over them.
    """
    worst = slowing.worst
    if worst is None or slowing.began is None:
        return ""
    ended = "its end" if slowing.ended is None else f"{slowing.ended:%H:%M:%S}"
    return (
        f"slowed down from {slowing.began:%H:%M:%S} UTC to {ended}, to {slowing.share_min * _PERCENT:.0f} % of its "
        f"speed at the least, its readers waited {throttled_s:.0f} s: the latency of datastore {worst.datastore} "
        f"was up to {worst.latency_ms:.0f} ms, the limit is {worst.limits.slow_from_ms} ms"
    )


def _is_worse(latency: DatastoreLatency, worst: DatastoreLatency | None) -> bool:
    if worst is None or worst.latency_ms is None:
        return True
    return latency.latency_ms is not None and latency.latency_ms > worst.latency_ms
