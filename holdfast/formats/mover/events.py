"""What a link is told and what it tells: options, events, counters."""

from typing import Final, TypeAlias

import msgspec

from holdfast.errors import HoldfastError
from holdfast.formats.mover.inbox import Message
from holdfast.formats.mover.wire import PAYLOAD_MAX, STREAMS_MAX

IDLE_S: Final = 1800.0


class LinkOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds and times of one side; the sides need not agree."""

    streams: int = 5
    """Connections that a dialler keeps."""
    streams_far: int = 8
    """Connections that it keeps where an answer takes longer than `far_s`: each is held up by what it loses."""
    far_s: float = 0.03
    others_after_s: float = 1.0
    """How long after the first connection the others are dialled, unless the line turns out to be a long one."""
    receive_window: int = 16 << 20
    """Bytes of messages that have begun to arrive and are not released."""
    send_window: int = 16 << 20
    """Bytes of messages that wait or are not acknowledged."""
    window_max: int = 64 << 20
    """Up to which both windows grow on a line that carries more while an answer comes back.

    Three times what is on its way at 1 Gbit/s and 150 ms: frames wait for those before them."""
    message_max: int = PAYLOAD_MAX
    """The longest message that is sent or accepted; the sides have to agree."""
    heartbeat_s: float = 5.0
    """A connection on which nothing was sent for so long says that it lives."""
    silence_s: float = 20.0
    """A connection on which nothing was heard for so long is given up."""
    redial_s: float = 15.0
    """The longest pause between two dials; the first ones are shorter."""
    give_up_s: float = 1800.0
    """A link without any connection for so long has failed."""
    idle_s: float = IDLE_S
    """Who serves a session gives it up when a peer that is there says nothing, or takes nothing, for so long."""

    def with_streams(self, count: int) -> "LinkOptions":
        """Return the same with so many connections, and on a long line more in proportion; one stays one."""
        far = 1 if count == 1 else min(STREAMS_MAX, count * self.streams_far // self.streams)
        return msgspec.structs.replace(self, streams=count, streams_far=far)


class Counters(msgspec.Struct, kw_only=True):
    """What a link has done so far."""

    frames_sent: int = 0
    """Messages that were sent, those sent again included."""
    bytes_sent: int = 0
    """Everything handed to connections."""
    frames_received: int = 0
    """Messages that arrived whole, each once."""
    bytes_received: int = 0
    """Everything that came from connections."""
    resent_frames: int = 0
    resent_bytes: int = 0
    """Payload that was sent again."""
    duplicates: int = 0
    """Messages that arrived although they were here."""
    nacks_sent: int = 0
    nacks_received: int = 0
    connections_made: int = 0
    connections_lost: int = 0


class Dial(msgspec.Struct, frozen=True):
    """A connection is to be dialled and greeted under this number."""

    connection: int


class Dropped(msgspec.Struct, frozen=True):
    """A connection is to be closed; nothing more is read from it."""

    connection: int
    reason: str


class Ended(msgspec.Struct, frozen=True):
    """The link has come to its end in good order; the connections are to be closed once their output is out."""


class Failed(msgspec.Struct, frozen=True):
    """The link has come to its end otherwise."""

    error: HoldfastError


Event: TypeAlias = Message | Dial | Dropped | Ended | Failed
