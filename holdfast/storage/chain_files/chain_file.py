"""One chain file, opened for reading.

Opening reads two superblocks and one page; everything else is read when it is asked for.
"""

from collections.abc import Iterator
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Self

from holdfast.errors import (
    ChainBroken,
    DataDamaged,
    FileDamaged,
    FormatTooNew,
    FormatUnknown,
    HoldfastError,
    PassphraseWrong,
)
from holdfast.formats.contents import Contents, decode_contents
from holdfast.formats.keys import ChainKeys
from holdfast.formats.magic import (
    ALIGNMENT,
    CONTENTS_SIZE_MAX,
    DIGEST_SIZE,
    DIGESTS_PER_PAGE,
    PIECE_SIZE,
    PIECES_PER_PAGE,
    RECORDS_START,
    SUPERBLOCK_SIZE,
    UNITS_PER_PAGE,
    Codec,
    FileKind,
    FileState,
    RecordKind,
)
from holdfast.formats.pages import MapRuns, PieceRuns, UnitEntry, digests_page, get_unit, units_page
from holdfast.formats.record import (
    HEADER_SIZE,
    PIECE_ENTRY_SIZE,
    PieceEntry,
    RecordHeader,
    RecordOpener,
    codec_of,
    unit_entries,
    unpack_header,
)
from holdfast.formats.superblock import Superblock, is_sealed, unpack_superblock
from holdfast.pipeline.restore import checked_unit
from holdfast.storage.chain_files.tables import PageStore, TableReader, table_refs
from holdfast.storage.chain_files.unlocking import unlock
from holdfast.storage.files.atomic import FileHandle, Files

FILE_SUFFIX = ".hfc"
SUSPECT_SUFFIX = ".suspect"
"""Added to the name of an unfinished file whose flush failed."""


class ChainFile:
    """A chain file as of its last commit when it was opened. Methods may be called from several threads."""

    def __init__(self, handle: FileHandle, keys: ChainKeys, superblock: Superblock, complete_slots: int) -> None:
        self.handle = handle
        self.keys = keys
        self.superblock = superblock
        self.complete_slots = complete_slots
        """How many of the two superblocks say that the file is complete; one is enough to read it."""
        self.opener = RecordOpener(keys.cipher, keys.record_key)
        self.store = PageStore(handle, self.opener, keys.digest_key)
        self.contents: Contents = decode_contents(self.store.body(superblock.root))
        self._units = TableReader(self.store, self.contents.units.table, units_page)
        self._digests = TableReader(self.store, self.contents.digests, digests_page)
        self._pieces = [TableReader(self.store, d.pieces, PieceRuns.decode) for d in self.contents.disks]
        self.pieces_per_unit = superblock.unit_size // PIECE_SIZE
        self.reading: AbstractContextManager[object] = nullcontext()
        """Entered by every thread that reads a unit, while it does."""
        self._check_identity()

    @classmethod
    def open(
        cls, files: Files, path: Path, passphrase: str | None = None, keys: ChainKeys | None = None
    ) -> "ChainFile":
        """Open a file; ``keys`` of another file of the chain spare the passphrase.

        Raises `FormatUnknown`, `FormatTooNew`, `FileDamaged`, `PassphraseWrong`, `ChainBroken`.
        """
        handle = files.open(path)
        try:
            return cls._of(handle, read_states(handle, passphrase, keys))
        except BaseException:
            handle.close()
            raise

    @classmethod
    def _of(cls, handle: FileHandle, states: list[tuple[ChainKeys, Superblock]]) -> "ChainFile":
        slots = complete_slots(states)
        try:
            return cls(handle, *states[0], slots)
        except FileDamaged:
            # A complete file says the same twice, each time with a contents page of its own.
            if len(states) == 1 or states[1][1].state is not FileState.COMPLETE:
                raise
            return cls(handle, *states[1], slots)

    @property
    def path(self) -> Path:
        """Return where the file is."""
        return self.handle.path

    @property
    def is_complete(self) -> bool:
        """Return whether the file's points are all complete."""
        return self.superblock.state is FileState.COMPLETE

    @property
    def is_rollback(self) -> bool:
        """Return whether it holds what a later point put another content in place of."""
        return self.superblock.kind is FileKind.ROLLBACK

    @property
    def is_rolled_back(self) -> bool:
        """Return whether it is a rollback file with its point."""
        return self.is_rollback and self.is_complete and bool(self.contents.points)

    def unit(self, number: int) -> UnitEntry | None:
        """Return where a unit is, or None when it is not there."""
        page = self._units.page(number // UNITS_PER_PAGE)
        return None if page is None else get_unit(page, number % UNITS_PER_PAGE)

    def digest(self, place: int) -> bytes:
        """Return the digest of the piece at a place."""
        return self.digests(place, 1)

    def digests(self, place: int, count: int) -> bytes:
        """Return the joined digests of ``count`` consecutive places."""
        parts = []
        while count > 0:
            page = self._digests.page(place // DIGESTS_PER_PAGE)
            at = place % DIGESTS_PER_PAGE
            take = min(count, DIGESTS_PER_PAGE - at)
            if page is None:
                raise FileDamaged(f"{self.path} has no digest for place {place}")
            parts.append(page[at * DIGEST_SIZE : (at + take) * DIGEST_SIZE])
            place, count = place + take, count - take
        return b"".join(parts)

    def pieces_page(self, disk_index: int, page: int) -> PieceRuns | None:
        """Return one page of the piece table of a disk, or None when it is absent."""
        return self._pieces[disk_index].page(page)

    def pieces_pages(self, disk_index: int) -> Iterator[tuple[int, PieceRuns]]:
        """Yield the pages of the piece table of a disk, each with the number of its first piece."""
        for index, ref in table_refs(self.store, self.contents.disks[disk_index].pieces):
            if index is not None:
                yield index * PIECES_PER_PAGE, self.store.decoded(ref, PieceRuns.decode)

    def place(self, disk_index: int, piece: int) -> int | None:
        """Return the place of a piece, or None when the file does not hold it."""
        page = self.pieces_page(disk_index, piece // PIECES_PER_PAGE)
        return None if page is None else page.find(piece % PIECES_PER_PAGE)

    def read_unit(self, number: int) -> tuple[list[PieceEntry], bytes | memoryview]:
        """Read and decode a unit. Raises `DataDamaged` naming file, unit and offset."""
        entry = self._entry(number)
        try:
            with self.reading:
                record = self.handle.read(entry.offset, entry.length)
            return self.opener.unit(record)
        except (DataDamaged, FormatUnknown) as error:
            message = f"unit {number} of {self.path} at offset {entry.offset}: {error.message}"
            raise DataDamaged(message) from error

    def _entry(self, number: int) -> UnitEntry:
        entry = self.unit(number)
        if entry is None:
            raise DataDamaged(f"unit {number} is not in {self.path}")
        if entry.offset + entry.length > self.superblock.end:
            raise DataDamaged(f"unit {number} of {self.path} should lie behind the end of the file")
        return entry

    def unit_header(self, number: int) -> tuple[UnitEntry, int]:
        """Return where a unit is and how many pieces it has, by its header alone. Raises `DataDamaged`."""
        entry = self._entry(number)
        try:
            header = unpack_header(self.handle.read(entry.offset, HEADER_SIZE))
        except (DataDamaged, FormatUnknown) as error:
            message = f"unit {number} of {self.path} at offset {entry.offset}: {error.message}"
            raise DataDamaged(message) from error
        if header.kind != RecordKind.UNIT or header.length != entry.length:
            raise DataDamaged(f"unit {number} of {self.path} at offset {entry.offset}: another record stands there")
        return entry, header.pieces

    def unit_length(self, number: int) -> int:
        """Return the stored bytes of a unit. Raises `DataDamaged`."""
        return self._entry(number).length

    def fetch(self, number: int, pool: Executor, key: bytes) -> "Future[bytes | memoryview]":
        """Return the body of a unit, read and compared with its digests by ``pool``."""
        return pool.submit(checked_unit, self, number, key)

    def packed_unit(self, number: int) -> tuple[bytes, Codec, memoryview]:
        """Return a unit decrypted and not decoded: the joined digests, the codec, the packed bytes.

        Raises `DataDamaged` naming file, unit and offset.
        """
        _, _, digests, header, payload = self._checked(number)
        return digests, codec_of(header), payload[header.pieces * PIECE_ENTRY_SIZE :]

    def sealed_unit(self, number: int) -> tuple[UnitEntry, bytes, bytes]:
        """Return a unit authenticated and as it is stored: where it is, the joined digests, the record.

        Raises `DataDamaged` naming file, unit and offset.
        """
        entry, record, digests, _, _ = self._checked(number)
        return entry, digests, record

    def _checked(self, number: int) -> tuple[UnitEntry, bytes, bytes, RecordHeader, memoryview]:
        entry = self._entry(number)
        try:
            record = self.handle.read(entry.offset, entry.length)
            header, payload = self.opener.payload(record)
            digests = b"".join(found.digest for found in unit_entries(header, payload))
        except (DataDamaged, FormatUnknown) as error:
            message = f"unit {number} of {self.path} at offset {entry.offset}: {error.message}"
            raise DataDamaged(message) from error
        if digests != self.digests(number * self.pieces_per_unit, header.pieces):
            raise DataDamaged(f"unit {number} of {self.path}: its pieces are not those of the digest table")
        return entry, record, digests, header, payload

    def map_table(self, point_number: int, key: str) -> TableReader[MapRuns]:
        """Return the map of a disk at a point of this file."""
        point = self.contents.point(point_number)
        disk = None if point is None else point.disk(key)
        if disk is None:
            raise ChainBroken(f"{self.path} has no disk {key} at point {point_number}")
        return TableReader(self.store, disk.map, MapRuns.decode)

    def close(self) -> None:
        """Close the file. Idempotent."""
        self.handle.close()

    def __enter__(self) -> Self:
        """Enter a block that closes the file at its end."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()

    def _check_identity(self) -> None:
        block, contents = self.superblock, self.contents
        stated = (contents.chain, contents.file, contents.kind, contents.unit_size)
        if stated != (
            block.chain_id.hex(),
            block.file_id.hex(),
            block.kind.name.lower(),
            block.unit_size,
        ):
            raise FileDamaged(f"{self.path}: contents page and superblock do not belong together")


def read_state(
    handle: FileHandle, passphrase: str | None, keys: ChainKeys | None = None
) -> tuple[ChainKeys, Superblock]:
    """Return the keys and the newest valid superblock of an open file."""
    return read_states(handle, passphrase, keys)[0]


def read_states(
    handle: FileHandle, passphrase: str | None, keys: ChainKeys | None = None
) -> list[tuple[ChainKeys, Superblock]]:
    """Return the valid superblocks of an open file, one or two, newest first, each with its keys.

    A slot may have been overwritten with that of another chain, or need another passphrase: each is judged alone.
    """
    found: list[tuple[ChainKeys, Superblock]] = []
    problems: list[HoldfastError] = []
    both = handle.read(0, 2 * SUPERBLOCK_SIZE)
    for slot, data in enumerate((both[:SUPERBLOCK_SIZE], both[SUPERBLOCK_SIZE:])):
        try:
            block = unpack_superblock(data)
            slot_keys = _keys_for(handle, block, passphrase, keys)
        except FormatTooNew as error:
            raise FormatTooNew(f"{handle.path}: {error.message}") from error
        except (FormatUnknown, FileDamaged, PassphraseWrong, ChainBroken) as error:
            problems.append(error)
            continue
        if is_sealed(data, block.file_id, slot_keys) and block.generation % 2 == slot:
            found.append((slot_keys, block))
        else:
            problems.append(FileDamaged("superblock seal does not match"))
    if not found:
        raise _no_superblock(handle, problems)
    return sorted(found, key=lambda state: state[1].generation, reverse=True)


def is_never_committed(files: Files, path: Path) -> bool:
    """Return whether a file was made and its first commit never came about, so that it holds nothing.

    The first commit is one contents page and goes to slot 1; slot 0 is written for the first time by the second. So a
    crash leaves an empty slot 0, at most a torn slot 1, and no record but that page. A file that lost its superblocks
    later has more records, and is damaged.
    """
    handle = files.open(path)
    try:
        if any(handle.read(0, SUPERBLOCK_SIZE)) or handle.size() > RECORDS_START + CONTENTS_SIZE_MAX:
            return False
        slot = handle.read(SUPERBLOCK_SIZE, SUPERBLOCK_SIZE)
        return not _is_superblock(slot) and not any(_later_records(handle))
    finally:
        handle.close()


def _is_superblock(data: bytes) -> bool:
    try:
        unpack_superblock(data)
    except (FormatUnknown, FileDamaged):
        return False
    except FormatTooNew:
        return True
    return True


def _later_records(handle: FileHandle) -> Iterator[bool]:
    """Yield, for each place of a record, whether one stands there that the first commit did not write."""
    for offset in range(RECORDS_START, handle.size(), ALIGNMENT):
        try:
            header = unpack_header(handle.read(offset, HEADER_SIZE))
        except (FormatUnknown, DataDamaged):
            yield False
        else:
            yield (offset, header.kind, header.stamp.generation) != (RECORDS_START, RecordKind.PAGE, 1)


def is_file_encrypted(files: Files, path: Path) -> bool | None:
    """Return whether a chain file is encrypted, without its passphrase; None when no superblock can be read."""
    handle = files.open(path)
    try:
        for slot in range(2):
            try:
                block = unpack_superblock(handle.read(slot * SUPERBLOCK_SIZE, SUPERBLOCK_SIZE))
            except (FormatUnknown, FileDamaged):
                continue  # the other slot may do; without either the answer is None
            return bool(block.envelope.cipher)
        return None
    finally:
        handle.close()


def _keys_for(handle: FileHandle, block: Superblock, passphrase: str | None, keys: ChainKeys | None) -> ChainKeys:
    if keys is None:
        return unlock(block.chain_id, block.envelope, passphrase)
    if keys.chain_id != block.chain_id:
        raise ChainBroken(f"{handle.path} belongs to chain {block.chain_id.hex()}, not {keys.chain_id.hex()}")
    if keys.cipher is not block.envelope.cipher:
        found, others = ("encrypted", "not") if block.envelope.cipher else ("not encrypted", "are")
        raise ChainBroken(
            f"{handle.path} is {found}, the other files of chain {block.chain_id.hex()} {others}",
            hint="A chain is encrypted as a whole: this file is no longer the one that was written, put it back.",
        )
    return keys


def _no_superblock(handle: FileHandle, problems: list[HoldfastError]) -> HoldfastError:
    for problem in problems:
        if isinstance(problem, PassphraseWrong | ChainBroken):
            return problem
    reasons = "; ".join(problem.message for problem in problems)
    if all(isinstance(problem, FormatUnknown) for problem in problems):
        return FormatUnknown(f"{handle.path} is not a chain file: {reasons}")
    return FileDamaged(f"{handle.path} has no valid superblock: {reasons}")


def complete_slots(states: list[tuple[ChainKeys, Superblock]]) -> int:
    """Return how many superblocks, newest first, say that a file is complete; none when the newest says it is not."""
    is_complete = states[0][1].state is FileState.COMPLETE
    return sum(block.state is FileState.COMPLETE for _, block in states) if is_complete else 0
