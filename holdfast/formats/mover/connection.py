"""One connection of a link: the frame that is arriving, and what is on its way out."""

from collections import deque
from collections.abc import Callable

from holdfast.formats.mover.inbox import Message
from holdfast.formats.mover.wire import HEADER_SIZE, FrameHeader, FrameKind

_DISCARDED_AT_ONCE = 64 << 10


class Connection:
    """State of one connection; all decisions are the link's."""

    def __init__(self, number: int, now_s: float) -> None:
        self.number = number
        self.heard_s = self.told_s = self.made_s = now_s
        self.header: FrameHeader | None = None
        """Of the frame whose payload is arriving."""
        self.message: Message | None = None
        """Where that payload goes; None for payloads that are no message."""
        self.control: deque[tuple[FrameKind, int]] = deque()
        """Frames without a place in the sequence that go out on this connection, by kind and sequence field."""
        self.owes_state = True
        """Whether the next frame has to tell the peer what has arrived; a connection begins with that."""
        self.end_is_sent = False
        self._head = bytearray(HEADER_SIZE)
        self._head_view = memoryview(self._head)
        self._view = self._head_view
        self._filled = 0
        self._left = 0
        self._pending: deque[memoryview] = deque()

    @property
    def is_sending(self) -> bool:
        """Return whether a frame is partly out."""
        return bool(self._pending)

    @property
    def payload(self) -> memoryview:
        """Return what has arrived of a payload that is no message."""
        return self._view

    # -- bytes in ------------------------------------------------------------------------------------------------

    def buffer(self) -> memoryview:
        """Return where the next bytes go; never empty."""
        return self._view[self._filled :] if self._filled else self._view

    def fill(self, count: int) -> bytearray | None:
        """Note bytes that were put into the buffer; return the header or payload that is whole now, or None."""
        self._filled += count
        assert self._filled <= len(self._view)
        if self._filled < len(self._view):
            return None
        if self._left:
            self._discard()
            return None
        return self._head

    def expect_header(self) -> None:
        """Receive the header of the next frame."""
        self.header = self.message = None
        self._view, self._filled = self._head_view, 0

    def expect_message(self, header: FrameHeader, message: Message) -> None:
        """Receive the payload of a message."""
        self.header, self.message = header, message
        self._view, self._filled = message.payload, 0

    def expect_payload(self, header: FrameHeader) -> None:
        """Receive a payload that is no message."""
        self.header = header
        self._view, self._filled = memoryview(bytearray(header.length)), 0

    def expect_nothing(self, length: int) -> None:
        """Receive the payload of a message that is here already, and forget it."""
        self._left = length
        self._view, self._filled = memoryview(bytearray(min(length, _DISCARDED_AT_ONCE))), 0

    def _discard(self) -> None:
        self._left -= len(self._view)
        self._filled = 0
        if self._left:
            self._view = self._view[: self._left]
        else:
            self.expect_header()

    # -- bytes out -----------------------------------------------------------------------------------------------

    def put(self, parts: list[memoryview]) -> None:
        """Send the buffers of a frame next."""
        self._pending.extend(parts)

    def take(self, max_bytes: int, refill: Callable[["Connection"], bool]) -> list[memoryview]:
        """Return what to send now, at most ``max_bytes``; ``refill`` puts the next frame or returns False."""
        taken: list[memoryview] = []
        pending = self._pending
        while max_bytes > 0 and (pending or refill(self)):
            part = pending.popleft()
            if len(part) > max_bytes:
                pending.appendleft(part[max_bytes:])
                part = part[:max_bytes]
            max_bytes -= len(part)
            taken.append(part)
        return taken
