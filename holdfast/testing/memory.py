"""A disk in memory that is both ports of the data pipe; for tests of anything above a disk."""

from collections.abc import Iterator
from types import TracebackType
from typing import Self

from holdfast.errors import DiskReadFailed, DiskWriteFailed
from holdfast.model.spans import Span

_ALLOCATION = 4096
_ZEROS = bytes(_ALLOCATION)


class MemoryDisk:
    """Holds ``content``; what is not zeros counts as allocated, in steps of 4 KiB."""

    def __init__(self, content: bytes | bytearray) -> None:
        self.content = bytearray(content)
        self.flushed = bytes(content)
        """What is on stable storage: the content at the last flush."""

    @property
    def size_bytes(self) -> int:
        """Size of the disk in bytes."""
        return len(self.content)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with the bytes from ``offset``."""
        if offset < 0 or offset + len(buffer) > len(self.content):
            raise DiskReadFailed(f"{len(buffer)} bytes at {offset} lie outside a disk of {len(self.content)}")
        buffer[:] = self.content[offset : offset + len(buffer)]

    def allocated_spans(self) -> Iterator[Span]:
        """Yield, sorted, the spans that hold anything but zeros."""
        start: int | None = None
        for at in range(0, len(self.content), _ALLOCATION):
            piece = self.content[at : at + _ALLOCATION]
            is_used = piece != _ZEROS[: len(piece)]
            if is_used and start is None:
                start = at
            elif not is_used and start is not None:
                yield Span(start, at - start)
                start = None
        if start is not None:
            yield Span(start, len(self.content) - start)

    def write(self, offset: int, data: memoryview) -> None:
        """Write all of ``data`` at ``offset``."""
        if offset < 0 or offset + len(data) > len(self.content):
            raise DiskWriteFailed(f"{len(data)} bytes at {offset} lie outside a disk of {len(self.content)}")
        self.content[offset : offset + len(data)] = data

    def write_zeros(self, span: Span) -> None:
        """Make ``span`` read as zeros."""
        self.write(span.start, memoryview(bytes(span.length)))

    def flush(self) -> None:
        """Remember the content as being on stable storage."""
        self.flushed = bytes(self.content)

    def close(self) -> None:
        """Do nothing; memory needs no release."""

    def __enter__(self) -> Self:
        """Enter a block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave a block."""
        self.close()
