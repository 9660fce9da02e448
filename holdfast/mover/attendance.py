"""Waiting for the other side of a line: never deaf to whoever wants the transfer to stop, and never for ever."""

from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

from typing_extensions import override

from holdfast.clock import Clock
from holdfast.errors import LinkLost
from holdfast.formats.mover import messages as m
from holdfast.formats.mover.inbox import Message
from holdfast.mover.line import Line
from holdfast.pipeline.pace import Pace

LOOK_S = 0.5
"""How long something is waited for between two looks."""

T = TypeVar("T")


class Attended(Future[T]):
    """An answer of the other side; ``look`` is called now and then while it is waited for."""

    def __init__(self, look: Callable[[], None]) -> None:
        super().__init__()
        self._look = look

    @override
    def result(self, timeout: float | None = None) -> T:
        """Return the answer, and wait for it before. Raises what came instead, and what looking raises."""
        while timeout is None and not self.done():
            if wait([self], LOOK_S).not_done:
                self._look()
        return super().result(timeout)


class Attendance:
    """Looks after a transfer that waits for its line. Use from any thread."""

    def __init__(self, line: Line, pace: Pace) -> None:
        self._line = line
        self._pace = pace

    def look(self) -> None:
        """Raise what the transfer shall stop with.

        A mover that is being dialled is no standstill, for the link bounds that; one that is there and says nothing is.
        """
        if self._line.is_away:
            self._pace.attend()
        else:
            self._pace.heed()

    def send(self, head: m.AnyHead, *body: bytes | bytearray | memoryview, is_urgent: bool = False) -> None:
        """Send a message; look now and then while there is no room for it. What looking raises keeps it unsent."""
        self._line.send_attended(m.encode_message(head, *body), self.look, LOOK_S, is_urgent=is_urgent)


class Peer:
    """Whom a session is served: it has to say or to take something now and then, for heartbeats alone prove no life.

    What it is sent may be sent from any thread.
    """

    def __init__(self, line: Line, clock: Clock) -> None:
        self._line = line
        self._clock = clock
        self._heard_s = clock.monotonic_s()

    def receive(self, timeout_s: float, *, is_owed: bool) -> Message | None:
        """Return the next message, None when there is none in time; ``is_owed`` says that the peer waits for us.

        Raises the line's error, and `LinkLost` when it had nothing to wait for and said nothing for too long.
        """
        message, now_s = self._line.receive(timeout_s), self._clock.monotonic_s()
        if message is not None or is_owed:
            self._heard_s = now_s
        elif now_s - self._heard_s >= self._line.idle_s:
            raise LinkLost(f"the peer was there and said nothing for {self._line.idle_s:g} s")
        return message

    def send(self, head: m.AnyHead, *body: bytes | bytearray | memoryview) -> None:
        """Send a message. Raises the line's error, and `LinkLost` when there was no room for it for too long."""
        self._line.send(m.encode_message(head, *body), self._line.idle_s)
