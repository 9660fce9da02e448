"""Merges a chain file into the one that it continues, which takes over its point and what it holds.

1. Units move in byte by byte, a commit every now and then. The file that takes them reads as before: nothing names them
   but its `moving`, by which an interrupted merge goes on behind the last commit.
2. One commit puts the new tables, map and point in place of the old. Maps of later points stay as they are: they name
   points, and the file now holds those of both.
3. A second commit makes both superblocks say so; then the merged file is removed.

So at every moment every point that stays is read from intact files. Units that no point needs any more are forgotten in
the second step, and their space is used by a later merge.
"""

from array import array
from collections.abc import Callable, Iterator

import msgspec

from holdfast.errors import ChainBroken, FileDamaged
from holdfast.faults import reach
from holdfast.formats.contents import Moving, Point, PointDisk, PointFile, RefText
from holdfast.formats.magic import NEVER_WRITTEN, PIECE_SIZE, PIECES_PER_PAGE
from holdfast.formats.pages import MapRuns, PieceRuns
from holdfast.storage.chain_file import ChainFile
from holdfast.storage.rewriter import ChainRewriter, needed_units, pieces_of

COMMIT_BYTES = 64 << 20
"""A death costs at most what moved since the last commit: this much."""


class MergeResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a merge did; an interrupted and continued one counts from where it went on."""

    units: int = 0
    moved_bytes: int = 0
    freed_bytes: int = 0
    """Of units that no point needs any more; their space stays in the file."""


class Merger:
    """Takes one file of a chain over into the file before it. The caller removes the merged file afterwards."""

    def __init__(self, writer: ChainRewriter, source: ChainFile, commit_bytes: int = COMMIT_BYTES) -> None:
        self._writer = writer
        self._source = source
        self._commit_bytes = commit_bytes
        self._ranks = array("Q")
        """Of each unit of the source: its number here."""
        self._point = _only_point(source)
        _check_neighbours(writer, source)

    @property
    def is_done(self) -> bool:
        """Return whether the file has the point of the other one already."""
        return self._writer.contents.point(self._point.number) is not None

    def run(self, report: Callable[[int], None] = lambda _: None) -> MergeResult:
        """Merge; ``report`` gets the bytes moved so far after each commit. Goes on where an earlier run stopped.

        Raises `DataDamaged` or `FileDamaged` when a file is damaged where the merge needs it; what could be read before
        can be read then.
        """
        if self.is_done:
            self._writer.commit_whole()
            return MergeResult()
        units, moved = self._move_units(report)
        reach("merge.moved")
        freed = self._switch()
        reach("merge.switched")
        self._writer.commit_whole()
        return MergeResult(units=units, moved_bytes=moved, freed_bytes=freed)

    # -- units ---------------------------------------------------------------------------------------------------

    def _move_units(self, report: Callable[[int], None]) -> tuple[int, int]:
        wanted = self._wanted_units()
        first = self._first_unit()
        self._ranks = array("Q", bytes(8 * self._source.contents.units.count))
        for rank, number in enumerate(wanted):
            self._ranks[number] = first + rank
        done = self._writer.next_unit - first
        moved = uncommitted = 0
        for number in wanted[done:]:
            size = self._move_unit(number)
            moved, uncommitted = moved + size, uncommitted + size
            if uncommitted >= self._commit_bytes:
                self._commit_moving(first)
                report(moved)
                uncommitted = 0
        self._commit_moving(first)
        report(moved)
        return len(wanted) - done, moved

    def _wanted_units(self) -> list[int]:
        keys = [disk.key for disk in self._point.disks]
        pages = pieces_of(self._source, self._point.machine.machine_id, keys)
        needed = needed_units(pages, self._source.pieces_per_unit, self._source.contents.units.count)
        return [number for number, is_needed in enumerate(needed) if is_needed]

    def _first_unit(self) -> int:
        moving = self._writer.contents.moving
        if moving is msgspec.UNSET or moving.file != self._source.contents.file:
            return self._writer.next_unit
        return moving.first

    def _commit_moving(self, first: int) -> None:
        moving = Moving(file=self._source.contents.file, first=first)
        self._writer.contents = msgspec.structs.replace(self._writer.contents, moving=moving)
        self._writer.commit_whole()

    def _move_unit(self, number: int) -> int:
        entry, digests, record = self._source.sealed_unit(number)
        self._writer.take_unit(entry.point, digests, record)
        return len(record)

    # -- tables --------------------------------------------------------------------------------------------------

    def _switch(self) -> int:
        """Commit the point of the source in place of those that are here; return the bytes of units not needed more."""
        writer, source = self._writer, self._source
        disks = tuple(self._take_disk(disk) for disk in self._point.disks)
        files = [self._take_file(file) for file in self._point.machine_files]
        writer.take_notes(source.store, source.contents.notes)
        self._drop_other_disks()
        freed = writer.drop_units(writer.needed_units())
        point = msgspec.structs.replace(self._point, disks=disks).with_files(files)
        writer.contents = msgspec.structs.replace(
            writer.contents,
            points=(point,),
            holds=(writer.contents.holds[0], source.contents.holds[1]),
            moving=msgspec.UNSET,
        )
        writer.commit_whole()
        return freed

    def _take_disk(self, disk: PointDisk) -> PointDisk:
        machine = self._point.machine.machine_id
        index = self._writer.add_disk(machine, disk.key)
        theirs = self._source.contents.disk_index(machine, disk.key)
        table = self._source.map_table(self._point.number, disk.key)
        pages = -(-disk.size // (PIECES_PER_PAGE * PIECE_SIZE))
        for page in range(pages):
            old = self._writer.pieces_page(index, page)
            new = None if theirs is None else self._source.pieces_page(theirs, page)
            merged = PieceRuns()
            for piece, place, count in self._held(table.page(page), old, new):
                merged.append(piece, place, count)
            if not merged.is_same(old or PieceRuns()):
                self._writer.put_pieces(index, page, merged)
        for page in self._writer.pieces_indexes(index):
            if page >= pages:  # the disk became smaller
                self._writer.put_pieces(index, page, PieceRuns())
        return msgspec.structs.replace(disk, disk=index, map=self._writer.take_table(self._source.store, disk.map))

    def _held(
        self, page: MapRuns | None, old: PieceRuns | None, new: PieceRuns | None
    ) -> Iterator[tuple[int, int, int]]:
        """Yield (piece, place, count) for what the point needs of a page and the two files hold."""
        if page is None:
            return
        first, last = self._source.contents.holds
        for piece, count, writer in page.runs(0, PIECES_PER_PAGE):
            if writer == NEVER_WRITTEN:
                continue
            if first <= writer <= last:
                yield from self._moved(_places(new, piece, count, self._source.path.name))
            elif writer >= self._writer.contents.holds[0]:
                yield from _places(old, piece, count, self._writer.handle.path.name)

    def _moved(self, runs: Iterator[tuple[int, int, int]]) -> Iterator[tuple[int, int, int]]:
        """Yield runs with the places that their units have here; a run is cut where a unit ends."""
        each = self._writer.pieces_per_unit
        for run in runs:
            piece, place, count = run
            while count:
                unit, slot = divmod(place, each)
                taken = min(count, each - slot)
                yield piece, self._ranks[unit] * each + slot, taken
                piece, place, count = piece + taken, place + taken, count - taken

    def _drop_other_disks(self) -> None:
        keys = {(self._point.machine.machine_id, disk.key) for disk in self._point.disks}
        for index, disk in enumerate(self._writer.contents.disks):
            if (disk.machine, disk.key) not in keys:
                self._writer.drop_pieces(index)

    def _take_file(self, file: PointFile) -> PointFile:
        if file.is_lost:
            return file
        ref = self._writer.take_record(self._source.store, file.ref.ref)
        return msgspec.structs.replace(file, ref=RefText(ref.offset, ref.length, file.ref.digest))


def _places(runs: PieceRuns | None, piece: int, count: int, name: str) -> Iterator[tuple[int, int, int]]:
    while count:
        found = None if runs is None else runs.run_from(piece)
        if found is None:
            raise FileDamaged(f"{name} should hold piece {piece} of a page and does not")
        place, length = found
        length = min(length, count)
        yield piece, place, length
        piece, count = piece + length, count - length


def _only_point(source: ChainFile) -> Point:
    if len(source.contents.points) != 1 or not source.is_complete:
        raise ChainBroken(f"{source.path} has not one complete point, and cannot be merged")
    return source.contents.points[0]


def _check_neighbours(writer: ChainRewriter, source: ChainFile) -> None:
    """Refuse files between which another one lies, or which are of different chains."""
    mine, theirs = writer.contents, source.contents
    is_done = mine.holds[0] < theirs.holds[0] and mine.holds[1] == theirs.holds[1]
    is_next = theirs.parent is not None and theirs.parent.root in {point.root for point in mine.points}
    if mine.chain != theirs.chain or mine.unit_size != theirs.unit_size or not (is_done or is_next):
        raise ChainBroken(f"{source.path.name} does not continue {writer.handle.path.name}")
