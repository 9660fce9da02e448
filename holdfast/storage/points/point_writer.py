"""Adds a restore point to a chain file: maps, digests and roots over `ChainWriter`.

A disk is dealt with in ascending order, segment by segment. For each segment the state at the parent point is the
baseline; what the run learns is laid over it; then the segment's digest and runs go into the map. A commit may fall
into the middle of a segment: the map then speaks of the pieces so far, and a resumed run rebuilds the rest from the
tables.
"""

from collections.abc import Sequence
from concurrent.futures import Future
from itertools import groupby

import msgspec

from holdfast.errors import DiskNotFound, PointNotFound, RequestInvalid
from holdfast.formats.contents import Contents, FileDisk, Point, PointDisk
from holdfast.formats.digests import disk_root, disk_tag, point_root, segment_digest
from holdfast.formats.magic import (
    DIGEST_SIZE,
    NEVER_WRITTEN,
    PIECE_SIZE,
    PIECES_PER_PAGE,
    PIECES_PER_SEGMENT,
    SEGMENTS_PER_PAGE,
    ZERO_DIGEST,
)
from holdfast.formats.pages import MapRuns
from holdfast.formats.record import Note
from holdfast.storage.chain_files.abandoned import abandoned_bytes
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.chain_files.tables import PageCursor, TableWriter
from holdfast.storage.chains.chain import StoredDisk
from holdfast.storage.points.offers import NO_DIGESTS, Sorted, parent_digests, without_lost


class DiskPointWriter:
    """Enters one disk of one restore point in the maps and tables of its file. Use from one thread at a time."""

    def __init__(
        self,
        writer: ChainWriter,
        point: Point,
        disk: PointDisk,
        parent: StoredDisk | None,
        abandoned: int | None = None,
    ) -> None:
        self.writer = writer
        self.digest_key = writer.keys.digest_key
        self.pieces_per_unit = writer.pieces_per_unit
        self.size_bytes = disk.size
        self.pieces = -(-disk.size // PIECE_SIZE)
        self.point_number = point.number
        self.disk_index = disk.disk
        self.read_bytes = disk.read
        """Read from the source over all attempts; the pipe counts on."""
        self.transferred_bytes = disk.transferred
        """Written as units over all attempts; the pipe counts on."""
        self.resent_bytes = disk.resent
        """Written again because an earlier attempt died after its last commit."""
        self.detail = disk.detail
        """In words, how the disk is read and why."""
        self.source = disk.source
        """Where the disk is read from."""
        self.left_out = disk.left_out
        """What the point lacks because the guest did not need it."""
        self.begun_at = disk.begun_at or writer.end
        """End of the file when the disk was begun, and what has been written for other disks since."""
        self.resent_bytes += abandoned_bytes(writer.handle, writer.committed.end) if abandoned is None else abandoned
        self.disk_tag = disk_tag(point.machine.machine_id, disk.key, self.digest_key)
        self.cursor = disk.done
        """The next piece to be dealt with."""
        self._disk = disk
        self.parent = parent
        self._map = PageCursor(
            TableWriter(writer.store, writer, disk.map),
            lambda ref: MapRuns.decode(writer.store.body(ref)),
            MapRuns,
            MapRuns.encode,
        )
        self._writers: list[int] = []
        self._digests = bytearray()
        self._before: bytes | bytearray = NO_DIGESTS
        self._before_writers: list[int] = []
        self._segment = self.cursor // PIECES_PER_SEGMENT
        self._is_loaded = False
        if not self.is_done:
            self._rebuild()

    @property
    def key(self) -> str:
        """Return the key of the disk."""
        return self._disk.key

    @property
    def is_done(self) -> bool:
        """Return whether every piece of the disk has been dealt with."""
        return self.cursor >= self.pieces

    def keep_until(self, piece: int) -> None:
        """Leave the pieces from the cursor up to ``piece`` as they are at the parent point."""
        while self._pass_empty_pages(piece) < piece:
            stop = min(piece, self._segment_end())
            if not self._is_loaded and self.cursor % PIECES_PER_SEGMENT == 0 and self._can_copy(stop):
                self._copy_segment(stop)
            else:
                self._load()
                self._advance(stop)

    def zero_until(self, piece: int) -> None:
        """Make the pieces from the cursor up to ``piece`` zeros."""
        while self._pass_empty_pages(piece) < piece:
            self._load()
            stop = min(piece, self._segment_end())
            low, high = self.cursor % PIECES_PER_SEGMENT, (stop - 1) % PIECES_PER_SEGMENT + 1
            self._note_zeroed(low, high)
            self._writers[low:high] = [NEVER_WRITTEN] * (high - low)
            self._digests[low * DIGEST_SIZE : high * DIGEST_SIZE] = bytes((high - low) * DIGEST_SIZE)
            self._advance(stop)

    def enter(self, digests: Sequence[bytes], found: Sorted) -> None:
        """Enter pieces of one segment, from the cursor on, as they were sorted out; the file holds the new ones."""
        self._load()
        at, count = self.cursor % PIECES_PER_SEGMENT, len(digests)
        joined, before = b"".join(digests), self._before[at * DIGEST_SIZE : (at + count) * DIGEST_SIZE]
        writers = self._before_writers[at : at + count]
        if joined != before:
            self._lay_over(digests, before, writers, found)
        self._writers[at : at + count] = writers
        self._digests[at * DIGEST_SIZE : (at + count) * DIGEST_SIZE] = joined
        self._advance(self.cursor + count)

    def _lay_over(self, digests: Sequence[bytes], before: bytes | bytearray, writers: list[int], found: Sorted) -> None:
        """Enter the pieces that differ from ``before`` in tables and notes, and in ``writers`` who wrote them."""
        held: list[tuple[int, int]] = []
        places, new = iter(found.places), set(found.slots)
        for slot, digest in enumerate(digests):
            if digest == before[slot * DIGEST_SIZE : (slot + 1) * DIGEST_SIZE]:
                continue
            if digest == ZERO_DIGEST:
                self._note(self.cursor + slot, digest)
                writers[slot] = NEVER_WRITTEN
                continue
            place = next(places)
            if slot not in new:
                self._note(self.cursor + slot, digest)
            held.append((self.cursor + slot, place))
            writers[slot] = self.point_number
        self.writer.add_pieces(self.disk_index, held)

    def adopt(self, digest: bytes, place: int) -> None:
        """Deal with the piece at the cursor, whose bytes the file holds at ``place`` already; zeros have no place."""
        self._load()
        at = self.cursor % PIECES_PER_SEGMENT
        if digest == self._before[at * DIGEST_SIZE : (at + 1) * DIGEST_SIZE]:
            self._set(at, self._before_writers[at], digest)
        elif digest == ZERO_DIGEST:
            self._note(self.cursor, digest)
            self._set(at, NEVER_WRITTEN, digest)
        else:
            self._note(self.cursor, digest)
            self.writer.add_pieces(self.disk_index, [(self.cursor, place)])
            self._set(at, self.point_number, digest)
        self._advance(self.cursor + 1)

    @property
    def is_entered(self) -> bool:
        """Return whether the contents of the file, as they are in memory, say all that is known up to the cursor."""
        return (self._disk.done, self._disk.detail, self._disk.left_out) == (self.cursor, self.detail, self.left_out)

    def start_commit(self) -> Future[None]:
        """Begin to make everything up to the cursor durable; `ChainWriter.finish_commit` waits for it."""
        self.enter_map()
        return self.writer.start_commit()

    def finish(self) -> None:
        """Make the finished disk durable; one that was finished before is left as it is."""
        if not self.is_done:
            raise AssertionError(f"disk {self._disk.key} is at piece {self.cursor} of {self.pieces}")
        if self.pieces and self.is_entered:
            self.writer.finish_commit()  # the commit that says so may still be on its way, or have failed
            return
        self.enter_map()
        self.writer.commit()

    # -- segments ------------------------------------------------------------------------------------------------

    def _segment_end(self) -> int:
        return min((self._segment + 1) * PIECES_PER_SEGMENT, self.pieces)

    def _pass_empty_pages(self, piece: int) -> int:
        """Go on over whole map pages that held nothing at the parent point: they stay absent. Return the cursor."""
        while self.cursor % PIECES_PER_PAGE == 0:
            stop = min(self.cursor + PIECES_PER_PAGE, self.pieces)
            is_empty = self.parent is None or self.parent.is_page_empty(self.cursor // PIECES_PER_PAGE)
            if not is_empty or not self.cursor < stop <= piece:
                break
            self.cursor = stop
            self._segment = -(-stop // PIECES_PER_SEGMENT)
        return self.cursor

    def _load(self) -> None:
        """Bring in the segment as it is at the parent point."""
        if self._is_loaded:
            return
        first = self._segment * PIECES_PER_SEGMENT
        count = self._segment_end() - first
        self._writers = []
        if self.parent is not None:
            for _, length, writer in self.parent.writers(first, first + count):
                self._writers += [writer] * length
        self._writers += [NEVER_WRITTEN] * (PIECES_PER_SEGMENT - len(self._writers))
        self._before_writers = list(self._writers)
        is_new = all(writer == NEVER_WRITTEN for writer in self._writers)
        before = NO_DIGESTS if is_new else parent_digests(self.parent, self._segment)
        kept = before[: count * DIGEST_SIZE].ljust(len(NO_DIGESTS), b"\0")
        self._digests = bytearray(kept)
        self._before = without_lost(kept, self.parent, self._segment)
        self._is_loaded = True

    def _can_copy(self, stop: int) -> bool:
        """Return whether a segment, kept whole up to ``stop``, has the parent's digest."""
        if stop != self._segment_end():
            return False
        is_inside = self.parent is None or stop <= self.parent.pieces
        is_whole = stop == (self._segment + 1) * PIECES_PER_SEGMENT
        return self.parent is None or self.parent.size_bytes == self._disk.size or (is_inside and is_whole)

    def _copy_segment(self, stop: int) -> None:
        page = self._map.at(self._segment // SEGMENTS_PER_PAGE)
        if self.parent is None:
            page.append(NEVER_WRITTEN, stop - self.cursor)
        else:
            for _, count, writer in self.parent.writers(self.cursor, stop):
                page.append(writer, count)
            digest = self.parent.segment_digest(self._segment)
            page.set_segment(self._segment % SEGMENTS_PER_PAGE, digest)
        self.cursor = stop
        self._segment += 1

    def _note_zeroed(self, low: int, high: int) -> None:
        if self._before is NO_DIGESTS:
            return
        for at in range(low, high):
            if self._before[at * DIGEST_SIZE : (at + 1) * DIGEST_SIZE] != ZERO_DIGEST:
                self._note(self._segment * PIECES_PER_SEGMENT + at, ZERO_DIGEST)

    def _note(self, piece: int, digest: bytes) -> None:
        self.writer.add_note(Note(self.disk_tag, piece, 1, digest))

    def _set(self, at: int, writer: int, digest: bytes) -> None:
        self._writers[at] = writer
        self._digests[at * DIGEST_SIZE : (at + 1) * DIGEST_SIZE] = digest

    def _advance(self, piece: int) -> None:
        self.cursor = piece
        if piece == self._segment_end():
            self._leave()

    def _leave(self) -> None:
        page = self._map.at(self._segment // SEGMENTS_PER_PAGE)
        self._append_runs(page, self._segment_end())
        page.set_segment(self._segment % SEGMENTS_PER_PAGE, segment_digest(self._digests, self.digest_key))
        self._segment += 1
        self._is_loaded = False

    def _append_runs(self, page: MapRuns, end: int) -> None:
        count = end - self._segment * PIECES_PER_SEGMENT
        for writer, group in groupby(self._writers[:count]):
            page.append(writer, sum(1 for _ in group))

    # -- commits and resume --------------------------------------------------------------------------------------

    def enter_map(self) -> None:
        """Bring everything up to the cursor into the contents of the file, for its next commit."""
        is_inside = not self.is_done and self.cursor % PIECES_PER_SEGMENT != 0
        page = None
        if is_inside:
            page = self._map.at(self._segment // SEGMENTS_PER_PAGE)
            self._append_runs(page, self.cursor)
        table = self._map.flush()
        if page is not None:
            page.truncate(self._segment * PIECES_PER_SEGMENT % PIECES_PER_PAGE)
        self._disk = msgspec.structs.replace(
            self._disk,
            map=table,
            done=self.cursor,
            read=self.read_bytes,
            transferred=self.transferred_bytes,
            resent=self.resent_bytes,
            begun_at=self.begun_at,
            detail=self.detail,
            source=self.source,
            left_out=self.left_out,
        )
        self.writer.contents = with_disk(self.writer.contents, self.point_number, self._disk)

    def _rebuild(self) -> None:
        """Bring back what was learnt of the segment that the last commit fell into."""
        first = self._segment * PIECES_PER_SEGMENT
        base = first % PIECES_PER_PAGE
        if self.cursor > first:
            self._load()
        if self._map.table.ref(self._segment // SEGMENTS_PER_PAGE) is None:
            return  # nothing is known of this page yet; it may stay absent
        page = self._map.at(self._segment // SEGMENTS_PER_PAGE)
        for piece, count, writer in list(page.runs(base, base + self.cursor - first)):
            for at in range(piece - base, piece - base + count):
                if writer == self.point_number:
                    self._set(at, writer, self._own_digest(first + at))
                elif writer == NEVER_WRITTEN:
                    self._set(at, writer, ZERO_DIGEST)
        page.truncate(base)

    def _own_digest(self, piece: int) -> bytes:
        place = self.writer.find_place(self.disk_index, piece)
        if place is None:
            raise AssertionError(f"piece {piece} is in the map and not in the piece table")
        return self.writer.digest(place)


def open_disk(
    writer: ChainWriter, number: int, key: str, parent: StoredDisk | None, abandoned: int | None = None
) -> DiskPointWriter:
    """Go on with a disk of a point that is being written. Raises `PointNotFound`, `DiskNotFound`.

    ``abandoned`` is how many bytes of the disk a dead writer left behind its last commit; None looks at the file.
    """
    point = _point(writer.contents, number)
    if point.complete:
        raise RequestInvalid(f"point {number} of {writer.handle.path.name} is complete")
    disk = point.disk(key)
    if disk is None:
        raise DiskNotFound(f"point {number} of {writer.handle.path.name} has no disk {key}")
    return DiskPointWriter(writer, point, disk, parent, abandoned)


def complete_point(writer: ChainWriter, number: int) -> Point:
    """Compute the roots of a point whose disks are all done and mark it complete, durably in both slots. Idempotent."""
    point = _point(writer.contents, number)
    if not point.complete:
        disks = tuple(_rooted(writer, disk) for disk in point.disks)
        roots = [(disk.key, bytes.fromhex(disk.root or "")) for disk in disks]
        parent_root = None if point.parent_root is None else bytes.fromhex(point.parent_root)
        root = point_root(bytes.fromhex(point.id), parent_root, roots, writer.keys.digest_key, point.file_facts)
        point = msgspec.structs.replace(point, disks=disks, root=root.hex(), complete=True)
        writer.contents = _with_point(writer.contents, point)
    if all(other.complete for other in writer.contents.points):
        writer.commit_complete()
    else:
        writer.commit()
    return point


def _rooted(writer: ChainWriter, disk: PointDisk) -> PointDisk:
    pieces = -(-disk.size // PIECE_SIZE)
    if disk.done < pieces:
        raise RequestInvalid(f"disk {disk.key} is at piece {disk.done} of {pieces}, the point is not complete")
    table = TableWriter(writer.store, writer, disk.map)
    segments = []
    for index in range(-(-pieces // PIECES_PER_PAGE)):
        ref = table.ref(index)
        page = MapRuns() if ref is None else writer.store.decoded(ref, MapRuns.decode)
        count = -(-min(pieces - index * PIECES_PER_PAGE, PIECES_PER_PAGE) // PIECES_PER_SEGMENT)
        segments.append(bytes(page.segments[: count * DIGEST_SIZE]))
    root = disk_root(disk.size, segments, writer.keys.digest_key)
    return msgspec.structs.replace(disk, root=root.hex())


def with_disk(contents: Contents, number: int, disk: PointDisk) -> Contents:
    """Return the contents with one disk of one point replaced."""
    point = _point(contents, number)
    disks = tuple(disk if other.key == disk.key else other for other in point.disks)
    return _with_point(contents, msgspec.structs.replace(point, disks=disks))


def with_new_point(contents: Contents, point: Point) -> Contents:
    """Return the contents with a point added; its disks get their place among the file's disks."""
    file_disks = list(contents.disks)
    disks = []
    for disk in point.disks:
        pairs = [(known.machine, known.key) for known in file_disks]
        pair = (point.machine.machine_id, disk.key)
        if pair not in pairs:
            file_disks.append(FileDisk(machine=pair[0], key=pair[1]))
            pairs.append(pair)
        disks.append(msgspec.structs.replace(disk, disk=pairs.index(pair)))
    point = msgspec.structs.replace(point, disks=tuple(disks))
    return msgspec.structs.replace(contents, disks=tuple(file_disks), points=(*contents.points, point))


def _point(contents: Contents, number: int) -> Point:
    point = contents.point(number)
    if point is None:
        raise PointNotFound(f"file {contents.file} has no point {number}")
    return point


def _with_point(contents: Contents, point: Point) -> Contents:
    points = tuple(point if other.number == point.number else other for other in contents.points)
    return msgspec.structs.replace(contents, points=points)
