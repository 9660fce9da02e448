"""The attribute that keeps even the owner of a file from changing, renaming or removing it, where there is one.

Linux has it on ext4, XFS and Btrfs, for processes that may set it, which root's usually may. Elsewhere a lock is kept
by retention alone, which is said.
"""

import fcntl
import os
import struct
from pathlib import Path

_GET_FLAGS = 0x80086601
_SET_FLAGS = 0x40086602
_IMMUTABLE = 0x10
_FLAGS = struct.Struct("l")


def set_immutable(path: Path, *, wanted: bool) -> str:
    """Set or take away the attribute of a file; return in words why it cannot be done, empty when it is so now."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return f"{path.name} cannot be opened: {error.strerror}"
    try:
        flags = _flags(descriptor)
        changed = flags | _IMMUTABLE if wanted else flags & ~_IMMUTABLE
        if changed != flags:
            fcntl.ioctl(descriptor, _SET_FLAGS, _FLAGS.pack(changed))
    except OSError as error:
        return f"the file system or the rights of the worker do not allow it: {error.strerror}"
    finally:
        os.close(descriptor)
    return ""


def is_immutable(path: Path) -> bool:
    """Return whether a file has the attribute; False where there is none, or no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return bool(_flags(descriptor) & _IMMUTABLE)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _flags(descriptor: int) -> int:
    buffer = bytearray(_FLAGS.size)
    fcntl.ioctl(descriptor, _GET_FLAGS, buffer)
    flags: int = _FLAGS.unpack(buffer)[0]
    return flags
