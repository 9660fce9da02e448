"""How far what a provider says of changes is believed: which parts are compared all the same, and what a lie means.

Hypervisors have had change tracking that left changes out, and nothing but a comparison tells. Each run therefore
compares a part of what is said to be unchanged with the earlier point, another part each time.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from holdfast.model.plan import ReadMode
from holdfast.model.spans import Span

SAMPLE_UNIT = 1 << 20
"""Bytes that are compared in one place."""
LIE = "change tracking left a change out"
"""Begins the reason why a disk was read in full after tracking was found to lie."""


def sampled_spans(size: int, run: int, budget: int) -> Iterator[Span]:
    """Yield, sorted, about ``budget`` bytes of a disk, spread over it; ``run`` moves every place on by one.

    The disk is cut into as many stretches as there are places, and in as many runs as a stretch has units every unit of
    it was among them once.
    """
    units = -(-size // SAMPLE_UNIT)
    places = min(budget // SAMPLE_UNIT, units)
    for place in range(places):
        first, end = place * units // places, (place + 1) * units // places
        start = (first + run % (end - first)) * SAMPLE_UNIT
        yield Span(start, min(SAMPLE_UNIT, size - start))


def tells_of_lie(detail: str) -> bool:
    """Return whether the words about how a disk was read say that tracking was found to lie."""
    return LIE in detail


def lie_reason(offset: int) -> str:
    """Return why a disk is read in full after a change at ``offset`` was not told."""
    return f"{LIE}, found at offset {offset}"


def doubtful_points(history: Sequence[tuple[int, Mapping[str, str]]]) -> dict[int, str]:
    """Return which points may lack changes, with the reason.

    ``history`` are the points of a chain in order: number, and for each disk how it was read, as a point keeps it. A
    point that found a lie casts doubt on those before it that relied on the tracking of that disk, back to the last one
    that did not.
    """
    doubts: dict[int, str] = {}
    for index, (number, details) in enumerate(history):
        for disk, detail in details.items():
            if tells_of_lie(detail):
                for relied in _relying(history[:index], disk):
                    doubts.setdefault(relied, f"point {number} found that {LIE} of disk {disk}")
    return doubts


def _relying(earlier: Iterable[tuple[int, Mapping[str, str]]], disk: str) -> Iterator[int]:
    """Yield, newest first, the points that took the tracking's word for a disk without a break."""
    for number, details in reversed(list(earlier)):
        if not details.get(disk, "").startswith(f"{ReadMode.CHANGED}:"):
            return
        yield number
