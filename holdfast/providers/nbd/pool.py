"""A fixed number of connections to one export, lent to threads one at a time."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from holdfast.clock import Clock
from holdfast.providers.nbd import protocol
from holdfast.providers.nbd.client import Connection
from holdfast.providers.nbd.wire import Export


class ConnectionPool:
    """Connections of one server. The constructor opens the first, and raises OSError.

    A server that promises no coherence between connections gets a single one. With ``renews`` further connections are
    opened when they are needed and a broken one is replaced; without it all are opened at once and a broken one stays
    broken: what was written over it may be lost, and a server that was started anew meanwhile must not confirm it.
    """

    def __init__(self, export: Export, connections_max: int, *, renews: bool, clock: Clock | None = None) -> None:
        self._export = export
        self._clock = clock
        self._renews = renews
        self._lock = threading.Lock()
        self._open: set[Connection] = set()
        self._is_closed = False
        self.is_broken = False
        """Whether a connection was ever lost."""
        first = Connection(export, clock)
        self._open.add(first)
        self.about = first.about
        self.size = connections_max if self.about.can(protocol.NBD_FLAG_CAN_MULTI_CONN) else 1
        # The last one given back is the next one lent: a single reader stays with one connection.
        self._idle: list[Connection | None] = []
        # One token for each of them; taking it is the only wait, and done without the interpreter.
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()
        if renews:
            for _ in range(self.size - 1):
                self._put(None)
        self._put(first)
        if not renews:
            self._open_others()

    @contextmanager
    def lend(self) -> Iterator[Connection]:
        """Give one thread a connection; waits while all are lent. Raises OSError when none can be opened."""
        self._tokens.get()
        connection = self._idle.pop()
        try:
            if connection is None:
                self._check_open()
                connection = self._connect()
            yield connection
        finally:
            self._take_back(connection)

    def close(self) -> None:
        """Close every connection; a request under way ends with a `ConnectionError`. Idempotent."""
        with self._lock:
            self._is_closed = True
            for connection in self._take_idle():
                if connection is not None:
                    self._drop(connection)
                self._put(None)  # whoever waits finds that there are no more
            for lent in self._open:
                lent.abort()

    def _take_idle(self) -> list[Connection | None]:
        taken: list[Connection | None] = []
        with suppress(queue.Empty):
            while True:
                self._tokens.get_nowait()
                taken.append(self._idle.pop())
        return taken

    def _put(self, connection: Connection | None) -> None:
        self._idle.append(connection)
        self._tokens.put(None)

    def _open_others(self) -> None:
        try:
            for _ in range(self.size - 1):
                self._put(self._connect())
        except BaseException:
            self.close()
            raise

    def _check_open(self) -> None:
        if self._is_closed:
            raise ConnectionAbortedError("the disk was closed")

    def _take_back(self, connection: Connection | None) -> None:
        with self._lock:
            if connection is not None and not connection.is_usable:
                self.is_broken = True
            if connection is not None and (self._is_closed or (self._renews and not connection.is_usable)):
                self._drop(connection)
                connection = None
            self._put(connection)

    def _drop(self, connection: Connection) -> None:
        self._open.discard(connection)
        connection.close()

    def _connect(self) -> Connection:
        connection = Connection(self._export, self._clock)
        with self._lock:
            if not self._is_closed and connection.about == self.about:
                self._open.add(connection)
                return connection
        connection.close()
        self._check_open()
        raise protocol.ProtocolViolated(f"the export was {self.about} and is {connection.about} now")
