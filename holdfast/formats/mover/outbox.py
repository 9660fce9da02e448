"""The sending half of a link: frames that wait, frames in flight, and whose credit they use.

A frame is kept until the peer has acknowledged that it arrived. One that was sent on a connection which died is sent
again only after the peer has confirmed that it reads nothing more from that connection, because until then the frame
may still arrive: so nothing that arrived is sent twice.
"""

from collections import deque
from collections.abc import Sequence
from heapq import heappop, heappush

from isal.isal_zlib import crc32

from holdfast.errors import ProtocolError
from holdfast.formats.mover.window import RoundTrip, Window
from holdfast.formats.mover.wire import FRAME_COST, Range

_NOBODY = -1
_UNSENT = -1


class OutFrame:
    """A frame to be sent; the payload's parts are referred to, never copied, and must not change until it arrived."""

    __slots__ = ("connection", "crc", "is_again", "length", "parts", "sequence")

    def __init__(self, parts: Sequence[bytes | bytearray | memoryview]) -> None:
        self.sequence = _UNSENT
        self.parts = [memoryview(part) for part in parts if len(part)]
        self.length = 0
        self.crc = 0
        for part in self.parts:
            self.length += len(part)
            self.crc = crc32(part, self.crc)
        self.connection = _NOBODY
        self.is_again = False

    @property
    def cost(self) -> int:
        """Return what the frame takes of the windows of both sides."""
        return self.length + FRAME_COST


class Outbox:
    """Frames from `put` until they are acknowledged; they cost at most the window together."""

    def __init__(self, window: int, message_max: int, window_max: int = 0) -> None:
        assert window >= message_max + FRAME_COST
        self.next_sequence = 0
        """What the next frame to be sent gets, unless it is sent again."""
        self.acknowledged = 0
        """The peer has everything below."""
        self.kept = 0
        """What the frames in here cost."""
        self.round_trip = RoundTrip()
        self._window = Window(window, window_max)
        self._now_s = 0.0
        self._message_max = message_max
        self._limit = 0  # the credit that the peer has given, counted from the first frame on
        self._position = 0  # the credit that is used
        self._waiting: deque[OutFrame] = deque()
        self._urgent: deque[OutFrame] = deque()
        self._flights: dict[int, OutFrame] = {}
        self._again: list[int] = []  # a heap
        self._reached: dict[int, int] = {}  # how far the ranges went that were acknowledged last

    @property
    def room(self) -> int:
        """Return the longest payload that `put` takes now; negative when it takes none."""
        return min(self._window.size - self.kept - FRAME_COST, self._message_max)

    @property
    def is_empty(self) -> bool:
        """Return whether the peer has everything."""
        return not self.kept

    @property
    def is_ready(self) -> bool:
        """Return whether `take` may find a frame."""
        queue = self._urgent or self._waiting
        return bool(self._again) or (bool(queue) and self._has_credit(queue[0]))

    def put(self, frame: OutFrame, *, is_urgent: bool = False) -> None:
        """Add a frame, for which there must be room.

        Urgent frames are sent, and get their number, before those that wait; in both kinds what comes first goes first.
        """
        assert 0 < frame.length <= self.room, f"frame of {frame.length} bytes, room for {self.room}"
        self.kept += frame.cost
        (self._urgent if is_urgent else self._waiting).append(frame)

    def at(self, now_s: float) -> None:
        """Say what time it is in the calls that follow."""
        self._now_s = now_s

    def take(self, connection: int) -> OutFrame | None:
        """Return the frame that an idle connection is to send, or None."""
        while self._again:
            again = self._flights.get(heappop(self._again))
            if again is not None:
                again.connection, again.is_again = connection, True
                return again
        queue = self._urgent or self._waiting
        if not queue or not self._has_credit(queue[0]):
            return None
        frame = queue.popleft()
        frame.sequence, frame.connection = self.next_sequence, connection
        self.next_sequence += 1
        self._position += frame.cost
        self._flights[frame.sequence] = frame
        self.round_trip.sent(frame.sequence, self._now_s)
        return frame

    def has_flights_on(self, connection: int) -> bool:
        """Return whether a connection carries frames that are not acknowledged."""
        return any(frame.connection == connection for frame in self._flights.values())

    def grant(self, limit: int) -> None:
        """Take the credit that the peer states; it never shrinks."""
        self._limit = max(self._limit, limit)

    def acknowledge(self, below: int, ranges: Sequence[Range] = ()) -> None:
        """Forget the frames below a sequence number and in ranges. Raises `ProtocolError` for frames never sent."""
        if below > self.acknowledged:
            self._check(below)
            for sequence in range(self.acknowledged, below):
                self._arrived(sequence)
            self.acknowledged = below
        reached: dict[int, int] = {}
        for first, count in ranges:
            end = reached[first] = first + count
            self._check(end)
            for sequence in range(max(self._reached.get(first, first), self.acknowledged), end):
                self._arrived(sequence)
        if ranges:
            self._reached = reached

    def repeat(self, sequence: int, connection: int) -> bool:
        """Send a frame again that arrived damaged; False if it is not in flight on that connection."""
        frame = self._flights.get(sequence)
        if frame is None or frame.connection != connection:
            return False
        self._give(frame)
        return True

    def repeat_all(self, connection: int) -> None:
        """Send everything again that a dead connection carried and that did not arrive."""
        for frame in self._flights.values():
            if frame.connection == connection:
                self._give(frame)

    def clear(self) -> None:
        """Forget everything."""
        self._waiting.clear()
        self._urgent.clear()
        self._flights.clear()
        self._again.clear()
        self.kept = 0

    def _give(self, frame: OutFrame) -> None:
        frame.connection = _NOBODY
        heappush(self._again, frame.sequence)

    def _check(self, end: int) -> None:
        if end > self.next_sequence:
            raise ProtocolError(f"peer acknowledges frames below {end}, those below {self.next_sequence} were sent")

    def _arrived(self, sequence: int) -> None:
        frame = self._flights.pop(sequence, None)
        if frame is not None:
            self.kept -= frame.cost
            self.round_trip.arrived(sequence, self._now_s)
            self._window.moved(frame.cost, self._now_s, self.round_trip.shortest_s)

    def _has_credit(self, frame: OutFrame) -> bool:
        return self._position + frame.cost <= self._limit
