"""Reused read buffers, so that the hot path allocates nothing large."""


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
