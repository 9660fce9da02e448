"""Writes a chain file: records to fresh space, then a commit that flips the superblock.

The protocol is that of docs/formats/chain-file.md section 3. `ChainWriter` knows records, tables and commits; what a
restore point means is the business of `holdfast.storage.points.point_writer`.

One writer at a time: the chain's lock file is held as long as the writer is open, and each commit first looks whether
somebody else has committed since, which a lock lost over a network mount would allow.
"""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

import msgspec

from holdfast.errors import HoldfastError, LimitExceeded, StoreFailed, SyncFailed, WriterFenced
from holdfast.faults import reach
from holdfast.formats.contents import Contents, FileDisk, Notes, Units, decode_contents, encode_contents
from holdfast.formats.digests import page_digest
from holdfast.formats.keys import ChainKeys
from holdfast.formats.magic import (
    CONTENTS_SIZE_MAX,
    DIGEST_SIZE,
    DIGESTS_PER_PAGE,
    PIECE_SIZE,
    PIECES_PER_PAGE,
    PLACES_MAX,
    RECORDS_START,
    SUPERBLOCK_SIZE,
    UNITS_PER_PAGE,
    FileKind,
    FileState,
    RecordKind,
)
from holdfast.formats.pages import PieceRuns, Ref, UnitEntry, empty_units_page, get_unit, put_unit
from holdfast.formats.record import Note, RecordOpener, RecordSealer, Stamp, pack_notes
from holdfast.formats.superblock import Superblock, pack_superblock
from holdfast.storage.chain_files.chain_file import SUSPECT_SUFFIX, complete_slots, read_state, read_states
from holdfast.storage.chain_files.space import Space
from holdfast.storage.chain_files.tables import PageCursor, PageStore, TableWriter
from holdfast.storage.files.atomic import Buffer, FileHandle, Files
from holdfast.storage.files.chain_lock import close_both, open_locked

_RANDOM_ID = 16


class FileSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a new chain file is to be."""

    kind: FileKind
    unit_size: int
    contents: Contents
    after_generation: int = 0
    """Commits are numbered from the next one; above 0 when records of an older file move in."""
    lock: FileHandle | None = None
    """Of the chain, when the caller has it: the writer closes it."""


class ChainWriter:
    """A chain file open for writing. Use from one thread; `sealer` and `opener` may be used from others."""

    def __init__(
        self, files: Files, handles: tuple[FileHandle, FileHandle], keys: ChainKeys, state: Superblock
    ) -> None:
        self._files = files
        self.handle, self._lock = handles
        self.keys = keys
        self.key_id = os.urandom(_RANDOM_ID)
        self.file_id = state.file_id
        self.unit_size = state.unit_size
        self.pieces_per_unit = state.unit_size // PIECE_SIZE
        self.sealer = RecordSealer(keys.cipher, keys.record_key(self.key_id))
        self.opener = RecordOpener(keys.cipher, keys.record_key)
        self.store = PageStore(self.handle, self.opener, keys.digest_key)
        self._committed = state
        self.complete_slots = 0
        """How many of the two superblocks say that the file is complete."""
        self._generation = state.generation + 1
        self._record_number = 0
        self._space = Space(state.end)
        self._point = 0
        self._background = ThreadPoolExecutor(max_workers=1, thread_name_prefix="commit")
        self._flight: Future[None] | None = None
        self._failure: BaseException | None = None

    # -- opening -------------------------------------------------------------------------------------------------

    @classmethod
    def create(cls, files: Files, path: Path, spec: FileSpec, keys: ChainKeys) -> Self:
        """Make a new chain file with a first commit. Raises `ChainBusy` when the chain has a writer."""
        handles = open_locked(files, path, files.create, spec.lock)
        empty = Superblock(
            kind=spec.kind,
            unit_size=spec.unit_size,
            state=FileState.OPEN,
            generation=spec.after_generation,
            end=RECORDS_START,
            chain_id=bytes.fromhex(spec.contents.chain),
            file_id=bytes.fromhex(spec.contents.file),
            key_id=bytes(_RANDOM_ID),
            root=Ref(0, 0, bytes(DIGEST_SIZE)),
            envelope=keys.envelope,
        )
        writer = cls(files, handles, keys, empty)
        try:
            writer._attach(spec.contents)
            writer.commit()
        except BaseException:
            writer.close()
            raise
        return writer

    @classmethod
    def resume(cls, files: Files, path: Path, passphrase: str | None = None, keys: ChainKeys | None = None) -> Self:
        """Open a chain file at its last commit. Raises `ChainBusy` when the chain has a writer."""
        handles = open_locked(files, path, lambda path: files.open(path, write=True))
        try:
            states = read_states(handles[0], passphrase, keys)
            writer = cls(files, handles, *states[0])
            writer.complete_slots = complete_slots(states)
            writer._attach(decode_contents(writer.store.body(states[0][1].root)))
            writer._settle([block for _, block in states])
        except BaseException:
            close_both(handles)
            raise
        return writer

    def _settle(self, blocks: list[Superblock]) -> None:
        """Make durable what the file was opened by: a process that died may have left it in the cache only."""
        for block in blocks if self.complete_slots else blocks[:1]:
            self.handle.write(block.slot_offset, [self.handle.read(block.slot_offset, SUPERBLOCK_SIZE)])
            self._sync()

    def _attach(self, contents: Contents) -> None:
        self.contents = contents
        self._has_finished = any(point.complete for point in contents.points)
        self._space.keeps_released |= self._has_finished and self._committed.state is FileState.OPEN
        self._point = contents.points[-1].number if contents.points else 0
        self.next_unit = contents.units.count
        self._units = PageCursor(
            TableWriter(self.store, self, contents.units.table), self._load_bytes, empty_units_page, bytes
        )
        self._digests = PageCursor(
            TableWriter(self.store, self, contents.digests),
            self._load_bytes,
            lambda: bytearray(DIGESTS_PER_PAGE * DIGEST_SIZE),
            bytes,
        )
        self._pieces = [self._pieces_cursor(disk) for disk in contents.disks]
        self._notes_table = TableWriter(self.store, self, contents.notes.table)
        self._notes: list[Note] = []

    def _pieces_cursor(self, disk: FileDisk) -> PageCursor[PieceRuns]:
        return PageCursor(
            TableWriter(self.store, self, disk.pieces),
            lambda ref: PieceRuns.decode(self.store.body(ref)),
            PieceRuns,
            PieceRuns.encode,
        )

    def _load_bytes(self, ref: Ref) -> bytearray:
        return bytearray(self.store.body(ref))

    # -- writing -------------------------------------------------------------------------------------------------

    @property
    def committed(self) -> Superblock:
        """Return the last superblock known to be on stable storage."""
        return self._committed

    @property
    def end(self) -> int:
        """Return the first byte behind everything written so far, committed or not."""
        return self._space.end

    def stamp(self, point: int) -> Stamp:
        """Return the identity of the next record to be sealed; each call uses it up."""
        self._point = point
        number, self._record_number = self._record_number, self._record_number + 1
        return Stamp(self._generation, number, point, self.file_id, self.key_id)

    def reserve_unit(self) -> int:
        """Return the number of a new unit."""
        number, self.next_unit = self.next_unit, self.next_unit + 1
        if self.next_unit * self.pieces_per_unit > PLACES_MAX:
            raise LimitExceeded(f"{self.handle.path} holds the most units a file can")
        return number

    def write_unit(self, number: int, stamp: Stamp, digests: Sequence[bytes], record: Sequence[Buffer]) -> int:
        """Append a sealed unit and enter it in the tables; return the bytes it takes in the file."""
        self._raise_failure()
        size = sum(len(buffer) for buffer in record)
        length = size - len(record[-1])
        offset = self._space.append(size)
        self._write(offset, record)
        page = self._units.at(number // UNITS_PER_PAGE)
        put_unit(page, number % UNITS_PER_PAGE, UnitEntry(offset, length, stamp.point))
        self._put_digests(number * self.pieces_per_unit, digests)
        return size

    def _write(self, offset: int, record: Sequence[Buffer]) -> None:
        try:
            self.handle.write(offset, record)
        except BaseException as error:
            self._failure = error  # tables may name what is not there: nothing of this opening is committed any more
            raise

    def _put_digests(self, place: int, digests: Sequence[bytes]) -> None:
        # A unit's places never straddle a page: 1024 is a multiple of every number of pieces in a unit.
        at = place % DIGESTS_PER_PAGE * DIGEST_SIZE
        joined = b"".join(digests)
        self._digests.at(place // DIGESTS_PER_PAGE)[at : at + len(joined)] = joined

    def digests_page(self, index: int) -> bytes | bytearray:
        """Return one page of the digests entered so far; empty when it is absent."""
        return self._digests.peek(index) or b""

    def unit(self, number: int) -> UnitEntry | None:
        """Return where a unit is, or None when it is not there."""
        page = self._units.peek(number // UNITS_PER_PAGE)
        return None if page is None else get_unit(page, number % UNITS_PER_PAGE)

    def digest(self, place: int) -> bytes:
        """Return the digest at a place that was entered before."""
        at = place % DIGESTS_PER_PAGE * DIGEST_SIZE
        return bytes(self.digests_page(place // DIGESTS_PER_PAGE)[at : at + DIGEST_SIZE])

    def add_pieces(self, disk: int, places: Iterable[tuple[int, int]]) -> None:
        """Say at which places the file holds pieces. Pieces of a disk come in ascending order."""
        pages = self._pieces[disk]
        for piece, place in places:
            pages.at(piece // PIECES_PER_PAGE).append(piece % PIECES_PER_PAGE, place)

    def drop_pieces(self, disk: int) -> None:
        """Say that the file holds no pieces of a disk; their units stay, and so does the table named so far."""
        self._pieces[disk] = self._pieces_cursor(FileDisk(machine="", key=""))

    def add_note(self, note: Note) -> None:
        """Note pieces that are written without storing bytes, so that a scan of the records finds them too."""
        last = self._notes[-1] if self._notes else None
        is_next = last is not None and (last.disk_tag, last.piece + last.count) == (note.disk_tag, note.piece)
        if last is not None and is_next and last.digest == note.digest:
            self._notes[-1] = msgspec.structs.replace(last, count=last.count + note.count)
        else:
            self._notes.append(note)

    def find_place(self, disk: int, piece: int) -> int | None:
        """Return the place of a piece that the file holds, or None."""
        page = self._pieces[disk].peek(piece // PIECES_PER_PAGE)
        return None if page is None else page.find(piece % PIECES_PER_PAGE)

    def write_page(self, body: bytes, replaces: Ref | None, kind: RecordKind = RecordKind.PAGE) -> Ref:
        """Write a page to fresh space; the space of ``replaces`` is free two commits later."""
        record = self.sealer.page(self.stamp(self._point), body, kind)
        size = sum(len(buffer) for buffer in record)
        offset = self._space.take(size)
        self._write(offset, record)
        if replaces is not None:
            self._space.release(replaces.offset, replaces.length)
        return Ref(offset, size - len(record[-1]), page_digest(body, self.keys.digest_key))

    # -- committing ----------------------------------------------------------------------------------------------

    def commit(self, state: FileState = FileState.OPEN) -> None:
        """Make everything written so far durable; return when it is."""
        self.start_commit(state)
        self.finish_commit()

    def commit_complete(self) -> None:
        """Say in both superblocks that the file is complete; nothing is written where they say so already."""
        while self.complete_slots < 2:  # noqa: PLR2004 - there are two
            self.commit(FileState.COMPLETE)
            self.complete_slots += 1

    def start_commit(self, state: FileState = FileState.OPEN) -> Future[None]:
        """Write tables and contents, and let the flush, which is returned, run behind. Waits for an earlier commit."""
        self.finish_commit()
        self.complete_slots = 0 if state is FileState.OPEN else self.complete_slots
        try:
            block = self._write_tables(state)
        except BaseException as error:
            self._failure = error  # the tables are half changed
            raise
        self._space.commit_started()
        self._generation += 1
        self._record_number = 0
        self._flight = self._background.submit(self._flush_and_flip, block)
        return self._flight

    def finish_commit(self) -> None:
        """Wait for a commit that was started, if there is one, and raise what went wrong with it."""
        flight, self._flight = self._flight, None
        if flight is not None:
            self._failure = flight.exception() or self._failure
        self._raise_failure()
        if flight is not None:
            self._space.commit_finished()

    @property
    def is_committing(self) -> bool:
        """Return whether a started commit is still on its way."""
        return self._flight is not None and not self._flight.done()

    def _write_tables(self, state: FileState) -> Superblock:
        disks = tuple(
            msgspec.structs.replace(disk, pieces=cursor.flush())
            for disk, cursor in zip(self.contents.disks, self._pieces, strict=True)
        )
        self.contents = msgspec.structs.replace(
            self.contents,
            units=Units(count=self.next_unit, table=self._units.flush()),
            digests=self._digests.flush(),
            notes=self._flush_notes(),
            disks=disks,
        )
        old = self._committed.root
        body = encode_contents(self.contents)
        if len(body) > CONTENTS_SIZE_MAX:
            raise LimitExceeded(f"{self.handle.path} would have {len(body)} bytes of contents")
        root = self.write_page(body, old if old.length else None)
        return msgspec.structs.replace(
            self._committed,
            state=state,
            generation=self._generation,
            end=self._space.end,
            key_id=self.key_id,
            root=root,
        )

    def _flush_notes(self) -> Notes:
        count = self.contents.notes.count
        if self._notes:
            ref = self.write_page(pack_notes(self._notes), None, RecordKind.NOTES)
            self._notes_table.put_ref(count, ref)
            self._notes = []
            count += 1
        return Notes(count=count, table=self._notes_table.flush())

    def _flush_and_flip(self, block: Superblock) -> None:
        reach("commit.before_sync")
        self._sync()
        root = self.handle.read(block.root.offset, block.root.length)
        if page_digest(self.opener.page(root), self.keys.digest_key) != block.root.digest:
            raise StoreFailed(f"{self.handle.path}: the contents page does not read back as written")
        self._check_fence()
        reach("commit.before_flip")
        data = pack_superblock(block, self.keys)
        self.handle.write(block.slot_offset, [data])
        reach("commit.flipped")
        self._sync()
        if self.handle.read(block.slot_offset, SUPERBLOCK_SIZE) != data:
            raise StoreFailed(f"{self.handle.path}: the superblock does not read back as written")
        self._committed = block
        reach("commit.done")

    def _sync(self) -> None:
        try:
            self.handle.sync()
        except SyncFailed as error:
            if self._committed.state is not FileState.COMPLETE and not self._has_finished:
                self._set_aside(error)
            raise

    def _set_aside(self, failure: SyncFailed) -> None:
        """Take its name from an unfinished file whose storage cannot be trusted, so that nobody goes on with it."""
        path = self.handle.path
        try:
            self._files.rename(path, path.with_name(path.name + SUSPECT_SUFFIX))
        except HoldfastError as error:  # the storage is failing; that is what the caller is told
            failure.add_note(f"the file could not be set aside: {error.message}")

    def _check_fence(self) -> None:
        if not self._committed.root.length:
            return
        _, found = read_state(self.handle, None, self.keys)
        if (found.generation, found.key_id) != (self._committed.generation, self._committed.key_id):
            raise WriterFenced(
                f"{self.handle.path} is at commit {found.generation} of another writer, "
                f"this one last made {self._committed.generation}"
            )

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Let go of the chain without a commit. Idempotent."""
        self._background.shutdown(wait=True)
        close_both((self.handle, self._lock))

    def __enter__(self) -> Self:
        """Enter a block that closes the writer at its end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the writer."""
        self.close()
