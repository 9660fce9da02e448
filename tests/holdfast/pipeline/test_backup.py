"""A disk goes through the pipe into a point and comes out the same, whatever unit, compression and encryption."""

import random
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from typing_extensions import override

from holdfast.clock import SystemClock
from holdfast.errors import DiskChanged, DiskReadFailed, EncodingFailed, OperationCancelled, StoreFailed
from holdfast.faults import set_hook
from holdfast.formats.magic import PIECE_SIZE, UNIT_SIZES, Codec
from holdfast.formats.record import Buffer, PieceEntry, RecordSealer, Stamp
from holdfast.model.compression import Compression
from holdfast.model.plan import ReadMode
from holdfast.model.points import PointSummary
from holdfast.model.session import Figures
from holdfast.model.spans import Span
from holdfast.pipeline.backup import DiskCopy
from holdfast.pipeline.restore import DiskRestore, compare_target
from holdfast.pipeline.stages import PipeOptions, PipeProgress
from holdfast.planning.read_plan import whole_disk_steps
from holdfast.storage.chain_file import ChainFile
from holdfast.storage.chain_writer import ChainWriter
from holdfast.storage.lifecycle import StoreOptions, begin_point, finish_point
from holdfast.storage.point_writer import open_disk
from holdfast.storage.repository import Repository
from holdfast.testing.chains import CHEAP, ProtectedMachine, restored, transfer_disk
from holdfast.testing.crashfs import CrashFiles
from holdfast.testing.disks import PatternedDisk
from holdfast.testing.memory import MemoryDisk
from holdfast.testing.sparse import SparseDisk

ROOT = Path("/repository")
MIB = 1 << 20
SEGMENT = 64 * MIB
QUICK = PipeOptions(compression=Compression.NONE, commit_interval_s=1e9)


def make(
    sizes: dict[str, int],
    *,
    unit_size: int = 256 << 10,
    passphrase: str | None = None,
    pipe: PipeOptions = QUICK,
    files: CrashFiles | None = None,
) -> ProtectedMachine:
    repository = Repository.create(
        ROOT, files if files is not None else CrashFiles([Path("/")]), "id", SystemClock().now()
    )
    store = StoreOptions(unit_size=unit_size, passphrase=passphrase, passphrase_cost=CHEAP)
    return ProtectedMachine(repository, 3, sizes, store, pipe)


def text_into(disk: PatternedDisk, rng: random.Random) -> None:
    """Write over about two thirds of a disk, and zero parts of that."""
    size = disk.size_bytes // 512
    for _ in range(12):
        start = rng.randrange(size)
        length = min(size - start, rng.randrange(1, 1500))
        disk.write(Span(start * 512, length * 512))
        if rng.random() < 0.3:
            disk.zero(Span(start * 512, max(1, length // 2) * 512))


# -- the same bytes come out --------------------------------------------------


@pytest.mark.parametrize("passphrase", [None, "correct horse"], ids=["plain", "encrypted"])
@pytest.mark.parametrize("compression", Compression)
@pytest.mark.parametrize("unit_size", UNIT_SIZES)
def test_every_unit_size_compression_and_cipher_gives_back_the_bytes(
    seed: int, unit_size: int, compression: Compression, passphrase: str | None
) -> None:
    rng = random.Random(seed)
    pipe = PipeOptions(compression=compression, commit_new_bytes=MIB, commit_interval_s=1e9)
    machine = make({"a": 2 * MIB + 512, "b": 3 * PIECE_SIZE}, unit_size=unit_size, passphrase=passphrase, pipe=pipe)
    for _ in range(2):
        for disk in machine.disks.values():
            text_into(disk, rng)
        machine.back_up(rng.choice([ReadMode.CHANGED, ReadMode.COMPARED]))
    assert machine.differences() == []


@pytest.mark.parametrize(
    "size",
    [
        0,
        512,
        PIECE_SIZE - 512,
        PIECE_SIZE,
        PIECE_SIZE + 512,
        SEGMENT - PIECE_SIZE,
        SEGMENT - 512,
        SEGMENT,
        SEGMENT + 512,
    ],
)
def test_every_size_of_a_disk_gives_back_the_bytes(size: int) -> None:
    disk = SparseDisk(size)
    last = -(-size // PIECE_SIZE) - 1
    if size:
        disk.put(0, b"first" * 20_000)
        disk.put(last, b"last" * 20_000)
    first = disk.copy()
    machine = make({"a": size})
    for number in (1, 2):
        machine.sessions = number
        transfer_sparse(machine, disk)
        if size and number == 1:
            disk.put(last, b"changed" * 20_000)
    for number, expected in ((1, first.pieces), (2, disk.pieces)):
        assert restored_sparse(machine, number) == expected


def transfer_sparse(machine: ProtectedMachine, disk: SparseDisk) -> PointSummary:
    opened = machine.begin()
    transfer_disk(machine.repository, opened, "a", disk, (ReadMode.COMPARED, [], machine.store, machine.pipe))
    return finish_point(machine.repository, opened, machine.store.passphrase)


def restored_sparse(machine: ProtectedMachine, number: int) -> dict[int, bytes]:
    chain_name = machine.repository.relative(machine.repository.chain_folders()[0])
    with machine.repository.open_chain(chain_name, None) as chain:
        source = chain.disk(number, "a")
        target = SparseDisk(source.size_bytes)
        key = chain.files[0].keys.digest_key
        DiskRestore(source, target, key, SystemClock()).run(0, lambda _: None)
        compare_target(source, target, key, lambda _: None)
    return target.pieces


def test_a_disk_of_zeros_stores_nothing() -> None:
    machine = make({"a": SEGMENT + PIECE_SIZE})
    machine.sessions = 1
    assert transfer_sparse(machine, SparseDisk(SEGMENT + PIECE_SIZE)).file_bytes < 100_000
    assert restored_sparse(machine, 1) == {}


def test_pieces_that_became_zeros_are_zeros_and_cost_nothing() -> None:
    machine = make({"a": 20 * PIECE_SIZE})
    machine.disks["a"].write(Span(0, 20 * PIECE_SIZE))
    machine.back_up()
    machine.disks["a"].zero(Span(PIECE_SIZE, 15 * PIECE_SIZE))
    summary = machine.back_up()
    assert summary.file_bytes < 100_000
    machine.disks["a"].write(Span(3 * PIECE_SIZE, 512))
    machine.back_up()
    assert machine.differences() == []


def test_comparing_stores_the_same_as_knowing_what_changed(seed: int) -> None:
    summaries = []
    for mode in (ReadMode.CHANGED, ReadMode.COMPARED):
        rng = random.Random(seed)
        machine = make({"a": 4 * MIB})
        text_into(machine.disks["a"], rng)
        machine.back_up()
        text_into(machine.disks["a"], rng)
        summary = machine.back_up(mode)
        assert machine.differences() == []
        with machine.repository.open_chain(summary.chain, None) as chain:
            file, point = chain.point(2)
            maps = list(chain.disk(2, "a").writers(0, 64))
            summaries.append((file.contents.units.count, point.disks[0].size, maps))
    assert summaries[0] == summaries[1]


def test_content_that_is_named_as_changed_and_is_not_is_not_stored() -> None:
    machine = make({"a": 10 * PIECE_SIZE})
    machine.disks["a"].write(Span(0, 10 * PIECE_SIZE))
    machine.back_up()
    before = machine.disks["a"].copy()
    machine.disks["a"].write(Span(0, 10 * PIECE_SIZE))
    machine.disks["a"].versions = before.versions[:]
    summary = machine.back_up(ReadMode.COMPARED)
    with machine.repository.open_chain(summary.chain, None) as chain:
        assert chain.files[1].contents.units.count == 0


def test_the_root_of_a_disk_does_not_depend_on_how_it_is_kept(seed: int) -> None:
    # Plain chains of one id have one digest key; everything else differs.
    roots = set()
    machine = make({"a": 3 * MIB + 512})
    text_into(machine.disks["a"], random.Random(seed))
    machine.disks["b"] = machine.disks["a"].copy()
    first = machine.back_up()
    machine.disks["a"].write(Span(0, MIB))
    machine.back_up()
    machine.disks["a"] = machine.disks["b"].copy()
    last = machine.back_up(ReadMode.COMPARED)
    with machine.repository.open_chain(first.chain, None) as chain:
        for number in (1, last.number):
            roots |= {disk.root for disk in chain.point(number)[1].disks}
    assert len(roots) == 1


# -- what stops a run --------------------------------------------------


class Scene:
    """A point that was begun, and a disk to bring into it."""

    def __init__(self, pieces: int = 64, pipe: PipeOptions = QUICK, files: CrashFiles | None = None) -> None:
        self.machine = make({"a": pieces * PIECE_SIZE}, pipe=pipe, files=files)
        self.machine.disks["a"].write(Span(0, pieces * PIECE_SIZE))
        self.machine.sessions = 1
        self.opened = self.machine.begin()
        self.path = self.machine.repository.chain_folder(self.opened.chain) / self.opened.file
        self.reader = MemoryDisk(self.machine.disks["a"].read(Span(0, pieces * PIECE_SIZE)))
        self.progress: list[PipeProgress] = []

    def writer(self) -> ChainWriter:
        return ChainWriter.resume(self.machine.repository.files, self.path)

    def copy(self, writer: ChainWriter, reader: MemoryDisk | None = None) -> Figures:
        sink = open_disk(writer, self.opened.number, "a", None)
        disk = reader if reader is not None else self.reader
        copy = DiskCopy(disk, sink, writer, SystemClock(), self.machine.pipe)
        return copy.run(whole_disk_steps([Span(0, disk.size_bytes)], disk.size_bytes, PIECE_SIZE), self.report)

    def report(self, progress: PipeProgress) -> None:
        self.progress.append(progress)

    def finish(self) -> None:
        self.machine.transfer(self.opened, "a")
        self.machine.finish(self.opened)
        assert self.machine.differences() == []

    def committed(self) -> int:
        with ChainFile.open(self.machine.repository.files, self.path) as file:
            return file.contents.points[0].disks[0].done


class Unreadable(MemoryDisk):
    @override
    def read_into(self, offset: int, buffer: memoryview) -> None:
        if offset >= 40 * PIECE_SIZE:
            raise DiskReadFailed(f"sector at {offset} is bad")
        super().read_into(offset, buffer)


def test_a_source_that_cannot_be_read_stops_the_run_and_keeps_what_was_committed() -> None:
    scene = Scene(pipe=msgspec.structs.replace(QUICK, commit_new_bytes=MIB))
    with scene.writer() as writer, pytest.raises(DiskReadFailed, match="sector at"):
        scene.copy(writer, Unreadable(scene.reader.content))
    assert threading.active_count() < 10
    scene.finish()


@pytest.mark.parametrize("size", [63 * PIECE_SIZE, 64 * PIECE_SIZE - 512, 64 * PIECE_SIZE + 512, 0])
def test_a_disk_of_another_size_than_the_points_is_refused(size: int) -> None:
    scene = Scene()
    with scene.writer() as writer, pytest.raises(DiskChanged, match=f"{64 * PIECE_SIZE}"):
        scene.copy(writer, MemoryDisk(bytes(size)))
    scene.finish()


def test_what_the_report_raises_stops_the_run() -> None:
    scene = Scene()

    def cancel(progress: PipeProgress) -> None:
        if progress.reached_bytes > MIB:
            raise OperationCancelled("enough")

    scene.report = cancel  # type: ignore[method-assign] # a report of its own
    with scene.writer() as writer, pytest.raises(OperationCancelled):
        scene.copy(writer)
    scene.finish()


class FlippingSealer(RecordSealer):
    """Memory that lost a bit on its way through."""

    @override
    def unit(self, stamp: Stamp, entries: list[PieceEntry], codec: Codec, packed: Buffer) -> list[Buffer]:  # type: ignore[override] # as it is called
        broken = bytearray(packed)
        broken[len(broken) // 2] ^= 1
        return super().unit(stamp, entries, codec, broken)


def test_what_does_not_decode_to_its_bytes_is_never_stored() -> None:
    scene = Scene()
    with scene.writer() as writer:
        writer.sealer = FlippingSealer(writer.keys.cipher, b"")
        with pytest.raises(EncodingFailed, match="does not decode to its bytes"):
            scene.copy(writer)
    assert scene.committed() == 0
    scene.finish()


def test_a_commit_that_failed_is_never_reported_as_committed() -> None:
    scene = Scene(pieces=128, pipe=msgspec.structs.replace(QUICK, commit_new_bytes=MIB))
    failed = threading.Event()

    def fail(name: str) -> None:
        if name == "commit.before_flip":
            failed.set()
            raise StoreFailed("the storage is gone")

    real = scene.report

    def report(progress: PipeProgress) -> None:
        real(progress)
        if progress.reached_bytes > 2 * MIB:
            assert failed.wait(30)

    scene.report = report  # type: ignore[method-assign] # waits for the commit
    set_hook(fail)
    try:
        with scene.writer() as writer, pytest.raises(StoreFailed, match="storage is gone"):
            scene.copy(writer)
    finally:
        set_hook(None)
    assert {progress.committed_bytes for progress in scene.progress} == {0}
    assert scene.committed() == 0


def test_progress_never_says_more_than_is_durable() -> None:
    scene = Scene(pieces=200, pipe=msgspec.structs.replace(QUICK, commit_new_bytes=MIB))

    def report(progress: PipeProgress) -> None:
        assert progress.committed_bytes <= scene.committed() * PIECE_SIZE
        assert progress.committed_bytes <= progress.reached_bytes <= progress.size_bytes
        scene.progress.append(progress)

    scene.report = report  # type: ignore[method-assign] # looks at the file
    with scene.writer() as writer:
        figures = scene.copy(writer)
    assert figures.processed_bytes == figures.read_bytes == 200 * PIECE_SIZE
    committed = [progress.committed_bytes for progress in scene.progress]
    assert committed == sorted(committed)
    assert len(set(committed)) > 3


# -- bounds --------------------------------------------------


class SlowFiles(CrashFiles):
    """Storage whose flush does not come back until it is told to."""

    def __init__(self) -> None:
        super().__init__([Path("/")])
        self.is_slow = False
        self.waiting = threading.Event()
        self.go_on = threading.Event()

    @override
    def sync_inode(self, inode: int, path: Path) -> None:
        if self.is_slow:
            self.waiting.set()
            assert self.go_on.wait(60)
        super().sync_inode(inode, path)


def test_a_flush_that_does_not_come_back_stops_the_pipe_at_the_bound() -> None:
    pipe = msgspec.structs.replace(QUICK, commit_new_bytes=MIB, uncommitted_bytes_max=2 * MIB, in_flight_bytes=MIB)
    files = SlowFiles()
    scene = Scene(pieces=400, pipe=pipe, files=files)
    units: list[int] = []
    stalled = threading.Event()
    set_hook(lambda name: units.append(1) if name == "pipe.unit_written" else None)
    with scene.writer() as writer:
        real = writer.finish_commit

        def finish_commit() -> None:
            if files.is_slow and writer.is_committing:
                stalled.set()
            real()

        writer.finish_commit = finish_commit  # type: ignore[method-assign] # tells that the pipe waits
        files.is_slow = True
        thread = threading.Thread(target=scene.copy, args=(writer,))
        thread.start()
        try:
            assert files.waiting.wait(60)
            assert stalled.wait(60)
            stored = len(units) * writer.unit_size
        finally:
            files.is_slow = False
            files.go_on.set()
            thread.join(60)
            set_hook(None)
    assert stored <= pipe.uncommitted_bytes_max + 2 * (256 << 10)
    scene.machine.finish(scene.opened)
    assert scene.machine.differences() == []


class Endless(MemoryDisk):
    """A large disk whose every piece is different and is made when it is read."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(b"")
        self._size = size_bytes

    @property
    @override
    def size_bytes(self) -> int:
        return self._size

    @override
    def read_into(self, offset: int, buffer: memoryview) -> None:
        for at in range(0, len(buffer), PIECE_SIZE):
            part = buffer[at : at + PIECE_SIZE]
            part[:8] = ((offset + at) // PIECE_SIZE + 1).to_bytes(8, "little")
            part[8:] = bytes(len(part) - 8)

    @override
    def allocated_spans(self) -> Iterator[Span]:
        yield Span(0, self._size)


def test_memory_does_not_grow_with_the_disk() -> None:
    peaks = []
    for mib in (64, 256):
        machine = make({"a": 0}, pipe=PipeOptions(compression=Compression.LZ4, in_flight_bytes=4 * MIB))
        machine.disks["a"].resize(mib * MIB)
        machine.sessions = 1
        snapshot = machine.snapshot()
        opened = begin_point(machine.repository, "s", snapshot, machine.store)  # type: ignore[arg-type] # a session
        path = machine.repository.chain_folder(opened.chain) / opened.file
        reader = Endless(mib * MIB)
        with ChainWriter.resume(machine.repository.files, path) as writer:
            sink = open_disk(writer, 1, "a", None)
            copy = DiskCopy(reader, sink, writer, SystemClock(), machine.pipe)
            tracemalloc.start()
            copy.run(whole_disk_steps(reader.allocated_spans(), reader.size_bytes, PIECE_SIZE), lambda _: None)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            peaks.append(peak - len(machine.repository.files.read(path)) * 2)
    # What the file in memory takes is not the pipe's; the digests of known pieces are 20 MiB at most.
    assert peaks[1] < 40 * MIB


def test_a_run_that_was_stopped_anywhere_goes_on_and_gives_back_the_bytes(seed: int) -> None:
    rng = random.Random(seed)
    pipe = msgspec.structs.replace(QUICK, commit_new_bytes=MIB)
    machine = make({"a": 9 * MIB + 512, "b": 2 * MIB}, pipe=pipe)
    for _ in range(3):
        for disk in machine.disks.values():
            text_into(disk, rng)
        machine.sessions += 1
        opened = machine.begin()
        for key in machine.disks:
            transfer_with_stops(machine, opened.number, key, rng)
        machine.finish(opened)
    assert machine.differences() == []


def transfer_with_stops(machine: ProtectedMachine, number: int, key: str, rng: random.Random) -> None:
    """Bring a disk into a point, dying now and then; the last attempt does what is left."""
    passed = 0
    deadline = 0

    def die(name: str) -> None:
        nonlocal passed
        passed += 1
        if name == "pipe.unit_written" and passed > deadline:
            raise ZeroDivisionError

    opened = machine.begin()
    assert opened.number == number
    for _ in range(4):
        passed, deadline = 0, rng.randrange(40)
        set_hook(die)
        try:
            machine.transfer(opened, key)
        except ZeroDivisionError:
            continue
        finally:
            set_hook(None)
    machine.transfer(opened, key)


def test_handles_are_closed_whatever_happened() -> None:
    files = CrashFiles([Path("/")])
    scene = Scene(files=files)
    with scene.writer() as writer, pytest.raises(DiskReadFailed):
        scene.copy(writer, Unreadable(scene.reader.content))
    assert not files.open_handles


def test_a_restore_of_a_point_in_the_middle_of_a_chain_is_that_point(seed: int) -> None:
    rng = random.Random(seed)
    machine = make({"a": 2 * MIB})
    for _ in range(5):
        text_into(machine.disks["a"], rng)
        machine.back_up()
    middle = machine.kept[2]
    data = restored(machine.repository, middle.summary.chain, 3, "a", None)
    assert middle.disks["a"].difference(0, data) is None
