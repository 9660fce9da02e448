"""A list of spans that takes a bounded amount of memory: when it becomes too long, it forgets its shortest spans."""

from array import array
from collections.abc import Iterable, Iterator

from holdfast.model.spans import Span

RUNS_MAX = 1 << 18


class FreeList:
    """Spans that were found free, joined where they touch. Spans shorter than ``least`` bytes are forgotten."""

    def __init__(self, least: int, runs_max: int = RUNS_MAX) -> None:
        self.least = least
        self._runs_max = runs_max
        self._starts = array("Q")
        self._lengths = array("Q")

    def extend(self, spans: Iterable[Span]) -> None:
        """Add spans; those that continue the one before are joined with it."""
        for span in spans:
            if self._starts and self._starts[-1] + self._lengths[-1] == span.start:
                self._lengths[-1] += span.length
                continue
            self._close()
            self._starts.append(span.start)
            self._lengths.append(span.length)

    def finish(self) -> None:
        """Bring the spans into order; nothing may be added behind."""
        self._close()
        self._keep(sorted(range(len(self._starts)), key=self._starts.__getitem__))

    def __iter__(self) -> Iterator[Span]:
        return (Span(start, length) for start, length in zip(self._starts, self._lengths, strict=True))

    @property
    def total_bytes(self) -> int:
        """Return the sum of the lengths."""
        return sum(self._lengths)

    def _close(self) -> None:
        """Forget the last span when it is too short, and the shortest ones when there are too many."""
        if self._lengths and self._lengths[-1] < self.least:
            self._starts.pop()
            self._lengths.pop()
        while len(self._starts) >= self._runs_max:
            self.least *= 2
            kept = [index for index, length in enumerate(self._lengths) if length >= self.least]
            self._keep(kept)

    def _keep(self, indexes: Iterable[int]) -> None:
        order = list(indexes)
        self._starts = array("Q", (self._starts[index] for index in order))
        self._lengths = array("Q", (self._lengths[index] for index in order))
