"""Changes a complete chain file while it stays complete: every commit leaves a file that reads as before or as after.

Records move in byte by byte. What a commit no longer names becomes free when both superblocks have forgotten it, and is
found again by an opening that looks at all tables.
"""

from array import array
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import chain, repeat

import msgspec
from typing_extensions import override

from holdfast.errors import RepositoryFull
from holdfast.formats.contents import Contents, FileDisk, Notes, PointFile, RefText, Table, decode_contents
from holdfast.formats.keys import ChainKeys
from holdfast.formats.magic import ALIGNMENT, UNITS_PER_PAGE, FileState, RecordKind
from holdfast.formats.pages import PieceRuns, Ref, UnitEntry, put_unit, unit_places, units_page
from holdfast.formats.record import Stamp
from holdfast.formats.superblock import Superblock
from holdfast.storage.chain_files.chain_file import ChainFile, read_states
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.chain_files.holes import UsedSpans
from holdfast.storage.chain_files.tables import PageStore, TableWriter, table_refs
from holdfast.storage.files.atomic import Buffer, FileHandle, Files

ROOM_LEAST = 1 << 20
"""Has to be free in any case: for the metadata, and what else stands beside a file."""
_PAGE_BYTES = 64 << 10
"""Room for tables is sought in holes of so many bytes: only few of their pages take more."""


class ChainRewriter(ChainWriter):
    """A complete chain file, open to take in what other files of its chain hold. Use from one thread."""

    def __init__(
        self, files: Files, handles: tuple[FileHandle, FileHandle], keys: ChainKeys, state: Superblock
    ) -> None:
        super().__init__(files, handles, keys, state)
        self.shared_bytes = 0
        """Of units that have their blocks in common with the file they come from."""
        self.copied_bytes = 0
        """Of units that were written."""
        self.known_bad: Mapping[str, Collection[int]] = {}
        """Units that are known to be damaged, by the id of their file; they are never shared, but authenticated."""
        self.must_read: Callable[[ChainFile, UnitEntry, int], bool] = lambda *_: False
        """Whether a unit of a file is to be read also where its blocks are shared, to this offset here."""
        self._can_share = True
        self._expected = 0

    def commit_whole(self) -> None:
        """Make everything so far durable; the file is complete before and after."""
        self.commit(FileState.COMPLETE)

    def expect(self, size: int) -> None:
        """Say how many bytes are going to come in: they are reserved when the first of them has to be written.

        What an earlier run reserved and did not use is given back.
        """
        self.handle.trim()
        self._expected = size

    def expect_units(self, lengths: Sequence[int], tables: int) -> None:
        """Say which units are going to come in, and how many bytes of tables: what free space takes needs no other.

        Tables come between units, so that one of them may find its hole bitten into.
        """
        sizes = array("I", (length + -length % ALIGNMENT for length in lengths))  # there may be millions
        beyond = self._space.holes.without_room(chain(sizes, repeat(_PAGE_BYTES, -(-tables // _PAGE_BYTES))))
        self.expect(max(beyond, ROOM_LEAST + max(sizes, default=0)))

    @override
    def close(self) -> None:
        """Let go of the chain without a commit, and of what was reserved. Idempotent."""
        try:
            if not self._expected and self.copied_bytes and self._failure is None:
                self.handle.trim()
        finally:
            super().close()

    def _reserve(self) -> None:
        size, self._expected = self._expected, 0
        if size:
            free = self._files.free_bytes(self.handle.path.parent)
            if free < size:
                raise RepositoryFull(f"writing units to {self.handle.path} may need {size} bytes, {free} are free")
            self.handle.reserve(self._space.end, size)

    def spare_readers(self) -> None:
        """From now on write over nothing that any commit of this opening names. To be called before any change."""
        self._space.keeps_released = True

    def reclaim(self) -> int:
        """Make the space free that neither superblock names, and return its bytes. To be called behind a commit.

        Nobody may have the file open who opened it before its last two commits: those records are written over.
        """
        used, seen = UsedSpans(), set[Ref]()
        for _, block in read_states(self.handle, None, self.keys):
            used.add(block.root.offset, block.root.length)
            mark_named(used, self.store, decode_contents(self.store.body(block.root)), seen)
        return self._space.reclaim(used)

    def move_unit(self, source: ChainFile, number: int) -> int:
        """Take a unit of another file over as it is stored, and return its bytes.

        Where the file system can, both files have its blocks in common then, and nothing is read but its header, unless
        it must be; else, or when it is known to be damaged, it is authenticated and copied. `shared_bytes` tells which.
        """
        if self._can_share and number not in self.known_bad.get(source.contents.file, ()):
            shared = self._share_unit(source, number)
            if shared is not None:
                return shared
        self._reserve()
        entry, digests, record = source.sealed_unit(number)
        self.take_unit(entry.point, digests, record)
        self.copied_bytes += len(record)
        return len(record)

    def _share_unit(self, source: ChainFile, number: int) -> int | None:
        entry, pieces = source.unit_header(number)
        length = entry.length + -entry.length % ALIGNMENT
        offset = self._space.take(length)
        try:
            self._can_share = self.handle.share(offset, source.handle, entry.offset, length)
        except BaseException as error:
            self._failure = error
            raise
        if not self._can_share:
            self._space.give_back(offset, length)
            return None
        if self.must_read(source, entry, offset):
            source.handle.forget(entry.offset, entry.length)  # what is looked at is the medium
            source.sealed_unit(number)
        digests = source.digests(number * self.pieces_per_unit, pieces)
        self._enter_unit(UnitEntry(offset, entry.length, entry.point), digests)
        self.shared_bytes += entry.length
        return entry.length

    @override
    def write_unit(self, number: int, stamp: Stamp, digests: Sequence[bytes], record: Sequence[Buffer]) -> int:
        """Append a sealed unit and enter it in the tables; return the bytes it takes in the file."""
        self._reserve()
        size = super().write_unit(number, stamp, digests, record)
        self.copied_bytes += size
        return size

    def take_unit(self, point: int, digests: bytes, record: bytes) -> int:
        """Write a sealed unit of another file, whose pieces have these joined digests; return its number here."""
        ref = self._take(record, b"")
        return self._enter_unit(UnitEntry(ref.offset, ref.length, point), digests)

    def _enter_unit(self, entry: UnitEntry, digests: bytes) -> int:
        number = self.reserve_unit()
        put_unit(self._units.at(number // UNITS_PER_PAGE), number % UNITS_PER_PAGE, entry)
        self._put_digests(number * self.pieces_per_unit, [digests])
        return number

    def take_table(self, source: PageStore, table: Table) -> Table:
        """Write the pages of a table of another file, checked, and return the table that they have here."""
        taken = TableWriter(self.store, self, Table())
        for index, ref in table_refs(source, table):
            if index is not None:
                source.body(ref)
                taken.put_ref(index, self._take(source.record(ref), ref.digest))
        return taken.flush()

    def take_notes(self, source: PageStore, notes: Notes) -> None:
        """Write the notes of another file behind those that are here."""
        count = self.contents.notes.count
        for index, ref in table_refs(source, notes.table):
            if index is not None:
                self._notes_table.put_ref(count + index, self._take(source.record(ref), ref.digest))
        notes = Notes(count=count + notes.count, table=self.contents.notes.table)
        self.contents = msgspec.structs.replace(self.contents, notes=notes)

    def put_notes(self, index: int, body: bytes) -> None:
        """Write notes in place of those with this number, which are damaged."""
        self._notes_table.put_ref(index, self.write_page(body, None, RecordKind.NOTES))

    def take_file(self, source: PageStore, file: PointFile) -> PointFile:
        """Write a machine file of another file's point, and return it with where it is here."""
        if file.is_lost:
            return file
        ref = self._take(source.record(file.ref.ref), file.ref.ref.digest)
        return msgspec.structs.replace(file, ref=RefText(ref.offset, ref.length, file.ref.digest))

    def add_disk(self, machine: str, key: str) -> int:
        """Return the index of a disk among those of the file, which gets it when it has not had it."""
        index = self.contents.disk_index(machine, key)
        if index is None:
            index = len(self.contents.disks)
            disk = FileDisk(machine=machine, key=key)
            self.contents = msgspec.structs.replace(self.contents, disks=(*self.contents.disks, disk))
            self._pieces.append(self._pieces_cursor(disk))
        return index

    def put_pieces(self, disk: int, page: int, runs: PieceRuns) -> None:
        """Replace one page of the piece table of a disk."""
        self._pieces[disk].table.put(page, runs.encode())

    def pieces_indexes(self, disk: int) -> list[int]:
        """Return which pages the piece table of a disk has."""
        refs = table_refs(self.store, self._pieces[disk].flush())
        return [index for index, _ in refs if index is not None]

    def pieces_page(self, disk: int, page: int) -> PieceRuns | None:
        """Return one page of the piece table of a disk as it is now, to be looked at only."""
        return self._pieces[disk].peek(page)

    def needed_units(self) -> bytearray:
        """Return for each unit whether the piece tables as they are now need it, as one byte."""
        pages = (
            page
            for disk in range(len(self._pieces))
            for index in self.pieces_indexes(disk)
            if (page := self.pieces_page(disk, index)) is not None
        )
        return needed_units(pages, self.pieces_per_unit, self.next_unit)

    def drop_units(self, is_needed: bytearray) -> int:
        """Forget the units that are not needed, one byte for each unit; return the bytes that they took."""
        freed, number = 0, is_needed.find(0)
        while 0 <= number < self.next_unit:
            unit = self.unit(number)
            if unit is not None:
                put_unit(self._units.at(number // UNITS_PER_PAGE), number % UNITS_PER_PAGE, None)
                self._space.release(unit.offset, unit.length)
                freed += unit.length
            number = is_needed.find(0, number + 1)
        return freed

    def _take(self, record: bytes, digest: bytes) -> Ref:
        gap = bytes(-len(record) % ALIGNMENT)
        offset = self._space.take(len(record) + len(gap))
        self._write(offset, [record, gap])
        return Ref(offset, len(record), digest)


def mark_named(used: UsedSpans, store: PageStore, contents: Contents, seen: set[Ref]) -> None:
    """Mark every record that a contents page names, but for itself; pages that were ``seen`` are passed over."""
    tables = [contents.digests, contents.notes.table, *(disk.pieces for disk in contents.disks)]
    tables += [disk.map for point in contents.points for disk in point.disks]
    for table in tables:
        for _, ref in table_refs(store, table, seen):
            used.add(ref.offset, ref.length)
    for index, ref in table_refs(store, contents.units.table, seen):
        used.add(ref.offset, ref.length)
        if index is not None:
            used.add_all(*unit_places(units_page(store.body(ref))))
    for point in contents.points:
        for file in point.machine_files:
            if not file.is_lost:
                used.add(file.ref.offset, file.ref.length)


def needed_units(pages: Iterator[PieceRuns], pieces_per_unit: int, count: int) -> bytearray:
    """Return for each unit whether a piece of these pages is in it, as one byte."""
    needed = bytearray(count)
    for page in pages:
        for length, place in zip(page.counts, page.places, strict=True):
            first, last = place // pieces_per_unit, (place + length - 1) // pieces_per_unit
            if first == last:
                needed[first] = 1
            else:
                needed[first : last + 1] = b"\1" * (last + 1 - first)
    return needed
