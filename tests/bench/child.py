"""One operation of the engine in a process of its own, so that its memory and processor time can be measured.

`python -m tests.bench.child <request as JSON>` prints a `Result` as JSON. What it does is what a worker does for one
machine with one disk: the same calls into `holdfast.storage` and `holdfast.pipeline`, the same default options.
"""

import mmap
import os
import random
import resource
import struct
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import msgspec

from holdfast.clock import SystemClock
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.compression import Compression
from holdfast.model.ids import ChangeId, DiskKey, MachineId, SessionId, SnapshotId
from holdfast.model.machine import Disk, Machine, PowerState, Snapshot, SnapshotDisk
from holdfast.model.plan import PlanStep
from holdfast.model.points import OpenPoint
from holdfast.model.session import Figures
from holdfast.model.spans import Span
from holdfast.pipeline.backup import DiskCopy
from holdfast.pipeline.disks import DiskReader
from holdfast.pipeline.restore import DiskRestore, compare_target
from holdfast.pipeline.stages import PipeOptions, PipeProgress, StageTimes
from holdfast.planning.read_plan import changed_steps, whole_disk_steps
from holdfast.providers.raw_disks import FrozenDisk, TargetDisk
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.chains.chain import Chain, StoredDisk
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.health.scrubber import FileScrub
from holdfast.storage.health.verifier import verify_chain
from holdfast.storage.intake.disk_intake import DiskIntake
from holdfast.storage.intake.finishing import finish_point
from holdfast.storage.intake.lifecycle import StoreOptions, begin_point
from holdfast.storage.methods.compacting import compact
from holdfast.storage.methods.gathering import GatherResult
from holdfast.storage.methods.merging import COMMIT_BYTES
from holdfast.storage.methods.reversing import make_newest_full
from holdfast.storage.methods.synthesis import synthesize
from holdfast.storage.methods.upkeep import ChainUpkeep
from holdfast.storage.points.point_writer import open_disk
from tests.bench.bare import bare_calls
from tests.bench.filling import fill
from tests.bench.memory_disks import MemoryDisk

MACHINE = MachineId("bench")
KEY = DiskKey("disk-0")
UNIT_SIZE = 1 << 20
_RECORD = struct.Struct("<QQQQ")
_CLOCK = SystemClock()


class Request(msgspec.Struct, kw_only=True):
    """What to do. ``spans`` None reads everything allocated and compares it where there is a parent."""

    operation: str
    repository: str
    session: str = "session"
    image: str = ""
    target: str = ""
    spans: str | None = None
    """File with the changed spans as JSON."""
    passphrase: str | None = None
    compression: Compression = Compression.ZSTD_1
    compare: bool = False
    progress: str | None = None
    """File that is kept at the progress reached, whatever kills the process."""
    from_memory: bool = False
    """Read the blocks from memory instead of from the image, or restore them to memory."""
    repeated_bytes: int = 0
    """After how many bytes blocks from memory begin again; 0 for never."""
    count: int = 0
    """How many increments a chain is grown by."""
    is_reversed: bool = False
    """Whether each of them is turned round, so that the full is the newest point."""
    stride: int = 1
    """Of how many pieces a filled point has one."""
    commit_bytes: int = COMMIT_BYTES
    """How much upkeep moves from one commit to the next."""
    point: int | None = None
    """Number of the point to open; None for the newest."""


class Result(msgspec.Struct, kw_only=True):
    """What came out. Times are without the start of the interpreter."""

    seconds: float = 0.0
    parts: dict[str, float] = {}
    figures: Figures = Figures()
    stages: StageTimes = msgspec.field(default_factory=StageTimes)
    file_bytes: int = 0
    peak_mib: float = 0.0
    main_thread_s: float = 0.0
    cpu_s: float = 0.0


class Progress(msgspec.Struct, frozen=True):
    """How far a process had come at its last report."""

    reached_bytes: int = 0
    committed_bytes: int = 0
    read_bytes: int = 0
    transferred_bytes: int = 0


def read_progress(path: Path) -> Progress:
    """Return what a process, alive or dead, wrote to its progress file."""
    record = path.read_bytes()[: _RECORD.size] if path.exists() else b""
    return Progress(*_RECORD.unpack(record)) if len(record) == _RECORD.size else Progress()


def backup(request: Request) -> Result:
    """Write a point of the image: a full, or an increment when the repository has a point; go on with a killed one."""
    files = HostFiles()
    repository = Repository.create(Path(request.repository), files, "bench", _CLOCK.now())
    options = StoreOptions(unit_size=UNIT_SIZE, passphrase=request.passphrase)
    with reader_of(request) as reader:
        snapshot = snapshot_of(reader.size_bytes, request.session)
        started_s = _CLOCK.monotonic_s()
        opened = begin_point(repository, SessionId(request.session), snapshot, options)
        begun_s = _CLOCK.monotonic_s()
        figures, stages = _transfer(request, repository, opened, reader)
        copied_s = _CLOCK.monotonic_s()
        summary = finish_point(repository, opened, request.passphrase)
        finished_s = _CLOCK.monotonic_s()
    parts = {"begin": begun_s - started_s, "copy": copied_s - begun_s, "finish": finished_s - copied_s}
    return Result(
        seconds=finished_s - started_s, parts=parts, figures=figures, stages=stages, file_bytes=summary.file_bytes
    )


def fill_point(request: Request) -> Result:
    """Write a point of units that hold next to nothing, on a disk as large as the image."""
    repository = Repository.create(Path(request.repository), HostFiles(), "bench", _CLOCK.now())
    snapshot = snapshot_of(Path(request.image).stat().st_size, request.session)
    options = StoreOptions(unit_size=UNIT_SIZE, passphrase=request.passphrase)
    started_s = _CLOCK.monotonic_s()
    fill(repository, SessionId(request.session), snapshot, options, request.stride)
    return Result(seconds=_CLOCK.monotonic_s() - started_s)


def restore(request: Request) -> Result:
    """Write the newest point to a new sparse file, and read it back when ``compare`` is set."""
    target = Path(request.target)
    with _newest_chain(request) as chain:
        stored = _newest_disk(chain)
        with target.open("xb") as file:
            file.truncate(stored.size_bytes)
        key = chain.files[0].keys.digest_key
        started_s = _CLOCK.monotonic_s()
        with TargetDisk(target) as disk:
            copy = DiskRestore(stored, disk, key, _CLOCK)
            figures = copy.run(0, lambda _: None)
            restored_s = _CLOCK.monotonic_s()
            if request.compare:
                compare_target(stored, disk, key, lambda _: None)
        compared_s = _CLOCK.monotonic_s()
        parts = {"restore": restored_s - started_s, "compare": compared_s - restored_s}
        return Result(seconds=compared_s - started_s, parts=parts, figures=figures, stages=copy.progress().stages)


def verify(request: Request) -> Result:
    """Check every stored byte of the chain."""
    with _newest_chain(request) as chain:
        started_s = _CLOCK.monotonic_s()
        report = verify_chain(chain, lambda _: None)
        assert report.is_good, report.damages
        return Result(seconds=_CLOCK.monotonic_s() - started_s, file_bytes=report.stored_bytes)


def scrub(request: Request) -> Result:
    """Read every stored byte of the chain again, from the cache; with ``compare`` decoded, as a restore does."""
    with _newest_chain(request) as chain:
        started_s = _CLOCK.monotonic_s()
        checked = 0
        for file in chain.files:
            reading = FileScrub(file, lambda _: None, is_deep=request.compare, from_cache=True)
            found = reading.read(0, file.superblock.end)
            assert not found.units, found
            assert not found.problem, found
            checked += found.checked_bytes
        return Result(seconds=_CLOCK.monotonic_s() - started_s, file_bytes=checked)


def open_point(request: Request) -> Result:
    """Open a point and find where all its pieces are; twice, because the passphrase costs time once."""
    parts: dict[str, float] = {}
    for name in ("first", "again"):
        started_s = _CLOCK.monotonic_s()
        with _newest_chain(request) as chain:
            stored = _newest_disk(chain) if request.point is None else chain.disk(request.point, KEY)
            runs = sum(1 for _ in stored.runs(0, stored.pieces))
            parts |= {"files": len(chain.files), "runs": runs}
        parts[name] = _CLOCK.monotonic_s() - started_s
    return Result(seconds=parts["first"], parts=parts)


def merge(request: Request) -> Result:
    """Merge the oldest increment of the newest chain into its full."""
    with _newest_chain(request) as chain:
        folder, (into, merged, *_) = chain.folder, [file.path.name for file in chain.files]
    started_s = _CLOCK.monotonic_s()
    result = ChainUpkeep(HostFiles(), folder, request.passphrase).merge(into, merged, commit_bytes=request.commit_bytes)
    return Result(seconds=_CLOCK.monotonic_s() - started_s, parts={"moved": result.moved_bytes, "units": result.units})


def make_synthetic_full(request: Request) -> Result:
    """Make the newest point a full in a chain of its own, of what the repository has."""
    make = partial(synthesize, passphrase=request.passphrase, commit_bytes=request.commit_bytes)
    return _gathered(request, lambda found, folder: make(found, found.relative(folder))[1])


def compact_full(request: Request) -> Result:
    """Write the full of the newest chain anew."""
    make = partial(compact, passphrase=request.passphrase, commit_bytes=request.commit_bytes)
    return _gathered(request, lambda found, folder: make(found.files, folder))


def _gathered(request: Request, gather: Callable[[Repository, Path], GatherResult]) -> Result:
    repository = Repository.open(Path(request.repository), HostFiles())
    started_s = _CLOCK.monotonic_s()
    result = gather(repository, repository.chain_folders()[-1])
    return Result(seconds=_CLOCK.monotonic_s() - started_s, parts={"moved": result.moved_bytes, "units": result.units})


def bare(request: Request) -> Result:
    """Do the library calls of a full alone."""
    with reader_of(request) as reader:
        started_s = _CLOCK.monotonic_s()
        count = bare_calls(reader, UNIT_SIZE, request.compression)
        return Result(seconds=_CLOCK.monotonic_s() - started_s, figures=Figures(read_bytes=count))


def grow(request: Request) -> Result:
    """Make a full and then small increments; the time is that of the increments."""
    rng = random.Random(1)
    image = Path(request.image)
    pieces = image.stat().st_size // PIECE_SIZE
    spans_file = image.with_suffix(".json")
    backup(msgspec.structs.replace(request, session="full"))
    started_s = _CLOCK.monotonic_s()
    for number in range(request.count):
        spans = [Span(piece * PIECE_SIZE, PIECE_SIZE) for piece in sorted(rng.sample(range(pieces), 4))]
        with image.open("r+b") as disk:
            for span in spans:
                disk.seek(span.start)
                disk.write(rng.randbytes(span.length))
        spans_file.write_bytes(msgspec.json.encode(spans))
        backup(msgspec.structs.replace(request, session=f"increment-{number}", spans=str(spans_file)))
        if request.is_reversed:
            folder = Repository.open(Path(request.repository), HostFiles()).chain_folders()[-1]
            make_newest_full(HostFiles(), folder, request.passphrase)
    spans_file.unlink()
    return Result(seconds=_CLOCK.monotonic_s() - started_s)


OPERATIONS: dict[str, Callable[[Request], Result]] = {
    "backup": backup,
    "fill": fill_point,
    "restore": restore,
    "verify": verify,
    "scrub": scrub,
    "open": open_point,
    "grow": grow,
    "merge": merge,
    "synthetic-full": make_synthetic_full,
    "compact": compact_full,
    "bare": bare,
}


def snapshot_of(size_bytes: int, session: str, machine_id: MachineId = MACHINE) -> Snapshot:
    """Return a snapshot of a machine with its one disk."""
    machine = Machine(
        machine_id=machine_id, name="bench", power=PowerState.ON, disks=(Disk(key=KEY, size_bytes=size_bytes),)
    )
    return Snapshot(
        snapshot_id=SnapshotId(session),
        machine_id=machine_id,
        tag="bench",
        created=_CLOCK.now(),
        disks=(SnapshotDisk(key=KEY, size_bytes=size_bytes, change_id=ChangeId(session)),),
        machine=machine,
    )


def _transfer(
    request: Request, repository: Repository, opened: OpenPoint, reader: DiskReader
) -> tuple[Figures, StageTimes]:
    """What the transfer activity of a worker does."""
    folder = repository.chain_folder(opened.chain)
    parent_chain = None if opened.parent_number is None else repository.open_chain(opened.chain, request.passphrase)
    with ChainWriter.resume(repository.files, folder / opened.file, request.passphrase) as writer:
        parent = None
        if parent_chain is not None and opened.parent_number is not None:
            parent = parent_chain.disk(opened.parent_number, KEY)
        sink = open_disk(writer, opened.number, KEY, parent)
        options = PipeOptions(compression=request.compression)
        copy = DiskCopy(reader, DiskIntake(sink, _CLOCK, options), _CLOCK, options)
        figures = copy.run(steps_of(request, reader), reporter_of(request))
    if parent_chain is not None:
        parent_chain.close()
    return figures, copy.progress().stages


def steps_of(request: Request, reader: DiskReader) -> Iterator[PlanStep]:
    """Return what is to be read."""
    size = reader.size_bytes
    if request.spans is None:
        return whole_disk_steps(reader.allocated_spans(), size, PIECE_SIZE)
    spans = msgspec.json.decode(Path(request.spans).read_bytes(), type=list[Span])
    return changed_steps(spans, reader.allocated_spans(), (size, size), PIECE_SIZE)


def reporter_of(request: Request) -> Callable[[PipeProgress], None]:
    """Return what keeps the progress file at the progress reached."""
    if request.progress is None:
        return lambda _: None
    descriptor = os.open(request.progress, os.O_RDWR | os.O_CREAT, 0o600)
    os.truncate(descriptor, mmap.PAGESIZE)
    record = mmap.mmap(descriptor, mmap.PAGESIZE)
    os.close(descriptor)

    def note(progress: PipeProgress) -> None:
        figures = progress.figures
        numbers = (progress.reached_bytes, progress.committed_bytes, figures.read_bytes, figures.transferred_bytes)
        record[: _RECORD.size] = _RECORD.pack(*numbers)

    return note


def reader_of(request: Request) -> DiskReader:
    """Return the disk that is to be read."""
    image = Path(request.image)
    if not request.from_memory:
        return FrozenDisk(image)
    with image.open("rb") as file:
        return MemoryDisk(file.read(UNIT_SIZE), image.stat().st_size, request.repeated_bytes)


def _newest_chain(request: Request) -> Chain:
    repository = Repository.open(Path(request.repository), HostFiles())
    return repository.open_chain(repository.relative(repository.chain_folders()[-1]), request.passphrase)


def _newest_disk(chain: Chain) -> StoredDisk:
    found = chain.newest(MACHINE)
    assert found is not None
    return chain.disk(found[1].number, KEY)


def main() -> None:
    """Carry out the request in the first argument."""
    request = msgspec.json.decode(sys.argv[1], type=Request)
    main_thread = resource.getrusage(resource.RUSAGE_THREAD)
    result = OPERATIONS[request.operation](request)
    usage, thread = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_THREAD)
    result.cpu_s = usage.ru_utime + usage.ru_stime
    result.main_thread_s = thread.ru_utime + thread.ru_stime - main_thread.ru_utime - main_thread.ru_stime
    result.peak_mib = usage.ru_maxrss / 1024
    sys.stdout.write(msgspec.json.encode(result).decode())


if __name__ == "__main__":
    main()
