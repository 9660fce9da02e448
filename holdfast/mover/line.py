"""A link that lives: one thread for each connection carries its bytes, one more keeps the time.

A thread does both directions of its connection, because a TLS connection may not be used from two threads at once. All
of the link's state is under one lock, which no thread holds while it waits for a socket.
"""

import logging
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence

from holdfast.clock import Clock
from holdfast.errors import HoldfastError, LinkLost, LinkRefused, OperationCancelled, ProtocolError
from holdfast.formats.mover.events import Counters, Dial, Dropped, Ended, Event, Failed, LinkOptions
from holdfast.formats.mover.inbox import Message
from holdfast.formats.mover.link import Link
from holdfast.formats.mover.outbox import OutFrame
from holdfast.formats.mover.states import LinkState
from holdfast.mover.carrier import Carrier
from holdfast.mover.sockets import ends_of
from holdfast.mover.threads import try_start

Dialler = Callable[[int], socket.socket]
"""Returns a greeted connection of this number. Raises `OSError` or `HoldfastError`."""

_log = logging.getLogger(__name__)

_IDLE_S = 1.0
_LAST_WORDS_S = 5.0
"""How long a closed link may take to tell its peer that it has ended."""


class Line:
    """One side of a link, carried by threads. `send` may be used from any thread, `receive` from one at a time.

    Beginning one raises `OSError` when this host has no room for it.
    """

    def __init__(self, options: LinkOptions, clock: Clock, dial: Dialler | None = None) -> None:
        self._clock = clock
        self._dial = dial
        self.idle_s = options.idle_s
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._time = threading.Condition(self._lock)
        self._messages: deque[Message] = deque()
        self._carriers: dict[int, Carrier] = {}
        self._threads: set[threading.Thread] = set()
        self._ends: tuple[str, str] | None = None
        self._is_over = False
        self._is_closed = False
        self._is_finishing = False
        self._over_s = 0.0
        self._trouble = ""
        self._message_max = options.message_max
        self._link = Link(options, clock.monotonic_s(), is_dialler=dial is not None)
        self._keeper = threading.Thread(target=self._keep_time, name="mover-time", daemon=True)
        try_start(self._keeper)

    @property
    def counters(self) -> Counters:
        """Return what the link has done so far."""
        with self._lock:
            return self._link.counters

    @property
    def ends(self) -> tuple[str, str] | None:
        """Return the addresses of this host and of the peer, as the first connection had them."""
        return self._ends

    @property
    def round_trip_s(self) -> float:
        """Return the shortest time in which an answer came; 0 while that is not known."""
        with self._lock:
            return self._link.round_trip_s or 0.0

    @property
    def trouble(self) -> str:
        """Return in words why no connection came about so far; empty as soon as one did, or when none was tried."""
        with self._lock:
            return "" if self._link.counters.connections_made else self._trouble

    @property
    def is_away(self) -> bool:
        """Return whether no connection is there, and the link has not ended either."""
        with self._lock:
            return not self._carriers and not self._is_stopped

    @property
    def has_ended(self) -> bool:
        """Return whether the link has ended, failed or was closed; some of what arrived may still be here."""
        return self._is_stopped

    def adopt(self, number: int, connection: socket.socket) -> bool:
        """Carry a connection that was greeted; False, and it is closed, when the link has no use for it.

        Raises `OSError`, and the connection is the caller's, when this host has no room for it.
        """
        carrier = Carrier(number, connection)
        self._ends = self._ends or ends_of(connection)
        with self._lock:
            is_wanted = not self._is_closed and self._link.connection_made(number, self._clock.monotonic_s())
            if is_wanted:
                self._begin_to_carry(carrier)
        if not is_wanted:
            carrier.close()
        return is_wanted

    def _begin_to_carry(self, carrier: Carrier) -> None:
        """Give a connection to a thread; the lock is held. Raises `OSError`, and the connection is closed then."""
        thread = threading.Thread(target=self._carry, args=(carrier,), name="mover-carry", daemon=True)
        try:
            try_start(thread)
        except OSError:
            carrier.close()
            self._link.connection_lost(carrier.number, self._clock.monotonic_s())
            self._time.notify_all()
            raise
        self._carriers[carrier.number] = carrier
        self._threads.add(thread)
        self._trouble = ""

    def send(
        self,
        parts: Sequence[bytes | bytearray | memoryview],
        timeout_s: float | None = None,
        *,
        is_urgent: bool = False,
    ) -> None:
        """Send a message; wait until there is room for it. Its parts must not change until it has arrived.

        An urgent one goes before those that wait and are not. Raises the link's error when it has failed, and
        `LinkLost` when there was no room in time.
        """
        if not self._is_sent(self._framed(parts), timeout_s, is_urgent=is_urgent):
            raise LinkLost(f"the peer took nothing for {timeout_s:g} s")

    def send_attended(
        self,
        parts: Sequence[bytes | bytearray | memoryview],
        look: Callable[[], None],
        look_s: float,
        *,
        is_urgent: bool = False,
    ) -> None:
        """Send a message as `send` does, and call ``look`` each time when there was no room for ``look_s``.

        What it raises ends the wait, and nothing is sent.
        """
        frame = self._framed(parts)
        while not self._is_sent(frame, look_s, is_urgent=is_urgent):
            look()

    def _framed(self, parts: Sequence[bytes | bytearray | memoryview]) -> OutFrame:
        frame = OutFrame(parts)
        if frame.length > self._message_max:
            raise ProtocolError(f"a message of {frame.length} bytes is to be sent, {self._message_max} are allowed")
        return frame

    def _is_sent(self, frame: OutFrame, timeout_s: float | None, *, is_urgent: bool) -> bool:
        """Send a message when there is room for it in time; return whether there was. Raises the link's error."""
        with self._lock:
            has_room = self._room.wait_for(lambda: self._is_stopped or self._link.room >= frame.length, timeout_s)
            self._check()
            if has_room:
                self._link.send(frame, is_urgent=is_urgent)
                self._after()
        return has_room

    def receive(self, timeout_s: float | None = None) -> Message | None:
        """Return the next message, to be given to `release`; None when the link ended, or none came in time.

        Raises the link's error when it has failed; what arrived before comes first.
        """
        with self._lock:
            while not self._messages:
                error = self._error()
                if error is not None:
                    raise error
                if self._is_stopped:
                    return None
                if not self._arrived.wait(timeout_s) and timeout_s is not None:
                    return None
            return self._messages.popleft()

    @property
    def is_over(self) -> bool:
        """Return whether nothing more can arrive."""
        with self._lock:
            return self._is_stopped and not self._messages

    def release(self, message: Message) -> None:
        """Let the peer use the room of a message, which must not be used any more."""
        with self._lock:
            self._link.release(message)
            self._after()

    def wait_until_over(self, timeout_s: float) -> None:
        """Return once the link has ended, no connection is left to say so, or the time is over."""
        with self._lock:
            self._room.wait_for(lambda: self._is_over or not self._carriers, timeout_s)

    def finish(self, timeout_s: float | None = None) -> None:
        """Send what is left and end the link; return when it has ended, or when all has arrived and nobody is there.

        Raises the link's error, or `LinkLost` when that was not so in time.
        """
        with self._lock:
            self._check()
            self._is_finishing = True
            self._link.finish()
            self._after()
            if not self._room.wait_for(lambda: self._is_over or self._is_left, timeout_s):
                raise LinkLost(f"the peer did not take the last words within {timeout_s:g} s")
            error = self._error()
            if error is not None:
                raise error

    def fail(self, error: HoldfastError) -> None:
        """Give the link up: whoever waits for it gets the error."""
        with self._lock:
            self._link.fail(error)
            self._after()

    def close(self) -> None:
        """Close all connections and wait for their threads; a link that has ended well says so before. Idempotent.

        A connection that is being dialled is closed as soon as it is there.
        """
        with self._lock:
            if not self._is_over:
                self._link.fail(OperationCancelled("the link was closed"))
            self._is_closed = True
            self._after()
            threads = [*self._threads, self._keeper]
            self._time.notify_all()
            for carrier in self._carriers.values():
                carrier.wake()
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join()

    @property
    def _is_stopped(self) -> bool:
        return self._is_over or self._is_closed

    @property
    def _is_left(self) -> bool:
        return self._link.is_idle and not self._carriers

    def _error(self) -> HoldfastError | None:
        error = self._link.error
        if isinstance(error, LinkLost) and self._trouble:
            return LinkLost(f"{error.message}; the last try: {self._trouble}", hint=error.hint)
        return error

    def _check(self) -> None:
        error = self._error()
        if error is not None:
            raise error
        if self._is_stopped:
            raise LinkLost("the link has ended")

    # -- threads -------------------------------------------------------------------------------------------------

    def _after(self) -> None:
        """Pass on what the link tells after a call; the lock is held."""
        for event in self._link.events():
            self._pass_on(event)
        if self._is_over or self._link.room > 0:
            self._room.notify_all()
        for carrier in self._carriers.values():
            if carrier.is_asleep and (self._is_over or self._link.wants_output(carrier.number)):
                carrier.wake()
                if not self._is_over:
                    break  # one is enough for one frame

    def _pass_on(self, event: Event) -> None:
        match event:
            case Message():
                self._messages.append(event)
                self._arrived.notify()
            case Dial(connection):
                self._begin_to_dial(connection)
            case Dropped(connection, _):
                if connection in self._carriers:
                    self._carriers[connection].is_dropped = True
                    self._carriers[connection].wake()
            case Ended() | Failed():
                self._over_s = self._over_s if self._is_over else self._clock.monotonic_s()
                self._is_over = True
                self._arrived.notify_all()

    def _keep_time(self) -> None:
        with self._lock:
            while not self._is_over and not self._is_closed:
                deadline_s = self._link.next_deadline()
                now_s = self._clock.monotonic_s()
                if deadline_s is not None and deadline_s <= now_s:
                    self._link.tick(now_s)
                    self._after()
                    continue
                wait_s = _IDLE_S if deadline_s is None else min(_IDLE_S, deadline_s - now_s)
                self._time.wait(wait_s)

    def _begin_to_dial(self, number: int) -> None:
        """Dial in a thread; the lock is held."""
        try:
            try_start(threading.Thread(target=self._dial_one, args=(number,), name="mover-dial", daemon=True))
        except OSError as error:
            self._dial_later(number, str(error))

    def _dial_one(self, number: int) -> None:
        try:
            self._dial_and_adopt(number)
        except OSError as error:
            self._not_dialled(number, f"the other mover cannot be reached: {error.strerror or error}")
        except HoldfastError as error:
            if error.retryable:
                self._not_dialled(number, error.message)
            else:
                self._refused(error)
        except Exception as error:  # noqa: BLE001 - whatever it was, the stream must not be lost
            _log.exception("connection %d could not be dialled", number)
            self._not_dialled(number, f"{type(error).__name__}: {error}")

    def _dial_and_adopt(self, number: int) -> None:
        assert self._dial is not None
        connection = self._dial(number)
        try:
            is_adopted = self.adopt(number, connection)
        except OSError as error:
            connection.close()
            self._not_dialled(number, str(error))
            return
        if not is_adopted:
            self._not_dialled(number, "the other mover had given up the connection before it was taken")

    def _not_dialled(self, number: int, reason: str) -> None:
        """Dial again later; a link that has ended needs no connection any more."""
        with self._lock:
            if not self._is_stopped:
                self._dial_later(number, reason)
                self._after()

    def _dial_later(self, number: int, reason: str) -> None:
        self._trouble = reason
        self._link.connection_lost(number, self._clock.monotonic_s())
        self._time.notify_all()

    def _refused(self, error: HoldfastError) -> None:
        """Give up. A mover that knew the session and does so no more was started anew; another attempt goes on."""
        if isinstance(error, LinkRefused) and self.counters.connections_made:
            error = LinkLost(f"the other mover does not know the session any more: {error.message}")
        self.fail(error)

    def _carry(self, carrier: Carrier) -> None:
        """Carry the bytes of one connection until it ends."""
        number, now, count = carrier.number, self._clock.monotonic_s, 0
        try:
            while True:
                with self._lock:
                    if count:
                        self._link.received(number, count, now())
                    if not carrier.has_output:
                        carrier.output(self._link.take_output(number, carrier.OUTPUT_MAX, now()))
                    if count or carrier.has_output:
                        self._after()  # others are woken for what this one did not take
                    if self._is_done(carrier):
                        break
                    buffer = self._link.buffer_for(number)
                    carrier.is_asleep = not carrier.has_output
                count = carrier.exchange(buffer, _IDLE_S)
        except (OSError, EOFError):
            pass  # the link dials again
        finally:
            with self._lock:
                self._carriers.pop(number, None)
                self._threads.discard(threading.current_thread())
                carrier.close()
                self._link.connection_lost(number, now())
                self._after()
                self._room.notify_all()
                self._time.notify_all()

    def _is_done(self, carrier: Carrier) -> bool:
        if carrier.is_dropped or not self._is_over:
            return carrier.is_dropped
        if self._clock.monotonic_s() - self._over_s > _LAST_WORDS_S:
            return True
        # Who says the end waits for the peer to close: closing before it has read everything would take the end away.
        is_said = self._is_finishing and self._link.state is LinkState.ENDED
        return not carrier.has_output and not is_said
