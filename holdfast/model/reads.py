"""When which bytes of a file were last read."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec


class ReadSpan(msgspec.Struct, frozen=True, array_like=True):
    """Bytes ``[start, end)`` of a file and when they were last read."""

    start: int
    end: int
    read: datetime


def laid_over(reads: Sequence[ReadSpan], span: ReadSpan) -> tuple[ReadSpan, ...]:
    """Return the spans with ``span`` in place of what they said of its bytes; ``reads`` are sorted and do not overlap.

    Neighbours that were read at the same moment become one.
    """
    if span.start >= span.end:
        return tuple(reads)
    cut = [span]
    for known in reads:
        cut.append(ReadSpan(known.start, min(known.end, span.start), known.read))
        cut.append(ReadSpan(max(known.start, span.end), known.end, known.read))
    joined: list[ReadSpan] = []
    for part in sorted((part for part in cut if part.start < part.end), key=lambda part: part.start):
        last = joined[-1] if joined else None
        if last is not None and last.end == part.start and last.read == part.read:
            joined[-1] = ReadSpan(last.start, part.end, part.read)
        else:
            joined.append(part)
    return tuple(joined)


def filled(reads: Sequence[ReadSpan], size: int, read: datetime) -> tuple[ReadSpan, ...]:
    """Return the spans of the first ``size`` bytes; what they leave out counts as read at ``read``."""
    whole: list[ReadSpan] = []
    at = 0
    for span in (*reads, ReadSpan(size, size, read)):
        start, end = min(span.start, size), min(span.end, size)
        whole += [
            part for part in (ReadSpan(at, start, read), ReadSpan(start, end, span.read)) if part.start < part.end
        ]
        at = max(at, end)
    return tuple(whole)


def halved(reads: Sequence[ReadSpan]) -> list[ReadSpan]:
    """Return half as many sorted spans: each two with what lies between, read when the older of them was."""
    return [
        ReadSpan(pair[0].start, pair[-1].end, min(span.read for span in pair))
        for pair in (reads[at : at + 2] for at in range(0, len(reads), 2))
    ]


class ReadTimes:
    """When each byte of a file was last read."""

    def __init__(self, spans: Sequence[ReadSpan], beyond: datetime) -> None:
        """Take sorted spans without gaps from the first byte on; bytes behind them count as read at ``beyond``."""
        self.spans = tuple(spans)
        self._starts = [span.start for span in spans]
        self._beyond = beyond

    def at(self, offset: int) -> datetime:
        """Return when a byte was read."""
        index = bisect_right(self._starts, offset) - 1
        return self.spans[index].read if index >= 0 and offset < self.spans[index].end else self._beyond

    def oldest(self) -> datetime:
        """Return when the byte was read that waits the longest."""
        return min((span.read for span in self.spans), default=self._beyond)


def carried(moved: Iterable[tuple[int, int, datetime]], spans_max: int) -> tuple[ReadSpan, ...]:
    """Return the spans of what moved in, given by start, end and the time of its last read; few, rather older.

    What lies between two that were read at the same moment counts as read then, too.
    """
    spans: list[ReadSpan] = []
    backward: list[ReadSpan] = []
    for start, end, read in moved:
        last = spans[-1] if spans else ReadSpan(0, 0, read)
        if start < last.end:
            backward.append(ReadSpan(start, end, read))
        elif spans and read == last.read:
            spans[-1] = ReadSpan(last.start, end, read)
        else:
            spans.append(ReadSpan(start, end, read))
        if len(spans) > spans_max:
            spans = halved(spans)
    found = tuple(spans)
    for span in backward:
        found = _not_newer(found, span)
    return found


def _not_newer(reads: tuple[ReadSpan, ...], span: ReadSpan) -> tuple[ReadSpan, ...]:
    """Return the spans with no byte of ``span`` read later than it was."""
    newer = [known for known in reads if known.start < span.end and span.start < known.end and known.read < span.read]
    for known in (span, *(ReadSpan(max(k.start, span.start), min(k.end, span.end), k.read) for k in newer)):
        reads = laid_over(reads, known)
    return reads
