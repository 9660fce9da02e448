"""A small chain in memory of which every byte is known: what it is for, and which points need it."""

import random
from pathlib import Path

import msgspec

from holdfast.clock import SystemClock
from holdfast.formats.contents import Table
from holdfast.formats.magic import PIECE_SIZE, PIECES_PER_PAGE, RECORDS_START, SUPERBLOCK_SIZE
from holdfast.formats.pages import DIRECTORY_SIZE, Ref, get_ref
from holdfast.formats.record import HEADER_SIZE, PIECE_ENTRY_SIZE
from holdfast.model.compression import Compression
from holdfast.model.ids import MachineId, SessionId, SnapshotId
from holdfast.model.machine import Disk, Machine, PowerState, Snapshot, SnapshotDisk
from holdfast.model.machine_files import MachineFile
from holdfast.model.plan import ReadMode
from holdfast.model.points import PointSummary, VerifyReport
from holdfast.model.spans import Span, coalesce
from holdfast.pipeline.stages import PipeOptions
from holdfast.storage.chain_files.chain_file import ChainFile, read_states
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.chains.chain import Chain
from holdfast.storage.chains.repository import Repository
from holdfast.storage.health.verifier import verify_chain
from holdfast.storage.intake.finishing import finish_point
from holdfast.storage.intake.lifecycle import StoreOptions, begin_point
from holdfast.storage.points.point_files import put_files
from holdfast.testing.chains import CHEAP, transfer_disk
from holdfast.testing.crashfs import CrashFiles
from holdfast.testing.sparse import SparseDisk

ROOT = Path("/repository")
KEY = "disk0"
PIPE = PipeOptions(compression=Compression.NONE, commit_interval_s=1e9)


class Region(msgspec.Struct, frozen=True):
    """Consecutive bytes of a file with one purpose. ``unit`` is the number of the unit they belong to."""

    name: str
    start: int
    length: int
    unit: int = -1


class SmallChain:
    """A full and two increments of a disk just over 4 GiB with a few pieces, so that tables have directories."""

    def __init__(self, seed: int, passphrase: str | None = None, points: int = 3) -> None:
        self.rng = random.Random(seed)
        self.store = StoreOptions(unit_size=256 << 10, passphrase=passphrase, passphrase_cost=CHEAP)
        self.files = CrashFiles([Path("/")])
        self.repository = Repository.create(ROOT, self.files, "id", SystemClock().now())
        self.disk = SparseDisk((PIECES_PER_PAGE + 6) * PIECE_SIZE - 512)
        self.disks: list[SparseDisk] = []
        self.summaries: list[PointSummary] = []
        self.old: list[dict[Path, bytes]] = []
        """All files after each session."""
        for session in range(points):
            self.change(session)
            self.back_up()
            self.old.append({path: self.files.content(path) for path in self.files.paths()})
        self.folder = self.repository.chain_folder(self.summaries[0].chain)
        self.paths = [self.folder / summary.file for summary in self.summaries]

    def change(self, session: int) -> None:
        last = PIECES_PER_PAGE + 5
        for piece in [[*range(5), last - 1, last], [1, 2, last], [0, 2]][session]:
            self.disk.put(piece, self.rng.randbytes(PIECE_SIZE))
        if session == 1:
            self.disk.put(3, bytes(PIECE_SIZE))

    def snapshot(self, session: int) -> Snapshot:
        machine = Machine(
            machine_id=MachineId("m1"),
            name="web 01",
            power=PowerState.OFF,
            disks=(Disk(key=KEY, size_bytes=self.disk.size_bytes),),  # type: ignore[arg-type] # a plain key
        )
        return Snapshot(
            snapshot_id=SnapshotId(f"s{session}"),
            machine_id=machine.machine_id,
            tag="t",
            created=SystemClock().now(),
            disks=(SnapshotDisk(key=machine.disks[0].key, size_bytes=self.disk.size_bytes),),
            machine=machine,
        )

    def back_up(self) -> None:
        """Make the next point."""
        self.back_up_begun(len(self.summaries))

    def back_up_begun(self, session: int) -> None:
        opened = begin_point(self.repository, SessionId(f"session-{session}"), self.snapshot(session), self.store)
        nvram = MachineFile(name="web.nvram", content=random.Random(session).randbytes(3000))
        with ChainWriter.resume(
            self.files, self.repository.chain_file(opened.chain, opened.file), self.store.passphrase
        ) as writer:
            put_files(writer, opened.number, [nvram])
        how = (ReadMode.COMPARED, list[Span](), self.store, PIPE)
        transfer_disk(self.repository, opened, KEY, self.disk, how)
        self.summaries.append(finish_point(self.repository, opened, self.store.passphrase))
        self.disks.append(self.disk.copy())

    # -- damage ------------------------------------------------------------------------------------------------------

    def flip(self, path: Path, offset: int, bit: int) -> None:
        data = bytearray(self.files.content(path))
        data[offset] ^= 1 << bit
        self.files.set_content(path, bytes(data))

    def heal(self) -> None:
        """Put every file back as it was after the last session."""
        for path in self.files.paths():
            if path not in self.old[-1]:
                self.files.drop(path)
        for path, data in self.old[-1].items():
            self.files.set_content(path, data)

    def open(self) -> Chain:
        return Chain.open(self.files, self.folder, self.store.passphrase)

    def verify(self) -> VerifyReport:
        with self.open() as chain:
            return verify_chain(chain, lambda _: None)

    # -- what the bytes are for ----------------------------------------------------------------------------------------

    def regions(self, path: Path) -> list[Region]:
        """Return what the bytes of a complete file are for; what is not listed is not needed."""
        with ChainFile.open(self.files, path, self.store.passphrase) as file:
            found = [Region("slot", slot * SUPERBLOCK_SIZE, SUPERBLOCK_SIZE) for slot in range(2)]
            states = read_states(file.handle, self.store.passphrase)
            found += [_page("contents", block.root) for _, block in states]
            contents = file.contents
            found += self._table(file, "units", contents.units.table)
            found += self._table(file, "digests", contents.digests)
            found += self._table(file, "notes", contents.notes.table)
            for disk in contents.disks:
                found += self._table(file, "pieces", disk.pieces)
            for point in contents.points:
                found += [_page("machine file", kept.ref.ref) for kept in point.machine_files]
                for point_disk in point.disks:
                    found += self._table(file, "map", point_disk.map)
            for number in range(contents.units.count):
                found += self._unit(file, number)
        return found

    def _table(self, file: ChainFile, name: str, table: Table) -> list[Region]:
        if table.top is None:
            return []
        found: list[Region] = []
        refs = [table.top.ref]
        for _ in range(table.depth):
            found += [_page(f"{name} directory", ref) for ref in refs]
            refs = [child for ref in refs for child in _children(file, ref)]
        return found + [_page(name, ref) for ref in refs]

    def _unit(self, file: ChainFile, number: int) -> list[Region]:
        entry = file.unit(number)
        assert entry is not None
        pieces = len(file.read_unit(number)[0])
        tag = 16 if self.store.passphrase else 0
        listing, start = pieces * PIECE_ENTRY_SIZE, entry.offset
        body = entry.length - HEADER_SIZE - listing - tag
        parts = [("header", HEADER_SIZE), ("piece list", listing), ("body", body), ("tag", tag)]
        parts.append(("gap", -entry.length % 4096))
        found = []
        for name, length in parts:
            if length:
                found.append(Region(f"unit {name}", start, length, number))
            start += length
        return found

    def spans_of_unit(self, path: Path, number: int) -> set[tuple[int, int, int]]:
        """Return (point, offset, length) of everything that is in a unit, for all points."""
        found = set()
        with self.open() as chain:
            for _, point in chain.points():
                stored = chain.disk(point.number, KEY)
                pieces = [
                    run.piece + at
                    for run in stored.runs(0, stored.pieces)
                    for at in range(run.count if run.file is not None else 0)
                    if run.file is not None and run.file.path == path
                    and (run.place + at) // run.file.pieces_per_unit == number
                ]  # fmt: skip
                for span in coalesce(Span(piece * PIECE_SIZE, PIECE_SIZE) for piece in sorted(pieces)):
                    found.add((point.number, span.start, min(span.length, self.disk.size_bytes - span.start)))
        return found


def unneeded(regions: list[Region], size: int) -> list[Region]:
    """Return the bytes between the regions of a file: what earlier commits left behind."""
    found, end = [], RECORDS_START
    for region in sorted(regions, key=lambda region: region.start):
        if region.start > end:
            found.append(Region("left over", end, region.start - end))
        end = max(end, region.start + region.length)
    return [*found, Region("left over", end, size - end)] if size > end else found


def _children(file: ChainFile, ref: Ref) -> list[Ref]:
    body = file.store.body(ref)
    assert len(body) == DIRECTORY_SIZE
    return [child for entry in range(512) if (child := get_ref(body, entry)) is not None]


def _page(name: str, ref: Ref) -> Region:
    return Region(name, ref.offset, ref.length)
