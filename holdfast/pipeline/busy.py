"""Which stages of the data pipe are busy, and for how long.

A stage is busy while at least one thread works in it, so its seconds never exceed those of the task, however many
threads share the work. A thread is in one stage at a time: entering a stage inside another one leaves the outer one
for as long, so that whoever waits for a limit in the middle of a read is throttled, and not reading.

An entry and an exit take about three microseconds together, and happen a few times for each MiB.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, Protocol, TypeVar

import msgspec
from typing_extensions import override

from holdfast.clock import Clock
from holdfast.model.session import Figures
from holdfast.planning.bottleneck import line_seconds

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Pending(Protocol[R_co]):
    """A result that may not be there yet."""

    def done(self) -> bool:
        """Return whether it is there."""
        ...

    def result(self) -> R_co:
        """Return it, and wait for it before."""
        ...


class StageClock:
    """Counts the seconds in which a stage is busy. A context manager that any number of threads enter."""

    def __init__(self, clock: Clock, thread: threading.local) -> None:
        self._clock = clock
        self._thread = thread
        self._lock = threading.Lock()
        self._inside = 0
        self._since_s = 0.0
        self._total_s = 0.0
        self._told_s = 0.0

    @property
    def seconds(self) -> float:
        """Return the seconds until now, and those that were told."""
        with self._lock:
            running_s = self._clock.monotonic_s() - self._since_s if self._inside else 0.0
            return self._total_s + running_s + self._told_s

    def tell(self, seconds: float) -> None:
        """Add what somebody else counted from the start: the other side of a line. A later call replaces it."""
        self._told_s = seconds

    def awaited(self, answer: Pending[R]) -> R:
        """Return what is waited for inside the stage, when it is not there yet."""
        if answer.done():
            return answer.result()
        with self:
            return answer.result()

    def begin(self) -> None:
        """Count work that no thread of ours waits for, until `end` is called, from whatever thread."""
        with self._lock:
            if not self._inside:
                self._since_s = self._clock.monotonic_s()
            self._inside += 1

    def end(self) -> None:
        """End what `begin` began."""
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._total_s += self._clock.monotonic_s() - self._since_s

    def __enter__(self) -> None:
        stages: list[StageClock] | None = getattr(self._thread, "stages", None)
        if stages is None:
            stages = self._thread.stages = []
        if stages:
            stages[-1].end()
        stages.append(self)
        self.begin()

    def __exit__(self, *_: object) -> None:
        stages: list[StageClock] = self._thread.stages
        stages.pop()
        self.end()
        if stages:
            stages[-1].begin()


class PipeClocks:
    """The clocks of one pipe. Ports that are given them count their part; a port that has none to count does not."""

    def __init__(self, clock: Clock) -> None:
        thread = threading.local()
        self.source = StageClock(clock, thread)
        """What is read: the disk of a backup, the repository of a restore."""
        self.proxy = StageClock(clock, thread)
        """Digests, compression and decompression, and comparing."""
        self.network = StageClock(clock, thread)
        """The pipe waits for the line between two movers; see `charged` for how much of it is the line's fault."""
        self.target = StageClock(clock, thread)
        """What is written: the repository with sealing, deduplication and commits, or the disk of a restore."""
        self.throttled = StageClock(clock, thread)
        """Something waits because a rule or a limit says so. Any pacer enters it while it holds somebody up."""
        self.has_line = False
        """Whether a line between two movers is part of the pipe; without one there is no network."""

    def charged(self, figures: Figures, excuses: Sequence[float]) -> Figures:
        """Return figures with the busy seconds of each stage, none longer than they last.

        Of what the pipe waited for the line, that is the line's in which none of the stages that may have held it up
        was busy; ``excuses`` are their seconds.
        """
        lasted_s = figures.duration_s
        waited_s = self.network.seconds if self.has_line else 0.0
        return msgspec.structs.replace(
            figures,
            source_s=min(lasted_s, self.source.seconds),
            proxy_s=min(lasted_s, self.proxy.seconds),
            network_s=line_seconds(waited_s, lasted_s, excuses),
            target_s=min(lasted_s, self.target.seconds),
            throttled_s=min(lasted_s, self.throttled.seconds),
        )


class StagePool(ThreadPoolExecutor):
    """Threads whose work belongs to one stage."""

    def __init__(self, threads: int, name: str, stage: StageClock) -> None:
        super().__init__(threads, thread_name_prefix=name)
        self._stage = stage

    @override
    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Do work on a thread of the pool, inside the stage."""

        def work() -> R:
            with self._stage:
                return fn(*args, **kwargs)

        return super().submit(work)
