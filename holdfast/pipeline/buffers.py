"""Memory of the hot path: reused read buffers, and freed blocks that stay with the process."""

import ctypes
from functools import cache

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGEST_KEPT = 32 << 20
_FREE_KEPT = 64 << 20


class Buffers:
    """A pool of equally large buffers. Use from one thread."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._free: list[bytearray] = []

    def take(self) -> bytearray:
        """Return a buffer with unknown content."""
        return self._free.pop() if self._free else bytearray(self.size)

    def give_back(self, buffer: bytearray) -> None:
        """Return a buffer that nobody looks at any more."""
        self._free.append(buffer)


@cache
def keep_freed_blocks() -> bool:
    """Let the C library keep freed blocks of the size of units for the next unit, up to 64 MiB an arena.

    By default it gives them back to the kernel at once and takes new pages, filled with zeros, for the next unit: a
    tenth of the processor time of a backup. Holds for the whole process; peak memory stays the same. Returns False
    where the C library has no such setting.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT)) and bool(mallopt(_M_TRIM_THRESHOLD, _FREE_KEPT))
