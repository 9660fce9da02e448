"""Which parts of a disk a run reads: facts about the disk in, steps out.

The steps are a stream, because a disk may be larger than memory allows a list to be. They are sorted, aligned to
pieces, and do not overlap.
"""

from collections.abc import Iterable, Iterator

from holdfast.model.ids import ChangeId
from holdfast.model.plan import Action, PlanStep, ReadDecision, ReadMode
from holdfast.model.spans import Span, align, clip


def decide_mode(
    *,
    has_parent: bool,
    parent_change_id: ChangeId | None,
    change_id: ChangeId | None,
    distrust: bool = False,
    unlike: str = "",
) -> ReadDecision:
    """Choose how to read a disk. ``distrust`` asks for a comparison whatever the provider says.

    ``unlike`` says in what the earlier point differs from this one that no tracking reports as changed.
    """
    if not has_parent:
        return ReadDecision(mode=ReadMode.FULL, reason="no earlier point of this disk")
    if distrust:
        return ReadDecision(mode=ReadMode.COMPARED, reason="comparison was asked for")
    if parent_change_id is None:
        return ReadDecision(mode=ReadMode.COMPARED, reason="the earlier point has no change id")
    if change_id is None:
        return ReadDecision(mode=ReadMode.COMPARED, reason="the provider does not track changes of this disk")
    if unlike:
        return ReadDecision(mode=ReadMode.COMPARED, reason=unlike)
    return ReadDecision(mode=ReadMode.CHANGED, reason="the provider tracks changes")


def whole_disk_steps(allocated: Iterable[Span], size: int, piece: int) -> Iterator[PlanStep]:
    """Read everything allocated; the rest is zeros. For `ReadMode.FULL` and `ReadMode.COMPARED`."""
    end = 0
    for span in align(allocated, piece, size):
        if span.start > end:
            yield PlanStep(Span(end, span.start - end), Action.ZERO)
        yield PlanStep(span, Action.READ)
        end = span.end
    if end < size:
        yield PlanStep(Span(end, size - end), Action.ZERO)


def changed_steps(
    changed: Iterable[Span], allocated: Iterable[Span], sizes: tuple[int, int], piece: int
) -> Iterator[PlanStep]:
    """Read what changed and is allocated; what changed and is not allocated is zeros.

    ``sizes`` are the disk's size at the parent point and now. Where they differ, everything from the last piece that
    both sizes share is taken as changed, whatever the provider says.
    """
    size = sizes[1]
    aligned = _with_seam(changed, sizes, piece)
    for span, is_allocated in _split(aligned, align(allocated, piece, size)):
        yield PlanStep(span, Action.READ if is_allocated else Action.ZERO)


def _with_seam(changed: Iterable[Span], sizes: tuple[int, int], piece: int) -> Iterator[Span]:
    """Return the changed spans aligned to pieces, with the part where the two sizes differ added."""
    before, now = sizes
    if before == now:
        yield from align(changed, piece, now)
        return
    seam = min(before, now) // piece * piece
    yield from align(clip(changed, 0, seam), piece, seam)
    if seam < now:
        yield Span(seam, now - seam)


def _split(spans: Iterator[Span], holders: Iterator[Span]) -> Iterator[tuple[Span, bool]]:
    """Cut ``spans`` into parts inside (True) and outside (False) of ``holders``; both sorted."""
    holder = next(holders, None)
    for span in spans:
        start = span.start
        while start < span.end:
            while holder is not None and holder.end <= start:
                holder = next(holders, None)
            if holder is None or holder.start >= span.end:
                yield Span(start, span.end - start), False
                break
            if holder.start > start:
                yield Span(start, holder.start - start), False
                start = holder.start
            stop = min(holder.end, span.end)
            yield Span(start, stop - start), True
            start = stop
