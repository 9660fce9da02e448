"""The listening mover: connections come in, are greeted and join the line of their session.

One line per session and attempt; a later attempt of a session ends the line of the earlier one, and begins only when
whoever served that has let go of its files.
"""

import socket
import ssl
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Self

import msgspec

from holdfast.clock import Clock
from holdfast.errors import HoldfastError, WriterFenced
from holdfast.formats.mover.events import LinkOptions
from holdfast.formats.mover.greeting import Hello, Listener
from holdfast.formats.mover.states import Greeting
from holdfast.mover.line import Line
from holdfast.mover.sockets import Address, greet, listen, new_nonce

Serve = Callable[[bytes, Line], None]
"""Serves one session over its line until that ends; raises nothing."""

GREETINGS_MAX = 256
"""Connections being greeted at once; more are closed, and dialled again by who needs them."""
_ATTEMPTS_KEPT = 4096


class ServerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where to listen, and bounds."""

    address: Address
    memory_max: int = 512 << 20
    """Bytes of messages on their way, of all sessions together."""
    window_min: int = 8 << 20
    window_max: int = 32 << 20
    streams_max: int = 100


class _Session:
    """One attempt of a session being served."""

    def __init__(self, hello: Hello, line: Line) -> None:
        self.attempt = hello.attempt
        self.line = line
        self.thread: threading.Thread | None = None


class MoverServer:
    """Listens from `__enter__` to `__exit__`."""

    def __init__(
        self,
        options: ServerOptions,
        tls: ssl.SSLContext | None,
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
        self._attempts: OrderedDict[bytes, int] = OrderedDict()
        self._greetings: set[threading.Thread] = set()
        self._is_closing = False
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
            self._is_closing = True
            sessions = list(self._sessions.values())
            greetings = list(self._greetings)
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
                if self._is_closing:
                    return
                continue  # the peer was gone already, or there are no descriptors left for a moment
            thread = threading.Thread(target=self._greet, args=(connection,), name="mover-greet", daemon=True)
            with self._lock:
                is_full = len(self._greetings) >= GREETINGS_MAX or self._is_closing
                if not is_full:
                    self._greetings.add(thread)
                    thread.start()
            if is_full:
                connection.close()

    def _greet(self, connection: socket.socket) -> None:
        try:
            greeting = Listener(new_nonce(), self._token, self._admit)
            connection = greet(connection, self._tls, greeting)
            if greeting.state is Greeting.OPEN and greeting.hello is not None:
                self._join(greeting.hello, connection)
            else:
                connection.close()
        except (OSError, HoldfastError):
            connection.close()  # whoever it was; a mover dials again
        finally:
            with self._lock:
                self._greetings.discard(threading.current_thread())

    def _admit(self, hello: Hello) -> bool:
        with self._lock:
            if hello.attempt < self._attempts.get(hello.session, 0):
                return False
            self._remember(hello.session, hello.attempt)
            return True

    def _remember(self, session: bytes, attempt: int) -> None:
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
        """Return the session of a connection, begun with its first one; the lock is held."""
        found = self._sessions.get(hello.session)
        if found is not None and found.attempt == hello.attempt:
            return found
        if self._is_closing or self._attempts.get(hello.session) != hello.attempt or found is not None:
            return None
        share = self._options.memory_max // (len(self._sessions) + 1)
        window = max(self._options.window_min, min(self._options.window_max, share))
        line = Line(LinkOptions(receive_window=window, send_window=window), self._clock)
        session = _Session(hello, line)
        session.thread = threading.Thread(
            target=self._run, args=(hello.session, session), name="mover-session", daemon=True
        )
        self._sessions[hello.session] = session
        session.thread.start()
        return session

    def _run(self, name: bytes, session: _Session) -> None:
        try:
            self._serve(name, session.line)
        finally:
            session.line.close()
            with self._lock:
                if self._sessions.get(name) is session:
                    del self._sessions[name]
                    self._remember(name, max(self._attempts.get(name, 0), session.attempt + 1))
