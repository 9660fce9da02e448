"""Where time comes from.

Code below ``workers`` never reads the wall clock itself: it is given a `Clock`, so that a test can decide what time it
is. Correctness never rests on these values; order comes from numbers (see docs/formats/chain-file.md).
"""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """A source of time. Implementations are safe to call from several threads."""

    def now(self) -> datetime:
        """Return the present moment with the UTC zone."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds from an arbitrary start that never run backwards."""
        ...


class SystemClock:
    """The clock of the host."""

    def now(self) -> datetime:
        """Return the host's wall clock in UTC."""
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        """Return the host's monotonic clock in seconds."""
        return time.monotonic()
