"""Adds the figures of a disk up over all attempts, and says how fast it goes.

The cursor in the heartbeat carries what earlier attempts did; where a run continues is told by the storage alone.
"""

from collections import deque

import msgspec

from activities.contracts.transfer import TransferCursor
from holdfast.clock import Clock
from holdfast.model.session import Figures
from holdfast.pipeline.stages import PipeProgress, StageTimes
from holdfast.planning.bottleneck import bottleneck_words

_RATE_WINDOW_S = 5.0
_WORDS_INTERVAL_S = 0.5


class Tally:
    """Turns the progress of one attempt into cursors that speak of all attempts.

    ``subject`` names machine, disk, size and target; ``previous`` is the last cursor of the attempt before, None when
    there is none. ``committed_bytes`` is where this attempt goes on. With ``counters_kept`` the chain file itself keeps
    the counters over attempts; without it they are added up here.
    """

    def __init__(
        self,
        clock: Clock,
        subject: TransferCursor,
        previous: TransferCursor | None,
        committed_bytes: int,
        *,
        counters_kept: bool = False,
    ) -> None:
        self._clock = clock
        self._subject = subject
        self._counters_kept = counters_kept
        if previous is None:
            previous = msgspec.structs.replace(subject, committed_bytes=committed_bytes)
        self._previous = previous
        self._again = Figures(resent_bytes=max(0, previous.reached_bytes - committed_bytes))
        self._words, self._words_s = "", clock.monotonic_s()
        self._marks: deque[tuple[float, int]] = deque([(clock.monotonic_s(), committed_bytes)])

    def cursor(self, progress: PipeProgress) -> TransferCursor:
        """Return the cursor for what this attempt has reached."""
        figures = self.figures(progress.figures)
        return msgspec.structs.replace(
            self._subject,
            committed_bytes=progress.committed_bytes,
            reached_bytes=progress.reached_bytes,
            figures=figures,
            bottleneck=self._bottleneck(figures),
            busy=self.busy(progress.stages),
            rate_bytes_s=self._rate(progress.reached_bytes),
        )

    def _bottleneck(self, figures: Figures) -> str:
        """Return the bottleneck in words, put together anew about as often as a report leaves."""
        now_s = self._clock.monotonic_s()
        if now_s >= self._words_s:
            self._words, self._words_s = bottleneck_words(figures), now_s + _WORDS_INTERVAL_S
        return self._words

    def figures(self, attempt: Figures) -> Figures:
        """Return the figures of all attempts."""
        total = self._previous.figures + self._again + attempt
        kept = attempt if self._counters_kept else total
        return msgspec.structs.replace(
            kept,
            size_bytes=attempt.size_bytes,
            processed_bytes=attempt.processed_bytes,
            duration_s=total.duration_s,
            source_s=total.source_s,
            proxy_s=total.proxy_s,
            network_s=total.network_s,
            target_s=total.target_s,
            throttled_s=total.throttled_s,
        )

    def busy(self, stages: StageTimes) -> dict[str, float]:
        """Return the busy seconds of each stage over all attempts."""
        now = {name.removesuffix("_s"): seconds for name, seconds in msgspec.structs.asdict(stages).items()}
        before = self._previous.busy
        return {name: round(before.get(name, 0.0) + seconds, 3) for name, seconds in now.items()}

    def _rate(self, reached_bytes: int) -> float:
        now_s = self._clock.monotonic_s()
        self._marks.append((now_s, reached_bytes))
        while len(self._marks) > 2 and now_s - self._marks[1][0] > _RATE_WINDOW_S:  # noqa: PLR2004 - two ends of a window
            self._marks.popleft()
        first_s, first_bytes = self._marks[0]
        return round((reached_bytes - first_bytes) / (now_s - first_s)) if now_s > first_s else 0.0
