"""The receiving half of a link: frames in any order in, messages in order out, memory bounded by the window.

The window is a promise to the sender: what it may send before anything is released. Everything between the first byte
of a frame and the release of its message counts. A sender that does not keep to it is refused.
"""

from bisect import bisect_left
from collections.abc import Sequence

from holdfast.errors import ProtocolError
from holdfast.formats.mover.window import Window
from holdfast.formats.mover.wire import FRAME_COST, RANGES_MAX, Range, window_min

_REUSED_MIN = 64 << 10
_WASTE_SHIFT = 3


class Message:
    """A message as it arrived. The payload may be used until the message is released."""

    __slots__ = ("_buffer", "payload", "sequence")

    def __init__(self, sequence: int, payload: memoryview, buffer: bytearray) -> None:
        self.sequence = sequence
        self.payload = payload
        self._buffer = buffer

    def give_up(self) -> bytearray:
        """Return the buffer and leave an empty payload; releasing twice is a defect of the caller."""
        assert self.payload, "the message is released already"
        self.payload = memoryview(b"")
        return self._buffer


class _Buffers:
    """Buffers of released messages, by size, to be used again: making one costs more than filling it."""

    def __init__(self) -> None:
        self._sizes: list[int] = []
        self._free: list[bytearray] = []
        self.kept = 0

    def take(self, length: int) -> bytearray:
        """Return a buffer of at least ``length`` bytes, an eighth above at most."""
        at = bisect_left(self._sizes, length)
        if at == len(self._sizes) or self._sizes[at] > length + (length >> _WASTE_SHIFT):
            return bytearray(length)
        self.kept -= self._sizes.pop(at)
        return self._free.pop(at)

    def trim(self, room: int) -> None:
        """Let buffers go until those that are kept take ``room`` at most."""
        while self.kept > room:
            self.kept -= self._sizes.pop()
            self._free.pop()

    def give_back(self, buffer: bytearray, room: int) -> None:
        """Keep a buffer, unless it is small or all that are kept would take more than ``room``."""
        size = len(buffer)
        if size < _REUSED_MIN or self.kept + size > room:
            return
        at = bisect_left(self._sizes, size)
        self._sizes.insert(at, size)
        self._free.insert(at, buffer)
        self.kept += size


class Inbox:
    """Frames from their first byte until they are released; they cost at most `window` together."""

    def __init__(self, window: int, message_max: int, window_max: int = 0) -> None:
        assert window >= window_min(message_max)
        self.next_sequence = 0
        """Everything below has arrived."""
        self.held = 0
        """What the frames in here cost, those that are still arriving included."""
        self.limit = window
        """The credit of the sender, counted from its first frame on."""
        self._window = Window(window, window_max)
        self._message_max = message_max
        self._early: dict[int, Message] = {}
        self._buffers = _Buffers()

    @property
    def memory(self) -> int:
        """Return the bytes of all buffers, those kept for later included, within an eighth."""
        return self.held + self._buffers.kept

    @property
    def window(self) -> int:
        """Return what the frames in here may cost."""
        return self._window.size

    def widen(self, count: int, now_s: float, round_trip_s: float | None) -> None:
        """Give more credit, up to ``window_max``, when so many bytes have come that a round trip wants it."""
        self.limit += self._window.moved(count, now_s, round_trip_s)

    def has(self, sequence: int) -> bool:
        """Return whether a frame arrived before."""
        return sequence < self.next_sequence or sequence in self._early

    def open(self, sequence: int, length: int) -> Message:
        """Return where a new frame is to be received. Raises `ProtocolError` when the sender has no credit for it."""
        cost = length + FRAME_COST
        ahead = (sequence - self.next_sequence) * FRAME_COST
        if length > self._message_max:
            raise ProtocolError(f"frame {sequence} has {length} bytes, {self._message_max} are allowed")
        if self.held + cost > self.window or ahead > self.window:
            raise ProtocolError(f"frame {sequence} of {length} bytes is outside the window of {self.window}")
        self.held += cost
        buffer = self._buffers.take(length)
        self._buffers.trim(self.window - self.held)
        return Message(sequence, memoryview(buffer)[:length], buffer)

    def abandon(self, message: Message) -> None:
        """Forget a frame that arrived damaged."""
        self._let_go(message)

    def lose(self, message: Message) -> None:
        """Forget a frame whose connection is lost.

        Whoever carried that may still receive into the buffer, so no other message ever gets it.
        """
        self._give_up(message)

    def take(self, message: Message) -> Sequence[Message]:
        """Take a frame that has arrived and return the messages that are in order now."""
        if self.has(message.sequence):
            self._let_go(message)
            return ()
        if message.sequence != self.next_sequence:
            self._early[message.sequence] = message
            return ()
        ready = [message]
        self.next_sequence += 1
        while self._early:
            following = self._early.pop(self.next_sequence, None)
            if following is None:
                break
            ready.append(following)
            self.next_sequence += 1
        return ready

    def release(self, message: Message) -> None:
        """Give the sender the credit of a message back; its payload must not be used any more."""
        self.limit += len(message.payload) + FRAME_COST
        self._let_go(message)

    def ranges(self) -> list[Range]:
        """Return what arrived out of order, ascending; the first of it when there is too much to tell."""
        found: list[Range] = []
        for sequence in sorted(self._early):
            first, count = found[-1] if found else (-1, 0)
            if sequence == first + count:
                found[-1] = (first, count + 1)
            elif len(found) == RANGES_MAX:
                break
            else:
                found.append((sequence, 1))
        return found

    def clear(self) -> None:
        """Forget what nobody will ask for any more."""
        for message in self._early.values():
            self._let_go(message)
        self._early.clear()
        self._buffers.trim(0)

    def _let_go(self, message: Message) -> None:
        buffer = self._give_up(message)
        self._buffers.give_back(buffer, self.window - self.held)

    def _give_up(self, message: Message) -> bytearray:
        self.held -= len(message.payload) + FRAME_COST
        return message.give_up()
