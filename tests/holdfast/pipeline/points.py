"""Points to bring disks into, in memory."""

import random
from pathlib import Path

from typing_extensions import override

from holdfast.clock import SystemClock
from holdfast.errors import DiskReadFailed
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.compression import Compression
from holdfast.model.session import Figures
from holdfast.model.spans import Span
from holdfast.pipeline.backup import DiskCopy
from holdfast.pipeline.stages import PipeOptions, PipeProgress
from holdfast.planning.read_plan import whole_disk_steps
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.chains.repository import Repository
from holdfast.storage.intake.disk_intake import DiskIntake
from holdfast.storage.intake.lifecycle import StoreOptions
from holdfast.storage.points.point_writer import open_disk
from holdfast.testing.chains import CHEAP, ProtectedMachine
from holdfast.testing.crashfs import CrashFiles
from holdfast.testing.disks import PatternedDisk
from holdfast.testing.memory import MemoryDisk

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
        copy = DiskCopy(disk, DiskIntake(sink, SystemClock(), self.machine.pipe), SystemClock(), self.machine.pipe)
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
