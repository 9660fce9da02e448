"""A link: messages in order and exactly once over several unreliable connections (docs/formats/mover-protocol.md).

Bytes go in through `Link.buffer_for` and `Link.received`, come out of `Link.take_output`; what happened is told by
`Link.events`. There is no socket, no thread and no clock in here: the time is an argument, in seconds from anywhere,
and `Link.next_deadline` says when `Link.tick` wants to be called. All calls for one link are made under one lock.

Any idle connection takes the next frame. A frame is kept until the peer says that it arrived; a damaged one is asked
for again by its number; those of a dead connection go to the others once the peer has confirmed that it reads nothing
more from it. Neither side ever holds more than its window.
"""

from collections import deque
from collections.abc import Sequence

import msgspec
from isal.isal_zlib import crc32

from holdfast.errors import HoldfastError, LinkLost, ProtocolError
from holdfast.formats.mover.connection import Connection
from holdfast.formats.mover.dialling import Dialling
from holdfast.formats.mover.events import Counters, Dial, Dropped, Ended, Event, Failed, LinkOptions
from holdfast.formats.mover.inbox import Inbox, Message
from holdfast.formats.mover.outbox import Outbox, OutFrame
from holdfast.formats.mover.states import LINK, LinkCause, LinkState, moved
from holdfast.formats.mover.wire import (
    STREAMS_MAX,
    FrameHeader,
    FrameKind,
    HeaderDamaged,
    pack_header,
    pack_ranges,
    unpack_header,
    unpack_ranges,
)

_GONE_KEPT = 1024
_ANSWERS_MAX = 1024
_CONNECTIONS_MAX = 2 * STREAMS_MAX  # a peer may dial anew before this side knows that the old ones are gone
_NOTHING = memoryview(b"")
_OVER = frozenset({LinkState.ENDED, LinkState.FAILED})
_DATA, _ACK, _NACK, _LOST, _GONE, _END = (int(kind) for kind in FrameKind)


class Link:
    """One side of a link, for one attempt of a session."""

    def __init__(self, options: LinkOptions, now_s: float, *, is_dialler: bool) -> None:
        self.state = LinkState.OPEN
        self.error: HoldfastError | None = None
        self._options = options
        self._outbox = Outbox(options.send_window, options.message_max, options.window_max)
        self._inbox = Inbox(options.receive_window, options.message_max, options.window_max)
        self._connections: dict[int, Connection] = {}
        streams = options.streams if is_dialler else 0
        self._dialling = Dialling(streams, options.redial_s, now_s, options.others_after_s)
        self._dialling.more = options.streams_far - options.streams if is_dialler else 0
        self._alone_s = now_s  # when the last connection was lost
        self._lost: dict[int, int | None] = {}  # dead connections with frames in flight; where the peer was asked
        self._gone: deque[int] = deque(maxlen=_GONE_KEPT)  # connections that the peer declared dead
        self._is_finishing = False
        self._state_is_due = False
        self._limit_told = 0
        self._events: list[Event] = []
        self._counters = Counters()

    # -- messages ------------------------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """Return the longest message that `send` takes now; negative when it takes none."""
        return self._outbox.room

    def send(self, frame: OutFrame, *, is_urgent: bool = False) -> None:
        """Send a message, for which there is room; an urgent one before those that wait. Raises the link's error."""
        if self.error is not None:
            raise self.error
        assert self.state is LinkState.OPEN, f"the link is {self.state}"
        self._outbox.put(frame, is_urgent=is_urgent)

    @property
    def acknowledged(self) -> int:
        """Return the number below which all messages have arrived."""
        return self._outbox.acknowledged

    def release(self, message: Message) -> None:
        """Let the sender use the room of a message, which must not be used any more."""
        self._inbox.release(message)
        if (self._inbox.limit - self._limit_told) * 4 >= self._inbox.window:
            self._state_is_due = True

    @property
    def is_idle(self) -> bool:
        """Return whether everything that was sent has arrived."""
        return self._outbox.is_empty

    def finish(self) -> None:
        """End the link once everything sent has arrived. The side that waits for nothing more calls it."""
        self.state = moved(LINK, self.state, LinkCause.FINISH)
        self._is_finishing = True

    def fail(self, error: HoldfastError) -> None:
        """Give the link up: another attempt took over, or the work was stopped."""
        before, self.state = self.state, moved(LINK, self.state, LinkCause.FAIL)
        if before is not self.state:
            self.error = error
            for number in list(self._connections):
                self._drop(number, f"the link failed: {error}", self._alone_s)
            self._outbox.clear()
            self._inbox.clear()
            self._events.append(Failed(error))

    def events(self) -> list[Event]:
        """Return what happened since the last call, in order."""
        found, self._events = self._events, []
        return found

    @property
    def counters(self) -> Counters:
        """Return what the link has done so far, as a copy."""
        return msgspec.structs.replace(self._counters)

    @property
    def round_trip_s(self) -> float | None:
        """Return the shortest time in which an answer came so far, None before the first."""
        return self._outbox.round_trip.shortest_s

    @property
    def memory(self) -> tuple[int, int]:
        """Return the bytes that are held for sending and for receiving."""
        return self._outbox.kept, self._inbox.memory

    # -- connections and time ------------------------------------------------------------------------------------

    def connection_made(self, connection: int, now_s: float) -> bool:
        """Take a connection that was greeted; False when it is to be closed at once.

        That is so when the link is over, when the peer has used the number or has given it up already, and when there
        are too many.
        """
        is_used = connection in self._connections or connection in self._lost or connection in self._gone
        if is_used or self.state in _OVER or len(self._connections) >= _CONNECTIONS_MAX:
            return False
        self._connections[connection] = Connection(connection, now_s)
        self._counters.connections_made += 1
        return True

    def connection_lost(self, connection: int, now_s: float) -> None:
        """Note that a connection is closed, or could not be dialled or greeted."""
        self._dialling.lost(connection, now_s)
        found = self._connections.pop(connection, None)
        if found is None:
            return
        self._counters.connections_lost += 1
        if found.message is not None:
            self._inbox.lose(found.message)
        self._state_is_due = True  # what was said last may be lost with the connection
        for lost, asked in self._lost.items():
            if asked == connection:
                self._lost[lost] = None
        if self._outbox.has_flights_on(connection):
            self._lost[connection] = None
        if not self._connections:
            self._alone_s = now_s

    def next_deadline(self) -> float | None:
        """Return when `tick` is to be called, at the latest; None when the link has ended."""
        if self.state in _OVER:
            return None
        times = [each.told_s + self._options.heartbeat_s for each in self._connections.values()]
        times += [each.heard_s + self._options.silence_s for each in self._connections.values()]
        times += self._dialling.deadlines_s()
        if not self._connections:
            times.append(self._alone_s + self._options.give_up_s)
        return min(times)

    def tick(self, now_s: float) -> None:
        """Do what time brings: heartbeats, silent connections, dialling, giving up."""
        if self.state in _OVER:
            return
        for each in list(self._connections.values()):
            if now_s - each.heard_s >= self._options.silence_s:
                self._drop(each.number, f"nothing was heard for {self._options.silence_s:g} s", now_s)
            elif now_s - each.told_s >= self._options.heartbeat_s:
                each.owes_state = True
                each.told_s = now_s
        if not self._connections and now_s - self._alone_s >= self._options.give_up_s:
            self.fail(LinkLost(f"no connection for {self._options.give_up_s:g} s"))
            return
        self._events += [Dial(number) for number in self._dialling.due(now_s)]

    def _drop(self, connection: int, reason: str, now_s: float) -> None:
        self._events.append(Dropped(connection, reason))
        self.connection_lost(connection, now_s)

    # -- bytes in ------------------------------------------------------------------------------------------------

    def buffer_for(self, connection: int) -> memoryview:
        """Return where the next bytes of a connection belong; empty when it was given up."""
        found = self._connections.get(connection)
        return _NOTHING if found is None else found.buffer()

    def received(self, connection: int, count: int, now_s: float) -> None:
        """Take bytes that were put at the beginning of `buffer_for`."""
        found = self._connections.get(connection)
        if found is None:
            return
        self._counters.bytes_received += count
        found.heard_s = now_s
        self._outbox.at(now_s)
        head = found.fill(count)
        if head is None:
            return
        try:
            if found.header is None:
                self._take_header(found, unpack_header(head), now_s)
            else:
                self._take_payload(found, found.header, now_s)
        except HeaderDamaged:
            self._drop(connection, "a frame header arrived damaged", now_s)
        except ProtocolError as error:
            self.fail(error)
            if connection in self._connections:  # the link had ended before
                self._drop(connection, str(error), now_s)

    def receive(self, connection: int, data: bytes | bytearray | memoryview, now_s: float) -> None:
        """Take bytes by copying them; for tests and for those who cannot receive into a buffer."""
        rest = memoryview(data)
        while rest and (buffer := self.buffer_for(connection)):
            count = min(len(buffer), len(rest))
            buffer[:count], rest = rest[:count], rest[count:]
            self.received(connection, count, now_s)

    def _take_header(self, connection: Connection, header: FrameHeader, now_s: float) -> None:
        self._outbox.grant(header.limit)
        self._outbox.acknowledge(header.acknowledged)
        if self._dialling.more and (self.round_trip_s or 0.0) > self._options.far_s:
            self._dialling.add_more(now_s)
            self._events += [Dial(number) for number in self._dialling.due(now_s)]
        if header.kind == _DATA:
            if self._inbox.has(header.sequence):
                self._counters.duplicates += 1
                self._state_is_due = True
                connection.expect_nothing(header.length)
            else:
                connection.expect_message(header, self._inbox.open(header.sequence, header.length))
        elif header.length:
            connection.expect_payload(header)
        else:
            connection.expect_header()
            self._take_control(connection, header, (), now_s)

    def _take_payload(self, connection: Connection, header: FrameHeader, now_s: float) -> None:
        message, payload = connection.message, connection.payload
        is_whole = crc32(payload) == header.payload_crc
        connection.expect_header()
        if message is None:
            if is_whole:
                self._take_control(connection, header, unpack_ranges(payload), now_s)
            else:
                self._drop(connection.number, "an acknowledgement arrived damaged", now_s)
        elif is_whole:
            self._inbox.widen(header.length, now_s, self.round_trip_s)
            self._take_message(message)
        else:
            self._inbox.abandon(message)
            self._counters.nacks_sent += 1
            self._answer(connection, FrameKind.NACK, header.sequence, now_s)

    def _take_message(self, message: Message) -> None:
        if self._inbox.has(message.sequence):
            self._counters.duplicates += 1
        else:
            self._counters.frames_received += 1
        self._events += self._inbox.take(message)
        self._state_is_due = True

    def _take_control(
        self, connection: Connection, header: FrameHeader, ranges: Sequence[tuple[int, int]], now_s: float
    ) -> None:
        self._outbox.acknowledge(header.acknowledged, ranges)
        match header.kind:
            case FrameKind.NACK:
                self._counters.nacks_received += self._outbox.repeat(header.sequence, connection.number)
            case FrameKind.LOST:
                self._peer_lost(connection, header.sequence, now_s)
            case FrameKind.GONE:
                if header.sequence in self._lost:
                    del self._lost[header.sequence]
                    self._outbox.repeat_all(header.sequence)
            case FrameKind.END:
                self._take_end(header)
            case _:  # an acknowledgement, which its header and ranges have told
                pass

    def _peer_lost(self, connection: Connection, lost: int, now_s: float) -> None:
        if lost == connection.number:
            raise ProtocolError(f"peer calls connection {lost} dead on that connection")
        if lost in self._connections:
            self._drop(lost, "the peer has lost it", now_s)
        self._gone.append(lost)
        self._answer(connection, FrameKind.GONE, lost, now_s)

    def _answer(self, connection: Connection, kind: FrameKind, sequence: int, now_s: float) -> None:
        if len(connection.control) < _ANSWERS_MAX:
            connection.control.append((kind, sequence))
        else:
            self._drop(connection.number, "the peer takes no answers", now_s)

    def _take_end(self, header: FrameHeader) -> None:
        if header.sequence != self._inbox.next_sequence:
            raise ProtocolError(f"peer ends at {header.sequence}, {self._inbox.next_sequence} messages have arrived")
        self._end(LinkCause.END_RECEIVED)

    # -- bytes out -----------------------------------------------------------------------------------------------

    def wants_output(self, connection: int) -> bool:
        """Return whether `take_output` has something for a connection."""
        found = self._connections.get(connection)
        if found is None:
            return False
        return (
            found.is_sending
            or bool(found.control)
            or found.owes_state
            or self._state_is_due
            or self._has_question()
            or self._outbox.is_ready
            or (self._may_end() and not found.end_is_sent)
        )

    def take_output(self, connection: int, max_bytes: int, now_s: float) -> list[memoryview]:
        """Return what to send on a connection now, at most ``max_bytes``; what was returned has to be sent."""
        found = self._connections.get(connection)
        if found is None:
            return []
        self._outbox.at(now_s)
        taken = found.take(max_bytes, self._refill)
        if taken:
            found.told_s = now_s
            self._counters.bytes_sent += sum(map(len, taken))
        return taken

    def _refill(self, connection: Connection) -> bool:
        """Put the next frame of an idle connection; return False if there is none."""
        if connection.control:
            kind, sequence = connection.control.popleft()
            self._put_control(connection, kind, sequence)
        elif connection.owes_state or self._state_is_due:
            self._put_control(connection, FrameKind.ACK, 0)
        elif self._has_question():
            lost = next(lost for lost, asked in self._lost.items() if asked is None)
            self._lost[lost] = connection.number
            self._put_control(connection, FrameKind.LOST, lost)
        else:
            return self._put_message(connection) or self._put_end(connection)
        return True

    def _has_question(self) -> bool:
        return bool(self._lost) and None in self._lost.values()

    def _put_control(self, connection: Connection, kind: FrameKind, sequence: int) -> None:
        tells_state = kind in {FrameKind.ACK, FrameKind.GONE}
        payload = pack_ranges(self._inbox.ranges()) if tells_state else b""
        if tells_state:
            self._state_is_due = connection.owes_state = False
        header = pack_header((kind, len(payload), sequence), self._credit(), crc32(payload))
        connection.put([memoryview(part) for part in (header, payload) if part])

    def _put_message(self, connection: Connection) -> bool:
        frame = self._outbox.take(connection.number)
        if frame is None:
            return False
        counters = self._counters
        counters.frames_sent += 1
        if frame.is_again:
            counters.resent_frames += 1
            counters.resent_bytes += frame.length
        header = pack_header((_DATA, frame.length, frame.sequence), self._credit(), frame.crc)
        connection.put([memoryview(header), *frame.parts])
        return True

    def _may_end(self) -> bool:
        return self._is_finishing and self._outbox.is_empty

    def _put_end(self, connection: Connection) -> bool:
        if not self._may_end() or connection.end_is_sent:
            return False
        self._put_control(connection, FrameKind.END, self._outbox.next_sequence)
        connection.end_is_sent = True
        self._end(LinkCause.END_SENT)
        return True

    def _end(self, cause: LinkCause) -> None:
        before, self.state = self.state, moved(LINK, self.state, cause)
        if before is not self.state:
            self._events.append(Ended())

    def _credit(self) -> tuple[int, int]:
        self._limit_told = self._inbox.limit
        return self._inbox.next_sequence, self._limit_told
