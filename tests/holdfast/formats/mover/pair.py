"""Two links with a perfect network between them, moved by hand."""

import msgspec

from holdfast.formats.mover.events import Dropped, Event, LinkOptions
from holdfast.formats.mover.inbox import Message
from holdfast.formats.mover.link import Link
from holdfast.formats.mover.outbox import OutFrame
from holdfast.formats.mover.wire import HEADER_SIZE, FrameKind, pack_header, unpack_header, window_min

MESSAGE_MAX = 100_000
OPTIONS = LinkOptions(
    streams=2,
    streams_far=2,
    receive_window=window_min(MESSAGE_MAX),
    send_window=4 * MESSAGE_MAX,
    window_max=0,
    message_max=MESSAGE_MAX,
)


class Pair:
    """Side 0 dialled. Nothing moves unless a method says so."""

    def __init__(self, *connections: int, options: LinkOptions = OPTIONS) -> None:
        self.now_s = 0.0
        self.links = (Link(options, 0.0, is_dialler=True), Link(options, 0.0, is_dialler=False))
        self.got: tuple[list[Event], list[Event]] = ([], [])
        self.connect(*connections)

    def connect(self, *connections: int) -> None:
        """Bring connections up and let both sides say where they are."""
        for connection in connections:
            for link in self.links:
                assert link.connection_made(connection, self.now_s)
        for connection in connections:
            self.settle(connection)

    def out(self, side: int, connection: int, max_bytes: int = 1 << 30) -> bytes:
        """Return what a side sends on a connection."""
        return b"".join(self.links[side].take_output(connection, max_bytes, self.now_s))

    def into(self, side: int, connection: int, data: bytes) -> None:
        """Let bytes arrive."""
        self.links[side].receive(connection, data, self.now_s)
        self.got[side].extend(self.links[side].events())

    def settle(self, *connections: int) -> None:
        """Move everything on some connections until nothing is left."""
        moved = True
        while moved:
            moved = False
            for connection in connections:
                for side in (0, 1):
                    data = self.out(side, connection)
                    self.into(1 - side, connection, data)
                    moved = moved or bool(data)

    def cut(self, side: int, connection: int) -> None:
        """Let one side notice that a connection is gone."""
        self.links[side].connection_lost(connection, self.now_s)

    def send(self, side: int, *bodies: bytes) -> None:
        """Send messages."""
        for body in bodies:
            self.links[side].send(OutFrame([body]))

    def messages(self, side: int) -> list[bytes]:
        """Return what a side was handed."""
        return [bytes(event.payload) for event in self.got[side] if isinstance(event, Message)]

    def others(self, side: int) -> list[Event]:
        """Return what else a side was told."""
        events = [*self.got[side], *self.links[side].events()]
        return [event for event in events if not isinstance(event, Message)]

    def dropped(self, side: int) -> list[int]:
        """Return the connections that a side gave up."""
        return [event.connection for event in self.others(side) if isinstance(event, Dropped)]

    def counted(self, side: int) -> dict[str, int]:
        """Return the counters of a side that are not zero, but for those of bytes."""
        counters = msgspec.structs.asdict(self.links[side].counters)
        return {name: value for name, value in counters.items() if value and "bytes" not in name}


def kinds(data: bytes) -> list[FrameKind]:
    """Return the kinds of the frames in some bytes."""
    found = []
    while data:
        header = unpack_header(data[:HEADER_SIZE])
        found.append(FrameKind(header.kind))
        data = data[HEADER_SIZE + header.length :]
    return found


def control(kind: FrameKind, sequence: int = 0, below: int = 0, limit: int = 0) -> bytes:
    """Return a frame without payload."""
    return pack_header((kind, 0, sequence), (below, limit), 0)
