"""Copies of raw disks: shared blocks where the file system can do that, else a sparse copy."""

import errno
import fcntl
import os
import stat
import tempfile
from pathlib import Path

import msgspec

from holdfast.model.spans import Span
from holdfast.providers.raw_disks import data_spans, disk_size, read_fully, write_fully, zero

_FICLONE = 0x40049409
_NO_REFLINK = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS)
_NO_KERNEL_COPY = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM)
_STEP = 1 << 20
_GRAIN = 64 << 10
_ZERO_GRAIN = bytes(_GRAIN)


class Stamp(msgspec.Struct, frozen=True):
    """What tells that a file was written to; only the size for a block device."""

    size_bytes: int
    modified_ns: int
    changed_ns: int


def stamp(descriptor: int) -> Stamp:
    """Return the present stamp of an open disk."""
    found = os.fstat(descriptor)
    if stat.S_ISBLK(found.st_mode):
        return Stamp(disk_size(descriptor), 0, 0)
    return Stamp(found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def needed_bytes(descriptor: int) -> int:
    """Return the most space a sparse copy of the open disk takes."""
    found = os.fstat(descriptor)
    if stat.S_ISBLK(found.st_mode):
        return disk_size(descriptor)
    return min(found.st_blocks * 512, found.st_size)


def free_bytes(folder: Path) -> int:
    """Return the space an ordinary user can still take on the folder's file system."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def reflink(source: int, target: int) -> bool:
    """Let the empty file ``target`` share all blocks of ``source``; False where that is impossible.

    The kernel takes one moment of the source: a write happens before or after, never in between.
    """
    if stat.S_ISBLK(os.fstat(source).st_mode):
        return False
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in _NO_REFLINK:
            return False
        raise
    return True


def shares_blocks(path: Path, folder: Path) -> bool:
    """Return whether a copy of a disk in ``folder`` would share its blocks; tried with a file that has no name."""
    if not path.is_file():
        return False
    with path.open("rb") as source, tempfile.TemporaryFile(dir=folder) as target:
        return reflink(source.fileno(), target.fileno())


def copy_sparse(source: int, target: int) -> None:
    """Copy a disk into an empty file; holes, and zeros of a block device, become holes."""
    size_bytes = disk_size(source)
    os.ftruncate(target, size_bytes)
    if stat.S_ISBLK(os.fstat(source).st_mode):
        # Pages cached before another path wrote to the device would be stale.
        os.posix_fadvise(source, 0, 0, os.POSIX_FADV_DONTNEED)
        _copy_nonzero(source, target, size_bytes)
        return
    for span in data_spans(source, size_bytes):
        _copy_span(source, target, span)


def copy_differences(source: int, target: int, size_bytes: int) -> int:
    """Make the first bytes of ``target`` equal to ``source``, writing only where they differ.

    The target must have ``size_bytes`` already. Returns the number of bytes written.
    """
    ours, theirs = memoryview(bytearray(_STEP)), memoryview(bytearray(_STEP))
    written = 0
    for offset in range(0, size_bytes, _STEP):
        length = min(_STEP, size_bytes - offset)
        _expect(read_fully(source, offset, ours[:length]), length)
        _expect(read_fully(target, offset, theirs[:length]), length)
        if bytes(ours[:length]) != bytes(theirs[:length]):
            write_fully(target, offset, ours[:length])
            written += length
    return written


def clear(target: int, span: Span) -> None:
    """Make ``span`` of a disk read as zeros, writing only where it does not."""
    for offset in range(span.start, span.end, _STEP):
        length = min(_STEP, span.end - offset)
        if os.pread(target, length, offset) != bytes(length):
            zero(target, Span(offset, length))


def _copy_span(source: int, target: int, span: Span) -> None:
    position = span.start
    while position < span.end:
        length = min(_STEP, span.end - position)
        try:
            count = os.copy_file_range(source, target, length, position, position)
        except OSError as error:
            if error.errno not in _NO_KERNEL_COPY:
                raise
            count = 0
        # No progress: the pair of file systems cannot do it, or the source was cut off meanwhile.
        position += count or _copy_step(source, target, Span(position, length))


def _copy_step(source: int, target: int, span: Span) -> int:
    data = os.pread(source, span.length, span.start)
    if not data:
        raise OSError(errno.EIO, f"the disk ended at {span.start} while it was being copied")
    write_fully(target, span.start, memoryview(data))
    return len(data)


def _copy_nonzero(source: int, target: int, size_bytes: int) -> None:
    buffer = memoryview(bytearray(_STEP))
    for offset in range(0, size_bytes, _STEP):
        step = buffer[: min(_STEP, size_bytes - offset)]
        _expect(read_fully(source, offset, step), len(step))
        for start in range(0, len(step), _GRAIN):
            grain = step[start : start + _GRAIN]
            if bytes(grain) != _ZERO_GRAIN[: len(grain)]:
                write_fully(target, offset + start, grain)


def _expect(count: int, length: int) -> None:
    if count != length:
        raise OSError(errno.EIO, f"a read ended after {count} of {length} bytes")
