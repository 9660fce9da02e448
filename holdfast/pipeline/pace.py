"""How fast one transfer may go, and how long it has waited for that.

A pace holds either the transfer of this process, which asks it before it sends or reads on, or stands for that of a
peer, which is told the rate and says how long it waited.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Final

import msgspec

from holdfast.clock import Clock
from holdfast.pipeline.stages import PipeProgress, StageTimes
from holdfast.pipeline.token_bucket import TokenBucket

_NS: Final = 1_000_000_000
_SPEAKS_FROM_S: Final = 1.0
"""Shorter waits are not worth a word."""


def _attend_to_nothing() -> None:
    """Let every wait go on."""


class Pace:
    """The pace of one transfer; as fast as it can until somebody sets a rate. Use from any thread.

    ``attend`` is called now and then while something waits; what it raises ends the wait. ``heed`` is called instead in
    waits that may be a standstill. ``pause`` waits for so many seconds or less.
    """

    def __init__(
        self,
        clock: Clock,
        attend: Callable[[], None] = _attend_to_nothing,
        *,
        heed: Callable[[], None] = _attend_to_nothing,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        self.waiting: AbstractContextManager[object] = nullcontext()
        """Entered by each thread for what it waits here; whoever counts waits puts a clock in."""
        self.clock = clock
        self.attend = attend
        """To be called in waits that are no standstill."""
        self.heed = heed
        """To be called in other waits."""
        self._bucket = TokenBucket(clock, pause=pause)
        self._lock = threading.Lock()
        self._allotted: tuple[float | None, str] = None, ""
        self._waiting = 0
        self._since_s = 0.0
        self._waited_s = 0.0
        self._waited_there_s = 0.0
        self._reasons: dict[str, None] = {}
        self._passed = self._largest = 0

    @property
    def allotted(self) -> tuple[float | None, str]:
        """Return the rate in bytes per second, None for no limit, and the limit that it is a share of."""
        return self._allotted

    def allot(self, rate_bytes_s: float | None, because: str = "") -> None:
        """Set the rate from now on, also for whoever waits; ``because`` names the limit that it is a share of."""
        if (rate_bytes_s, because) != self._allotted:
            self._allotted = rate_bytes_s, because
            self._bucket.set_rate(rate_bytes_s)

    def take(self, count: int, attend: Callable[[], None] | None = None) -> None:
        """Return once ``count`` bytes may pass; ``attend`` is called beside that of the pace."""
        with ExitStack() as wait:
            is_waiting = False

            def wait_on() -> None:
                nonlocal is_waiting
                if not is_waiting:
                    is_waiting = True
                    wait.enter_context(self._waited())
                self.attend()
                if attend is not None:
                    attend()

            self._bucket.take(count, wait_on)
        self.count(count)

    def count(self, count: int) -> None:
        """Note that the peer has sent ``count`` bytes as one message."""
        with self._lock:
            self._passed += count
            self._largest = max(self._largest, count)

    @property
    def passed(self) -> tuple[int, int]:
        """Return how many bytes have passed, and how long the longest message of them was."""
        return self._passed, self._largest

    def note_wait(self, waited_s: float, because: str) -> None:
        """Note how long the peer has waited in all, and for a share of which limit. It is attended to as a wait here.

        Raises what attending raises.
        """
        with self._lock:
            self._waited_there_s = max(self._waited_there_s, waited_s)
            self._reasons[because] = None
        self.attend()

    @property
    def waited_ns(self) -> int:
        """Return for how many nanoseconds the transfer has waited for its share, however many threads did.

        A wait that is not over counts as far as it has come.
        """
        with self._lock:
            now_s = self.clock.monotonic_s() - self._since_s if self._waiting else 0.0
            return round((self._waited_s + now_s + self._waited_there_s) * _NS)

    @property
    def waited_s(self) -> float:
        """Return the same in seconds."""
        return self.waited_ns / _NS

    def charged(self, progress: PipeProgress) -> PipeProgress:
        """Return the progress of a pipe that reads what is paced, with the waits as a stage of their own."""
        return msgspec.structs.replace(progress, stages=self.without_waits(progress.stages))

    def without_waits(self, stages: StageTimes) -> StageTimes:
        """Return the times of such a pipe with the waits apart from the source."""
        waited_s = self.waited_s
        source_s = max(0.0, stages.source_s - waited_s)
        return msgspec.structs.replace(stages, source_s=source_s, throttled_s=stages.throttled_s + waited_s)

    @property
    def words(self) -> str:
        """Return how long and for a share of what the transfer has waited; empty when it did not."""
        waited_s = self.waited_s
        if waited_s < _SPEAKS_FROM_S:
            return ""
        return f"waited {waited_s:.0f} s for its share of {' and of '.join(filter(None, self._reasons))}"

    @contextmanager
    def _waited(self) -> Iterator[None]:
        with self.waiting:
            self._begin()
            try:
                yield
            finally:
                self._end()

    def _begin(self) -> None:
        with self._lock:
            self._reasons[self._allotted[1]] = None
            if not self._waiting:
                self._since_s = self.clock.monotonic_s()
            self._waiting += 1

    def _end(self) -> None:
        with self._lock:
            self._waiting -= 1
            if not self._waiting:
                self._waited_s += self.clock.monotonic_s() - self._since_s
