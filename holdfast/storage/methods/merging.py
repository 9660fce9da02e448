"""Merges chain files into the one that they continue, which takes over the last points and what they need of them.

There is one last point for each machine of the chain.

1. Units move in byte by byte, or as shared blocks, a commit every now and then. Of several files only what the last
   points need moves. The file that takes it reads as before: nothing names it but its `moving`, by which an interrupted
   merge goes on behind the last commit. It says of which files, in which state, the units are: with others, or when one
   was repaired or found damaged meanwhile, the merge begins anew.
2. One commit puts the new tables, maps and points in place of the old. Maps of later points stay as they are: they name
   points, and the file now holds those of both.
3. A second commit makes both superblocks say so; then the merged files are removed.

So at every moment every point that stays is read from intact files. Units that no point needs any more are forgotten in
the second step, and their space is used by a later merge.
"""

from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from holdfast.errors import ChainBroken, FileDamaged
from holdfast.faults import reach
from holdfast.formats.contents import Moving, Point, PointDisk
from holdfast.formats.magic import ALIGNMENT, NEVER_WRITTEN, PIECE_SIZE, PIECES_PER_PAGE
from holdfast.formats.pages import MapRuns, PieceRuns
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chain_files.rewriter import ROOM_LEAST, ChainRewriter
from holdfast.storage.chain_files.tables import TableReader, table_refs
from holdfast.storage.methods.succession import ALL_OUTDATED, Expendable, succeed

COMMIT_BYTES = 64 << 20
"""A death costs at most what moved since the last commit: this much."""
SHARED_SHARE = 16
"""Bytes that are shared and not written count as so many times fewer."""
TABLES_SHARE = 16
"""A merge needs room for its units and, generously, a sixteenth of that for tables."""
TABLES_LEAST = 8 << 20


class MergeResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a merge did; an interrupted and continued one counts from where it went on."""

    units: int = 0
    moved_bytes: int = 0
    shared_bytes: int = 0
    """Of them, bytes that the file had in common with the merged ones, so that they were not written."""
    freed_bytes: int = 0
    """Of units that no point needs any more; their space stays in the file."""


class _Disk(NamedTuple):
    """A disk of a point that comes in, and the file that has the point."""

    source: ChainFile
    point: Point
    disk: PointDisk

    @property
    def machine(self) -> str:
        return self.point.machine.machine_id


class Merger:
    """Takes files of a chain over into the file before them. The caller removes the merged files afterwards.

    Raises `PlanChanged` when points would go that are not among those which may.
    """

    def __init__(
        self,
        writer: ChainRewriter,
        sources: Sequence[ChainFile],
        commit_bytes: int = COMMIT_BYTES,
        expendable: Expendable = ALL_OUTDATED,
    ) -> None:
        self._writer = writer
        self._sources = list(sources)
        self._last = self._sources[-1]
        self._commit_bytes = commit_bytes
        self._ranks: dict[str, array[int]] = {}
        """Of each unit of each source, by the id of the file: its number here."""
        points = [_finished_points(source) for source in sources]
        found = succeed(writer.contents.points, points, expendable.let_go)
        self._stays = found.stays
        self._taken = [(self._sources[index], point) for index, point in found.taken]
        self.going = found.going
        """The points that are gone afterwards."""
        if not self.is_done:
            _check_neighbours(writer, self._sources)
            expendable.check(self.going)

    @property
    def is_done(self) -> bool:
        """Return whether the file has the points of the last one already."""
        return all(self._writer.contents.point(point.number) is not None for point in self._last.contents.points)

    def drop_others(self) -> None:
        """Forget units that an earlier run moved in and this one does not go on with; durable in both superblocks.

        Nobody reads them. To be called before the run, which begins anew then.
        """
        writer = self._writer
        if writer.contents.moving is msgspec.UNSET or self._goes_on:
            return
        writer.drop_units(writer.needed_units())
        writer.contents = msgspec.structs.replace(writer.contents, moving=msgspec.UNSET)
        writer.commit_whole()
        writer.commit_whole()

    def expect(self) -> None:
        """Let the file see to the room for what has yet to move, and for tables."""
        done = self._writer.next_unit - self._first_unit()
        lengths = array("I", (source.unit_length(number) for source, number in islice(self._wanted(), done, None)))
        self._writer.expect_units(lengths, self._room_for_tables() + max(sum(lengths) // TABLES_SHARE, ROOM_LEAST))

    def _room_for_tables(self) -> int:
        """Return the bytes of what is taken over besides units, and of the tables here that may be written anew."""
        contents = self._writer.contents
        here = [contents.units.table, *(disk.pieces for disk in contents.disks)]
        named = [(self._writer.store, table) for table in here]
        for source in self._sources:
            theirs = [source.contents.notes.table, *(disk.pieces for disk in source.contents.disks)]
            named += [(source.store, table) for table in theirs]
        named += [(one.source.store, one.disk.map) for one in self._disks()]
        pages = sum(ref.length + ALIGNMENT for store, table in named for _, ref in table_refs(store, table))
        files = [file for _, point in self._taken for file in point.machine_files if not file.is_lost]
        return pages + sum(file.ref.length + ALIGNMENT for file in files)

    def run(
        self, report: Callable[[int], None] = lambda _: None, before_switch: Callable[[], None] = lambda: None
    ) -> MergeResult:
        """Merge; ``report`` gets the bytes moved so far after each commit. Goes on where an earlier run stopped.

        ``before_switch`` is called when all units are there and committed, and nothing names them yet.
        Raises `DataDamaged` or `FileDamaged` when a file is damaged where the merge needs it; what could be read before
        can be read then.
        """
        if self.is_done:
            self._writer.commit_whole()
            return MergeResult()
        units, moved = self._move_units(report)
        reach("merge.moved")
        before_switch()
        freed = self._switch()
        reach("merge.switched")
        self._writer.commit_whole()
        return MergeResult(units=units, moved_bytes=moved, shared_bytes=self._writer.shared_bytes, freed_bytes=freed)

    # -- units ---------------------------------------------------------------------------------------------------

    def _move_units(self, report: Callable[[int], None]) -> tuple[int, int]:
        first, units = self._first_unit(), 0
        self._ranks = {
            source.contents.file: array("Q", bytes(8 * source.contents.units.count)) for source in self._sources
        }
        done = self._writer.next_unit - first
        moved = uncommitted = 0
        for rank, (source, number) in enumerate(self._wanted()):
            self._ranks[source.contents.file][number] = first + rank
            if rank < done:
                continue
            shared = self._writer.shared_bytes
            size = self._writer.move_unit(source, number)
            units, moved = units + 1, moved + size
            uncommitted += size if self._writer.shared_bytes == shared else size // SHARED_SHARE
            if uncommitted >= self._commit_bytes:
                self._commit_moving(first)
                report(moved)
                uncommitted = 0
        self._commit_moving(first)
        report(moved)
        return units, moved

    def _wanted(self) -> Iterator[tuple[ChainFile, int]]:
        """Yield the units that the points need which come in, file by file in ascending order."""
        for source in self._sources:
            needed = self._needed[source.contents.file]
            yield from ((source, number) for number, is_needed in enumerate(needed) if is_needed)

    @cached_property
    def _needed(self) -> dict[str, bytearray]:
        """For each unit of each source, by the id of the file, whether a point needs it that comes in, as one byte."""
        needed = {source.contents.file: bytearray(source.contents.units.count) for source in self._sources}
        for one in self._disks():
            for source, place, count in self._sought(one):
                each = source.pieces_per_unit
                first, last = place // each, (place + count - 1) // each
                needed[source.contents.file][first : last + 1] = b"\1" * (last + 1 - first)
        return needed

    def _disks(self) -> Iterator[_Disk]:
        for source, point in self._taken:
            yield from (_Disk(source, point, disk) for disk in point.disks)

    def _sought(self, one: _Disk) -> Iterator[tuple[ChainFile, int, int]]:
        """Yield (file, place, count) for the pieces of a disk that the sources hold for its point."""
        for index, page in self._changed_pages(one):
            for piece, count, writer in () if page is None else page.runs(0, PIECES_PER_PAGE):
                source = self._holder(writer)
                if source is not None:
                    runs = _their_page(source, one, index)
                    for _, place, length in _places(runs, piece, count, source.path):
                        yield source, place, length

    def _changed_pages(self, one: _Disk) -> Iterator[tuple[int, MapRuns | None]]:
        """Yield the pages of a disk's map that are not those of the point here; what the others name stays as it is.

        So a merge costs what the increments changed, however large the disk is.
        """
        theirs = one.source.map_table(one.point.number, one.disk.key)
        ours = self._map_here(one)
        for index in range(_pages_of(one.disk)):
            there, here = theirs.ref(index), None if ours is None else ours.ref(index)
            is_same = there is not None and here is not None and there.digest == here.digest
            if not is_same:
                yield index, theirs.page(index)

    def _map_here(self, one: _Disk) -> TableReader[MapRuns] | None:
        """Return the map of a disk at the point that its machine has here, or None when there was no such disk."""
        for point in self._writer.contents.points:
            disk = point.disk(one.disk.key) if point.machine.machine_id == one.machine else None
            if disk is not None:
                return TableReader(self._writer.store, disk.map, MapRuns.decode)
        return None

    def _holder(self, writer: int) -> ChainFile | None:
        for source in self._sources:
            first, last = source.contents.holds
            if first <= writer <= last:
                return source
        return None

    def _first_unit(self) -> int:
        """Return the number of the first unit that moves in, or moved in before."""
        moving = self._writer.contents.moving
        return moving.first if isinstance(moving, Moving) and self._goes_on else self._writer.next_unit

    @property
    def _goes_on(self) -> bool:
        """Return whether an earlier run moved units in, of the same files in the same state, all undamaged by now."""
        moving = self._writer.contents.moving
        if not isinstance(moving, Moving) or moving != self._moving(moving.first):
            return False
        bad = self._writer.known_bad
        is_bad_here = any(number >= moving.first for number in bad.get(self._writer.contents.file, ()))
        # What moved in as shared blocks was not read then.
        return not is_bad_here and not any(bad.get(source.contents.file) for source in self._sources)

    def _moving(self, first: int) -> Moving:
        sources = tuple((source.contents.file, source.superblock.generation) for source in self._sources)
        return Moving(file=self._last.contents.file, first=first, sources=sources)

    def _commit_moving(self, first: int) -> None:
        self._writer.contents = msgspec.structs.replace(self._writer.contents, moving=self._moving(first))
        self._writer.commit_whole()

    # -- tables --------------------------------------------------------------------------------------------------

    def _switch(self) -> int:
        """Commit the points that come in; return the bytes of units not needed any more."""
        writer = self._writer
        taken = [self._take_point(*pair) for pair in self._taken]
        for source in self._sources:
            writer.take_notes(source.store, source.contents.notes)
        points = tuple(sorted((*self._stays, *taken), key=lambda point: point.number))
        self._drop_other_disks(points)
        freed = writer.drop_units(writer.needed_units())
        writer.contents = msgspec.structs.replace(
            writer.contents,
            points=points,
            holds=(writer.contents.holds[0], self._last.contents.holds[1]),
            moving=msgspec.UNSET,
        )
        writer.commit_whole()
        return freed

    def _take_point(self, source: ChainFile, point: Point) -> Point:
        disks = tuple(self._take_disk(_Disk(source, point, disk)) for disk in point.disks)
        files = [self._writer.take_file(source.store, file) for file in point.machine_files]
        return msgspec.structs.replace(point, disks=disks).with_files(files)

    def _take_disk(self, one: _Disk) -> PointDisk:
        index = self._writer.add_disk(one.machine, one.disk.key)
        for page, runs in self._changed_pages(one):
            old = self._writer.pieces_page(index, page)
            merged = PieceRuns()
            for piece, place, count in self._held(runs, old, (one, page)):
                merged.append(piece, place, count)
            if not merged.is_same(old or PieceRuns()):
                self._writer.put_pieces(index, page, merged)
        for page in self._writer.pieces_indexes(index):
            if page >= _pages_of(one.disk):  # the disk became smaller
                self._writer.put_pieces(index, page, PieceRuns())
        return msgspec.structs.replace(
            one.disk, disk=index, map=self._writer.take_table(one.source.store, one.disk.map)
        )

    def _held(
        self, page: MapRuns | None, old: PieceRuns | None, where: tuple[_Disk, int]
    ) -> Iterator[tuple[int, int, int]]:
        """Yield (piece, place, count) for what the point needs of a page of a disk, and the files hold."""
        if page is None:
            return
        for piece, count, writer in page.runs(0, PIECES_PER_PAGE):
            if writer == NEVER_WRITTEN:
                continue
            source = self._holder(writer)
            if source is not None:
                runs = _their_page(source, *where)
                yield from self._moved(source, _places(runs, piece, count, source.path))
            elif writer >= self._writer.contents.holds[0]:
                yield from _places(old, piece, count, self._writer.handle.path)

    def _moved(self, source: ChainFile, runs: Iterator[tuple[int, int, int]]) -> Iterator[tuple[int, int, int]]:
        """Yield runs with the places that their units have here; a run is cut where a unit ends."""
        each, ranks = self._writer.pieces_per_unit, self._ranks[source.contents.file]
        for run in runs:
            piece, place, count = run
            while count:
                unit, slot = divmod(place, each)
                taken = min(count, each - slot)
                yield piece, ranks[unit] * each + slot, taken
                piece, place, count = piece + taken, place + taken, count - taken

    def _drop_other_disks(self, points: Sequence[Point]) -> None:
        named = {(point.machine.machine_id, disk.key) for point in points for disk in point.disks}
        for index, disk in enumerate(self._writer.contents.disks):
            if (disk.machine, disk.key) not in named:
                self._writer.drop_pieces(index)


def _their_page(source: ChainFile, one: _Disk, page: int) -> PieceRuns | None:
    index = source.contents.disk_index(one.machine, one.disk.key)
    return None if index is None else source.pieces_page(index, page)


def _places(runs: PieceRuns | None, piece: int, count: int, path: Path) -> Iterator[tuple[int, int, int]]:
    while count:
        found = None if runs is None else runs.run_from(piece)
        if found is None:
            raise FileDamaged(f"{path.name} should hold piece {piece} of a page and does not")
        place, length = found
        length = min(length, count)
        yield piece, place, length
        piece, count = piece + length, count - length


def _pages_of(disk: PointDisk) -> int:
    return -(-disk.size // (PIECES_PER_PAGE * PIECE_SIZE))


def _finished_points(source: ChainFile) -> Sequence[Point]:
    if not source.is_complete or not source.contents.points:
        raise ChainBroken(f"{source.path} has points that are not complete, and cannot be merged")
    return source.contents.points


def _check_neighbours(writer: ChainRewriter, sources: Sequence[ChainFile]) -> None:
    """Refuse files between which another one lies, or which are of different chains."""
    mine, name = writer.contents, writer.handle.path.name
    roots = {point.root for point in mine.points}
    for source in sources:
        theirs = source.contents
        is_next = theirs.parent is not None and theirs.parent.root in roots
        if mine.chain != theirs.chain or mine.unit_size != theirs.unit_size or not is_next:
            raise ChainBroken(f"{source.path.name} does not continue {name}")
        roots, name = {point.root for point in theirs.points}, source.path.name
