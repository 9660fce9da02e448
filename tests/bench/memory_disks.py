"""Disks that are all one block in memory, to read from and to restore to: what a disk of the host costs is left out."""

import struct
from collections.abc import Iterator
from typing import Self

from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.spans import Span


class MemoryDisk:
    """A disk that is all one block in memory: reading it costs a copy."""

    def __init__(self, block: bytes, size_bytes: int, repeated_bytes: int = 0) -> None:
        self.size_bytes = size_bytes
        self._block = memoryview(block)
        self._repeated_bytes = repeated_bytes or size_bytes

    def read_into(self, offset: int, buffer: memoryview) -> None:
        buffer[:] = self._block[: len(buffer)]
        # Each piece differs, so that nothing is known already, until they begin again.
        for at in range(0, len(buffer), PIECE_SIZE):
            struct.pack_into("<Q", buffer, at, (offset + at) % self._repeated_bytes + 1)

    def allocated_spans(self) -> Iterator[Span]:
        yield Span(0, self.size_bytes)

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ended: object) -> None:
        pass


class MemoryTarget(MemoryDisk):
    """A target in memory: a write costs a copy, and every piece has to be the one that a `MemoryDisk` has there."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(b"", size_bytes)

    def write(self, offset: int, data: memoryview) -> None:
        copy = bytes(data)
        for at in range(0, len(copy), PIECE_SIZE):
            assert struct.unpack_from("<Q", copy, at) == (offset + at + 1,), f"the piece at {offset + at} is another"

    def write_zeros(self, span: Span) -> None:
        raise AssertionError(f"zeros came for {span}")

    def flush(self) -> None:
        pass
