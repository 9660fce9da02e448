"""Files of a datastore on the vCenter's file server: a flat file, read in ranges, and small files as a whole."""

import http.client
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Final, Self, TypeVar
from urllib.parse import quote

import msgspec

from holdfast.errors import AccessDenied, DiskNotFound, DiskReadFailed, DiskWriteFailed, HoldfastError
from holdfast.model.plan import Transport
from holdfast.model.spans import Span
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.disk_rules import datastore_of, path_in_datastore
from holdfast.providers.vsphere.read_ahead import ReadAhead

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
    with _Line(connection) as line:
        buffer = bytearray(size_max + 1)
        count = line.get(file, {}, memoryview(buffer))
        if count > size_max:
            raise DiskReadFailed(f"{file.path} has more than {size_max} bytes")
        return bytes(buffer[:count])


def write_small(connection: Connection, file: DatastoreFile, content: bytes) -> None:
    """Write a whole small file in place of the one that may be there. Raises `DiskWriteFailed`, `AccessDenied`."""
    with _Line(connection) as line:
        line.put(file, content)


class FlatFile(msgspec.Struct, frozen=True, kw_only=True):
    """The file with the bytes of a disk."""

    file: DatastoreFile
    size_bytes: int


class FolderDisk:
    """Satisfies `holdfast.providers.ports.SourceDisk`. Each thread that reads has a connection of its own."""

    def __init__(
        self,
        connection: Connection,
        flat: FlatFile,
        transport: Transport,
        allocated: Callable[[], Iterator[Span]],
    ) -> None:
        self._connection = connection
        self._file = flat.file
        self._size_bytes = flat.size_bytes
        self._allocated = allocated
        self._lock = threading.Lock()
        self._idle: list[_Line] = []
        self._is_closed = False
        self._ahead = ReadAhead(self._fetch, flat.size_bytes)
        self.transport = transport
        self.place = ""
        self.remarks: Sequence[str] = ()

    @property
    def size_bytes(self) -> int:
        """Size of the disk in bytes."""
        return self._size_bytes

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` from ``offset``; all of it or `DiskReadFailed`."""
        if self._is_closed:
            raise DiskReadFailed(f"reading {self._file.path}: the disk is closed")
        if offset < 0 or offset + len(buffer) > self._size_bytes:
            raise DiskReadFailed(
                f"reading {len(buffer)} bytes at offset {offset} of {self._file.path}: "
                f"the disk has {self._size_bytes} bytes"
            )
        self._ahead.read_into(offset, buffer)

    def _fetch(self, offset: int, buffer: memoryview) -> None:
        line = self._take()
        wanted = {"Range": f"bytes={offset}-{offset + len(buffer) - 1}"}
        try:
            count = line.get(self._file, wanted, buffer)
        except DiskNotFound as error:
            # It was there when the disk was opened: the machine moved, and who opens it again finds it.
            raise DiskReadFailed(f"reading at offset {offset}: {error.message}") from error
        if count != len(buffer):
            line.close()
            raise DiskReadFailed(
                f"reading {len(buffer)} bytes at offset {offset} of {self._file.path}: {count} bytes came"
            )
        self._give_back(line)

    def allocated_spans(self) -> Iterator[Span]:
        """Yield, sorted, what may hold anything but zeros; the file server does not tell, so others are asked."""
        if self._is_closed:
            raise DiskReadFailed(f"listing the spans of {self._file.path}: the disk is closed")
        yield from self._allocated()

    def close(self) -> None:
        """Close the connections. Idempotent; no other call may be under way."""
        with self._lock:
            self._is_closed, idle, self._idle = True, self._idle, []
        self._ahead.clear()
        for line in idle:
            line.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take(self) -> "_Line":
        with self._lock:
            if self._is_closed:
                raise DiskReadFailed(f"reading {self._file.path}: the disk is closed")
            return self._idle.pop() if self._idle else _Line(self._connection)

    def _give_back(self, line: "_Line") -> None:
        with self._lock:
            if not self._is_closed:
                self._idle.append(line)
                return
        line.close()


class _Line:
    """One connection to the file server, in the name of the session."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._http: http.client.HTTPSConnection | None = None

    def get(self, file: DatastoreFile, headers: dict[str, str], buffer: memoryview) -> int:
        """Read a file or a range of it into ``buffer`` until either ends; return the count of bytes.

        A session that has ended is renewed once, and so is a connection that the server had closed meanwhile; a server
        that was started again has done both.
        """
        wanted = http.client.PARTIAL_CONTENT if "Range" in headers else http.client.OK

        def read() -> int:
            answer = self._ask("GET", file, headers)
            if answer.status != wanted:
                raise _refused(file, answer)
            return _fill(answer, self._http, buffer)

        try:
            return self._patiently(read)
        except (OSError, http.client.HTTPException) as error:
            raise DiskReadFailed(f"reading {file.path}: {str(error) or type(error).__name__}") from error

    def put(self, file: DatastoreFile, content: bytes) -> None:
        """Write a whole file, as patiently as `get` reads."""

        def write() -> None:
            answer = self._ask("PUT", file, {}, content)
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

    def _ask(
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
        if self._http is not None:
            self._http.close()
            self._http = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _fill(answer: http.client.HTTPResponse, line: http.client.HTTPSConnection | None, buffer: memoryview) -> int:
    """Fill ``buffer`` with the body of an answer as far as it goes; return the count of bytes."""
    done = 0
    if line is not None and line.sock is not None and answer.length == len(buffer):
        done = _fill_plainly(answer, line.sock, buffer)
    while done < len(buffer):
        count = answer.readinto(buffer[done:])
        if count == 0:
            break
        done += count
    if not answer.isclosed() and answer.length:
        # More than was wanted; what is left would be taken for the next answer.
        answer.close()
    return done


def _fill_plainly(answer: http.client.HTTPResponse, sock: socket.socket, buffer: memoryview) -> int:
    """Fill ``buffer`` with a body of its size from the socket itself, which costs half as much; return the count."""
    done = answer.readinto(buffer[: len(answer.peek(1))])
    while done < len(buffer):
        count = sock.recv_into(buffer[done:])
        if count == 0:
            raise http.client.IncompleteRead(b"", len(buffer) - done)
        done += count
    answer.close()  # all of it was read, so the connection is free for the next request
    return done


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
