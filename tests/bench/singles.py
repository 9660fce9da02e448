"""What is measured beside the rounds: death and resume, cost of maps, long chains, huge disks, cost of Python."""

import os
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.compression import Compression
from holdfast.model.spans import Span, clip, total_length
from holdfast.providers.raw_disks import FrozenDisk
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from tests.bench.child import Progress, read_progress
from tests.bench.ledger import MIB, Ledger
from tests.bench.measure import run, run_child, settle, warm_up
from tests.bench.ours import Ours
from tests.bench.peers import PASSPHRASE
from tests.bench.reference import GIB, Reference
from tests.bench.rounds import PEAK_MIB_MAX

RESUME = "Killed (SIGKILL) in the middle of a full, and resumed"
MAPS = "What an increment costs beside its data"
HUGE = "The same data on larger disks"
PYTHON = "From memory to memory, without compression and encryption"

READ_AGAIN = "one kill: data read from the source again, known or not"
LOST_STORED = "one kill: bytes written and lost"
_KILLS = (0.15, 0.3, 0.45, 0.6, 0.75, 0.9)
_HUGE_DISKS = (64 * GIB, 1024 * GIB)
_HUGE_CHANGES = 128
_MEMORY_DISK = GIB
RESENT_MIB_MAX = 64


def run_resume(ledger: Ledger, kills: Sequence[float] = _KILLS) -> None:
    """Kill one full again and again; note what each kill costs, and compare the result with the image."""
    ours = Ours(ledger.work)
    image = ledger.reference.path
    ours.clean()
    warm_up(image)
    ledger.set_bound(RESUME, LOST_STORED, RESENT_MIB_MAX)
    record = ledger.work / "progress"
    request = msgspec.structs.replace(ours.request("backup", "full", image), progress=str(record))
    for fraction in kills:
        record.unlink(missing_ok=True)
        measured, _ = run_child(request, watch=has_reached(record, int(fraction * ledger.reference.size_bytes)))
        assert measured.killed, "the full was over before it could be killed"
        again_mib, unused_mib = lost_mib(ledger.reference, ours, read_progress(record))
        ledger.add(RESUME, READ_AGAIN, again_mib, "MiB")
        ledger.add(RESUME, LOST_STORED, unused_mib, "MiB")
    measured, result = run_child(request)
    ledger.add(RESUME, "last part: wall", measured.wall_s, "s")
    ledger.add(RESUME, "last part: begin, with the tables read again", result.parts["begin"], "s")
    ours.restore()
    run(["cmp", str(image), str(ours.target)])
    ledger.add(RESUME, "bytes that differ after the restore", 0, "")
    ledger.set_goal(RESUME, "bytes that differ after the restore", 0)
    ours.clean()
    record.unlink()


def has_reached(record: Path, limit: int) -> Callable[[], bool]:
    """Return what says whether a process has come so far, by its progress file."""
    return lambda: read_progress(record).reached_bytes >= limit


def lost_mib(reference: Reference, ours: Ours, died_at: Progress) -> tuple[float, float]:
    """Return the MiB of data that are read again, and those that were written for nothing."""
    repository = Repository.open(ours.repository, HostFiles())
    with repository.open_chain(repository.relative(repository.chain_folders()[-1]), PASSPHRASE) as chain:
        [file] = chain.files
        [point] = file.contents.points
        committed = point.disks[0].done * PIECE_SIZE
        unused = file.handle.size() - file.superblock.end
    with FrozenDisk(reference.path) as disk:
        again = total_length(clip(disk.allocated_spans(), committed, died_at.reached_bytes))
    return again / MIB, unused / MIB


def run_huge(ledger: Ledger) -> None:
    """Spread one set of data over ever larger sparse disks; memory must stay flat, and maps small."""
    for size in (ledger.reference.size_bytes, *_HUGE_DISKS):
        image = ledger.work / "huge.raw"
        spans = _spread(ledger.reference, image, size)
        name = f"{size / GIB:g} GiB"
        # Without a passphrase: deriving the key from one takes 64 MiB for a moment and would hide the pipe's memory.
        ours = Ours(ledger.work, passphrase=None)
        measured, _ = ours.full(image)
        ledger.add(HUGE, f"{name}: full, wall", measured.wall_s, "s")
        ledger.add(HUGE, f"{name}: full, peak memory", measured.peak_mib, "MiB")
        spans_file = _touch(image, spans)
        measured, result = ours.increment("touched", image, str(spans_file))
        ledger.add(HUGE, f"{name}: increment of {_HUGE_CHANGES} pieces, wall", measured.wall_s, "s")
        ledger.add(HUGE, f"{name}: increment of {_HUGE_CHANGES} pieces, peak memory", measured.peak_mib, "MiB")
        beside = result.file_bytes - result.figures.transferred_bytes
        ledger.add(MAPS, f"{_HUGE_CHANGES} scattered pieces of a {name} disk", beside / 1024, "KiB")
        measured, _ = ours.restore()
        ledger.add(HUGE, f"{name}: restore, wall", measured.wall_s, "s")
        ledger.add(HUGE, f"{name}: restore, peak memory", measured.peak_mib, "MiB")
        for what in ("full", f"increment of {_HUGE_CHANGES} pieces", "restore"):
            ledger.set_bound(HUGE, f"{name}: {what}, peak memory", PEAK_MIB_MAX)
        ours.clean()
        image.unlink()
        spans_file.unlink()


def _spread(reference: Reference, image: Path, size: int) -> list[Span]:
    """Write a tenth of the reference's data, in blocks of 1 MiB, evenly over a new sparse disk."""
    image.unlink(missing_ok=True)
    image.touch(mode=0o600)
    os.truncate(image, size)
    with FrozenDisk(reference.path) as disk, image.open("r+b") as target:
        blocks = [at for span in disk.allocated_spans() for at in range(span.start, span.end - MIB, MIB)][::10]
        step = size // len(blocks) // PIECE_SIZE * PIECE_SIZE
        buffer = bytearray(MIB)
        for index, at in enumerate(blocks):
            disk.read_into(at, memoryview(buffer))
            target.seek(index * step)
            target.write(buffer)
    return [Span(index * step, MIB) for index in range(len(blocks))]


def _touch(image: Path, spans: list[Span]) -> Path:
    """Rewrite scattered pieces; return the file with their spans."""
    rng = random.Random(64)
    chosen = sorted(rng.sample(range(len(spans)), min(_HUGE_CHANGES, len(spans))))
    touched = [Span(spans[index].start, PIECE_SIZE) for index in chosen]
    with image.open("r+b") as disk:
        for span in touched:
            disk.seek(span.start)
            disk.write(rng.randbytes(span.length))
    spans_file = image.with_suffix(".json")
    spans_file.write_bytes(msgspec.json.encode(touched))
    return spans_file


def run_python(ledger: Ledger) -> None:
    """Move blocks that cost nothing to make through the whole pipe into memory."""
    memory = Path("/dev/shm")
    work = memory / f"holdfast-bench-{os.getpid()}" if memory.is_dir() else ledger.work / "memory"
    work.mkdir()
    image = ledger.work / "memory.raw"
    image.write_bytes(random.Random(1).randbytes(MIB))
    os.truncate(image, _MEMORY_DISK)
    try:
        for _ in range(ledger.runs):
            ours = Ours(work)
            ours.clean()
            settle()
            request = msgspec.structs.replace(
                ours.request("backup", "full", image), from_memory=True, compression=Compression.NONE, passphrase=None
            )
            measured, result = run_child(request)
            blocks = _MEMORY_DISK // MIB
            ledger.add(PYTHON, "rate", blocks / result.seconds, "MiB/s")
            ledger.add(PYTHON, "processor for 1 MiB, all threads", measured.cpu_s / blocks * 1000, "ms")
            main_ms = result.main_thread_s / blocks * 1000
            ledger.add(PYTHON, "processor for 1 MiB, the thread that packs and writes", main_ms, "ms")
    finally:
        shutil.rmtree(work)
        image.unlink()
