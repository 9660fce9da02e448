"""Leaving out what a guest does not need: plan steps and spans in, plan steps out; and the words that a point keeps.

What is left out counts as zeros in the point. Change tracking will not report it later, so a point says that it was
made so, and the first run that wants everything again compares in full.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum

from holdfast.model.plan import Action, PlanStep
from holdfast.model.spans import Span, align_inward, clip, subtract

_PHRASE = "left out: "
_PART = r"(?:swap|deleted) \d+ bytes"
_FOUND = re.compile(rf"{_PHRASE}({_PART}(?:, {_PART})*)")


class Unneeded(StrEnum):
    """What can be left out. A point keeps these words; they are never changed."""

    SWAP = "swap"
    """Swap space and page files."""
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
        inside: list[Span] = []
        while hole is not None and hole.start < step.span.end:
            inside += clip((hole,), step.span.start, step.span.end)
            if hole.end > step.span.end:
                break
            hole = next(holes, None)
        yield from _cut(step.span, inside)


def _cut(span: Span, holes: list[Span]) -> Iterator[tuple[PlanStep, bool]]:
    parts = [(hole, True) for hole in holes] + [(rest, False) for rest in subtract((span,), holes)]
    for part, is_hole in sorted(parts, key=lambda part: part[0].start):
        yield PlanStep(part, Action.ZERO if is_hole else Action.READ), is_hole


def left_out_words(left_out: Mapping[Unneeded, int]) -> str:
    """Return what a point keeps about what it lacks; empty when it lacks nothing. `kinds_left_out` reads it."""
    parts = [f"{kind} {left_out[kind]} bytes" for kind in Unneeded if kind in left_out]
    return _PHRASE + ", ".join(parts) if parts else ""


def kinds_left_out(detail: str) -> frozenset[Unneeded]:
    """Return what a point lacks, from the words that it keeps about a disk."""
    found = _FOUND.search(detail)
    return frozenset(Unneeded(part.split(" ")[0]) for part in found[1].split(", ")) if found else frozenset()
