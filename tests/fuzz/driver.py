"""Backs a machine up in processes that may be killed at any instruction.

``python -m tests.fuzz.driver`` reads one request per line from its input, forks a child for it, and answers with a
line when the child is gone. The child does whatever the story still lacks; the parent has no threads, so forking it is
cheap and safe. A request is a JSON object, see `Request`; the answer is `Answer`.
"""

import mmap
import os
import random
import signal
import struct
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import msgspec
from typing_extensions import override

from holdfast.clock import SystemClock
from holdfast.faults import set_hook
from holdfast.formats.magic import PIECE_SIZE
from holdfast.formats.record import Buffer, Stamp
from holdfast.model.compression import Compression
from holdfast.model.ids import SessionId
from holdfast.model.plan import ReadMode
from holdfast.model.spans import Span
from holdfast.pipeline.backup import DiskCopy
from holdfast.pipeline.stages import PipeOptions
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.chains.chain import Chain
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.intake.disk_intake import DiskIntake
from holdfast.storage.intake.finishing import finish_point
from holdfast.storage.intake.lifecycle import StoreOptions, begin_point
from holdfast.storage.points.point_writer import open_disk
from holdfast.testing.chains import CHEAP, ProtectedMachine, parent_disk, read_steps
from holdfast.testing.disks import PatternedDisk
from holdfast.testing.faults import HitCounter, KillAt
from holdfast.testing.memory import MemoryDisk

PROGRESS = struct.Struct("<QQ")
"""The shared record: bytes packed by all processes together, and sessions known to be finished."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a child is to do, and how it is to die."""

    root: str
    progress: str
    seed: int
    size_bytes: int
    sessions: int
    passphrase: str | None = None
    commit_new_bytes: int = 24 << 20
    kill_name: str = ""
    kill_hit: int = 0
    kill_after_s: float = 0.0


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """How the child ended: by itself, with its points, or by a signal."""

    signal: int = 0
    status: int = 0
    hits: dict[str, int] = {}


class CountingUnits(ChainWriter):
    """A chain writer that writes into the shared record how much was packed."""

    shared: mmap.mmap

    @override
    def write_unit(self, number: int, stamp: Stamp, digests: Sequence[bytes], record: Sequence[Buffer]) -> int:
        packed, finished = PROGRESS.unpack_from(self.shared)
        PROGRESS.pack_into(self.shared, 0, packed + len(digests) * PIECE_SIZE, finished)
        return super().write_unit(number, stamp, digests, record)


def content_of(request: Request, session: int) -> PatternedDisk:
    """Return the disk as a session sees it; the same in every process."""
    rng = random.Random(request.seed)
    disk = PatternedDisk(request.seed % 1000, request.size_bytes)
    disk.write(Span(0, request.size_bytes // 8 * 7 // 512 * 512))
    for _ in range(session):
        for _ in range(3):
            start = rng.randrange(0, request.size_bytes // 512 - 400) * 512
            disk.write(Span(start, rng.randrange(1, 400) * 512))
        disk.zero(Span(rng.randrange(0, request.size_bytes // PIECE_SIZE) * PIECE_SIZE, PIECE_SIZE))
    return disk


def carry_on(request: Request) -> None:
    """Do every session of the story from where the last process stopped."""
    files = HostFiles()
    repository = Repository.create(Path(request.root), files, "id", SystemClock().now())
    store = StoreOptions(unit_size=256 << 10, passphrase=request.passphrase, passphrase_cost=CHEAP)
    with Path(request.progress).open("r+b") as file:
        CountingUnits.shared = mmap.mmap(file.fileno(), PROGRESS.size)
    _, finished = PROGRESS.unpack_from(CountingUnits.shared)
    for session in range(finished, request.sessions):
        run_session(request, repository, store, session)
        packed, _ = PROGRESS.unpack_from(CountingUnits.shared)
        PROGRESS.pack_into(CountingUnits.shared, 0, packed, session + 1)


def run_session(request: Request, repository: Repository, store: StoreOptions, session: int) -> None:
    disk = content_of(request, session)
    pipe = PipeOptions(compression=Compression.NONE, commit_new_bytes=request.commit_new_bytes)
    player = ProtectedMachine(repository, 0, {}, store, pipe)
    player.sessions, player.disks = session, {"disk0": disk}
    opened = begin_point(repository, SessionId(f"session-{session}"), player.snapshot(), store)
    folder = repository.chain_folder(opened.chain)
    with Chain.open(repository.files, folder, store.passphrase) as chain:
        if not any(point.complete for _, point in chain.points() if point.number == opened.number):
            before = content_of(request, session - 1) if session else PatternedDisk(0, 0)
            changed = list(disk.differing_spans(before))
            reader = MemoryDisk(disk.read(Span(0, disk.size_bytes)))
            parent = parent_disk(chain, opened, "disk0")
            with CountingUnits.resume(repository.files, folder / opened.file, store.passphrase) as writer:
                sink = open_disk(writer, opened.number, "disk0", parent)
                steps = read_steps(reader, parent, ReadMode.CHANGED, changed)
                intake = DiskIntake(sink, SystemClock(), pipe)
                DiskCopy(reader, intake, SystemClock(), pipe).run(steps, lambda _: None)
    finish_point(repository, opened, store.passphrase)


def in_child(request: Request, told: int) -> None:
    """Run as the child: do the work with the fault set, and tell the parent which points were passed."""
    counter = KillAt(request.kill_name, request.kill_hit) if request.kill_name else HitCounter()
    set_hook(counter)
    if request.kill_after_s:
        signal.setitimer(signal.ITIMER_REAL, request.kill_after_s)
    status = 1
    try:
        carry_on(request)
        status = 0
    finally:
        if status:
            traceback.print_exc()
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.write(told, msgspec.json.encode(dict(counter.hits)))
        os._exit(status)


def serve() -> None:
    for line in sys.stdin:
        request = msgspec.json.decode(line, type=Request)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            in_child(request, writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            hits = pipe.read()
        _, status = os.waitpid(child, 0)
        answer = Answer(
            signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
            status=os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0,
            hits=msgspec.json.decode(hits, type=dict[str, int]) if hits else {},
        )
        sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
