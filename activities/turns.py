"""Copies that read one datastore begin one after another, so that each sees what the one before does to it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

from activities.latency import Beating
from holdfast.clock import Clock
from holdfast.model.ids import ProviderName
from holdfast.model.latency import DatastoreLatency, LatencyLimits
from holdfast.planning.latency import seconds_to_start

_LOOK_S: Final = 1.0
"""The longest time until somebody who waits sees that the others have ended, or that he shall stop."""


_Place: TypeAlias = tuple[ProviderName, str]
"""A datastore of a provider."""


class Turns:
    """Which copies of this process read which datastores, and since when. May be used from several threads."""

    def __init__(self, clock: Clock, pause: Callable[[float], object] | None = None) -> None:
        self._clock = clock
        self._pause = threading.Event().wait if pause is None else pause
        self._lock = threading.Lock()
        self._running: dict[object, tuple[_Place, float]] = {}
        """Where each copy reads and since when."""

    @contextmanager
    def taken(self, provider: ProviderName, latency: DatastoreLatency | None, pulse: Beating) -> Iterator[float]:
        """Wait until a copy may begin to read a datastore, and count it there for the block; give the seconds waited.

        Without ``latency`` there is nothing to spare. Raises when the activity shall stop.
        """
        if latency is None:
            yield 0.0
            return
        copy, asked_s, waited_s = object(), self._clock.monotonic_s(), 0.0
        while (wait_s := self._begin(copy, (provider, latency.datastore), latency.limits)) > 0:
            pulse.waiting()
            self._pause(min(wait_s, _LOOK_S))
            waited_s = self._clock.monotonic_s() - asked_s
        try:
            yield waited_s
        finally:
            with self._lock:
                del self._running[copy]

    def _begin(self, copy: object, place: _Place, limits: LatencyLimits) -> float:
        """Count a copy as running if it may begin now; return 0 then, else how long it waits at most."""
        with self._lock:
            now_s = self._clock.monotonic_s()
            wait_s = seconds_to_start((since_s for at, since_s in self._running.values() if at == place), now_s, limits)
            if not wait_s:
                self._running[copy] = (place, now_s)
            return wait_s
