"""A disk that is read no faster than allowed."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Self

import msgspec

from holdfast.model.spans import Span
from holdfast.pipeline.disks import DiskReader
from holdfast.pipeline.stages import StageTimes
from holdfast.pipeline.token_bucket import TokenBucket


class PacedReader:
    """Reads another reader at the rate of a bucket.

    ``look`` is called before each read with the bytes read until then, so that whoever sets the rate finds an
    occasion. ``attend`` is called while a read waits. What either raises comes out of the read.
    """

    def __init__(
        self, reader: DiskReader, bucket: TokenBucket, look: Callable[[int], None], attend: Callable[[], None]
    ) -> None:
        self.waiting: AbstractContextManager[object] = nullcontext()
        """Entered for each wait; the clock of the throttled stage, once there is a pipe."""
        self._reader = reader
        self._bucket = bucket
        self._look = look
        self._attend = attend
        self._lock = threading.Lock()
        self._read_bytes = 0
        self._throttled_s = 0.0

    @property
    def size_bytes(self) -> int:
        """Size of the disk in bytes."""
        return self._reader.size_bytes

    @property
    def throttled_s(self) -> float:
        """Return how long reads have waited for the bucket, summed over threads."""
        return self._throttled_s

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Wait until so many bytes may be read, and read them."""
        self._look(self._read_bytes)
        with self.waiting:
            waited_s = self._bucket.take(len(buffer), self._attend)
        with self._lock:
            self._read_bytes += len(buffer)
            self._throttled_s += waited_s
        self._reader.read_into(offset, buffer)

    def allocated_spans(self) -> Iterator[Span]:
        """Yield, sorted, the spans that may hold anything but zeros."""
        return self._reader.allocated_spans()

    def charged(self, stages: StageTimes, before_s: float = 0.0) -> StageTimes:
        """Return the times of a pipe with the waits apart from the source; ``before_s`` of them were before the pipe.

        A wait is known before the pipe counts its read, so the source may have less for a moment.
        """
        source_s = max(0.0, stages.source_s - (self._throttled_s - before_s))
        throttled_s = stages.throttled_s + self._throttled_s
        return msgspec.structs.replace(stages, source_s=source_s, throttled_s=throttled_s)

    def close(self) -> None:
        """Release the disk. Idempotent."""
        self._reader.close()

    def __enter__(self) -> Self:
        """Enter a block that closes the disk at its end."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the disk."""
        self.close()
