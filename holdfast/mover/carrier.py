"""One connection and what is on its way out of it."""

import contextlib
import os
import select
import socket
import ssl
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Final

_RECEIVED_AT_ONCE = 1 << 20
"""A frame that arrives slowly is told of in steps of this size, so that a slow line does not look dead."""
_BUFFERS_AT_ONCE = 64


class Carrier:
    """Moves bytes over a connected socket, in both directions, from one thread."""

    OUTPUT_MAX: Final = 4 << 20
    """Most bytes to be given to `output` at once."""

    def __init__(self, number: int, connection: socket.socket) -> None:
        self.number = number
        self.is_dropped = False
        self.is_asleep = False
        """Whether `exchange` waits with nothing to send; see `wake`."""
        self._socket = connection
        self._socket.settimeout(0)
        self._is_tls = isinstance(connection, ssl.SSLSocket)
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
        self._output.extend(parts)

    def wake(self) -> None:
        """Make `exchange` return. May be called from any thread, until `close`."""
        self.is_asleep = False
        with contextlib.suppress(OSError):  # the pipe is full: it rings already; or closed: nobody sleeps
            os.write(self._ringer, b"!")

    def exchange(self, buffer: memoryview, timeout_s: float) -> int:
        """Send what can be sent and receive what is there; return how many bytes were put into ``buffer``.

        Waits until something moves, `wake` is called, or the time is over. Raises `OSError`, and `EOFError` when the
        peer has closed.
        """
        self._send()
        count = self._receive(buffer)
        if count or (self._output and self._send()):
            return count
        self._poll.modify(self._socket, select.POLLIN | (select.POLLOUT if self._output else 0))
        for descriptor, _ in self._poll.poll(timeout_s * 1000):
            if descriptor == self._alarm:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._alarm, 4096)
        self.is_asleep = False
        self._send()
        return self._receive(buffer)

    def close(self) -> None:
        """Close the connection. Idempotent."""
        if self._alarm < 0:
            return
        self._socket.close()
        alarm, ringer, self._alarm, self._ringer = self._alarm, self._ringer, -1, -1
        os.close(alarm)
        os.close(ringer)

    def _send(self) -> int:
        total = 0
        try:
            while self._output:
                count = self._send_some()
                total += count
                while count:
                    part = self._output[0]
                    if count < len(part):
                        self._output[0] = part[count:]
                        break
                    count -= len(part)
                    self._output.popleft()
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        return total

    def _send_some(self) -> int:
        if self._is_tls:
            return self._socket.send(self._output[0])
        return self._socket.sendmsg(list(islice(self._output, _BUFFERS_AT_ONCE)))

    def _receive(self, buffer: memoryview) -> int:
        """Fill the buffer as far as bytes are there, up to a bound."""
        count, end = 0, min(len(buffer), _RECEIVED_AT_ONCE)
        try:
            while count < end:
                received = self._socket.recv_into(buffer[count:end])
                if not received:
                    if count:
                        break
                    raise EOFError
                count += received
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        return count
