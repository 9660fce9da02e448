"""What a file system may do with whole blocks: share them between files, and hold them for writes to come."""

import ctypes
import errno
import fcntl
import os
import struct

_FICLONERANGE = 0x4020940D
_NO_SHARING = (
    errno.EOPNOTSUPP,
    errno.EXDEV,
    errno.EINVAL,
    errno.ENOTTY,
    errno.ENOSYS,
    errno.EPERM,
    errno.ETXTBSY,
)
_KEEP_SIZE = 1
_NO_RESERVING = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV)


def share_blocks(source: tuple[int, int], target: tuple[int, int], length: int) -> bool:
    """Let a range of one open file be the blocks of a range of another; each is a descriptor and an offset.

    Return False, with nothing changed, where the file system cannot do it for these ranges.
    """
    request = struct.pack("=qQQQ", source[0], source[1], length, target[1])
    try:
        fcntl.ioctl(target[0], _FICLONERANGE, request)
    except OSError as error:
        if error.errno in _NO_SHARING:
            return False
        raise
    return True


def reserve_blocks(descriptor: int, offset: int, length: int) -> None:
    """Take the space that a write will need, without changing the size of the file; nothing where that cannot be."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate(descriptor, _KEEP_SIZE, ctypes.c_int64(offset), ctypes.c_int64(length)):
        code = ctypes.get_errno()
        if code not in _NO_RESERVING:
            raise OSError(code, os.strerror(code))
