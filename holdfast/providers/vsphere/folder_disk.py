"""The flat file of a disk, read from the vCenter's file server."""

import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Self

import msgspec

from holdfast.errors import DiskNotFound, DiskReadFailed
from holdfast.model.plan import Transport
from holdfast.model.spans import Span
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.file_server import DatastoreFile, Line, Range
from holdfast.providers.vsphere.read_ahead import ReadAhead


class FlatFile(msgspec.Struct, frozen=True, kw_only=True):
    """The file with the bytes of a disk."""

    file: DatastoreFile
    size_bytes: int


class FolderDisk:
    """Satisfies `holdfast.providers.ports.SourceDisk`. Readers in order share a connection; others have their own."""

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
        self._idle: list[Line] = []
        self._is_closed = False
        self._ahead = ReadAhead(self._ask, flat.size_bytes)
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

    def _ask(self, offset: int, length: int) -> "_Arriving":
        with self._lock:
            if self._is_closed:
                raise DiskReadFailed(f"reading {self._file.path}: the disk is closed")
            line = self._idle.pop() if self._idle else Line(self._connection)
        return _Arriving(self._file, Span(offset, length), line, self._give_back)

    def _give_back(self, line: Line) -> None:
        with self._lock:
            if not self._is_closed:
                self._idle.append(line)
                return
        line.close()


class _Arriving:
    """A range of a file that arrives over a line; where the line breaks, the rest is asked for once more.

    Satisfies `holdfast.providers.vsphere.read_ahead.Answer`.
    """

    def __init__(self, file: DatastoreFile, span: Span, line: Line, give_back: Callable[[Line], None]) -> None:
        self._file = file
        self._offset, self._end = span.start, span.end
        self._line = line
        self._give_back = give_back
        self._range: Range | None = None

    def read_into(self, buffer: memoryview) -> None:
        """Fill ``buffer`` with the bytes that come next. Raises `DiskReadFailed`, `AccessDenied`."""

        def read() -> Range:
            # None until it succeeds: after a failure the same bytes are asked for.
            coming, self._range = self._range, None
            coming = coming or self._line.ask(self._file, self._offset, self._end - self._offset)
            coming.read_into(buffer)
            return coming

        try:
            self._range = self._line.reading(self._file, read)
        except DiskNotFound as error:
            # It was there when the disk was opened: the machine moved, and who opens it again finds it.
            raise DiskReadFailed(f"reading at offset {self._offset}: {error.message}") from error
        self._offset += len(buffer)

    def close(self) -> None:
        """Give the line back when everything was received, or hang up. Idempotent."""
        coming, self._range = self._range, None
        if coming is not None and coming.finish():
            self._give_back(self._line)
        else:
            self._line.close()
