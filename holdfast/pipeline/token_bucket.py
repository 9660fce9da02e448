"""How many bytes a second may pass: a rate that can be changed while it is used."""

import threading
from collections.abc import Callable
from typing import Final

from holdfast.clock import Clock

_BURST_S: Final = 0.1
"""What was not used is kept for so long, so that small reads and late threads do not lower the rate."""
_WAIT_MIN_S: Final = 0.001
"""No clock is asked to wait for less."""
_SLICE_S: Final = 0.25
"""Whoever waits looks so often whether the rate has changed."""


class TokenBucket:
    """Lets bytes pass at a rate, whoever asks. Methods may be called from several threads at once.

    A request passes as a whole, and whoever comes next waits for what it took too much. So over any time no more passes
    than the rate, a tenth of a second of it, and one request. ``pause`` waits for so many seconds or less.
    """

    def __init__(
        self, clock: Clock, rate_bytes_s: float | None = None, *, pause: Callable[[float], object] | None = None
    ) -> None:
        self._clock = clock
        self._pause = threading.Event().wait if pause is None else pause
        self._lock = threading.Lock()
        self._level = 0.0
        self._filled_s = clock.monotonic_s()
        self._rate = rate_bytes_s

    def set_rate(self, rate_bytes_s: float | None) -> None:
        """Let so many bytes a second pass from now on, a positive number; None: all there are."""
        with self._lock:
            self._fill()
            self._rate = rate_bytes_s
            if rate_bytes_s is None:
                self._level = 0.0

    def take(self, count: int, attend: Callable[[], None]) -> float:
        """Return once ``count`` bytes may pass; the seconds that took.

        ``attend`` is called now and then while there is a wait; what it raises ends the wait, and nothing has passed.
        """
        started_s = self._clock.monotonic_s()
        wait_s = self._try(count)
        if not wait_s:
            return 0.0
        while wait_s:
            attend()
            self._pause(min(wait_s, _SLICE_S))
            wait_s = self._try(count)
        return self._clock.monotonic_s() - started_s

    def _try(self, count: int) -> float:
        """Let bytes pass and return 0, or return how long that will take at the present rate."""
        with self._lock:
            self._fill()
            if self._rate is None:
                return 0.0
            wait_s = -self._level / self._rate
            if wait_s >= _WAIT_MIN_S:
                return wait_s
            self._level -= count
            return 0.0

    def _fill(self) -> None:
        now_s = self._clock.monotonic_s()
        if self._rate is not None:
            self._level = min(self._rate * _BURST_S, self._level + self._rate * (now_s - self._filled_s))
        self._filled_s = now_s
