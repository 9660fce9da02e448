"""Raw disks in files and block devices: reading frozen ones, writing restored ones."""

import ctypes
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from holdfast.errors import DiskReadFailed, DiskWriteFailed
from holdfast.model.plan import Transport, TransportMode
from holdfast.model.spans import Span

_FALLOC_FL_KEEP_SIZE = 1
_FALLOC_FL_PUNCH_HOLE = 2
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENOTTY, errno.ENODEV)
_ZEROS = memoryview(bytes(1 << 20))

# The C library's own entry, because the standard library offers only posix_fallocate. Calls through
# ctypes release the interpreter lock.
_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = getattr(_libc, "fallocate64", None) or _libc.fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def describe(error: OSError) -> str:
    """Return the reason and the file of an operating system error in one line."""
    place = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror or error}{place}"


def disk_size(descriptor: int) -> int:
    """Return the size in bytes of an open regular file or block device."""
    if stat.S_ISBLK(os.fstat(descriptor).st_mode):
        return os.lseek(descriptor, 0, os.SEEK_END)
    return os.fstat(descriptor).st_size


def data_spans(descriptor: int, size_bytes: int) -> Iterator[Span]:
    """Yield, sorted, what is not a hole; all of it where the file system cannot tell."""
    position = 0
    while position < size_bytes:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
            end = os.lseek(descriptor, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            if error.errno not in _UNSUPPORTED:
                raise
            start, end = position, size_bytes
        if start >= size_bytes:
            return
        yield Span(start, min(end, size_bytes) - start)
        position = end


def read_fully(descriptor: int, offset: int, buffer: memoryview) -> int:
    """Fill the buffer from ``offset``; fewer bytes are returned only at the end of the file."""
    done = 0
    while done < len(buffer):
        count = os.preadv(descriptor, [buffer[done:]], offset + done)
        if count == 0:
            break
        done += count
    return done


def write_fully(descriptor: int, offset: int, data: memoryview) -> None:
    """Write all of ``data`` at ``offset``."""
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done:], offset + done)


def punch_hole(descriptor: int, span: Span) -> bool:
    """Give the space of ``span`` back, so that it reads as zeros; False where impossible."""
    mode = _FALLOC_FL_KEEP_SIZE | _FALLOC_FL_PUNCH_HOLE
    if _fallocate(descriptor, mode, span.start, span.length) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number))


def zero(descriptor: int, span: Span) -> None:
    """Make ``span`` read as zeros, as a hole where possible."""
    if span.length <= 0 or punch_hole(descriptor, span):
        return
    for offset in range(span.start, span.end, len(_ZEROS)):
        write_fully(descriptor, offset, _ZEROS[: min(len(_ZEROS), span.end - offset)])


_ON_THIS_HOST: Final = Transport(mode=TransportMode.DIRECT, reason="the disk is a file or a device of this host")


class _RawDisk:
    """An open file of fixed size with checked, positioned reads."""

    def __init__(self, path: Path, flags: int) -> None:
        self._path = path
        self._descriptor: int | None = os.open(path, flags | os.O_CLOEXEC)
        self._size_bytes = disk_size(self._descriptor)

    @property
    def size_bytes(self) -> int:
        """Size of the disk in bytes."""
        return self._size_bytes

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` from ``offset``; all of it or `DiskReadFailed`."""
        place = f"{len(buffer)} bytes at offset {offset} of {self._path}"
        if self._descriptor is None:
            raise DiskReadFailed(f"reading {place}: the disk is closed")
        if offset < 0 or offset + len(buffer) > self._size_bytes:
            raise DiskReadFailed(f"reading {place}: the disk has {self._size_bytes} bytes")
        try:
            count = read_fully(self._descriptor, offset, buffer)
        except OSError as error:
            raise DiskReadFailed(f"reading {place}: {describe(error)}") from error
        if count < len(buffer):
            raise DiskReadFailed(f"reading {place}: the file ended after {count} bytes")

    def close(self) -> None:
        """Release the disk. Idempotent; no other call may be under way."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> Self:
        """Return the disk."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the disk."""
        self.close()


class FrozenDisk(_RawDisk):
    """A disk of a snapshot, for reading. The constructor raises `DiskReadFailed`."""

    def __init__(self, path: Path, transport: Transport = _ON_THIS_HOST) -> None:
        self.transport = transport
        self.place = ""
        self.remarks: Sequence[str] = ()
        try:
            super().__init__(path, os.O_RDONLY)
        except OSError as error:
            raise DiskReadFailed(f"opening {path}: {describe(error)}") from error

    def allocated_spans(self) -> Iterator[Span]:
        """Yield, sorted, what is not a hole of the file."""
        if self._descriptor is None:
            raise DiskReadFailed(f"listing the spans of {self._path}: the disk is closed")
        try:
            yield from data_spans(self._descriptor, self._size_bytes)
        except OSError as error:
            raise DiskReadFailed(f"listing the spans of {self._path}: {describe(error)}") from error


class TargetDisk(_RawDisk):
    """A disk that is being restored. The constructor raises `DiskWriteFailed`.

    After one failed flush the kernel may have dropped what was written and would report the next
    flush as a success; so every later call raises, and only what an earlier flush confirmed counts.
    What such a flush left in memory is forgotten when the disk is opened anew, so that whoever
    reads it back learns what the storage holds.
    """

    def __init__(self, path: Path, flags: int = 0) -> None:
        try:
            super().__init__(path, os.O_RDWR | flags)
            assert self._descriptor is not None, "opened just now"
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError as error:
            raise DiskWriteFailed(f"opening {path}: {describe(error)}") from error
        self.transport: Transport | None = None
        self._lost: OSError | None = None

    def write(self, offset: int, data: memoryview) -> None:
        """Write all of ``data`` at ``offset`` or raise `DiskWriteFailed`."""
        descriptor = self._checked(Span(offset, len(data)))
        try:
            write_fully(descriptor, offset, data)
        except OSError as error:
            raise DiskWriteFailed(
                f"writing {len(data)} bytes at offset {offset} of {self._path}: {describe(error)}"
            ) from error

    def write_zeros(self, span: Span) -> None:
        """Make ``span`` read as zeros, as a hole where the file system can do that."""
        descriptor = self._checked(span)
        try:
            zero(descriptor, span)
        except OSError as error:
            raise DiskWriteFailed(
                f"zeroing {span.length} bytes at offset {span.start} of {self._path}: {describe(error)}"
            ) from error

    def flush(self) -> None:
        """Return once everything written is on stable storage, or raise `DiskWriteFailed`."""
        descriptor = self._checked(Span(0, 0))
        try:
            os.fdatasync(descriptor)
        except OSError as error:
            self._lost = error
            raise DiskWriteFailed(f"flushing {self._path}: {describe(error)}") from error

    def _checked(self, span: Span) -> int:
        if self._lost is not None:
            raise DiskWriteFailed(
                f"{self._path} is not trusted after a failed flush: {describe(self._lost)}"
            ) from self._lost
        if self._descriptor is None:
            raise DiskWriteFailed(f"writing to {self._path}: the disk is closed")
        if span.start < 0 or span.end > self._size_bytes:
            raise DiskWriteFailed(
                f"writing {span.length} bytes at offset {span.start} of {self._path}: "
                f"the disk has {self._size_bytes} bytes"
            )
        return self._descriptor
