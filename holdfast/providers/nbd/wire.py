"""The socket below a connection: bounded waits, whole pieces, no copies.

It blocks with the kernel's own time limits, so that a block of any size takes one system call. Errors are `OSError`;
silence is a `TimeoutError`, a server that went away a `ConnectionError`.
"""

import errno
import ipaddress
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import msgspec

from holdfast.clock import Clock


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """Where a disk is served. Without TLS it does not leave the host: a Unix socket, or a loopback address."""

    address: Path | tuple[str, int]
    """Path of the socket, or numeric host and port."""
    name: str = ""
    timeout_s: float = 60.0
    """How long a server may be silent in the middle of a request."""

    @property
    def uri(self) -> str:
        """Return the address as tools of the distribution take it."""
        if isinstance(self.address, Path):
            return f"nbd+unix:///{self.name}?socket={self.address}"
        host, port = self.address
        return f"nbd://{f'[{host}]' if ':' in host else host}:{port}/{self.name}"


class Wire:
    """A connected socket. The constructor connects, and raises OSError. One sender and one receiver at a time."""

    def __init__(self, export: Export, clock: Clock) -> None:
        self._clock = clock
        self._timeout_s = export.timeout_s
        self._socket = _socket(export.address)
        try:
            self.set_timeout(export.timeout_s)
            self._connect(export.address)
        except BaseException:
            self._socket.close()
            raise

    def set_timeout(self, timeout_s: float) -> None:
        """Let the kernel end calls that wait longer; they fail with EAGAIN then."""
        self._timeout_s = timeout_s
        micros = max(1, int(timeout_s * 1_000_000))
        value = struct.pack("@ll", *divmod(micros, 1_000_000))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)

    def send(self, head: bytes, data: memoryview | None = None) -> None:
        """Send all of both, together where the kernel takes them at once."""
        try:
            if data is None:
                self._socket.sendall(head)
                return
            sent = self._socket.sendmsg((head, data))
            if sent < len(head):
                self._socket.sendall(head[sent:])
                sent = len(head)
            if sent < len(head) + len(data):
                self._socket.sendall(data[sent - len(head) :])
        except BlockingIOError as error:
            self._fall_silent(error)

    def receive(self, buffer: memoryview) -> None:
        """Fill the buffer. The kernel returns less only at the end of the stream, at the time limit or on a signal."""
        try:
            count = self._socket.recv_into(buffer, 0, socket.MSG_WAITALL)
            if count != len(buffer):
                self._receive_rest(buffer, count)
        except BlockingIOError as error:
            self._fall_silent(error)

    def receive_bytes(self, length: int) -> bytes:
        """Return the next ``length`` bytes; the caller has checked that it wants so many."""
        data = bytearray(length)
        self.receive(memoryview(data))
        return bytes(data)

    def close(self) -> None:
        """Close the socket. Idempotent."""
        self._socket.close()

    def abort(self) -> None:
        """End the call under way with a `ConnectionError`; may be called from any thread."""
        with suppress(OSError):  # not connected any more
            self._socket.shutdown(socket.SHUT_RDWR)

    def _receive_rest(self, buffer: memoryview, count: int) -> None:
        """Go on after a short count; a server that only trickles runs into the time limit too."""
        deadline_s = self._clock.monotonic_s() + self._timeout_s
        while count < len(buffer):
            got = self._socket.recv_into(buffer[count:], 0, socket.MSG_WAITALL)
            if got == 0:
                raise ConnectionResetError("the server closed the connection")
            count += got
            if count < len(buffer) and self._clock.monotonic_s() > deadline_s:
                self._fall_silent(None)

    def _connect(self, address: Path | tuple[str, int]) -> None:
        try:
            if isinstance(address, Path):
                self._socket.connect(str(address))
            else:
                self._socket.connect(address)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BlockingIOError as error:
            self._fall_silent(error)

    def _fall_silent(self, cause: BaseException | None) -> NoReturn:
        raise TimeoutError(f"the server did not answer within {self._timeout_s:g} s") from cause


def _socket(address: Path | tuple[str, int]) -> socket.socket:
    if isinstance(address, Path):
        return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        host = ipaddress.ip_address(address[0])
    except ValueError as error:
        raise OSError(errno.EINVAL, f"{address[0]} is no numeric address") from error
    if not host.is_loopback:
        raise OSError(errno.EPERM, f"{host} is no loopback address, and without TLS a disk does not leave the host")
    family = socket.AF_INET if isinstance(host, ipaddress.IPv4Address) else socket.AF_INET6
    return socket.socket(family, socket.SOCK_STREAM)
