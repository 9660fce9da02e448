"""Shares the limits of a process between its transfers, again and again while they come and go."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from holdfast.clock import Clock
from holdfast.pipeline.pace import Pace
from holdfast.planning.throttling import Claim, Limits, Transfer, Use, allot, pools_of, use_after


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

    @property
    def limits(self) -> Limits:
        """Return the limits in force."""
        return self._limits

    def change(self, limits: Limits) -> None:
        """Hold all transfers, also those that are running, to other limits from now on."""
        with self._lock:
            self._limits = limits
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
        claims = []
        for entry in self._entries:
            entry.use = use_after(entry.use, now_s, *entry.pace.passed, entry.pace.allotted[0])
            pools = pools_of(self._limits, entry.transfer, moment)
            claims.append(Claim(pools=pools, demand_bytes_s=entry.use.demand_bytes_s))
        for entry, found in zip(self._entries, allot(claims), strict=True):
            entry.pace.allot(found.rate_bytes_s, found.because)
