"""The two disk ports of the data pipe.

Every transport mode is one `DiskReader`; everything a restore can write to is one `DiskWriter`. A stage that adds
behaviour wraps a port and offers the same port again.
"""

from collections.abc import Iterator
from types import TracebackType
from typing import Protocol, Self

from holdfast.model.spans import Span


class DiskReader(Protocol):
    """Random access to the frozen content of a disk. Methods may be called from several threads at once."""

    @property
    def size_bytes(self) -> int:
        """Size of the disk in bytes, a multiple of 512."""
        ...

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with the bytes from ``offset``; all of it or `DiskReadFailed`."""
        ...

    def allocated_spans(self) -> Iterator[Span]:
        """Yield, sorted, the spans that may hold anything but zeros; what is not yielded reads as zeros."""
        ...

    def close(self) -> None:
        """Release the disk. Idempotent."""
        ...

    def __enter__(self) -> Self:
        """Enter a block that closes the disk at its end."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the disk."""
        ...


class DiskWriter(Protocol):
    """Random access to a disk that is being restored. Methods may be called from several threads at once."""

    @property
    def size_bytes(self) -> int:
        """Size of the disk in bytes, a multiple of 512."""
        ...

    def write(self, offset: int, data: memoryview) -> None:
        """Write all of ``data`` at ``offset`` or raise `DiskWriteFailed`."""
        ...

    def write_zeros(self, span: Span) -> None:
        """Make ``span`` read as zeros, without using space where the target can do that."""
        ...

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with what the target holds now, for read back."""
        ...

    def flush(self) -> None:
        """Return once everything written before is on stable storage, or raise `DiskWriteFailed`."""
        ...

    def close(self) -> None:
        """Release the disk without flushing. Idempotent."""
        ...

    def __enter__(self) -> Self:
        """Enter a block that closes the disk at its end."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the disk."""
        ...
