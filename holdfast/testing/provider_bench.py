"""What a provider's test hands to the conformance suite, and what the suite builds on it."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Protocol

from holdfast.errors import HoldfastError
from holdfast.model.ids import DiskKey, MachineId
from holdfast.model.machine import Machine, Snapshot
from holdfast.model.spans import Span, align, coalesce, subtract, total_length
from holdfast.pipeline.disks import DiskReader, DiskWriter
from holdfast.providers.ports import Provider
from holdfast.testing.disks import PatternedDisk

MIB = 1 << 20
_READ_SIZE = MIB


class ProviderBench(Protocol):
    """An empty hypervisor and the hand of its operator.

    Disk sizes that the suite asks for are multiples of 1 MiB. A disk is never grown while a
    snapshot exists, because some hypervisors refuse that.
    """

    @property
    def provider(self) -> Provider:
        """The provider under test."""
        ...

    @property
    def seed(self) -> int:
        """Seed of all random choices of one test."""
        ...

    @property
    def change_grain_bytes(self) -> int:
        """Size of the pieces in which the provider sees changes."""
        ...

    def reconnect(self) -> Provider:
        """Return another provider for the same hypervisor, as a restarted process would have."""
        ...

    def make_machine(self, name: str, sizes_bytes: Sequence[int]) -> Machine:
        """Make a machine that is off, with empty disks of these sizes, whatever the name."""
        ...

    def write_live(self, machine_id: MachineId, key: DiskKey, offset: int, data: bytes) -> None:
        """Write to a disk as the guest would."""
        ...

    def read_live(self, machine_id: MachineId, key: DiskKey) -> bytes:
        """Return the whole content of a disk as the guest sees it."""
        ...

    def grow_disk(self, machine_id: MachineId, key: DiskKey, size_bytes: int) -> None:
        """Make a disk larger; what is new reads as zeros."""
        ...

    def add_disk(self, machine_id: MachineId, size_bytes: int) -> DiskKey:
        """Give the machine one more empty disk."""
        ...

    def remove_disk(self, machine_id: MachineId, key: DiskKey) -> None:
        """Take a disk away from the machine."""
        ...


class Subject:
    """A machine on the bench together with what its disks should hold."""

    def __init__(self, bench: ProviderBench, name: str, *sizes_bytes: int) -> None:
        self._bench = bench
        self.machine = bench.make_machine(name, sizes_bytes)
        self.machine_id = self.machine.machine_id
        self.keys = [disk.key for disk in self.machine.disks]
        self.contents = {
            disk.key: PatternedDisk(bench.seed + index, disk.size_bytes)
            for index, disk in enumerate(self.machine.disks)
        }

    @property
    def key(self) -> DiskKey:
        """Key of the first disk."""
        return self.keys[0]

    @property
    def content(self) -> PatternedDisk:
        """Expected content of the first disk."""
        return self.contents[self.key]

    def write(self, span: Span, key: DiskKey | None = None) -> None:
        """Let the guest write something new to a disk, the first one unless said otherwise."""
        target = self.key if key is None else key
        data = self.contents[target].write(span)
        self._bench.write_live(self.machine_id, target, span.start, data)

    def zero(self, span: Span) -> None:
        """Let the guest write zeros to the first disk."""
        self.content.zero(span)
        self._bench.write_live(self.machine_id, self.key, span.start, bytes(span.length))

    def snapshot(self, tag: str) -> Snapshot:
        """Take a snapshot."""
        return self._bench.provider.create_snapshot(self.machine_id, tag)

    def assert_live(self) -> None:
        """Check that every disk of the running hypervisor holds what it should."""
        for key, content in self.contents.items():
            found = self._bench.read_live(self.machine_id, key)
            assert len(found) == content.size_bytes, f"disk {key}: {len(found)} bytes"
            assert_same(content, found, f"live disk {key}")


@contextmanager
def raises(kind: type[HoldfastError]) -> Iterator[None]:
    """Check that the block raises ``kind``."""
    try:
        yield
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was not raised")


def read(disk: DiskReader | DiskWriter, span: Span) -> bytes:
    """Return the bytes of a span."""
    buffer = bytearray(span.length)
    disk.read_into(span.start, memoryview(buffer))
    return bytes(buffer)


def read_all(disk: DiskReader | DiskWriter) -> bytes:
    """Return the whole content of a disk."""
    size = disk.size_bytes
    steps = (Span(at, min(_READ_SIZE, size - at)) for at in range(0, size, _READ_SIZE))
    return b"".join(read(disk, step) for step in steps)


def assert_same(expected: PatternedDisk, found: bytes, what: str) -> None:
    """Check the whole content of a disk."""
    difference = expected.difference(0, found)
    assert difference is None, f"{what}: {difference}"


def assert_sorted(spans: Sequence[Span], size_bytes: int) -> None:
    """Check that spans ascend, do not overlap, are not empty and stay within the disk."""
    assert all(span.length > 0 and span.start >= 0 for span in spans), spans
    assert all(before.end <= after.start for before, after in pairwise(spans)), spans
    assert not spans or spans[-1].end <= size_bytes, f"{spans[-1]} leaves {size_bytes} bytes"


def assert_covered(needed: Iterable[Span], spans: Sequence[Span], what: str) -> None:
    """Check that ``spans`` leave out nothing of ``needed``."""
    missing = list(subtract(needed, coalesce(spans)))
    assert not missing, f"{what}: {total_length(missing)} bytes are left out, first {missing[0]}"


def widened(spans: Iterable[Span], grain: int, size_bytes: int) -> int:
    """Return how many bytes the pieces have that the spans, in any order, touch."""
    ordered = sorted(spans, key=lambda span: span.start)
    return total_length(align(ordered, grain, size_bytes))
