"""One connection and what is on its way out of it."""

import contextlib
import os
import select
import socket
import ssl
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Final

_RECEIVED_AT_ONCE = 1 << 20
"""A frame that arrives slowly is told of in steps of this size, so that a slow line does not look dead."""
_PARTS_AT_ONCE = 16
_MOMENT_S = 0.02
"""How long the rest of a frame is waited for before its first part is told of: on a line they come bit by bit."""
_BUFFERS_AT_ONCE = 64
_RECORD_SIZE = 16 << 10
"""What TLS encrypts at once, and what one call into it sends or receives at most."""
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Carrier:
    """Moves bytes over a connected socket, in both directions, from one thread."""

    OUTPUT_MAX: Final = 1 << 20
    """Most bytes to be given to `output` at once; what one connection has taken no faster one can take over."""

    def __init__(self, number: int, connection: socket.socket) -> None:
        self.number = number
        self.is_dropped = False
        self.is_asleep = False
        """Whether `exchange` waits although nothing is left to send; see `wake`."""
        self._socket = connection
        self._socket.settimeout(0)
        self._tls = connection if isinstance(connection, ssl.SSLSocket) else None
        self._output: deque[memoryview] = deque()
        self._alarm, self._ringer = os.pipe()
        os.set_blocking(self._alarm, False)
        os.set_blocking(self._ringer, False)
        self._poll = select.poll()
        self._poll.register(self._alarm, select.POLLIN)
        self._poll.register(connection, select.POLLIN)

    @property
    def has_output(self) -> bool:
        """Return whether something is left to be sent."""
        return bool(self._output)

    def output(self, parts: Sequence[memoryview]) -> None:
        """Send these bytes next."""
        self._output.extend(parts if self._tls is None else filter(len, in_records(parts)))

    def wake(self) -> None:
        """Make `exchange` return. May be called from any thread, until `close`."""
        self.is_asleep = False
        with contextlib.suppress(OSError):  # the pipe is full: it rings already; or closed: nobody sleeps
            os.write(self._ringer, b"!")

    def exchange(self, buffer: memoryview, timeout_s: float) -> int:
        """Send what can be sent and receive what is there; return how many bytes were put into ``buffer``.

        Returns at once when all of the output is out or the buffer is full, because there may be more then. Otherwise
        waits until something can move, `wake` is called, or the time is over; once bytes have come, only for a moment.
        Raises `OSError`, and `EOFError` when the peer has closed.
        """
        wanted = min(len(buffer), _RECEIVED_AT_ONCE)
        is_out = self._send()
        count = self._receive(buffer[:wanted])
        for _ in range(_PARTS_AT_ONCE):
            if is_out or count == wanted or not self._wait(_MOMENT_S if count else timeout_s):
                break
            is_out = self._send()
            try:
                count += self._receive(buffer[count:wanted])
            except EOFError:
                if not count:
                    raise
                break  # it is met again behind what has come
        self.is_asleep = False
        return count

    def _wait(self, timeout_s: float) -> bool:
        """Return whether something can move now, before `wake` is called and the time is over."""
        self._poll.modify(self._socket, select.POLLIN | (select.POLLOUT if self._output else 0))
        ready = self._poll.poll(timeout_s * 1000)
        if not any(descriptor == self._alarm for descriptor, _ in ready):
            return bool(ready)
        with contextlib.suppress(BlockingIOError):
            os.read(self._alarm, 4096)
        return False

    def close(self) -> None:
        """Close the connection. Idempotent."""
        if self._alarm < 0:
            return
        self._socket.close()
        alarm, ringer, self._alarm, self._ringer = self._alarm, self._ringer, -1, -1
        os.close(alarm)
        os.close(ringer)

    def _send(self) -> bool:
        """Send as much as the socket takes; return whether there was something and all of it is out."""
        if not self._output:
            return False
        with contextlib.suppress(*_NOT_NOW):
            while self._output:
                if self._tls is None:
                    self._forget(self._socket.sendmsg(list(islice(self._output, _BUFFERS_AT_ONCE))))
                else:
                    self._send_records(self._tls.send)
        return not self._output

    def _forget(self, count: int) -> None:
        """Take bytes that were sent out of the output."""
        while count:
            part = self._output[0]
            if count < len(part):
                self._output[0] = part[count:]
                return
            count -= len(part)
            self._output.popleft()

    def _send_records(self, send: Callable[[memoryview], int]) -> None:
        """Send one part, a record with each call; what a call did not take has to be offered again as it was."""
        part = self._output[0]
        try:
            while part:
                part = part[send(part) :]
        finally:
            self._output[0] = part
        self._output.popleft()

    def _receive(self, buffer: memoryview) -> int:
        """Fill the buffer as far as bytes are there."""
        rest, size = buffer, len(buffer)
        with contextlib.suppress(*_NOT_NOW):
            while rest:
                received = self._socket.recv_into(rest) if self._tls is None else int(self._tls.read(len(rest), rest))
                if not received:
                    if len(rest) < size:
                        break
                    raise EOFError
                rest = rest[received:]
        return size - len(rest)


def in_records(parts: Sequence[memoryview]) -> Iterator[memoryview]:
    """Yield the parts, whole records as they are and what lies between them joined: each record costs a call."""
    joined: list[memoryview] = []
    room = 0
    for part in parts:
        joined.append(part[:room])
        rest = part[room:]
        room -= len(joined[-1])
        if not rest:
            continue
        yield memoryview(b"".join(joined))
        whole = len(rest) // _RECORD_SIZE * _RECORD_SIZE
        yield rest[:whole]
        joined = [rest[whole:]]
        room = -len(joined[0]) % _RECORD_SIZE
    yield memoryview(b"".join(joined))
