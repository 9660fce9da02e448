"""Leaving out what a guest does not need: plan steps and spans in, plan steps out; and the words for people.

What is left out counts as zeros in the point. Change tracking does not report it when it is needed again without
having been written, so a point remembers what it lacks: spans of swap and of excluded files, which are few, so that the
next run reads those that are needed by then; and that deleted blocks are missing, so that the first run that wants them
compares in full.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum

from holdfast.model.plan import Action, PlanStep
from holdfast.model.spans import Span, align_inward, clip

REMEMBERED_MAX = 1024
"""Most spans of swap and of excluded files that a point remembers, and so leaves out, per disk."""

_VOLUMES_TOLD = 4
_MASKS_TOLD = 8


class Unneeded(StrEnum):
    """What can be left out."""

    SWAP = "swap"
    """Swap space and page files."""
    FILES = "excluded files"
    """Files that masks of the job mean, of volumes that were left in order."""
    DELETED = "deleted"
    """Blocks that no file has, of volumes that were left in order."""


def without_unneeded(
    steps: Iterable[PlanStep], unneeded: Iterable[Span], size: int, piece: int
) -> Iterator[tuple[PlanStep, bool]]:
    """Turn reads of pieces that lie wholly in ``unneeded`` into zeros; yield each step and whether it was turned.

    Both streams are sorted; ``size`` is the disk's. A piece of which anything is needed is read whole.
    """
    holes = align_inward(unneeded, piece, size)
    hole = next(holes, None)
    for step in steps:
        if step.action is not Action.READ:
            yield step, False
            continue
        start = step.span.start
        while hole is not None and hole.start < step.span.end:
            for inside in clip((hole,), start, step.span.end):
                yield from _read_up_to(start, inside.start)
                yield PlanStep(inside, Action.ZERO), True
                start = inside.end
            if hole.end > step.span.end:
                break
            hole = next(holes, None)
        yield from _read_up_to(start, step.span.end)


def _read_up_to(start: int, end: int) -> Iterator[tuple[PlanStep, bool]]:
    if start < end:
        yield PlanStep(Span(start, end - start), Action.READ), False


def remembered_spans(spans: Iterable[Span], size: int, piece: int) -> tuple[Span, ...]:
    """Return, sorted, the whole pieces of sorted spans, of as many spans as a point remembers; the longest are kept."""
    longest = sorted(align_inward(spans, piece, size), key=lambda span: (-span.length, span.start))
    return tuple(sorted(longest[:REMEMBERED_MAX], key=lambda span: span.start))


def explanation(left_out: Mapping[Unneeded, int], kept: Sequence[tuple[str, str]], missing: Sequence[str] = ()) -> str:
    """Return in words how much was left out, where not all was and why, and which masks mean nothing; may be empty."""
    parts = [f"{left_out[kind]} bytes of {kind}" for kind in Unneeded if left_out.get(kind)]
    told = [f"{place}: {reason}" for place, reason in kept[:_VOLUMES_TOLD]]
    more = [f"and {len(kept) - _VOLUMES_TOLD} more volumes"] if len(kept) > _VOLUMES_TOLD else []
    words = [f"left out {' and '.join(parts)}"] if parts else []
    others = f" and {len(missing) - _MASKS_TOLD} more" if len(missing) > _MASKS_TOLD else ""
    nothing = [f"nothing is meant by {', '.join(missing[:_MASKS_TOLD])}{others}"] if missing else []
    return "; ".join(words + told + more + nothing)
