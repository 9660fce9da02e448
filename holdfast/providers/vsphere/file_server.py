"""The vCenter's file server: files of datastores, asked for over connections in the name of the session."""

import http.client
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self, TypeVar
from urllib.parse import quote

import msgspec

from holdfast.errors import AccessDenied, DiskNotFound, DiskReadFailed, DiskWriteFailed, HoldfastError
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.disk_rules import datastore_of, path_in_datastore

_TIMEOUT_S: Final = 60.0
_RECEIVE_BUFFER: Final = 4 << 20
"""The kernel goes on receiving while Python is busy."""
_UNAUTHORIZED: Final = (401, 403)
_WRITTEN: Final = (200, 201, 204)
_T = TypeVar("_T")


class DatastoreFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a datastore."""

    datacenter: str
    """Path of its datacenter in the inventory, such as ``DC0``."""
    path: str
    """Datastore path, such as ``[ds] web/web-flat.vmdk``."""
    quotings: int = 1
    """How often the path is quoted in its address: some servers decode it twice."""

    @property
    def url(self) -> str:
        """Return its place on the file server."""
        path = path_in_datastore(self.path)
        for _ in range(self.quotings):
            path = quote(path)
        store = quote(datastore_of(self.path), safe="")
        return f"/folder/{path}?dcPath={quote(self.datacenter, safe='')}&dsName={store}"


def locate(connection: Connection, file: DatastoreFile, size_max: int) -> tuple[DatastoreFile, bytes]:
    """Return a small file as the server wants it to be asked for, and its content. Raises `DiskReadFailed`."""
    try:
        return file, read_small(connection, file, size_max)
    except DiskNotFound:
        twice = msgspec.structs.replace(file, quotings=2)
        if twice.url == file.url:
            raise
        return twice, read_small(connection, twice, size_max)


def read_small(connection: Connection, file: DatastoreFile, size_max: int) -> bytes:
    """Return a whole small file. Raises `DiskReadFailed`, also when it is larger than ``size_max``."""
    with Line(connection) as line:
        content = line.get(file, size_max + 1)
        if len(content) > size_max:
            raise DiskReadFailed(f"{file.path} has more than {size_max} bytes")
        return content


def write_small(connection: Connection, file: DatastoreFile, content: bytes) -> None:
    """Write a whole small file in place of the one that may be there. Raises `DiskWriteFailed`, `AccessDenied`."""
    with Line(connection) as line:
        line.put(file, content)


class Line:
    """One connection to the file server, in the name of the session."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._http: http.client.HTTPSConnection | None = None

    def get(self, file: DatastoreFile, size_max: int) -> bytes:
        """Return the bytes of a file, at most ``size_max`` of them. Raises `DiskReadFailed`, `AccessDenied`."""

        def read() -> bytes:
            answer = self._asked("GET", file, {})
            if answer.status != http.client.OK:
                raise _refused(file, answer)
            content = answer.read(size_max)
            if not answer.isclosed():
                # What is left would be taken for the next answer.
                self.close()
            return content

        return self.reading(file, read)

    def ask(self, file: DatastoreFile, offset: int, length: int) -> "Range":
        """Ask for a range of a file; nothing else may be asked for until it was received or the line was closed.

        Raises `OSError` and what `http.client` raises when the line breaks, and `DiskReadFailed`, `DiskNotFound`,
        `AccessDenied` when the server refuses or has less than that.
        """
        answer = self._asked("GET", file, {"Range": f"bytes={offset}-{offset + length - 1}"})
        if answer.status != http.client.PARTIAL_CONTENT:
            raise _refused(file, answer)
        if answer.length not in (None, length):
            raise DiskReadFailed(
                f"reading {length} bytes at offset {offset} of {file.path}: {answer.length} bytes are there"
            )
        assert self._http is not None, "it was asked just now"
        return Range(answer, self._http.sock)

    def reading(self, file: DatastoreFile, exchange: Callable[[], _T]) -> _T:
        """Do an exchange that reads and may be repeated.

        A session that has ended is renewed once, and so is a connection that the server had closed meanwhile; a server
        that was started again has done both. Raises `DiskReadFailed` when it breaks again.
        """
        try:
            return self._patiently(exchange)
        except (OSError, http.client.HTTPException) as error:
            raise DiskReadFailed(f"reading {file.path}: {str(error) or type(error).__name__}") from error

    def put(self, file: DatastoreFile, content: bytes) -> None:
        """Write a whole file, as patiently as `reading` reads. Raises `DiskWriteFailed`, `AccessDenied`."""

        def write() -> None:
            answer = self._asked("PUT", file, {}, content)
            if answer.status not in _WRITTEN:
                raise _unwritten(file, answer)
            answer.read()

        try:
            self._patiently(write)
        except (OSError, http.client.HTTPException) as error:
            raise DiskWriteFailed(f"writing {file.path}: {str(error) or type(error).__name__}") from error

    def _patiently(self, exchange: Callable[[], _T]) -> _T:
        """Do an exchange that may be repeated; once with a new session, and once over a new connection."""
        is_renewed = is_reconnected = False
        while True:
            try:
                return exchange()
            except AccessDenied:
                self.close()
                if is_renewed:
                    raise
                is_renewed = True
                self._connection.ensure_session()
            except (OSError, http.client.HTTPException):
                self.close()
                if is_reconnected:
                    raise
                is_reconnected = True
            except HoldfastError:
                self.close()
                raise

    def _asked(
        self, method: str, file: DatastoreFile, headers: dict[str, str], body: bytes | None = None
    ) -> http.client.HTTPResponse:
        if self._http is None:
            endpoint = self._connection.endpoint
            self._http = http.client.HTTPSConnection(
                endpoint.host, endpoint.port, timeout=_TIMEOUT_S, context=self._connection.tls
            )
            self._http.connect()
            self._http.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        self._http.request(method, file.url, body, headers={"Cookie": self._connection.cookie} | headers)
        return self._http.getresponse()

    def close(self) -> None:
        """Hang up; the next request connects anew. Idempotent."""
        if self._http is not None:
            self._http.close()
            self._http = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Range:
    """The bytes of a range of a file, as they come. Methods raise `OSError` and what `http.client` raises."""

    def __init__(self, answer: http.client.HTTPResponse, sock: socket.socket) -> None:
        self._answer = answer
        self._sock = sock
        self._is_counted = answer.length is not None
        self._left = answer.length or 0
        self._buffered = len(answer.peek(1))
        """Bytes that came with the head. What follows is read from the socket itself, at half the cost."""

    def read_into(self, buffer: memoryview) -> None:
        """Fill ``buffer`` with the bytes that come next."""
        done = 0
        while done < len(buffer):
            count = self._receive(buffer[done:])
            if count == 0:
                raise http.client.IncompleteRead(b"", len(buffer) - done)
            done += count

    def _receive(self, buffer: memoryview) -> int:
        if not self._is_counted:
            return self._answer.readinto(buffer)
        if self._buffered:
            count = self._answer.readinto(buffer[: self._buffered])
            self._buffered -= count
        else:
            count = self._sock.recv_into(buffer[: self._left])
        self._left -= count
        return count

    def finish(self) -> bool:
        """Return whether everything was received, so that the line is free for the next request."""
        is_whole = self._left == 0 if self._is_counted else self._answer.read(1) == b""
        self._answer.close()
        return is_whole


def _refused(file: DatastoreFile, answer: http.client.HTTPResponse) -> HoldfastError:
    reason = f"reading {file.path}: the file server answers {answer.status} {answer.reason}"
    answer.read()
    if answer.status in _UNAUTHORIZED:
        return AccessDenied(reason, hint="The account needs Datastore.Browse on the datastore.")
    if answer.status == http.client.NOT_FOUND:
        return DiskNotFound(reason)
    return DiskReadFailed(reason)


def _unwritten(file: DatastoreFile, answer: http.client.HTTPResponse) -> HoldfastError:
    reason = f"writing {file.path}: the file server answers {answer.status} {answer.reason}"
    answer.read()
    if answer.status in _UNAUTHORIZED:
        return AccessDenied(reason, hint="The account needs Datastore.FileManagement on the datastore.")
    return DiskWriteFailed(reason)
