"""Whether the clock of a repository's host can be trusted to say that time has passed.

What is outdated, which locks have ended and what has had its grace period follow from the clock alone, so one that is
years ahead takes everything. It is compared with when the repository was last used: sessions that follow each other
are a night apart, not a month. A repository that really was not used for so long looks the same, and has to be
confirmed as well.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

AHEAD_DAYS_DEFAULT: Final = 14
BACK_MAX: Final = timedelta(hours=1)
"""How much a clock may go back: hosts that take turns with a repository do not agree to the minute."""
NOTED_EVERY: Final = timedelta(hours=1)


class ClockState(StrEnum):
    """What the clock of a host looks like, seen from a repository."""

    STEADY = "steady"
    BACK = "back"
    AHEAD = "ahead"
    UNKNOWN = "unknown"
    """What was noted cannot be read."""


class ClockSight(msgspec.Struct, frozen=True, kw_only=True):
    """The clock of a host beside the last time that a repository was used."""

    state: ClockState
    now: datetime
    seen: datetime | None = None
    """When the repository was last used; None before the first time, and when it cannot be read."""

    @property
    def is_steady(self) -> bool:
        """Return whether points, locks and what was removed may be judged by this clock."""
        return self.state is ClockState.STEADY

    @property
    def is_to_be_noted(self) -> bool:
        """Return whether now is to be kept as the last time: not more often than needed, and never a doubtful one."""
        return self.is_steady and (self.seen is None or self.now - self.seen >= NOTED_EVERY)

    @property
    def words(self) -> str:
        """Return what is seen, for people; without the present moment, so that machines of a session say the same."""
        if self.seen is None:
            unknown = "when the repository was last used cannot be read"
            return "the repository was not used before" if self.is_steady else unknown
        last = self.seen.isoformat(timespec="minutes")
        if self.state is ClockState.BACK:
            return f"the clock is behind {last}, when the repository was last used"
        if self.state is ClockState.AHEAD:
            days = (self.now - self.seen).days
            return f"the clock is {days} days ahead of {last}, when the repository was last used"
        return f"the repository was last used {last}"


def judge_clock(seen: datetime | None, now: datetime, ahead_days: int) -> ClockSight:
    """Return what the clock looks like; ``seen`` is None before the first use of the repository."""
    state = ClockState.STEADY
    if seen is not None and now < seen - BACK_MAX:
        state = ClockState.BACK
    elif seen is not None and now - seen > timedelta(days=ahead_days):
        state = ClockState.AHEAD
    return ClockSight(state=state, now=now, seen=seen)
