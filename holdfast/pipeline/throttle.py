"""Shares the limits of a process between its transfers, again and again while they come and go.

A process that shares its limits with others keeps to what it was given of each; until it was given any of one, its
transfers under that limit stand still.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import msgspec

from holdfast.clock import Clock
from holdfast.model.limit_shares import Share, Want
from holdfast.pipeline.pace import Pace
from holdfast.planning.limit_shares import wants_of
from holdfast.planning.throttling import Claim, Limits, Transfer, Use, allot, pools_of, use_after

_STANDSTILL_BYTES_S: Final = 1.0


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What the transfers of this process want of limits that it shares with others, and what they may use."""

    limits: Mapping[str, float]
    wants: tuple[Want, ...]
    holds: Mapping[str, float]


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A transfer, and what it may do now."""

    transfer: Transfer
    rate_bytes_s: float | None
    because: str
    passed_bytes: int


class _Entry:
    """A transfer that is running."""

    def __init__(self, transfer: Transfer, pace: Pace, now_s: float) -> None:
        self.transfer = transfer
        self.pace = pace
        self.use = Use(since_s=now_s, seen_s=now_s)


class Throttle:
    """Knows the limits and the transfers of one process. Methods may be called from several threads at once."""

    def __init__(self, clock: Clock, limits: Limits | None = None) -> None:
        self._clock = clock
        self._limits = limits if limits is not None else Limits()
        self._lock = threading.Lock()
        self._entries: list[_Entry] = []
        self._claims: list[Claim] = []
        self._shares: dict[str, Share] | None = None

    @property
    def limits(self) -> Limits:
        """Return the limits in force."""
        return self._limits

    def change(self, limits: Limits) -> None:
        """Hold all transfers, also those that are running, to other limits from now on."""
        with self._lock:
            self._limits = limits
            self._share()

    def share_with_others(self) -> None:
        """Keep to what `give` gives of each limit, from now on."""
        with self._lock:
            self._shares = {} if self._shares is None else self._shares
            self._share()

    def want(self) -> Wanted:
        """Return what this process wants of its limits, and lets go of those that it does not want."""
        with self._lock:
            limits = {name: limit for claim in self._claims for name, limit in claim.pools.items()}
            # What a limit that was lowered meanwhile took away does not come back with it.
            self._shares = {
                name: Share(rate_bytes_s=share.of(limits[name]), limit_bytes_s=limits[name])
                for name, share in (self._shares or {}).items()
                if name in limits
            }
            holds = {name: share.rate_bytes_s for name, share in self._shares.items()}
            return Wanted(limits=limits, wants=wants_of(self._claims), holds=holds)

    def give(self, shares: Mapping[str, Share]) -> None:
        """Keep to other shares from now on; one that is missing is none."""
        with self._lock:
            self._shares = dict(shares)
            self._share()

    def tick(self) -> None:
        """Look at the time and at what transfers use of their shares; to be called several times a second."""
        with self._lock:
            self._share()

    @contextmanager
    def holding(self, transfer: Transfer, pace: Pace) -> Iterator[None]:
        """Set a pace while the block runs; it has its rate from the first moment on."""
        entry = _Entry(transfer, pace, self._clock.monotonic_s())
        with self._lock:
            self._entries.append(entry)
            self._share()
        try:
            yield
        finally:
            with self._lock:
                self._entries.remove(entry)
                self._share()
            pace.allot(None)

    def held(self) -> list[Held]:
        """Return the transfers that run now."""
        with self._lock:
            entries = list(self._entries)
        return [
            Held(
                transfer=entry.transfer,
                rate_bytes_s=entry.pace.allotted[0],
                because=entry.pace.allotted[1],
                passed_bytes=entry.pace.passed[0],
            )
            for entry in entries
        ]

    def _share(self) -> None:
        """Give every transfer its rate; the lock is held."""
        moment, now_s = self._clock.now(), self._clock.monotonic_s()
        self._claims = []
        for entry in self._entries:
            entry.use = use_after(entry.use, now_s, *entry.pace.passed, entry.pace.allotted[0])
            pools = pools_of(self._limits, entry.transfer, moment)
            self._claims.append(Claim(pools=pools, demand_bytes_s=entry.use.demand_bytes_s))
        own = [msgspec.structs.replace(claim, pools=self._own(claim.pools)) for claim in self._claims]
        for entry, found in zip(self._entries, allot(own), strict=True):
            rate = found.rate_bytes_s
            entry.pace.allot(None if rate is None else max(rate, _STANDSTILL_BYTES_S), found.because)

    def _own(self, pools: Mapping[str, float]) -> Mapping[str, float]:
        """Return how much of limits is for this process."""
        shares = self._shares
        if shares is None:
            return pools
        return {name: shares[name].of(limit) if name in shares else 0.0 for name, limit in pools.items()}
