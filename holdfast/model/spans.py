"""Spans: half-open runs of bytes on a disk, and the algebra on sorted streams of them.

All functions are lazy: they take and return iterators, so that a disk of any size costs constant memory. A stream is
*sorted* when starts ascend and spans neither overlap nor touch; every function but `coalesce` expects sorted input and
gives sorted output.
"""

from collections.abc import Iterable, Iterator

import msgspec


class Span(msgspec.Struct, frozen=True, array_like=True):
    """``length`` bytes from ``start``; the end is excluded."""

    start: int
    length: int

    @property
    def end(self) -> int:
        """Return the first byte behind the span."""
        return self.start + self.length


def coalesce(spans: Iterable[Span]) -> Iterator[Span]:
    """Join spans that overlap or touch. Starts must ascend; empty spans vanish."""
    start = end = -1
    for span in spans:
        if span.length <= 0:
            continue
        if span.start <= end:
            end = max(end, span.end)
            continue
        if end > start:
            yield Span(start, end - start)
        start, end = span.start, span.end
    if end > start:
        yield Span(start, end - start)


def align(spans: Iterable[Span], granularity: int, size: int) -> Iterator[Span]:
    """Widen each span to multiples of ``granularity``, cut at ``size``, and join what then touches."""

    def widened() -> Iterator[Span]:
        for span in spans:
            start = span.start // granularity * granularity
            end = min(-(-span.end // granularity) * granularity, size)
            if start < end:
                yield Span(start, end - start)

    return coalesce(widened())


def align_inward(spans: Iterable[Span], granularity: int, size: int) -> Iterator[Span]:
    """Narrow each span to multiples of ``granularity``; ``size``, where everything ends, counts as one."""
    for span in coalesce(spans):
        start = -(-span.start // granularity) * granularity
        end = size if span.end >= size else span.end // granularity * granularity
        if start < end:
            yield Span(start, end - start)


def clip(spans: Iterable[Span], start: int, end: int) -> Iterator[Span]:
    """Keep the parts inside ``[start, end)``; reads no further than needed."""
    for span in spans:
        if span.start >= end:
            return
        low, high = max(span.start, start), min(span.end, end)
        if low < high:
            yield Span(low, high - low)


def intersect(left: Iterable[Span], right: Iterable[Span]) -> Iterator[Span]:
    """Keep the bytes that both streams hold."""
    lefts, rights = iter(left), iter(right)
    a, b = next(lefts, None), next(rights, None)
    while a is not None and b is not None:
        low, high = max(a.start, b.start), min(a.end, b.end)
        if low < high:
            yield Span(low, high - low)
        if a.end <= b.end:
            a = next(lefts, None)
        else:
            b = next(rights, None)


def subtract(left: Iterable[Span], right: Iterable[Span]) -> Iterator[Span]:
    """Keep the bytes of ``left`` that ``right`` does not hold."""
    rights = iter(right)
    hole = next(rights, None)
    for span in left:
        start = span.start
        while hole is not None and hole.end <= start:
            hole = next(rights, None)
        while hole is not None and hole.start < span.end:
            if start < hole.start:
                yield Span(start, hole.start - start)
            start = hole.end
            if start >= span.end:
                break
            hole = next(rights, None)
        if start < span.end:
            yield Span(start, span.end - start)


def total_length(spans: Iterable[Span]) -> int:
    """Return the number of bytes; reads the whole stream."""
    return sum(span.length for span in spans)
