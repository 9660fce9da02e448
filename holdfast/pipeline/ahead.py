"""How far what was said of a disk may be ahead of what its restore point has taken.

What is said waits in the memory of whoever keeps the point until the units it speaks of have come. So both sides count
entries, a piece that is offered as one and zeros or kept pieces as one: who says more than `AHEAD_MAX` that is not
taken is refused, and who means it keeps to half of that.

A unit that is not full is closed after `UNIT_OPEN_MAX` entries, and the answer to an offer says so. So an answer is
asked for at least every `ZEROS_MAX` entries that have none, and nothing ever waits for what nobody will send.
"""

from collections import deque
from typing import Final

AHEAD_MAX: Final = 131072
"""Entries beyond which a peer is refused; they take about 30 MiB."""
AHEAD: Final = AHEAD_MAX // 2
"""Entries to which the first half of the pipe keeps: those of 4 GiB, which one word in a second keeps in flow."""
UNIT_OPEN_MAX: Final = AHEAD_MAX // 8
"""Entries after which a unit that waits to be filled is closed."""
ZEROS_MAX: Final = 256
"""Entries without an answer after which one is asked for."""


class Ahead:
    """Counts what was said and is not taken."""

    def __init__(self, limit: int = AHEAD) -> None:
        self._limit = limit
        self._said: deque[tuple[int, int]] = deque()
        self._entries = 0

    def add(self, end: int, entries: int) -> None:
        """Count what was said of the pieces up to ``end``."""
        self._said.append((end, entries))
        self._entries += entries

    def has_room(self, entries: int) -> bool:
        """Return whether so many more may be said, as far as is known."""
        return self._entries + entries <= self._limit or not self._said

    def taken(self, piece: int) -> None:
        """Take note that everything before a piece is taken."""
        while self._said and self._said[0][0] <= piece:
            self._entries -= self._said.popleft()[1]
