"""What stops a run keeps what was committed, and nothing runs out of its bounds."""

import random
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import Future, wait
from pathlib import Path

import msgspec
import pytest
from typing_extensions import override

from holdfast.clock import SystemClock
from holdfast.errors import DiskChanged, DiskReadFailed, EncodingFailed, OperationCancelled, StoreFailed
from holdfast.faults import set_hook
from holdfast.formats.magic import PIECE_SIZE, Codec
from holdfast.formats.record import Buffer, PieceEntry, RecordSealer, Stamp
from holdfast.model.compression import Compression
from holdfast.model.spans import Span
from holdfast.pipeline.backup import DiskCopy
from holdfast.pipeline.stages import PipeOptions, PipeProgress
from holdfast.planning.read_plan import whole_disk_steps
from holdfast.storage.chain_files import group_commit
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.intake.disk_intake import DiskIntake
from holdfast.storage.intake.lifecycle import begin_point
from holdfast.storage.points.point_writer import open_disk
from holdfast.testing.chains import ProtectedMachine, restored
from holdfast.testing.crashfs import CrashFiles
from holdfast.testing.memory import MemoryDisk
from tests.holdfast.pipeline.points import MIB, QUICK, Scene, Unreadable, make, text_into

# -- what stops a run --------------------------------------------------


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
    scene = Scene(pieces=128, pipe=msgspec.structs.replace(QUICK, commit_new_bytes=MIB, in_flight_bytes=MIB))
    failed = threading.Event()

    def fail(name: str) -> None:
        if name == "commit.before_flip":
            failed.set()
            raise StoreFailed("the storage is gone")

    real = scene.report

    def report(progress: PipeProgress) -> None:
        real(progress)
        if progress.reached_bytes > 4 * MIB:
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


def test_a_last_commit_that_was_on_its_way_and_failed_is_no_success() -> None:
    # The last chunk makes a commit due; nothing is left to commit behind it.
    scene = Scene(pieces=16, pipe=msgspec.structs.replace(QUICK, commit_new_bytes=MIB))

    def fail(name: str) -> None:
        if name == "commit.before_flip":
            raise StoreFailed("the storage is gone")

    with scene.writer() as writer:
        set_hook(fail)
        try:
            with pytest.raises(StoreFailed, match="storage is gone"):
                scene.copy(writer)
        finally:
            set_hook(None)
    assert scene.committed() == 0
    scene.finish()


def test_progress_never_says_more_than_is_durable() -> None:
    pieces = 800  # far more than may be read ahead of what is durable
    scene = Scene(pieces=pieces, pipe=msgspec.structs.replace(QUICK, commit_new_bytes=MIB))

    def report(progress: PipeProgress) -> None:
        assert progress.committed_bytes <= scene.committed() * PIECE_SIZE
        assert progress.committed_bytes <= progress.reached_bytes <= progress.size_bytes
        scene.progress.append(progress)

    scene.report = report  # type: ignore[method-assign] # looks at the file
    with scene.writer() as writer:
        figures = scene.copy(writer)
    assert figures.processed_bytes == figures.read_bytes == pieces * PIECE_SIZE
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


def test_a_flush_that_does_not_come_back_stops_the_pipe_at_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = msgspec.structs.replace(QUICK, commit_new_bytes=MIB, uncommitted_bytes_max=2 * MIB, in_flight_bytes=MIB)
    files = SlowFiles()
    scene = Scene(pieces=400, pipe=pipe, files=files)
    units: list[int] = []
    stalled = threading.Event()
    set_hook(lambda name: units.append(1) if name == "pipe.unit_written" else None)
    with scene.writer() as writer:

        def tell_and_wait(flights: list[Future[None]]) -> None:
            stalled.set()
            wait(flights)

        monkeypatch.setattr(group_commit, "wait", tell_and_wait)
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
            copy = DiskCopy(reader, DiskIntake(sink, SystemClock(), machine.pipe), SystemClock(), machine.pipe)
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
