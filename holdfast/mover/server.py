"""The listening mover: connections come in, are greeted and join the line of their session.

One line per session and attempt; a later attempt of a session ends the line of the earlier one, and begins only when
whoever served that has let go of its files.
"""

import socket
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Self

import msgspec

from holdfast.clock import Clock
from holdfast.errors import HoldfastError, WriterFenced
from holdfast.formats.mover.events import LinkOptions
from holdfast.formats.mover.greeting import Hello, Listener, Refusal
from holdfast.formats.mover.states import Greeting
from holdfast.formats.mover.wire import PAYLOAD_MAX, window_min
from holdfast.mover.line import Line
from holdfast.mover.sockets import Address, MoverTls, greet, listen, new_nonce
from holdfast.mover.threads import try_start

Serve = Callable[[bytes, Line], None]
"""Serves one session over its line until that ends; raises nothing."""

GREETINGS_MAX = 256
"""Connections being greeted at once; when more come, those that came first are closed: who means it is soon done."""
_LEAVING_MAX = 64
"""Connections that are being closed so; when there are more, further ones do not get in."""
_ATTEMPTS_KEPT = 4096
_PAUSE_S = 0.1
_WINDOW_MIN = window_min(PAYLOAD_MAX)
_SHARE = 8
"""A session gets this part of the memory that is left; so the first ones leave some for those that follow."""


class ServerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where to listen, and bounds."""

    address: Address
    memory_max: int = 512 << 20
    """Bytes of messages on their way, of all sessions together; when it is used up, further ones get 9 MiB each."""
    window_max: int = 64 << 20
    """Of one session; it begins with less and gets there when the line carries that much."""
    link: LinkOptions = LinkOptions()
    """Of all sessions; the windows are given out as they come."""


class _Session:
    """One attempt of a session being served."""

    def __init__(self, attempt: int, window: int, line: Line) -> None:
        self.attempt = attempt
        self.window = window
        self.line = line
        self.thread: threading.Thread | None = None


class _Attempt(msgspec.Struct, frozen=True):
    """The highest attempt of a session that proved itself."""

    number: int
    is_over: bool = False


class _Guest(msgspec.Struct):
    """A connection that is being greeted, by a handle that TLS does not take over."""

    handle: socket.socket
    is_leaving: bool = False

    def send_off(self) -> None:
        """Make the greeting fail."""
        self.is_leaving = True
        with suppress(OSError):
            self.handle.shutdown(socket.SHUT_RDWR)


class MoverServer:
    """Listens from `__enter__` to `__exit__`."""

    def __init__(
        self,
        options: ServerOptions,
        tls: MoverTls | None,
        token: Callable[[bytes], bytes],
        serve: Serve,
        clock: Clock,
    ) -> None:
        self._options = options
        self._tls = tls
        self._token = token
        self._serve = serve
        self._clock = clock
        self._lock = threading.Lock()
        self._sessions: dict[bytes, _Session] = {}
        self._attempts: OrderedDict[bytes, _Attempt] = OrderedDict()
        self._greetings: dict[threading.Thread, _Guest] = {}
        self._closing = threading.Event()
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._accept, name="mover-accept", daemon=True)

    @property
    def address(self) -> Address:
        """Return where it listens, with the port that was taken."""
        assert self._socket is not None
        return Address(self._options.address.host, self._socket.getsockname()[1])

    def __enter__(self) -> Self:
        """Begin to listen. Raises `ConfigurationInvalid`."""
        self._socket = listen(self._options.address)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End all sessions; what they committed stays."""
        assert self._socket is not None
        with self._lock:
            self._closing.set()
            sessions = list(self._sessions.values())
            greetings = list(self._greetings)
            for guest in self._greetings.values():
                guest.send_off()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()
        for session in sessions:
            session.line.close()
        for thread in (*greetings, *(session.thread for session in sessions)):
            if thread is not None:
                thread.join()

    def end(self, session: bytes, reason: str) -> None:
        """End a session, should it be served; return when whoever served it has let go of its files."""
        with self._lock:
            found = self._sessions.get(session)
        if found is None:
            return
        found.line.fail(WriterFenced(reason))
        found.line.close()
        if found.thread is not None:
            found.thread.join()

    def _accept(self) -> None:
        assert self._socket is not None
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                if self._closing.wait(_PAUSE_S):
                    return
                continue  # the peer was gone already, or there are no descriptors left for a moment
            try:
                self._receive_guest(connection)
            except OSError:
                connection.close()  # no descriptors are left

    def _receive_guest(self, connection: socket.socket) -> None:
        """Begin to greet a connection. Raises `OSError`."""
        thread = threading.Thread(target=self._greet, args=(connection,), name="mover-greet", daemon=True)
        with self._lock:
            staying = [guest for guest in self._greetings.values() if not guest.is_leaving]
            if len(staying) >= GREETINGS_MAX:
                staying[0].send_off()
            is_full = len(self._greetings) >= GREETINGS_MAX + _LEAVING_MAX or self._closing.is_set()
            if not is_full:
                self._greetings[thread] = self._begin_to_greet(connection, thread)
        if is_full:
            connection.close()

    @staticmethod
    def _begin_to_greet(connection: socket.socket, thread: threading.Thread) -> _Guest:
        guest = _Guest(connection.dup())
        try:
            try_start(thread)
        except OSError:
            guest.handle.close()
            raise
        return guest

    def _greet(self, connection: socket.socket) -> None:
        try:
            greeting = Listener(new_nonce(), self._token, self._admit)
            connection = greet(connection, self._tls, greeting, self._clock)
            if greeting.state is Greeting.OPEN and greeting.hello is not None:
                self._join(greeting.hello, connection)
            else:
                connection.close()
        except (OSError, HoldfastError):
            connection.close()  # whoever it was; a mover dials again
        finally:
            with self._lock:
                self._greetings.pop(threading.current_thread()).handle.close()

    def _admit(self, hello: Hello) -> Refusal:
        with self._lock:
            highest = self._attempts.get(hello.session, _Attempt(0))
            if hello.attempt < highest.number:
                return Refusal.FENCED
            if hello.attempt == highest.number and highest.is_over:
                return Refusal.SESSION
            self._remember(hello.session, _Attempt(hello.attempt))
            return Refusal.NONE

    def _remember(self, session: bytes, attempt: _Attempt) -> None:
        """Refuse attempts below this one from now on; the chain's lock fences those of sessions long forgotten."""
        self._attempts[session] = attempt
        self._attempts.move_to_end(session)
        if len(self._attempts) > _ATTEMPTS_KEPT:
            self._attempts.popitem(last=False)

    def _join(self, hello: Hello, connection: socket.socket) -> None:
        """Give a greeted connection to the line of its session."""
        with self._lock:
            before = self._sessions.get(hello.session)
        if before is not None and before.attempt < hello.attempt:
            before.line.fail(WriterFenced(f"a later attempt works on session {hello.session.hex()}"))
            before.line.close()
            if before.thread is not None:
                before.thread.join()
        with self._lock:
            session = self._session(hello)
        if session is None or not session.line.adopt(hello.connection, connection):
            connection.close()

    def _session(self, hello: Hello) -> _Session | None:
        """Return the session of a connection, begun with its first one; the lock is held. Raises `OSError`."""
        found = self._sessions.get(hello.session)
        if found is not None and found.attempt == hello.attempt:
            return found
        is_open = self._attempts.get(hello.session) == _Attempt(hello.attempt)  # nobody overtook it since
        if self._closing.is_set() or not is_open or found is not None:
            return None
        left = self._options.memory_max - sum(session.window for session in self._sessions.values())
        window = max(_WINDOW_MIN, min(self._options.window_max, left // _SHARE))
        # All begin alike, so that none is ahead of the others; long lines get more by and by.
        options = msgspec.structs.replace(
            self._options.link, receive_window=_WINDOW_MIN, send_window=_WINDOW_MIN, window_max=window
        )
        line = Line(options, self._clock)
        session = _Session(hello.attempt, window, line)
        thread = threading.Thread(target=self._run, args=(hello.session, session), name="mover-session", daemon=True)
        try:
            try_start(thread)
        except OSError:
            line.close()
            raise
        session.thread = thread
        self._sessions[hello.session] = session
        return session

    def _run(self, name: bytes, session: _Session) -> None:
        try:
            self._serve(name, session.line)
        finally:
            session.line.close()
            with self._lock:
                del self._sessions[name]
                if self._attempts.get(name, _Attempt(0)).number <= session.attempt:
                    self._remember(name, _Attempt(session.attempt, is_over=True))
