"""Builds a chain file that holds all that a point needs, of units that other files have: byte by byte, as they are.

Nothing is decoded, compressed or encrypted again, so the new file has the chain key of the old ones. Units come in the
order of the files and of their numbers there, a commit every now and then; a death costs what came since. What the file
is built from stands in it (`Moving.sources`), and only from just that it is gone on with.
"""

from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import msgspec

from holdfast.faults import reach
from holdfast.formats.contents import Moving, Point, PointDisk
from holdfast.formats.magic import ALIGNMENT, PIECES_PER_PAGE
from holdfast.formats.pages import PieceRuns
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chain_files.rewriter import ChainRewriter
from holdfast.storage.chains.chain import Chain, PieceRun, StoredDisk
from holdfast.storage.methods.merging import COMMIT_BYTES, SHARED_SHARE, TABLES_LEAST, TABLES_SHARE


class GatherResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a gathering did; an interrupted and continued one counts from where it went on."""

    units: int = 0
    moved_bytes: int = 0
    shared_bytes: int = 0
    """Of them, bytes that both files have in common now, so that they were not written."""


class NeededPoint(NamedTuple):
    """A point that a new file gets, the file that has it, and its disks."""

    file: ChainFile
    point: Point
    disks: Sequence[StoredDisk]


class Needs:
    """Which units of which files points need, which are given by their numbers, oldest first."""

    def __init__(self, chain: Chain, *numbers: int) -> None:
        self.chain = chain
        self.points = [_needed_point(chain, number) for number in numbers]
        self.file = self.points[-1].file
        # What came behind the points is not looked at: it may change while the file is built.
        self.files = [f for f in chain.files if f.is_complete and f.contents.holds[0] <= numbers[-1]]
        self.units = {id(file): bytearray(file.contents.units.count) for file in self.files}
        for disk in (disk for one in self.points for disk in one.disks):
            for run in disk.runs(0, disk.pieces):
                self._mark(run)

    def _mark(self, run: PieceRun) -> None:
        if run.file is not None:
            each = run.file.pieces_per_unit
            first, last = run.place // each, (run.place + run.count - 1) // each
            self.units[id(run.file)][first : last + 1] = b"\1" * (last + 1 - first)

    @property
    def roots(self) -> list[str | None]:
        """Return the roots of the points."""
        return [one.point.root for one in self.points]

    def order(self) -> Iterator[tuple[ChainFile, int]]:
        """Yield the units in the order in which they move."""
        for file in self.files:
            for number, is_needed in enumerate(self.units[id(file)]):
                if is_needed:
                    yield file, number

    def stored_bytes(self, done: int = 0) -> int:
        """Return the bytes that the units take in a file, but for the first ones, which are done."""
        units = islice(self.order(), done, None)
        return sum(-(-file.unit_length(number) // ALIGNMENT) * ALIGNMENT for file, number in units)

    def room(self, done: int = 0) -> int:
        """Return the bytes by which a file with so many units grows until it has all of them, generously."""
        size = self.stored_bytes(done)
        return size + max(size // TABLES_SHARE, TABLES_LEAST)

    def moving(self) -> Moving:
        """Return what a file says of itself that is being built from these."""
        sources = tuple((file.contents.file, file.superblock.generation) for file in self.files)
        return Moving(file=self.file.contents.file, first=0, sources=sources)


def _needed_point(chain: Chain, number: int) -> NeededPoint:
    file, point = chain.point(number)
    return NeededPoint(file, point, [chain.disk(number, disk.key) for disk in point.disks])


class Gatherer:
    """Brings what points need into a new file and makes it complete. Goes on where an earlier run stopped."""

    def __init__(self, writer: ChainRewriter, needs: Needs, commit_bytes: int = COMMIT_BYTES) -> None:
        self._writer = writer
        self._needs = needs
        self._commit_bytes = commit_bytes
        self._ranks = {id(file): array("Q", bytes(8 * file.contents.units.count)) for file in needs.files}
        """Of each unit of each file: its number here."""

    def run(
        self, report: Callable[[int], None] = lambda _: None, before_end: Callable[[], None] = lambda: None
    ) -> GatherResult:
        """Build the file; ``report`` gets the bytes moved so far after each commit.

        ``before_end`` is called when all units are there, and before both superblocks say that the file is complete.

        Raises `DataDamaged` or `FileDamaged` where a file that is needed is damaged.
        """
        if self._writer.contents.points:
            before_end()
            self._writer.commit_complete()
            return GatherResult()
        units, moved = self._move_units(report)
        reach("gather.moved")
        before_end()
        self._complete()
        return GatherResult(units=units, moved_bytes=moved, shared_bytes=self._writer.shared_bytes)

    def _move_units(self, report: Callable[[int], None]) -> tuple[int, int]:
        writer, done = self._writer, self._writer.next_unit
        moved = uncommitted = units = 0
        for rank, (file, number) in enumerate(self._needs.order()):
            self._ranks[id(file)][number] = rank
            if rank < done:
                continue
            shared = writer.shared_bytes
            size = writer.move_unit(file, number)
            units, moved = units + 1, moved + size
            uncommitted += size if writer.shared_bytes == shared else size // SHARED_SHARE
            if uncommitted >= self._commit_bytes:
                writer.commit()
                report(moved)
                uncommitted = 0
        writer.commit()
        report(moved)
        return units, moved

    def _complete(self) -> None:
        writer = self._writer
        points = tuple(self._take_point(one) for one in self._needs.points)
        for source in self._needs.files:
            writer.take_notes(source.store, source.contents.notes)
        writer.contents = msgspec.structs.replace(writer.contents, points=points, moving=msgspec.UNSET)
        writer.commit_complete()

    def _take_point(self, one: NeededPoint) -> Point:
        pairs = zip(one.point.disks, one.disks, strict=True)
        disks = tuple(self._take_disk(one, disk, stored) for disk, stored in pairs)
        files = [self._writer.take_file(one.file.store, file) for file in one.point.machine_files]
        return msgspec.structs.replace(one.point, disks=disks).with_files(files)

    def _take_disk(self, one: NeededPoint, disk: PointDisk, stored: StoredDisk) -> PointDisk:
        writer = self._writer
        index = writer.add_disk(one.point.machine.machine_id, disk.key)
        page, runs = -1, PieceRuns()
        for piece, place, count in self._placed(stored):
            if piece // PIECES_PER_PAGE != page:
                if page >= 0:
                    writer.put_pieces(index, page, runs)
                page, runs = piece // PIECES_PER_PAGE, PieceRuns()
            runs.append(piece % PIECES_PER_PAGE, place, count)
        if page >= 0:
            writer.put_pieces(index, page, runs)
        return msgspec.structs.replace(disk, disk=index, map=writer.take_table(one.file.store, disk.map))

    def _placed(self, stored: StoredDisk) -> Iterator[tuple[int, int, int]]:
        """Yield (piece, place here, count); a run is cut where a unit or a page ends."""
        each = self._writer.pieces_per_unit
        for run in stored.runs(0, stored.pieces):
            piece, place, left = run.piece, run.place, run.count if run.file is not None else 0
            while left:
                unit, slot = divmod(place, each)
                count = min(left, each - slot, PIECES_PER_PAGE - piece % PIECES_PER_PAGE)
                yield piece, self._ranks[id(run.file)][unit] * each + slot, count
                piece, place, left = piece + count, place + count, left - count
