"""When which bytes of a file were last read."""

from collections.abc import Sequence
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
