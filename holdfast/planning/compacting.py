"""Decides whether a full is written anew without what nobody needs of it."""

from datetime import date

import msgspec

from holdfast.model.fulls import FullDays
from holdfast.planning.full_days import describe, due_since

DEAD_SHARE = 0.1
"""A full is loose when so much of it is needed by nobody; what merges are going to use again is among it."""
DEAD_LEAST = 64 << 20
"""Less is not worth writing a full for."""


class CompactFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the decision rests on."""

    today: date
    """The day on which the session began."""
    file_bytes: int
    needed_bytes: int
    is_asked_for: bool = False


class CompactDecision(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the full is compacted, and why, to be printed."""

    is_due: bool
    reason: str


def plan_compact(days: FullDays | None, facts: CompactFacts) -> CompactDecision:
    """Return whether a full is compacted. ``days`` are those of the job."""
    dead = max(0, facts.file_bytes - facts.needed_bytes)
    told = f"nobody needs {dead} of {facts.file_bytes} bytes"
    if facts.is_asked_for:
        return CompactDecision(is_due=True, reason=f"it was asked for; {told}")
    if days is None:
        return CompactDecision(is_due=False, reason="the job compacts nothing")
    if due_since(days, facts.today) != facts.today:
        return CompactDecision(is_due=False, reason=f"today is not {describe(days)}")
    if dead < max(DEAD_LEAST, facts.file_bytes * DEAD_SHARE):
        return CompactDecision(is_due=False, reason=f"{told}, which is too little")
    return CompactDecision(is_due=True, reason=f"today is {describe(days)}, and {told}")
