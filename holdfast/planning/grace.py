"""When what was removed is deleted for good: not before the days that were promised when it was removed.

So a rule with fewer days holds for what is removed from then on, and takes nothing at once that could be taken back;
one with more days holds for everything that is still there.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

_STEP = timedelta(microseconds=1)


class PurgeRule(msgspec.Struct, frozen=True, kw_only=True):
    """What may be deleted for good."""

    now: datetime
    grace_days: int = 0
    """Of the rules of today."""
    keeps_promises: bool = True
    """False when somebody asked for room at once."""


class RemovalFact(msgspec.Struct, frozen=True, kw_only=True):
    """When a file was removed, and for how many days it was promised to stay then."""

    removed: datetime
    promised_days: int | None = None
    """None where nothing was noted, as by earlier versions: then the rules of today hold."""


def has_had_grace(fact: RemovalFact, rule: PurgeRule) -> bool:
    """Return whether a file that was removed may be deleted."""
    if not rule.keeps_promises:
        return True
    days = rule.grace_days if fact.promised_days is None else max(fact.promised_days, rule.grace_days)
    return fact.removed < rule.now - timedelta(days=days)


def purged_before(facts: Sequence[RemovalFact], rule: PurgeRule) -> datetime | None:
    """Return the moment before which all that was removed from a chain may be deleted; None when nothing may.

    A file waits for those that were removed before it and were promised to stay for longer.
    """
    staying = [fact.removed for fact in facts if not has_had_grace(fact, rule)]
    going = [fact.removed for fact in facts if has_had_grace(fact, rule) and all(fact.removed < one for one in staying)]
    return max(going) + _STEP if going else None
