"""Turns among the sessions of a mover: of those that wait, the one that had least goes next.

A thread for each session alone would leave it to the kernel and to the interpreter who gets on, and neither looks at
what a session has had. So only some sessions work at a time. Nobody waits for a session that wants nothing, and what a
session did not use while it was away is lost to it, but for a little.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from heapq import heappop, heappush
from typing import Final

AT_ONCE: Final = 16
"""Sessions that work at a time: more than there are processors, because some of them wait for the storage."""
BEHIND_MAX: Final = 32 << 20
"""Bytes that a session may be behind the others and still make good."""


class Turns:
    """Gives turns; one for each mover. May be used from any thread."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._lock = threading.Lock()
        self._free = at_once
        self._waiting: list[tuple[int, int, threading.Event]] = []
        self._asked = 0
        self._reached = 0

    @property
    def waiting(self) -> int:
        """Return how many wait for their turn."""
        with self._lock:
            return len(self._waiting)

    def join(self) -> "Turn":
        """Return what a session takes its turns with; it begins with as much as the others have had."""
        with self._lock:
            return Turn(self, self._reached)

    def enter(self, had: int) -> int:
        """Return when it is the turn of a session that had so much; return what it counts as having had."""
        with self._lock:
            had = max(had, self._reached - BEHIND_MAX)
            if self._free:
                self._free -= 1
                self._reached = max(self._reached, had)
                return had
            gate = threading.Event()
            self._asked += 1  # of those that had as much the first goes first
            heappush(self._waiting, (had, self._asked, gate))
        gate.wait()
        return had

    def leave(self) -> None:
        """Pass the turn on to who had least."""
        with self._lock:
            if self._waiting:
                had, _, gate = heappop(self._waiting)
                self._reached = max(self._reached, had)
                gate.set()
            else:
                self._free += 1


class Turn:
    """The turns of one session, each of which one of its threads has."""

    def __init__(self, turns: Turns, had: int) -> None:
        self._turns = turns
        self._lock = threading.Lock()
        self.had = had
        """Bytes that it counts as having had."""

    @contextmanager
    def of(self, size: int) -> Iterator[None]:
        """Wait for a turn to work on so many bytes, and have it until the end of the block."""
        had = self._turns.enter(self.had)
        with self._lock:
            self.had = max(self.had, had) + size
        try:
            yield
        finally:
            self._turns.leave()
