"""Drives restore points through a repository and remembers what each of them must read as."""

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import msgspec

from holdfast.clock import Clock, SystemClock
from holdfast.formats.keys import PassphraseCost
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.ids import DiskKey, MachineId, SessionId, SnapshotId
from holdfast.model.machine import Disk, Machine, PowerState, Snapshot, SnapshotDisk
from holdfast.model.plan import PlanStep, ReadMode
from holdfast.model.points import OpenPoint, PointSummary
from holdfast.model.session import Figures
from holdfast.model.spans import Span, coalesce
from holdfast.pipeline.backup import DiskCopy
from holdfast.pipeline.disks import DiskReader
from holdfast.pipeline.restore import DiskRestore, checked_unit
from holdfast.pipeline.sink import EarlierDisk
from holdfast.pipeline.stages import PipeOptions, PipeProgress
from holdfast.planning.read_plan import changed_steps, whole_disk_steps
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.chains.chain import Chain, StoredDisk
from holdfast.storage.chains.repository import Repository
from holdfast.storage.intake.disk_intake import DiskIntake
from holdfast.storage.intake.finishing import finish_point
from holdfast.storage.intake.lifecycle import StoreOptions, begin_point
from holdfast.storage.intake.open_points import OpenPoints
from holdfast.storage.intake.opening import DiskOpener, DiskPlace
from holdfast.storage.points.point_writer import open_disk
from holdfast.testing.disks import PatternedDisk
from holdfast.testing.memory import MemoryDisk

CHEAP = PassphraseCost(memory_kib=64, iterations=1, lanes=1)
"""A passphrase cost for tests, which derive keys all the time."""


class KeptPoint(msgspec.Struct, frozen=True):
    """A point that was finished, and the content of its disks."""

    summary: PointSummary
    disks: dict[str, PatternedDisk]


class ProtectedMachine:
    """A machine of patterned disks, backed up into a repository one point after the other."""

    def __init__(
        self, repository: Repository, seed: int, sizes: Mapping[str, int], store: StoreOptions, pipe: PipeOptions
    ) -> None:
        self.repository = repository
        self.store = store
        self.pipe = pipe
        self.clock: Clock = SystemClock()
        self.machine_id = MachineId("m1")
        self.name = "web 01"
        self.disks = {key: PatternedDisk(seed + index, size) for index, (key, size) in enumerate(sizes.items())}
        self.kept: list[KeptPoint] = []
        self.sessions = 0
        self._before: dict[str, PatternedDisk] = {}

    def snapshot(self) -> Snapshot:
        """Return the machine as it is now, frozen."""
        machine = Machine(
            machine_id=self.machine_id,
            name=self.name,
            power=PowerState.OFF,
            disks=tuple(Disk(key=DiskKey(key), size_bytes=disk.size_bytes) for key, disk in self.disks.items()),
        )
        return Snapshot(
            snapshot_id=SnapshotId(f"snapshot-{self.sessions}"),
            machine_id=self.machine_id,
            tag="test",
            created=self.clock.now(),
            disks=tuple(SnapshotDisk(key=disk.key, size_bytes=disk.size_bytes) for disk in machine.disks),
            machine=machine,
        )

    def back_up(self, mode: ReadMode = ReadMode.CHANGED, *, at_once: bool = False) -> PointSummary:
        """Make a point of the machine as it is now; its disks come one by one or, chunk by chunk, all at once."""
        self.sessions += 1
        opened = self.begin()
        self.transfer_all(opened, mode, at_once=at_once)
        return self.finish(opened)

    def transfer_all(self, opened: OpenPoint, mode: ReadMode = ReadMode.CHANGED, *, at_once: bool = False) -> None:
        """Bring all disks into the point, from where an earlier attempt stopped."""
        if at_once:
            self._transfer_at_once(opened, mode)
            return
        for key in self.disks:
            self.transfer(opened, key, mode)

    def _transfer_at_once(self, opened: OpenPoint, mode: ReadMode) -> None:
        turns, points = Turns(len(self.disks)), OpenPoints()
        with ExitStack() as stack, ThreadPoolExecutor(len(self.disks)) as pool:
            opener = DiskOpener(self.repository, self.store.passphrase, self.clock, self.pipe, points)
            disks = {key: opener.open(place_of(opened, key), stack) for key in self.disks}

            def transfer(number: int, key: str) -> None:
                changed, reader = self._reader(key)
                with turns.taking(number) as report:
                    steps = read_steps(reader, disks[key].earlier, mode, changed)
                    DiskCopy(reader, disks[key].sink, self.clock, self.pipe).run(steps, report)

            for flight in [pool.submit(transfer, *pair) for pair in enumerate(disks)]:
                flight.result()

    def begin(self) -> OpenPoint:
        """Begin the point of the present session, or find it begun."""
        return begin_point(self.repository, SessionId(f"session-{self.sessions}"), self.snapshot(), self.store)

    def transfer(self, opened: OpenPoint, key: str, mode: ReadMode = ReadMode.CHANGED) -> Figures:
        """Bring one disk into the point, from where an earlier attempt stopped."""
        changed, reader = self._reader(key)
        return transfer_disk(self.repository, opened, key, reader, (mode, changed, self.store, self.pipe))

    def _reader(self, key: str) -> tuple[list[Span], MemoryDisk]:
        """Return what changed of a disk since the last point, and the disk as it is now."""
        disk = self.disks[key]
        before = self._before.get(key, PatternedDisk(0, 0))
        return list(disk.differing_spans(before)), MemoryDisk(disk.read(Span(0, disk.size_bytes)))

    def finish(self, opened: OpenPoint) -> PointSummary:
        """Finish the point and remember what it must read as."""
        summary = finish_point(self.repository, opened, self.store.passphrase)
        self.keep(summary)
        return summary

    def keep(self, summary: PointSummary) -> None:
        """Remember what a finished point must read as: the disks as they are now."""
        self._before = {key: disk.copy() for key, disk in self.disks.items()}
        self.kept.append(KeptPoint(summary, dict(self._before)))

    def rewind(self, points: int) -> None:
        """Forget all points but the first ones; the disks stay as they are."""
        del self.kept[points:]
        self._before = dict(self.kept[-1].disks) if self.kept else {}

    def differences(self, repository: Repository | None = None) -> list[str]:
        """Return in words where finished points do not read as they must."""
        found = repository if repository is not None else self.repository
        return [words for kept in self.kept for words in point_differences(found, kept, self.store.passphrase)]


class Turns:
    """Lets threads take turns, so that what several of them do is done in the same order each time."""

    def __init__(self, count: int) -> None:
        self._changed = threading.Condition()
        self._waiting = list(range(count))

    @contextmanager
    def taking(self, number: int) -> Iterator[Callable[[object], None]]:
        """Run when it is this thread's turn; what is given hands the turn on and waits for the next."""

        def hand_on(_: object) -> None:
            with self._changed:
                self._waiting.append(self._waiting.pop(0))
                self._changed.notify_all()
                self._await(number)

        with self._changed:
            self._await(number)
        try:
            yield hand_on
        finally:
            with self._changed:
                self._waiting.remove(number)
                self._changed.notify_all()

    def _await(self, number: int) -> None:
        self._changed.wait_for(lambda: self._waiting[0] == number)


def place_of(opened: OpenPoint, key: str) -> DiskPlace:
    """Return where a disk of a point that was begun is."""
    return DiskPlace(
        chain=opened.chain,
        file=opened.file,
        number=opened.number,
        point_id=opened.point_id,
        parent_number=opened.parent_number,
        disk=key,
    )


def transfer_disk(  # noqa: PLR0913, PLR0917 - what a transfer needs, and one thing more
    repository: Repository,
    opened: OpenPoint,
    key: str,
    reader: DiskReader,
    how: tuple[ReadMode, list[Span], StoreOptions, PipeOptions],
    report: Callable[[PipeProgress], None] = lambda _: None,
) -> Figures:
    """Copy one disk into a point that was begun; without a parent disk the whole of it."""
    mode, changed, store, pipe = how
    folder = repository.chain_folder(opened.chain)
    with (
        Chain.open(repository.files, folder, store.passphrase) as chain,
        ChainWriter.resume(repository.files, folder / opened.file, store.passphrase) as writer,
    ):
        parent = parent_disk(chain, opened, key)
        steps = read_steps(reader, parent, mode, changed)
        sink = open_disk(writer, opened.number, key, parent)
        intake = DiskIntake(sink, SystemClock(), pipe)
        return DiskCopy(reader, intake, SystemClock(), pipe).run(steps, report)


def parent_disk(chain: Chain, opened: OpenPoint, key: str) -> StoredDisk | None:
    """Return the disk at the point that the opened one continues, or None."""
    if opened.parent_number is None:
        return None
    _, point = chain.point(opened.parent_number)
    if point.disk(key) is None:
        return None
    disk = chain.disk(opened.parent_number, key)
    disk.lost = [
        (span.start // PIECE_SIZE, -(-(span.start + span.length) // PIECE_SIZE))
        for span in opened.damaged
        if span.disk == key
    ]
    return disk


def read_steps(
    reader: DiskReader, parent: EarlierDisk | None, mode: ReadMode, changed: list[Span]
) -> Iterator[PlanStep]:
    """Return what to read, as the product decides it."""
    if parent is None or mode is not ReadMode.CHANGED:
        return whole_disk_steps(reader.allocated_spans(), reader.size_bytes, PIECE_SIZE)
    sizes = (parent.size_bytes, reader.size_bytes)
    inside = [span for span in coalesce(changed) if span.start < reader.size_bytes]
    return changed_steps(inside, reader.allocated_spans(), sizes, PIECE_SIZE)


def restored(repository: Repository, chain_name: str, number: int, key: str, passphrase: str | None) -> bytes:
    """Return the bytes of a disk at a point, restored through the pipe."""
    with repository.open_chain(chain_name, passphrase) as chain:
        disk = chain.disk(number, key)
        target = MemoryDisk(bytes(disk.size_bytes))
        # One thread: tests restore thousands of small disks, and starting threads would be most of it.
        DiskRestore(disk, target, chain.files[0].keys.digest_key, SystemClock(), threads=1).run(0, lambda _: None)
    return bytes(target.content)


def stored_bytes(chain: Chain, number: int, key: str) -> bytes:
    """Return the bytes of a disk at a point, read unit by unit and checked, without the threads of a restore."""
    disk, digest_key = chain.disk(number, key), chain.files[0].keys.digest_key
    units: dict[tuple[int, int], bytes | memoryview] = {}
    content = bytearray(disk.pieces * PIECE_SIZE)
    for run in disk.runs(0, disk.pieces):
        for at in range(run.count if run.file is not None else 0):
            assert run.file is not None
            unit, slot = divmod(run.place + at, run.file.pieces_per_unit)
            body = units.get((id(run.file), unit))
            if body is None:
                body = units[id(run.file), unit] = checked_unit(run.file, unit, digest_key)
            piece = body[slot * PIECE_SIZE : (slot + 1) * PIECE_SIZE]
            start = (run.piece + at) * PIECE_SIZE
            content[start : start + len(piece)] = piece
    return bytes(content[: disk.size_bytes])


def point_differences(repository: Repository, kept: KeptPoint, passphrase: str | None) -> Iterator[str]:
    """Yield in words how the disks of a point differ from what they must be."""
    with repository.open_chain(kept.summary.chain, passphrase) as chain:
        yield from chain_differences(chain, kept)


def chain_differences(chain: Chain, kept: KeptPoint) -> Iterator[str]:
    """Yield the same of a point of an open chain."""
    summary = kept.summary
    for key, expected in kept.disks.items():
        actual = stored_bytes(chain, summary.number, key)
        where = f"point {summary.number}, disk {key}"
        if len(actual) != expected.size_bytes:
            yield f"{where}: {len(actual)} bytes instead of {expected.size_bytes}"
            continue
        words = expected.difference(0, actual)
        if words is not None:
            yield f"{where}: {words}"
