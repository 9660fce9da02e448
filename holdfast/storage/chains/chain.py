"""A chain: the files of one folder, and restore points as random-access disks."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from holdfast.errors import (
    ChainBroken,
    DataError,
    DiskNotFound,
    FileDamaged,
    FormatTooNew,
    FormatUnknown,
    PointNotFound,
)
from holdfast.formats.contents import LeftOut, ParentPoint, Point, PointDisk
from holdfast.formats.magic import (
    DIGEST_SIZE,
    NEVER_WRITTEN,
    PIECE_SIZE,
    PIECES_PER_PAGE,
    PIECES_PER_SEGMENT,
    SEGMENTS_PER_PAGE,
    ZERO_DIGEST,
    FileKind,
)
from holdfast.pipeline.busy import PipeClocks
from holdfast.planning.change_trust import tells_of_lie
from holdfast.storage.chain_files.chain_file import FILE_SUFFIX, ChainFile, is_never_committed
from holdfast.storage.files.atomic import FileHandle, Files
from holdfast.storage.files.chain_lock import hold_as_reader

_FILE_NAME = re.compile(r"[0-9]{8}-(full|increment|rollback)\.hfc")


class PieceRun(msgspec.Struct, frozen=True):
    """Consecutive pieces at consecutive places of one file; ``file`` is None for zeros."""

    piece: int
    count: int
    file: ChainFile | None
    place: int


class UnreadableFile(msgspec.Struct, frozen=True):
    """A chain file that cannot be opened, and why."""

    path: Path
    error: DataError


class Chain:
    """The files of a chain as they were when it was opened. Methods may be called from several threads."""

    def __init__(self, folder: Path, files: list[ChainFile], readers_lock: FileHandle | None = None) -> None:
        self.folder = folder
        self.files = files
        self.unreadable: list[UnreadableFile] = []
        """Files that cannot be opened; points that do not need them can be read nevertheless."""
        self.superseded: list[Path] = []
        """Files that an interrupted merge took over and did not remove; nothing is read from them."""
        self._readers_lock = readers_lock
        self.empty: list[Path] = []
        """Files that a crash left without their first commit; they hold nothing."""

    @classmethod
    def open(cls, files: Files, folder: Path, passphrase: str | None = None) -> "Chain":
        """Open every chain file of a folder.

        A file that a crash left without its first commit holds nothing and is passed over. A damaged one hides no
        other: it is listed in ``unreadable``. Raises the error of the first file when none can be opened.
        """
        chain = cls(folder, [], hold_as_reader(files, folder))
        try:
            for name in chain_file_names(files, folder):
                chain._add(files, folder / name, passphrase)
            if not chain.files:
                chain.check_whole()
        except BaseException:
            chain.close()
            raise
        chain.files.sort(key=lambda file: file.contents.holds)
        chain.pass_over_superseded()
        return chain

    def pass_over_superseded(self) -> None:
        """Close files that an interrupted merge took over: nothing is read from them."""
        for file in list(self.files):
            if any(_supersedes(other, file) for other in self.files):
                self.files.remove(file)
                self.superseded.append(file.path)
                file.close()

    def _add(self, files: Files, path: Path, passphrase: str | None) -> None:
        keys = self.files[0].keys if self.files else None
        try:
            self.files.append(ChainFile.open(files, path, passphrase, keys))
        except (FileDamaged, FormatUnknown, FormatTooNew) as error:
            if is_never_committed(files, path):
                self.empty.append(path)
            else:
                self.unreadable.append(UnreadableFile(path, error))

    @property
    def full(self) -> ChainFile | None:
        """Return the full of the chain, or None."""
        return next((file for file in self.files if file.superblock.kind is FileKind.FULL), None)

    def check_whole(self) -> None:
        """Raise the error of the first file that cannot be opened, if there is one."""
        if self.unreadable:
            raise self.unreadable[0].error

    def points(self) -> list[tuple[ChainFile, Point]]:
        """Return all points, oldest first, complete or not."""
        found = [(file, point) for file in self.files for point in file.contents.points]
        # A point that is about to leave the full stands in a rollback file already, which does not count yet.
        firm = {point.number for file, point in found if not file.is_rollback}
        counting = [pair for pair in found if not pair[0].is_rollback or pair[1].number not in firm]
        return sorted(counting, key=lambda pair: pair[1].number)

    def point(self, number: int) -> tuple[ChainFile, Point]:
        """Return a complete point. Raises `PointNotFound`."""
        for file, point in self.points():
            if point.number == number and point.complete:
                return file, point
        raise PointNotFound(f"chain {self.folder.name} has no complete point {number}")

    def newest(self, machine_id: str | None = None, before: int = NEVER_WRITTEN) -> tuple[ChainFile, Point] | None:
        """Return the newest complete point below a number, of one machine if given, or None."""
        for file, point in reversed(self.points()):
            is_meant = machine_id in {None, point.machine.machine_id} and point.number < before
            if point.complete and is_meant:
                return file, point
        return None

    def holder(self, point_number: int) -> ChainFile:
        """Return the file that holds what a point wrote. Raises `ChainBroken` when it is missing."""
        for file in self.files:
            first, last = file.contents.holds
            if first <= point_number <= last and not file.is_rollback:
                return file
        damaged = "".join(f"; {file.path.name} cannot be opened" for file in self.unreadable)
        raise ChainBroken(f"no file in {self.folder} holds what point {point_number} wrote{damaged}")

    def layers(self, file: ChainFile) -> list[ChainFile]:
        """Return where to look for a piece of a rollback file's point, in order: it, those of newer points, the full.

        Raises `ChainBroken` when one of them is missing or another one.
        """
        rollbacks = {other.contents.points[0].number: other for other in self.files if other.is_rolled_back}
        points = {point.number: (holder, point) for holder, point in self.points() if point.complete}
        layers = [file]
        while layers[-1].is_rollback:
            last = layers[-1].contents
            behind = last.next if isinstance(last.next, ParentPoint) else None
            holder, point = (None, None) if behind is None else points.get(behind.point, (None, None))
            if behind is None or holder is None or point is None or point.root != behind.root:
                number = "that follows it" if behind is None else behind.point
                raise ChainBroken(
                    f"file {layers[-1].path.name} of chain {self.folder.name} rests on point {number}, "
                    "which is missing or another one"
                )
            layers.append(rollbacks.get(behind.point, holder) if holder.is_rollback else holder)
        return layers

    def disk(self, number: int, key: str) -> "StoredDisk":
        """Return a disk at a complete point. Raises `PointNotFound` or `DiskNotFound`."""
        file, point = self.point(number)
        disk = point.disk(key)
        if disk is None:
            raise DiskNotFound(f"point {number} of chain {self.folder.name} has no disk {key}")
        if file.is_rollback:
            return StoredDisk(self, file, point, disk, self.layers(file))
        self._check_ancestors(file)
        return StoredDisk(self, file, point, disk)

    def _check_ancestors(self, file: ChainFile) -> None:
        """Raise `ChainBroken` unless the file continues points that are there, back to a full.

        Maps name points by their numbers; this is what makes sure that another file has not taken a number over.
        """
        points = {point.number: (holder, point) for holder, point in self.points() if point.complete}
        parent = file.contents.parent
        last = file.contents.holds[0]
        while parent is not None:
            holder, point = points.get(parent.point, (None, None))
            if holder is None or point is None or point.root != parent.root or parent.point >= last:
                raise ChainBroken(
                    f"file {file.path.name} of chain {self.folder.name} continues point {parent.point}, "
                    "which is missing or another one"
                )
            file, parent, last = holder, holder.contents.parent, holder.contents.holds[0]

    def close(self) -> None:
        """Close all files. Idempotent."""
        for file in self.files:
            file.close()
        if self._readers_lock is not None:
            self._readers_lock.close()

    def __enter__(self) -> Self:
        """Enter a block that closes the chain at its end."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the chain."""
        self.close()


class StoredDisk:
    """A disk at a restore point: where its pieces are, and their digests."""

    def __init__(
        self, chain: Chain, file: ChainFile, point: Point, disk: PointDisk, layers: Sequence[ChainFile] = ()
    ) -> None:
        self._layers = layers
        """Of a point of a rollback file: the files to look for a piece, in order."""
        self.point = point
        self.disk = disk
        self.size_bytes = disk.size
        self.pieces = -(-disk.size // PIECE_SIZE)
        self._chain = chain
        self._file = file
        self._map = file.map_table(point.number, disk.key)
        self._indexes: dict[int, int | None] = {}
        self.lost: Sequence[tuple[int, int]] = ()
        """Ranges of pieces, in order, whose units are damaged; set by whoever lets a new point rest on this one."""

    @property
    def machine_name(self) -> str:
        """Return the name of its machine at the point."""
        return self.point.machine.name

    @property
    def digest_key(self) -> bytes:
        """Return the key of the piece digests."""
        return self._file.keys.digest_key

    @property
    def round_trip_s(self) -> float:
        """Return 0: answers are there at once."""
        return 0.0

    def watch(self, busy: PipeClocks) -> None:
        """Count from now on in these clocks how long the files are read."""
        for file in self._chain.files:
            file.reading = busy.source

    @property
    def is_doubted(self) -> bool:
        """Return whether a point behind this one found that change tracking leaves changes of the disk out."""
        mine, machine = self.point.number, self.point.machine.machine_id
        later = [p for _, p in self._chain.points() if p.number > mine and p.machine.machine_id == machine]
        disks = [point.disk(self.disk.key) for point in later]
        return any(tells_of_lie(disk.detail) for disk in disks if disk is not None)

    @property
    def left_out(self) -> LeftOut | None:
        """Return what the point lacks because the guest did not need it."""
        return None if self.disk.left_out is msgspec.UNSET else self.disk.left_out

    @property
    def change_id(self) -> str | None:
        """Return the id of the state that the disk had then, None when changes were not tracked."""
        return self.disk.change_id

    def writers(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield (first piece, count, writer) for the pieces ``[start, end)``, in order and without gaps."""
        while start < end:
            page, base = start // PIECES_PER_PAGE, start // PIECES_PER_PAGE * PIECES_PER_PAGE
            stop = min(end, base + PIECES_PER_PAGE)
            runs = self._map.page(page)
            if runs is None:
                yield start, stop - start, NEVER_WRITTEN
            else:
                for piece, count, writer in runs.runs(start - base, stop - base):
                    yield base + piece, count, writer
            start = stop

    def runs(self, start: int, end: int) -> Iterator[PieceRun]:
        """Yield where the pieces ``[start, end)`` are, in order and without gaps. Raises `ChainBroken`."""
        for piece, count, writer in self.writers(start, end):
            if writer == NEVER_WRITTEN:
                yield PieceRun(piece, count, None, 0)
            elif self._layers:
                yield from self._layered_runs(piece, count)
            else:
                yield from self._held_runs(piece, count, self._chain.holder(writer))

    def is_page_empty(self, index: int) -> bool:
        """Return whether one page of the map is absent, so that its 65536 pieces are zeros."""
        return self._map.page(index) is None

    def segment_digest(self, segment: int) -> bytes:
        """Return the digest of one segment of 64 MiB."""
        page = self._map.page(segment // SEGMENTS_PER_PAGE)
        return ZERO_DIGEST if page is None else page.segment(segment % SEGMENTS_PER_PAGE)

    def segment_digests(self) -> Iterator[bytes]:
        """Yield the digests of all segments of the disk, in order."""
        for segment in range(-(-self.pieces // PIECES_PER_SEGMENT)):
            yield self.segment_digest(segment)

    def piece_digests(self, start: int, end: int) -> bytearray:
        """Return the joined digests of the pieces ``[start, end)``."""
        found = bytearray()
        for run in self.runs(start, end):
            if run.file is None:
                found += bytes(run.count * DIGEST_SIZE)
            else:
                found += run.file.digests(run.place, run.count)
        return found

    def _layered_runs(self, piece: int, count: int) -> Iterator[PieceRun]:
        """Yield where pieces are: each in the first file that has it."""
        end = piece + count
        while piece < end:
            stop = min(end, piece // PIECES_PER_PAGE * PIECES_PER_PAGE + PIECES_PER_PAGE)
            for layer in self._layers[:-1]:
                taken, stop = self._taken(layer, piece, stop)
                if taken is not None:
                    yield PieceRun(piece, stop - piece, layer, taken)
                    break
            else:
                yield from self._held_runs(piece, stop - piece, self._layers[-1])
            piece = stop

    def _taken(self, layer: ChainFile, piece: int, stop: int) -> tuple[int | None, int]:
        """Return the place of a piece in a file, or None, and up to which piece that holds."""
        page, base = piece // PIECES_PER_PAGE, piece // PIECES_PER_PAGE * PIECES_PER_PAGE
        index = self._index_in(layer)
        table = None if index is None else layer.pieces_page(index, page)
        if table is None:
            return None, stop
        found = table.run_from(piece - base)
        if found is None:
            return None, piece + table.gap_from(piece - base, stop - base)
        return found[0], min(stop, piece + found[1])

    def _held_runs(self, piece: int, count: int, holder: ChainFile) -> Iterator[PieceRun]:
        index = self._index_in(holder)
        end = piece + count
        while piece < end:
            page, base = piece // PIECES_PER_PAGE, piece // PIECES_PER_PAGE * PIECES_PER_PAGE
            table = None if index is None else holder.pieces_page(index, page)
            stop = min(end, base + PIECES_PER_PAGE)
            while piece < stop:
                taken = None if table is None else table.run_from(piece - base)
                if taken is None:
                    where = f"piece {piece} of disk {self.disk.key} at point {self.point.number}"
                    raise FileDamaged(f"{holder.path} should hold {where} and does not")
                place, length = taken
                length = min(length, stop - piece)
                yield PieceRun(piece, length, holder, place)
                piece += length

    def _index_in(self, holder: ChainFile) -> int | None:
        known = self._indexes.get(id(holder), -1)
        if known == -1:
            known = holder.contents.disk_index(self.point.machine.machine_id, self.disk.key)
            self._indexes[id(holder)] = known
        return known


def _supersedes(file: ChainFile, other: ChainFile) -> bool:
    """Return whether a file has taken over what another one holds; of merged files it has the last points."""
    mine, theirs = file.contents, other.contents
    is_held = mine.holds[0] < theirs.holds[0] and theirs.holds[1] <= mine.holds[1] and not other.is_rollback
    if not is_held:
        return False
    roots = {point.number: point.root for point in mine.points}
    return all(
        roots[point.number] == point.root if point.number in roots else point.number < max(roots, default=0)
        for point in theirs.points
    )


def chain_file_names(files: Files, folder: Path) -> list[str]:
    """Return the names of the chain files in a folder, in the order of their points."""
    return [name for name in files.names(folder) if is_chain_file_name(name)]


def chain_file_name(point_number: int, kind: str) -> str:
    """Return the name of the file whose first point has this number."""
    return f"{point_number:08d}-{kind}{FILE_SUFFIX}"


def is_chain_file_name(name: str) -> bool:
    """Return whether a file of this name is a chain file."""
    return _FILE_NAME.fullmatch(name) is not None
