"""Sparing slow datastores: a copy that is slowed down while they answer late, and a removal that waits for them."""

import threading
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from activities.tally import Tally
from holdfast.clock import Clock
from holdfast.errors import MachineNotFound, SnapshotNotFound
from holdfast.model.latency import DatastoreLatency
from holdfast.model.machine import Snapshot
from holdfast.model.plan import Transport
from holdfast.pipeline.busy import PipeClocks
from holdfast.pipeline.paced_reader import PacedReader
from holdfast.pipeline.stages import PipeProgress
from holdfast.pipeline.token_bucket import TokenBucket
from holdfast.planning.latency import (
    UNMEASURED_BYTES_S,
    Slowing,
    after,
    rate_bytes_s,
    reasons_to_wait,
    slowing_words,
)
from holdfast.providers.ports import Provider, SourceDisk

_LOOKS_PER_SAMPLE: Final = 4
"""Measurements are shared by all copies of a process, so each copy looks more often than there is a new one."""
_PAUSE_S: Final = 1.0


class Beating(Protocol):
    """What keeps an activity alive."""

    def beat(self, cursor: object) -> None:
        """Report progress. Raises when the activity shall stop."""
        ...

    def waiting(self) -> None:
        """Say that the work waits on purpose. Raises when the activity shall stop."""
        ...


class _PacedSource(PacedReader):
    """A source disk that is read at a rate."""

    def __init__(self, source: SourceDisk, bucket: TokenBucket, look: Callable[[int], None], pulse: Beating) -> None:
        super().__init__(source, bucket, look, pulse.waiting)
        self._source = source
        self.place = source.place

    @property
    def remarks(self) -> Sequence[str]:
        """What the operator should know of how it was read."""
        return self._source.remarks

    @property
    def transport(self) -> Transport:
        """How it is read, and why so."""
        return self._source.transport


class Brake:
    """Slows the copy of one disk down while its datastore is slow.

    ``ask`` returns the latest measurement, None where there is nothing to control; the disk is then left as it is.
    """

    def __init__(
        self,
        source: SourceDisk,
        ask: Callable[[], DatastoreLatency | None],
        pulse: Beating,
        clock: Clock,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        self._ask = ask
        self._pulse = pulse
        self._clock = clock
        self._lock = threading.Lock()
        self._slowing = Slowing()
        self._seen = 0
        self._is_ever_known = False
        self._why_unknown = ""
        self._full_bytes_s: float = UNMEASURED_BYTES_S
        self._next_s, self._mark = float("-inf"), (clock.monotonic_s(), 0)
        self._before_s = 0.0
        self._paced: _PacedSource | None = None
        self.disk = source
        """The disk to be read."""
        first = ask()
        if first is not None:
            self._bucket = TokenBucket(clock, pause=pause)
            self.disk = self._paced = _PacedSource(source, self._bucket, self._look, pulse)
            self._judge(first, 0)

    def begin(self, busy: PipeClocks) -> None:
        """Say that the pipe with these clocks begins now: waits until then are no part of its times."""
        if self._paced is not None:
            self._paced.waiting = busy.throttled
            self._before_s = self._paced.throttled_s

    def report(self, tally: Tally, progress: PipeProgress) -> None:
        """Report the progress of the copy. Raises when the activity shall stop."""
        self._pulse.beat(tally.cursor(self.charged(progress)))

    def charged(self, progress: PipeProgress) -> PipeProgress:
        """Return the progress with the waits of the reads as a stage of their own."""
        if self._paced is None:
            return progress
        return msgspec.structs.replace(progress, stages=self._paced.charged(progress.stages, self._before_s))

    @property
    def words(self) -> str:
        """Return when and how much this attempt at the copy was slowed down; empty when it was not."""
        return "" if self._paced is None else slowing_words(self._slowing, self._paced.throttled_s)

    @property
    def note(self) -> str:
        """Return why the datastore was not watched although it should be; empty when it was."""
        if self._is_ever_known or not self._why_unknown:
            return ""
        return f"not slowed down, however busy its datastore was: {self._why_unknown}"

    def _look(self, read_bytes: int) -> None:
        """Ask whether there is a new measurement when it is time; one thread does, the others read on."""
        if self._clock.monotonic_s() < self._next_s or not self._lock.acquire(blocking=False):
            return
        try:
            if self._clock.monotonic_s() >= self._next_s:
                latency = self._ask()
                if latency is not None:
                    self._judge(latency, read_bytes)
        finally:
            self._lock.release()

    def _judge(self, latency: DatastoreLatency, read_bytes: int) -> None:
        now_s = self._clock.monotonic_s()
        self._next_s = now_s + latency.limits.sample_s / _LOOKS_PER_SAMPLE
        if latency.sample == self._seen:
            return
        self._seen = latency.sample
        self._note(latency)
        self._measure(now_s, read_bytes)
        self._slowing = after(self._slowing, latency, self._clock.now())
        self._bucket.set_rate(rate_bytes_s(self._slowing.share, self._full_bytes_s))

    def _note(self, latency: DatastoreLatency) -> None:
        if latency.latency_ms is None:
            self._why_unknown = latency.why_unknown
        else:
            self._is_ever_known = True

    def _measure(self, now_s: float, read_bytes: int) -> None:
        """Take the speed since the last measurement for the full one when nothing held the copy back."""
        since_s, since_bytes = self._mark
        if self._slowing.share == 1.0 and read_bytes > since_bytes and now_s > since_s:
            self._full_bytes_s = (read_bytes - since_bytes) / (now_s - since_s)
        self._mark = (now_s, read_bytes)


class Waited(msgspec.Struct, frozen=True, kw_only=True):
    """How long the removal of a snapshot waited, and for what."""

    seconds: float = 0.0
    reason: str = ""


def wait_until_calm(
    provider: Provider, snapshot: Snapshot, pulse: Beating, clock: Clock, pause: Callable[[float], object] | None = None
) -> Waited:
    """Wait while a datastore of a snapshot is too slow for anything new, as long as its limits allow at most."""
    pause = threading.Event().wait if pause is None else pause
    started_s, reason = clock.monotonic_s(), ""
    while True:
        latencies = _latencies(provider, snapshot)
        reasons = reasons_to_wait(latencies)
        seconds = clock.monotonic_s() - started_s
        if not reasons or seconds >= min(one.limits.removal_wait_s for one in latencies):
            return Waited(seconds=seconds if reason else 0.0, reason=reason)
        reason = "; ".join(reasons)
        pulse.waiting()
        pause(_PAUSE_S)


def _latencies(provider: Provider, snapshot: Snapshot) -> list[DatastoreLatency]:
    """Return the latencies of the datastores of a snapshot that have limits; none when it is gone meanwhile."""
    try:
        asked = [provider.disk_latency(snapshot.machine_id, snapshot.snapshot_id, disk.key) for disk in snapshot.disks]
    except (SnapshotNotFound, MachineNotFound):
        return []
    return [one for one in asked if one is not None]
