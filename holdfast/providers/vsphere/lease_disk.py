"""A leased disk: a stream that is read from its beginning to its end, offered as a disk that is read at offsets.

What came lately is kept, still deflated, so that readers that go through the disk side by side all find their blocks.
Who reads ahead of the stream waits for it. Who reads behind what is kept makes it begin anew, and so does a line that
breaks; what was known before is then skipped without unpacking it. A restore point thus costs a pass over the disk for
each time its reader starts again from the front: one for what is stored, one more for the sample by which change
tracking is tested, one more when everything is compared after all. A reader that jumps about is not served: after
`PASSES_MAX` passes it is an error.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Final, Protocol, Self

from holdfast.errors import DiskReadFailed, FileDamaged, HoldfastError
from holdfast.formats.stream_vmdk import Grain
from holdfast.model.plan import Transport
from holdfast.model.spans import Span
from holdfast.providers.vsphere.changes import FrozenDiskInVSphere
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.devices import places_of
from holdfast.providers.vsphere.lease import DiskPlace, Leases
from holdfast.providers.vsphere.lease_stream import LeaseStream
from holdfast.providers.vsphere.properties import read

KEPT_MAX: Final = 32 << 20
"""Deflated bytes of grains that are kept."""
PASSES_MAX: Final = 16
"""How often a disk is read from the front because somebody reads behind what is kept."""
BREAKS_MAX: Final = 3
"""How often in a row a stream may break without getting further than before."""
BREAKS_IN_ALL_MAX: Final = 64
_OVERHEAD: Final = 512
"""Bytes that a grain costs beside its own, so that those of a few bytes are not kept by the million."""
_READ_MAX: Final = 4 << 20
"""Bytes of the disk that are looked for at once, much less than what is kept."""
_ZEROS: Final = memoryview(bytes(_READ_MAX))
_DEVICES: Final = "config.hardware.device"
_ALL: Final = 100
_Allocated = Callable[[], Iterator[Span]]


class GrainStream(Protocol):
    """The grains of a disk from its front, such as a `LeaseStream`. Methods raise errors of ours when it breaks."""

    @property
    def known_end(self) -> int:
        """Return the offset on the disk before which everything came."""
        ...

    @property
    def capacity_bytes(self) -> int | None:
        """Return the size of the disk; None while it is not known."""
        ...

    def more(self) -> list[Grain]:
        """Return the grains that come next."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...


class Window:
    """The stream of a disk and the grains of it that came lately. Any thread may ask."""

    def __init__(
        self, begin: Callable[[], GrainStream], tell: Callable[[int], None], *, name: str, size_bytes: int
    ) -> None:
        """``begin`` opens the stream at its front, at once too; ``tell`` hears how far it is, in percent.

        Raises `DiskReadFailed`.
        """
        self._begin = begin
        self._tell = tell
        self.name = name
        self.size_bytes = size_bytes
        self._turn = threading.Condition()
        """Its lock is held for moments only, never while the stream is waited for."""
        self._waiting: list[int] = []
        """Where the reads begin that are under way."""
        self._is_fetching = False
        self._kept: dict[int, Grain] = {}
        """By offset, in the order of the disk."""
        self._grain_size = 1 << 20
        self._kept_bytes = 0
        self._kept_from = 0
        """What no grain holds from here on to the known end is zeros."""
        self._known_end = 0
        self._passes = 0
        self._stop: HoldfastError | None = None
        self.pieces_received = 0
        """How many pieces of the stream came; all passes count."""
        self._breaks_in_a_row = self._breaks = 0
        self._stream: GrainStream | None = begin()

    @property
    def passes(self) -> int:
        """Return how often readers made the stream begin anew."""
        return self._passes

    def grains(self, span: Span) -> list[Grain]:
        """Return the grains of a span of the disk, once they have come. Raises `DiskReadFailed`."""
        with self._turn:
            self._waiting.append(span.start)
        try:
            while (found := self._found(span)) is None:
                self._go_on()
            return found
        finally:
            with self._turn:
                self._waiting.remove(span.start)
                self._turn.notify_all()

    def _found(self, span: Span) -> list[Grain] | None:
        """Return the grains of a span, or None when it is the caller's turn to take what the stream sends next.

        It is the turn of the read that is furthest behind. A fast reader would else pull the stream away from a slow
        one, which then made it begin anew.
        """
        with self._turn:
            while True:
                if self._stop is not None:
                    raise self._stop
                if span.start < self._kept_from and not self._is_fetching:
                    self._start_over()
                if self._kept_from <= span.start and span.end <= self._known_end:
                    first = span.start - span.start % self._grain_size
                    offsets = range(first, span.end, self._grain_size)
                    return [self._kept[offset] for offset in offsets if offset in self._kept]
                if not self._is_fetching and span.start <= min(self._waiting):
                    self._is_fetching = True
                    return None
                self._turn.wait()

    def distrust(self, error: HoldfastError) -> None:
        """Forget everything because a grain that was given out is damaged. Raises `DiskReadFailed` after some times."""
        with self._turn:
            self._turn.wait_for(lambda: not self._is_fetching)
            self._note_break(error)
            self._forget()

    def stop_waiting(self, error: HoldfastError) -> None:
        """Let who waits for the stream, or will, raise an error."""
        with self._turn:
            self._stop = error
            self._turn.notify_all()

    def close(self) -> None:
        """Hang up. Idempotent; no other call may be under way."""
        self._hang_up()
        self._kept.clear()

    def _start_over(self) -> None:
        self._passes += 1
        if self._passes > PASSES_MAX:
            raise DiskReadFailed(
                f"reading {self.name}: a lease sends the disk from its front, and its reader went back "
                f"{PASSES_MAX} times",
                hint="Allow another way in `transports` of the provider; see docs/vsphere.md.",
            )
        self._forget()

    def _forget(self) -> None:
        self._hang_up()
        self._kept.clear()
        self._kept_bytes = self._kept_from = self._known_end = 0

    def _go_on(self) -> None:
        """Take what the stream sends next; begin it anew when it breaks."""
        try:
            try:
                stream = self._opened()
                grains = stream.more()
            except HoldfastError as error:
                self._hang_up()
                self._note_break(error)
                return
            self._take(stream, grains)
        finally:
            with self._turn:
                self._is_fetching = False
                self._turn.notify_all()

    def _take(self, stream: GrainStream, grains: list[Grain]) -> None:
        if stream.capacity_bytes not in {None, self.size_bytes}:
            raise DiskReadFailed(
                f"reading {self.name}: the stream is of {stream.capacity_bytes} bytes, the disk has {self.size_bytes}"
            )
        with self._turn:
            self.pieces_received += 1
            for grain in grains:
                # The first grains of a stream that began anew are known.
                if grain.offset >= self._known_end:
                    self._keep(grain)
            if stream.known_end > self._known_end:
                self._known_end, self._breaks_in_a_row = stream.known_end, 0
                self._tell(self._known_end * _ALL // self.size_bytes)

    def _keep(self, grain: Grain) -> None:
        self._kept[grain.offset] = grain
        self._grain_size = grain.grain_size
        self._kept_bytes += len(grain.packed) + _OVERHEAD
        while self._kept_bytes > KEPT_MAX:
            first = self._kept.pop(next(iter(self._kept)))
            self._kept_bytes -= len(first.packed) + _OVERHEAD
            self._kept_from = first.end

    def _opened(self) -> GrainStream:
        if self._stream is None:
            self._stream = self._begin()
        return self._stream

    def _note_break(self, error: HoldfastError) -> None:
        self._breaks += 1
        self._breaks_in_a_row += 1
        if self._breaks_in_a_row > BREAKS_MAX or self._breaks > BREAKS_IN_ALL_MAX:
            self._hang_up()
            raise DiskReadFailed(
                f"reading {self.name}: the stream broke {self._breaks} times, at last: {error.message}"
            ) from error

    def _hang_up(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()


class LeaseDisk:
    """Satisfies `SourceDisk` and `StreamedDisk` of `holdfast.providers.ports`.

    ``end`` hears, once, whether every read was good.
    """

    def __init__(
        self, window: Window, transport: Transport, allocated: _Allocated, end: Callable[[bool], None]
    ) -> None:
        self._window = window
        self._allocated = allocated
        self._end = end
        self._is_good = True
        self._is_closed = False
        self.transport = transport
        self.place = ""
        self.remarks: Sequence[str] = ()

    @property
    def size_bytes(self) -> int:
        """Size of the disk in bytes."""
        return self._window.size_bytes

    @property
    def passes(self) -> int:
        """Return how often readers made the stream begin anew."""
        return self._window.passes

    @property
    def pieces_received(self) -> int:
        """How many pieces of the stream came so far; it grows while a read waits."""
        return self._window.pieces_received

    def stop_waiting(self, error: HoldfastError) -> None:
        """Let reads that wait, and all later ones, raise an error."""
        self._window.stop_waiting(error)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` from ``offset``; all of it or `DiskReadFailed`."""
        if self._is_closed:
            raise DiskReadFailed(f"reading {self._window.name}: the disk is closed")
        if offset < 0 or offset + len(buffer) > self.size_bytes:
            raise DiskReadFailed(
                f"reading {len(buffer)} bytes at offset {offset} of {self._window.name}: "
                f"the disk has {self.size_bytes} bytes"
            )
        try:
            while buffer:
                part = buffer[:_READ_MAX]
                self._read(Span(offset, len(part)), part)
                offset, buffer = offset + len(part), buffer[len(part) :]
        except HoldfastError:
            self._is_good = False
            raise

    def _read(self, span: Span, buffer: memoryview) -> None:
        while True:
            grains = self._window.grains(span)
            try:
                _fill(buffer, span, grains)
            except FileDamaged as error:
                self._window.distrust(error)
            else:
                return

    def allocated_spans(self) -> Iterator[Span]:
        """Yield, sorted, what may hold anything but zeros; change tracking is asked, which is faster than a pass."""
        if self._is_closed:
            raise DiskReadFailed(f"listing the spans of {self._window.name}: the disk is closed")
        yield from self._allocated()

    def close(self) -> None:
        """Hang up and give the lease back. Idempotent; no other call may be under way."""
        if self._is_closed:
            return
        self._is_closed = True
        self._window.close()
        self._end(self._is_good)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _fill(buffer: memoryview, span: Span, grains: list[Grain]) -> None:
    """Fill a buffer with a span of the disk; what no grain holds is zeros. Raises `FileDamaged`."""
    at = span.start
    for grain in grains:
        start, end = max(grain.offset, span.start), min(grain.end, span.end)
        buffer[at - span.start : start - span.start] = _ZEROS[: start - at]
        buffer[start - span.start : end - span.start] = grain.unpack()[start - grain.offset : end - grain.offset]
        at = end
    buffer[at - span.start :] = _ZEROS[: span.end - at]


class LeaseDisks:
    """Opens the disks of snapshots over leases."""

    def __init__(self, connection: Connection, leases: Leases) -> None:
        self._connection = connection
        self._leases = leases

    def open(self, disk: FrozenDiskInVSphere, transport: Transport, allocated: _Allocated) -> LeaseDisk:
        """Open a frozen disk for reading. Raises `DiskReadFailed` while somebody else exports the machine."""
        facts, connection = disk.facts, self._connection
        places = places_of(read(connection, disk.snapshot, _DEVICES).get(_DEVICES) or ())
        if facts.key not in places:
            raise DiskReadFailed(f"disk {facts.key} ({facts.label}) has no controller")
        place = DiskPlace(name=places[facts.key], among=frozenset(places.values()))
        shared = self._leases.borrow(disk.snapshot)

        def end(is_good: bool) -> None:  # noqa: FBT001 # the one word there is
            if not is_good:
                shared.note_failure()
            self._leases.give_back(disk.snapshot, shared)

        try:
            window = Window(
                lambda: LeaseStream(connection, shared.address(place)),
                shared.tell,
                name=f"disk {facts.key} ({facts.label})",
                size_bytes=facts.size_bytes,
            )
        except BaseException:
            end(False)  # noqa: FBT003
            raise
        return LeaseDisk(window, transport, allocated, end)
