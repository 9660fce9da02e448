"""Two links joined by a bad network in memory, driven by a seed; the clock is a number."""

import random
from collections import deque

import msgspec

from holdfast.formats.mover.events import Dial, Dropped, Ended, Failed, LinkOptions
from holdfast.formats.mover.inbox import Message
from holdfast.formats.mover.link import Link
from holdfast.formats.mover.outbox import OutFrame
from holdfast.formats.mover.wire import HEADER_SIZE, FrameKind, unpack_header, window_min

MESSAGE_MAX = 4096
OPTIONS = LinkOptions(
    streams=4,
    receive_window=window_min(MESSAGE_MAX) + 3000,
    send_window=3 * MESSAGE_MAX,
    window_max=8 * MESSAGE_MAX,
    message_max=MESSAGE_MAX,
    heartbeat_s=1.0,
    silence_s=4.0,
    redial_s=3.0,
    give_up_s=10_000.0,
)
_PIPE_BYTES = 6000
_STEPS_MAX = 400_000


class Weather(msgspec.Struct, frozen=True, kw_only=True):
    """How often what goes wrong, per step."""

    cut: float = 0.0
    stall: float = 0.0
    flip: float = 0.0
    duplicate: float = 0.0
    refuse: float = 0.0
    """Of dialled connections."""


class Tap:
    """Watches one direction of a connection: where frames end, and the messages among them."""

    def __init__(self) -> None:
        self._frame = bytearray()
        self.messages: list[bytes] = []

    @property
    def is_between_frames(self) -> bool:
        return not self._frame

    def see(self, data: bytes) -> None:
        for at in range(len(data)):
            self._frame.append(data[at])
            if len(self._frame) >= HEADER_SIZE:
                header = unpack_header(self._frame[:HEADER_SIZE])
                if len(self._frame) == HEADER_SIZE + header.length:
                    if header.kind == FrameKind.DATA:
                        self.messages.append(bytes(self._frame))
                    self._frame.clear()


class Pipe:
    """One direction of a connection."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.is_noticed = False
        """Whether the reading end knows that the connection is gone."""


class Wire:
    """One connection; side 0 dialled. Pipe ``n`` is what side ``n`` has sent."""

    def __init__(self) -> None:
        self.pipes = (Pipe(), Pipe())
        self.is_cut = False
        self.stalled_until = 0
        self.closed = [False, False]


class Party:
    """One side's link, and what its user does: sends its messages in order, checks and releases those that come."""

    def __init__(self, link: Link, outgoing: list[bytes], expected: list[bytes]) -> None:
        self.link = link
        self.outgoing = deque(outgoing)
        self.expected = expected
        self.arrived = 0
        self.held: list[Message] = []
        self.peak = [0, 0]
        self.is_over = False

    def send(self) -> None:
        while self.outgoing and len(self.outgoing[0]) <= self.link.room:
            body = self.outgoing.popleft()
            self.link.send(OutFrame([body[:7], body[7:]]))

    def take(self, message: Message) -> None:
        assert message.sequence == self.arrived
        assert message.payload == self.expected[self.arrived]
        self.arrived += 1
        self.held.append(message)

    def note_memory(self) -> None:
        sending, receiving = self.link.memory
        self.peak = [max(self.peak[0], sending), max(self.peak[1], receiving)]


class Simulation:
    """Runs until both sides have everything; raises when that does not happen or anything else is wrong."""

    def __init__(self, seed: int, weather: Weather, counts: tuple[int, int], options: LinkOptions = OPTIONS) -> None:
        self.rng = random.Random(seed)
        self.weather = weather
        self.now_s = 0.0
        self.steps = 0
        self.wires: dict[int, Wire] = {}
        messages = [[self._message() for _ in range(count)] for count in counts]
        self.parties = [
            Party(Link(options, 0.0, is_dialler=side == 0), messages[side], messages[1 - side]) for side in (0, 1)
        ]
        self.taps: dict[tuple[int, int], Tap] = {}

    def _message(self) -> bytes:
        length = self.rng.choice((1, 8, self.rng.randrange(1, 300), self.rng.randrange(1, MESSAGE_MAX + 1)))
        return self.rng.randbytes(length)

    @property
    def is_done(self) -> bool:
        return all(party.arrived == len(party.expected) and not party.held for party in self.parties)

    def run(self) -> None:
        while not self.is_done or not all(party.link.is_idle for party in self.parties):
            self._step()
        for party in self.parties:
            assert party.peak[0] <= OPTIONS.window_max
            assert party.peak[1] <= OPTIONS.window_max * 9 // 8

    def _step(self) -> None:
        self.steps += 1
        assert self.steps < _STEPS_MAX, "the links got stuck"
        self._tick()
        self._misfortune()
        for side, party in enumerate(self.parties):
            party.send()
            self._take_events(side)
            if party.held and self.rng.random() < 0.6:
                party.link.release(party.held.pop(self.rng.randrange(len(party.held))))
            party.note_memory()
        for number in list(self.wires):
            self._move(number)

    def _tick(self) -> None:
        self.now_s += self.rng.random() * 0.05
        for party in self.parties:
            deadline_s = party.link.next_deadline()
            assert deadline_s is not None
            if deadline_s <= self.now_s:
                party.link.tick(self.now_s)

    def _take_events(self, side: int) -> None:
        party = self.parties[side]
        for event in party.link.events():
            match event:
                case Message():
                    party.take(event)
                case Dial():
                    self._dial(event.connection)
                case Dropped():
                    self._close(side, event.connection)
                case Ended():
                    party.is_over = True
                case Failed():
                    raise event.error

    def _dial(self, number: int) -> None:
        dialler, listener = (party.link for party in self.parties)
        if self.rng.random() < self.weather.refuse:
            dialler.connection_lost(number, self.now_s)
            return
        wire = self.wires[number] = Wire()
        for side, link in enumerate((dialler, listener)):
            self.taps[number, side] = Tap()
            wire.closed[side] = not link.connection_made(number, self.now_s)
        wire.is_cut = any(wire.closed)

    def _close(self, side: int, number: int) -> None:
        wire = self.wires.get(number)
        if wire is not None:
            wire.closed[side] = wire.is_cut = True

    # -- the network ---------------------------------------------------------------------------------------------

    def _misfortune(self) -> None:
        for number, wire in self.wires.items():
            if self.rng.random() < self.weather.cut:
                wire.is_cut = True
            if self.rng.random() < self.weather.stall:
                wire.stalled_until = self.steps + self.rng.randrange(400)
            for side in (0, 1):
                self._damage(wire.pipes[side].data)
                self._duplicate(number, side)

    def _damage(self, data: bytearray) -> None:
        if data and self.rng.random() < self.weather.flip:
            data[self.rng.randrange(len(data))] ^= 1 << self.rng.randrange(8)

    def _duplicate(self, number: int, side: int) -> None:
        if self.rng.random() < self.weather.duplicate and self.taps[number, side].is_between_frames:
            # A copy of what is still arriving could exceed the window; a stream of bytes does not bring that about.
            has = self.parties[1 - side].link._inbox.has
            seen = [frame for (_, at), tap in self.taps.items() if at == side for frame in tap.messages]
            seen = [frame for frame in seen if has(unpack_header(frame[:HEADER_SIZE]).sequence)]
            if seen:
                self.wires[number].pipes[side].data += self.rng.choice(seen)

    def _move(self, number: int) -> None:
        wire = self.wires[number]
        if wire.stalled_until > self.steps and not wire.is_cut:
            return
        for side in (0, 1):
            if not wire.closed[side]:
                self._write(number, wire, side)
            if not wire.closed[side]:
                self._read(number, wire, side)
        if all(wire.closed):
            del self.wires[number]

    def _write(self, number: int, wire: Wire, side: int) -> None:
        link, pipe = self.parties[side].link, wire.pipes[side]
        room = _PIPE_BYTES - len(pipe.data)
        if room > 0 and link.wants_output(number) and self.rng.random() < 0.7:
            sent = b"".join(link.take_output(number, self.rng.randrange(1, room + 1), self.now_s))
            self.taps[number, side].see(sent)
            pipe.data += sent if not wire.is_cut else b""

    def _read(self, number: int, wire: Wire, side: int) -> None:
        """Deliver some of what the other side sent; after a cut, what is on its way may arrive or not."""
        link, data = self.parties[side].link, wire.pipes[1 - side].data
        if self.rng.random() < 0.7 and data:
            count = self.rng.randrange(1, len(data) + 1)
            link.receive(number, bytes(data[:count]), self.now_s)
            del data[:count]
        if wire.is_cut and self.rng.random() < 0.1:
            link.connection_lost(number, self.now_s)
            wire.closed[side] = True
