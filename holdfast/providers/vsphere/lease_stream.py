"""One pass over the stream of a leased disk."""

import http.client
import socket
from typing import Final

from holdfast.errors import DiskReadFailed, HoldfastError
from holdfast.formats.stream_vmdk import Grain, StreamDecoder
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.lease import DiskAddress

PIECE: Final = 256 << 10
"""Bytes of a stream that are taken at once."""
_TIMEOUT_S: Final = 60.0
_RECEIVE_BUFFER: Final = 4 << 20
"""The kernel goes on receiving while Python is busy."""


class LeaseStream:
    """The grains of a disk, from its beginning. One thread at a time.

    Every method raises `DiskReadFailed`, or another error of ours, when the stream breaks or is damaged.
    """

    def __init__(self, connection: Connection, address: DiskAddress) -> None:
        self._name = f"{address.host}:{address.port}{address.path}"
        self._decoder = StreamDecoder()
        self._buffer = memoryview(bytearray(PIECE))
        self._line = http.client.HTTPSConnection(
            address.host,
            address.port,
            timeout=_TIMEOUT_S,
            context=connection.tls_to(address.host, address.port, address.thumbprint),
        )
        is_ours = (address.host, address.port) == (connection.endpoint.host, connection.endpoint.port)
        try:
            self._answer = self._ask(address.path, {"Cookie": connection.cookie} if is_ours else {})
        except BaseException:
            self._line.close()
            raise

    @property
    def known_end(self) -> int:
        """Return the offset on the disk before which everything came; what no grain holds is zeros."""
        return self._decoder.known_end

    @property
    def capacity_bytes(self) -> int | None:
        """Return the size of the disk; None while it is not known."""
        return None if self._decoder.header is None else self._decoder.header.capacity_bytes

    def more(self) -> list[Grain]:
        """Return the grains that come next; sometimes none."""
        try:
            count = self._answer.readinto(self._buffer)
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(error) from error
        try:
            if count == 0:
                self._decoder.finish()
            return self._decoder.feed(self._buffer[:count])
        except HoldfastError as error:
            raise DiskReadFailed(f"reading {self._name}: {error.message}") from error

    def close(self) -> None:
        """Hang up. Idempotent."""
        self._line.close()

    def _ask(self, path: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        try:
            self._line.connect()
            self._line.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            self._line.request("GET", path, headers=headers)
            answer = self._line.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(error) from error
        if answer.status != http.client.OK:
            raise DiskReadFailed(f"reading {self._name}: the server answers {answer.status} {answer.reason}")
        return answer

    def _broken(self, error: Exception) -> DiskReadFailed:
        return DiskReadFailed(f"reading {self._name}: {str(error) or type(error).__name__}")
