"""Disks are read over leases at any offset, through lines that break, sessions that end and leases that die."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, cast

import msgspec
import pytest

from holdfast.clock import SystemClock
from holdfast.errors import DiskReadFailed, OperationCancelled, SnapshotFailed
from holdfast.formats.stream_vmdk import Grain, StreamDecoder
from holdfast.formats.stream_vmdk_writer import encode_stream
from holdfast.model.plan import Transport, TransportMode
from holdfast.model.spans import Span
from holdfast.providers.ports import StreamedDisk
from holdfast.providers.vsphere import lease_disk
from holdfast.providers.vsphere.lease_disk import BREAKS_MAX, KEPT_MAX, LeaseDisk, Window
from holdfast.providers.vsphere.lease_stream import PIECE
from holdfast.providers.vsphere.provider import VSphereProvider
from tests.holdfast.providers.vsphere.bench import VSphereBench

MIB = 1 << 20
SIZES = [3 * MIB + 512, 40 * MIB]
WAIT_S = 60
WAY = Transport(mode=TransportMode.LEASE, reason="of a test")


class Site:
    """A machine with a disk of odd size and one that is larger than what is kept, and its open snapshot."""

    def __init__(self, bench: VSphereBench) -> None:
        self.bench = bench
        self.random = random.Random(bench.seed)
        self.machine = bench.make_machine("leased", SIZES)
        for disk in self.machine.disks:
            bench.write_live(self.machine.machine_id, disk.key, 0, self.random.randbytes(disk.size_bytes))
        # Holes, also at the end.
        bench.write_live(self.machine.machine_id, self.machine.disks[1].key, 7 * MIB + 5, bytes(2 * MIB))
        self.content = [bench.read_live(self.machine.machine_id, disk.key) for disk in self.machine.disks]
        settings = msgspec.structs.replace(bench.settings, transports=(TransportMode.LEASE,))
        self.provider = VSphereProvider(settings, SystemClock())
        bench._opened.append(self.provider)
        self.snapshot = self.provider.create_snapshot(self.machine.machine_id, "tag")
        self._stack = ExitStack()

    def open(self, index: int = 0) -> LeaseDisk:
        key = self.machine.disks[index].key
        opened = self.provider.open_disk(self.machine.machine_id, self.snapshot.snapshot_id, key)
        self._stack.callback(opened.close)
        assert isinstance(opened, LeaseDisk)
        return opened

    def leases(self) -> list[Any]:
        return cast("list[Any]", self.bench.client.control("GET", "/leases"))

    def fault(self, method: str, action: str, **rule: object) -> None:
        self.bench.client.control("POST", "/faults", {"method": method, "action": action} | rule)

    def calls(self, method: str) -> int:
        return int(self.bench.client.control("GET", "/calls").get(method, 0))

    def close(self) -> None:
        self.bench.client.control("DELETE", "/faults")
        self._stack.close()
        self.provider.remove_snapshot(self.machine.machine_id, self.snapshot.snapshot_id)


@pytest.fixture
def site(bench: VSphereBench) -> Iterator[Site]:
    site = Site(bench)
    bench.client.control("DELETE", "/calls")
    yield site
    site.close()
    assert site.leases() == []
    assert bench.provider.snapshots(site.machine.machine_id) == []


def read(disk: LeaseDisk, offset: int, length: int) -> bytes:
    buffer = bytearray(b"?" * length)
    disk.read_into(offset, memoryview(buffer))
    return bytes(buffer)


def is_whole(disk: LeaseDisk, content: bytes, block: int = MIB) -> bool:
    """Read a disk in order and return whether it has this content; a difference would be megabytes of words."""
    offsets = range(0, len(content), block)
    return all(read(disk, at, min(block, len(content) - at)) == content[at : at + block] for at in offsets)


# ------------------------------------------------------------------------------------------------------- the window


class StoredStream:
    """The grains of a stream that lies here, in pieces."""

    def __init__(self, stream: bytes, piece: int = PIECE) -> None:
        self._pieces = (stream[at : at + piece] for at in range(0, len(stream), piece))
        self._decoder = StreamDecoder()

    @property
    def known_end(self) -> int:
        return self._decoder.known_end

    @property
    def capacity_bytes(self) -> int | None:
        return None if self._decoder.header is None else self._decoder.header.capacity_bytes

    def more(self) -> list[Grain]:
        piece = next(self._pieces, b"")
        if not piece:
            self._decoder.finish()
        return self._decoder.feed(piece)

    def close(self) -> None:
        self._pieces = (b"" for _ in range(0))


def window_of(*streams: bytes, size: int) -> tuple[Window, list[int]]:
    """Return a window on these streams, one after the other and the last for ever, and what it tells."""
    left, told = list(streams), list[int]()
    window = Window(
        lambda: StoredStream(left.pop(0) if len(left) > 1 else left[0]), told.append, name="disk x", size_bytes=size
    )
    return window, told


def noise(size: int, seed: int) -> tuple[bytes, bytes]:
    """Return a disk of random bytes, and its stream."""
    disk = random.Random(seed).randbytes(size)
    return disk, b"".join(encode_stream(size, [(0, disk)]))


def test_what_is_kept_is_bounded_and_progress_is_told(seed: int) -> None:
    size = 40 * MIB
    _, stream = noise(size, seed)
    window, told = window_of(stream, size=size)
    for at in range(0, size, MIB):
        assert window.grains(Span(at, MIB))[0].offset == at
        assert sum(len(grain.packed) for grain in window._kept.values()) <= KEPT_MAX
    assert (told[-1], told) == (100, sorted(told))
    assert window.passes == 0


def test_a_fast_reader_does_not_pull_the_stream_away_from_slow_ones(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_disk, "KEPT_MAX", 2 * MIB)
    size = 20 * MIB
    disk, stream = noise(size, seed)
    window, _ = window_of(stream, size=size)
    opened = LeaseDisk(window, WAY, lambda: iter(()), lambda _: None)

    def read_in_order() -> bool:
        return all(read(opened, at, 65536) == disk[at : at + 65536] for at in range(0, size, 65536))

    window._waiting.append(0)  # as if a slow reader were about to get its turn
    with ThreadPoolExecutor(2) as threads:
        ahead = threads.submit(read, opened, size - MIB, MIB)
        try:
            assert read(opened, 0, 65536) == disk[:65536]
            assert not ahead.done()
            assert window._known_end <= MIB
        finally:
            with window._turn:
                window._waiting.remove(0)
                window._turn.notify_all()
        assert ahead.result(WAIT_S) == disk[size - MIB :]
        assert threads.submit(read_in_order).result(WAIT_S)
    assert opened.passes == 1


def test_grains_of_a_few_bytes_are_not_kept_by_the_million(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_disk, "KEPT_MAX", MIB)
    size = 400 * MIB
    runs = ((at, b"x") for at in range(0, size, 1 << 16))
    window, _ = window_of(b"".join(encode_stream(size, runs)), size=size)
    assert len(window.grains(Span(size - MIB, MIB))) == 16
    assert len(window._kept) <= MIB // 512


def test_a_damaged_grain_makes_the_stream_begin_anew(seed: int) -> None:
    size = 4 * MIB
    disk, stream = noise(size, seed)
    damaged = bytearray(stream)
    damaged[len(stream) // 2] ^= 1
    window, _ = window_of(bytes(damaged), stream, size=size)
    opened = LeaseDisk(window, WAY, lambda: iter(()), lambda _: None)
    is_same = read(opened, 0, size) == disk
    assert is_same


def test_a_grain_that_is_always_damaged_is_an_error_in_the_end(seed: int) -> None:
    size = 4 * MIB
    _, stream = noise(size, seed)
    damaged = bytearray(stream)
    damaged[len(stream) // 2] ^= 1
    ended: list[bool] = []
    window, _ = window_of(bytes(damaged), size=size)
    opened = LeaseDisk(window, WAY, lambda: iter(()), ended.append)
    with opened, pytest.raises(DiskReadFailed, match="cannot be unpacked"):
        read(opened, 0, size)
    assert ended == [False]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_stream_that_ends_early_never_reads_as_zeros(share: float, seed: int) -> None:
    size = 4 * MIB
    disk, stream = noise(size, seed)
    cut = stream[: int(len(stream) * share)]
    window, _ = window_of(cut, stream, size=size)
    assert read(LeaseDisk(window, WAY, lambda: iter(()), lambda _: None), size - 512, 512) == disk[-512:]
    with pytest.raises(DiskReadFailed, match="ends in its middle"):
        window_of(cut, size=size)[0].grains(Span(0, size))


def test_who_waits_for_a_stream_can_be_stopped(seed: int) -> None:
    size = 30 * MIB
    _, stream = noise(size, seed)
    window, told = window_of(stream, size=size)
    opened = LeaseDisk(window, WAY, lambda: iter(()), lambda _: None)
    assert isinstance(opened, StreamedDisk)
    asked = OperationCancelled("the session was cancelled")
    # From within the wait, as another thread would.
    window._tell = lambda percent: opened.stop_waiting(asked) if percent > 30 else told.append(percent)
    with pytest.raises(OperationCancelled, match="cancelled"):
        read(opened, size - MIB, MIB)
    assert 0 < opened.pieces_received < 60
    assert max(told) <= 30


def test_a_stream_of_another_size_is_refused(seed: int) -> None:
    _, stream = noise(2 * MIB, seed)
    with pytest.raises(DiskReadFailed, match="the stream is of 2097152 bytes, the disk has 4194304"):
        window_of(stream, size=4 * MIB)[0].grains(Span(0, 512))


# --------------------------------------------------------------------------------------------------------- the lab


@pytest.mark.vsphere
def test_disks_are_read_in_order_with_one_lease_and_one_stream_each(site: Site) -> None:
    disks = [site.open(index) for index in range(2)]
    assert [disk.size_bytes for disk in disks] == SIZES
    assert len(site.leases()) == 1
    assert all(is_whole(disk, content) for disk, content in zip(disks, site.content, strict=True))
    assert [disk.passes for disk in disks] == [0, 0]
    assert (site.calls("ExportSnapshot"), site.calls("nfc:GET")) == (1, 2)
    disks[0].close()
    assert len(site.leases()) == 1
    disks[1].close()
    assert site.leases() == []
    assert (site.calls("HttpNfcLeaseComplete"), site.calls("HttpNfcLeaseAbort")) == (1, 0)


@pytest.mark.parametrize("offset, length", [(0, 1), (65_535, 2), (3 * MIB, 512), (3 * MIB + 511, 1), (5, 3 * MIB)])
@pytest.mark.vsphere
def test_any_stretch_is_read(site: Site, offset: int, length: int) -> None:
    assert read(site.open(), offset, length) == site.content[0][offset : offset + length]


@pytest.mark.vsphere
def test_holes_are_zeros_and_reads_may_be_larger_than_what_is_kept(site: Site) -> None:
    is_same = read(site.open(1), 0, SIZES[1]) == site.content[1]
    assert is_same


@pytest.mark.vsphere
def test_threads_that_read_side_by_side_need_one_pass(site: Site) -> None:
    disk, content = site.open(1), site.content[1]

    def read_every_fourth(first: int) -> bool:
        offsets = range(first * MIB, len(content), 4 * MIB)
        return all(read(disk, at, MIB) == content[at : at + MIB] for at in offsets)

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(read_every_fourth, range(4)))
    assert disk.passes == 0


@pytest.mark.vsphere
def test_a_read_behind_what_is_kept_begins_anew_so_and_so_often(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_disk, "PASSES_MAX", 3)
    disk, content = site.open(1), site.content[1]
    for turn in range(3):
        assert read(disk, 39 * MIB, 512) == content[39 * MIB :][:512]
        assert read(disk, 0, 512) == content[:512]
        assert disk.passes == turn + 1
    assert read(disk, 39 * MIB, 512) == content[39 * MIB :][:512]
    with pytest.raises(DiskReadFailed, match="went back 3 times") as caught:
        read(disk, 0, 512)
    assert "transports" in caught.value.hint


@pytest.mark.vsphere
def test_a_stream_that_breaks_on_its_way_goes_on(site: Site) -> None:
    for after in (100, 5 * MIB, 30 * MIB):
        site.fault("nfc:GET", "drop", times=1, after_bytes=after)
    assert is_whole(site.open(1), site.content[1])
    assert site.calls("nfc:GET") == 4


@pytest.mark.vsphere
def test_a_stream_that_always_breaks_at_the_same_place_is_an_error(site: Site) -> None:
    site.fault("nfc:GET", "drop", after_bytes=5 * MIB)
    disk = site.open(1)
    with pytest.raises(DiskReadFailed, match=f"broke {BREAKS_MAX + 1} times") as caught:
        is_whole(disk, site.content[1])
    assert caught.value.retryable
    disk.close()
    assert site.calls("HttpNfcLeaseAbort") == 1
    site.bench.client.control("DELETE", "/faults")
    assert is_whole(site.open(1), site.content[1])


@pytest.mark.vsphere
def test_a_session_that_ends_meanwhile_is_renewed(site: Site) -> None:
    disk = site.open(1)
    assert read(disk, 0, MIB) == site.content[1][:MIB]
    site.bench.client.control("POST", "/sessions/expire")
    site.fault("nfc:GET", "drop", times=1, after_bytes=0)
    disk._window._hang_up()
    assert is_whole(disk, site.content[1])


@pytest.mark.vsphere
def test_a_lease_that_dies_meanwhile_is_taken_anew(site: Site) -> None:
    disks = [site.open(index) for index in range(2)]
    assert read(disks[1], 0, MIB) == site.content[1][:MIB]
    site.bench.client.control("DELETE", "/leases")
    disks[1]._window._hang_up()
    assert is_whole(disks[1], site.content[1])
    assert is_whole(disks[0], site.content[0])
    assert len(site.leases()) == 1
    assert site.calls("ExportSnapshot") == 2


@pytest.mark.vsphere
def test_a_machine_that_is_exported_by_another_is_an_error_until_that_ends(site: Site) -> None:
    with VSphereProvider(site.provider._settings, SystemClock()) as elsewhere:
        held = elsewhere.open_disk(site.machine.machine_id, site.snapshot.snapshot_id, site.machine.disks[0].key)
        with pytest.raises(DiskReadFailed, match="another export of the machine is under way") as caught:
            site.open()
        assert caught.value.retryable
        with pytest.raises(SnapshotFailed, match="TaskInProgress"):
            site.provider.remove_snapshot(site.machine.machine_id, site.snapshot.snapshot_id)
        held.close()
    assert is_whole(site.open(), site.content[0])


@pytest.mark.vsphere
def test_a_provider_that_is_closed_gives_back_what_was_not(site: Site) -> None:
    with VSphereProvider(site.provider._settings, SystemClock()) as elsewhere:
        left = elsewhere.open_disk(site.machine.machine_id, site.snapshot.snapshot_id, site.machine.disks[0].key)
        assert len(site.leases()) == 1
    assert site.leases() == []
    left.close()


@pytest.mark.vsphere
def test_without_the_privilege_the_reason_is_told(site: Site) -> None:
    site.fault("ExportSnapshot", "fail", fault="NoPermission", times=1)
    with pytest.raises(DiskReadFailed, match="lease: "):
        site.open()


@pytest.mark.vsphere
def test_nothing_is_read_outside_a_disk_or_when_it_is_closed(site: Site) -> None:
    disk = site.open()
    for offset, length in ((-1, 1), (SIZES[0], 1), (SIZES[0] - 1, 2)):
        with pytest.raises(DiskReadFailed, match=f"has {SIZES[0]} bytes"):
            read(disk, offset, length)
    disk.close()
    disk.close()
    with pytest.raises(DiskReadFailed, match="closed"):
        read(disk, 0, 1)
    with pytest.raises(DiskReadFailed, match="closed"):
        list(disk.allocated_spans())
