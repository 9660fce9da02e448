"""A disk behind an NBD server: `DiskReader` and `DiskWriter`."""

import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final, Self

import msgspec

from holdfast.clock import Clock
from holdfast.errors import DiskReadFailed, DiskWriteFailed, HoldfastError
from holdfast.model.machine import SECTOR_SIZE
from holdfast.model.spans import Span, coalesce
from holdfast.providers.nbd import protocol
from holdfast.providers.nbd.client import STATUS_BYTES_MAX
from holdfast.providers.nbd.pool import ConnectionPool
from holdfast.providers.nbd.wire import Export

CONNECTIONS_MAX: Final = 4


class NbdOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a disk is opened."""

    is_writable: bool = False
    connections_max: int = CONNECTIONS_MAX
    """Used only when the server promises coherence between connections; otherwise there is one."""


def no_last_words() -> str:
    """Return nothing: there is nobody to ask about a failure."""
    return ""


class NbdDisk:
    """An export of an NBD server. Methods may be called from several threads at once.

    The constructor raises `DiskReadFailed`, or `DiskWriteFailed` for a writable disk. ``last_words`` is asked after a
    failure for what the server said elsewhere; it is part of the message then.

    A writable disk is not trusted any more once a flush failed or a connection broke: the server may have dropped what
    it had confirmed, so every later call raises, and only what an earlier flush confirmed counts.
    """

    def __init__(
        self,
        export: Export,
        options: NbdOptions | None = None,
        *,
        last_words: Callable[[], str] = no_last_words,
        clock: Clock | None = None,
    ) -> None:
        options = options if options is not None else NbdOptions()
        self._last_words = last_words
        self._name = export.uri
        self._is_writable = options.is_writable
        self._lost = ""
        self._lock = threading.Lock()
        kind = DiskWriteFailed if options.is_writable else DiskReadFailed
        try:
            self._pool = ConnectionPool(export, options.connections_max, renews=not options.is_writable, clock=clock)
        except OSError as error:
            raise self._failure(kind, "opening", error) from error
        self._about = self._pool.about
        try:
            self._check_abilities(kind)
        except HoldfastError:
            self.close()
            raise
        has_flush = self._about.can(protocol.NBD_FLAG_SEND_FLUSH)
        # A server that cannot flush has to make each write stable at once.
        self._write_flags = 0 if has_flush else protocol.NBD_CMD_FLAG_FUA

    @property
    def size_bytes(self) -> int:
        """Size of the disk in bytes."""
        return self._about.size_bytes

    @property
    def connections(self) -> int:
        """How many requests are under way at most."""
        return self._pool.size

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` from ``offset``; all of it or `DiskReadFailed`."""
        length = len(buffer)
        if self._lost or offset < 0 or offset + length > self._about.size_bytes:
            raise DiskReadFailed(f"reading {length} bytes at offset {offset} of {self._name}: {self._refusal()}")
        if not length:
            return
        try:
            with self._pool.lend() as connection:
                if (offset | length) % self._about.blocks.minimum:
                    span = self._widened(offset, length)
                    whole = memoryview(bytearray(span.length))
                    connection.read_into(span.start, whole)
                    buffer[:] = whole[offset - span.start :][:length]
                else:
                    connection.read_into(offset, buffer)
        except OSError as error:
            raise self._failure(DiskReadFailed, f"reading {length} bytes at offset {offset} of", error) from error

    def allocated_spans(self) -> Iterator[Span]:
        """Yield, sorted, what the server does not report as zeros; the whole disk when it cannot tell."""
        if self._about.allocation is None:
            return iter([Span(0, self.size_bytes)] if self.size_bytes else [])
        return coalesce(self._nonzero_runs())

    def write(self, offset: int, data: memoryview) -> None:
        """Write all of ``data`` at ``offset``, whole blocks of the server, or raise `DiskWriteFailed`."""
        place = f"writing {len(data)} bytes at offset {offset} of"
        self._check_writable(place, Span(offset, len(data)))
        try:
            with self._pool.lend() as connection:
                connection.write(offset, data, self._write_flags)
        except OSError as error:
            raise self._failure(DiskWriteFailed, place, error) from error

    def write_zeros(self, span: Span) -> None:
        """Make ``span`` read as zeros, as a hole where the server can do that, or raise `DiskWriteFailed`."""
        place = f"zeroing {span.length} bytes at offset {span.start} of"
        self._check_writable(place, span)
        try:
            with self._pool.lend() as connection:
                connection.write_zeros(span, self._write_flags)
        except OSError as error:
            raise self._failure(DiskWriteFailed, place, error) from error

    def flush(self) -> None:
        """Return once everything written is on stable storage, or raise `DiskWriteFailed`.

        One flush covers the writes of all connections: several are used only when the server promises that.
        """
        self._check_writable("flushing", Span(0, 0))
        if self._write_flags:
            return
        try:
            with self._pool.lend() as connection:
                connection.flush()
        except OSError as error:
            failure = self._failure(DiskWriteFailed, "flushing", error)
            self._lose(failure.message)
            raise failure from error
        self._check_writable("flushing", Span(0, 0))

    def close(self) -> None:
        """Release the disk without flushing. Idempotent; calls under way fail."""
        self._lose("the disk is closed")
        self._pool.close()

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

    def _nonzero_runs(self) -> Iterator[Span]:
        position = 0
        while position < self.size_bytes:
            if self._lost:
                raise DiskReadFailed(f"listing the spans of {self._name}: {self._lost}")
            window = Span(position, min(STATUS_BYTES_MAX, self.size_bytes - position))
            try:
                with self._pool.lend() as connection:
                    runs = connection.block_status(window)
            except OSError as error:
                place = f"listing the spans from offset {position} of"
                raise self._failure(DiskReadFailed, place, error) from error
            yield from (run for run, state in runs if not state & protocol.NBD_STATE_ZERO)
            position = runs[-1][0].end

    def _widened(self, offset: int, length: int) -> Span:
        """Return the smallest span of whole blocks of the server around some bytes."""
        minimum = self._about.blocks.minimum
        start = offset // minimum * minimum
        end = min(-(-(offset + length) // minimum) * minimum, self.size_bytes)
        return Span(start, end - start)

    def _check_abilities(self, kind: type[HoldfastError]) -> None:
        about = self._about
        if about.size_bytes % SECTOR_SIZE:
            raise kind(f"opening {self._name}: its {about.size_bytes} bytes are no whole number of sectors")
        if not self._is_writable:
            return
        if about.can(protocol.NBD_FLAG_READ_ONLY):
            raise DiskWriteFailed(f"opening {self._name}: the server lets nobody write to it")
        if not about.can(protocol.NBD_FLAG_SEND_FLUSH | protocol.NBD_FLAG_SEND_FUA):
            raise DiskWriteFailed(f"opening {self._name}: the server cannot bring anything to stable storage")

    def _check_writable(self, place: str, span: Span) -> None:
        if not self._is_writable:
            raise DiskWriteFailed(f"{place} {self._name}: the disk was opened for reading")
        if self._pool.is_broken:
            self._lose("a connection broke, and what the server had not flushed may be lost")
        if self._lost:
            raise DiskWriteFailed(f"{place} {self._name}: {self._lost}")
        if span.start < 0 or span.length < 0 or span.end > self.size_bytes:
            raise DiskWriteFailed(f"{place} {self._name}: the disk has {self.size_bytes} bytes")
        if (span.start | span.length) % self._about.blocks.minimum:
            minimum = self._about.blocks.minimum
            raise DiskWriteFailed(f"{place} {self._name}: the server takes only blocks of {minimum} bytes")

    def _refusal(self) -> str:
        return self._lost or f"the disk has {self.size_bytes} bytes"

    def _lose(self, why: str) -> None:
        """Keep the first reason why nothing is done any more."""
        with self._lock:
            self._lost = self._lost or why

    def _failure(self, kind: type[HoldfastError], place: str, error: OSError) -> HoldfastError:
        words = self._last_words()
        said = f" ({words})" if words else ""
        return kind(f"{place} {self._name}: {error.strerror or error}{said}")
