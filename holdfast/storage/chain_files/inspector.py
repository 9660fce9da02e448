"""Tells how one chain file is built, as far as it can be read: nothing that is damaged ends an inspection.

Superblocks are looked at one by one, the tables of the newest valid one page by page, and record headers, on request,
by a scan from record to record, which needs no passphrase. docs/formats/chain-file.md explains what is shown.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from holdfast.errors import (
    DataDamaged,
    FileDamaged,
    FormatUnknown,
    HoldfastError,
    PassphraseWrong,
    RequestInvalid,
)
from holdfast.formats.contents import Contents, Table, decode_contents
from holdfast.formats.keys import ChainKeys
from holdfast.formats.magic import (
    ALIGNMENT,
    CONTENTS_SIZE_MAX,
    DIRECTORY_ENTRIES,
    RECORDS_START,
    SUPERBLOCK_SIZE,
    UNITS_PER_PAGE,
    RecordKind,
)
from holdfast.formats.pages import DIRECTORY_SIZE, MapRuns, PieceRuns, Ref, UnitEntry, get_ref, get_unit
from holdfast.formats.record import HEADER_SIZE, RecordHeader, RecordOpener, unpack_header
from holdfast.formats.superblock import Superblock, is_sealed, unpack_superblock
from holdfast.storage.chain_files.tables import PageStore
from holdfast.storage.chain_files.unlocking import unlock
from holdfast.storage.files.atomic import FileHandle, Files

RECORDS_LISTED_MAX = 100_000
PROBLEMS_MAX = 100
"""How many problems of one table are named; more are counted."""
HEX_BYTES_MAX = 1 << 20

_KIND_NAMES: dict[int, str] = {kind: kind.name.lower() for kind in RecordKind}
_DEPTH_MAX = 3
"""No disk of the largest size needs a deeper table."""
_RECORD_SIZE_MAX = HEADER_SIZE + CONTENTS_SIZE_MAX


class SlotReport(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two superblock slots. The facts hold defaults when there is nothing readable."""

    slot: int
    is_valid: bool
    is_locked: bool = False
    """Whether only the passphrase is missing that would tell if the slot counts."""
    problem: str = ""
    """Why the slot does not count."""
    generation: int = 0
    state: str = ""
    kind: str = ""
    cipher: str = ""
    unit_size: int = 0
    end: int = 0
    chain_id: str = ""
    file_id: str = ""
    key_id: str = ""
    root_offset: int = 0
    root_length: int = 0


class TableReport(msgspec.Struct, frozen=True, kw_only=True):
    """One table: what it consists of, read page by page."""

    name: str
    depth: int
    pages: int = 0
    directories: int = 0
    stored_bytes: int = 0
    entries: int = 0
    """What the pages speak of: units of the units table, runs of maps and piece tables; 0 for others."""
    problems: tuple[str, ...] = ()
    unnamed_problems: int = 0


class RecordReport(msgspec.Struct, frozen=True, kw_only=True):
    """One record header, found by the scan."""

    offset: int
    length: int
    kind: str
    codec: int
    cipher: int
    pieces: int
    raw: int
    point: int
    generation: int
    number: int


class ScanReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a scan for record headers found, up to the end of the file."""

    by_kind: dict[str, int]
    stored_bytes: int
    unreadable_headers: int
    """Places where a record begins whose header is damaged."""
    behind_end: int
    """Records behind the end that the superblock states: writes that were never committed."""
    listed: tuple[RecordReport, ...] = ()


class FileReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that could be learned of a file."""

    path: str
    size_bytes: int
    slots: tuple[SlotReport, ...]
    newest_slot: int | None = None
    """The slot that is the file's state; None: there is no valid one, and nothing below was read."""
    contents: Contents | None = None
    tables: tuple[TableReport, ...] = ()
    units: int = 0
    unit_bytes: int = 0
    scan: ScanReport | None = None
    problem: str = ""
    """Why the reading stopped early."""

    @property
    def is_locked(self) -> bool:
        """Return whether the passphrase is missing without which nothing but superblocks and headers can be read."""
        return self.newest_slot is None and any(slot.is_locked for slot in self.slots)

    @property
    def is_sound(self) -> bool:
        """Return whether nothing that was read is damaged."""
        tables_ok = not any(table.problems or table.unnamed_problems for table in self.tables)
        scan_ok = self.scan is None or not self.scan.unreadable_headers
        return not self.problem and tables_ok and scan_ok and all(slot.is_valid for slot in self.slots)


def inspect_file(
    files: Files, path: Path, passphrase: str | None = None, *, records_listed: int | None = None
) -> FileReport:
    """Return how the file is built. ``records_listed`` asks for a scan and says how many records it lists.

    Raises `FormatUnknown` when neither slot begins as a superblock does, and the errors of opening a file.
    """
    with closing(files.open(path)) as handle:
        return _inspect(handle, passphrase, records_listed)


def hex_lines(files: Files, path: Path, offset: int, length: int) -> Iterator[str]:
    """Yield the bytes of a file as lines of offset, 16 bytes in hexadecimal, and what of them is ASCII.

    Raises `RequestInvalid` for a range that is none or has more than 1 MiB.
    """
    if offset < 0 or not 0 < length <= HEX_BYTES_MAX:
        raise RequestInvalid(f"{length} bytes from {offset} cannot be shown", hint="Give up to 1048576 bytes.")
    with closing(files.open(path)) as handle:
        data = handle.read(offset, length)
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)  # noqa: PLR2004 - printable ASCII
        yield f"{offset + at:012x}  {row[:8].hex(' '):23}  {row[8:].hex(' '):23}  {text}"


def _inspect(handle: FileHandle, passphrase: str | None, records_listed: int | None) -> FileReport:
    size = handle.size()
    slots: list[SlotReport] = []
    newest: tuple[Superblock, ChainKeys] | None = None
    for slot in range(2):
        described, found = _slot(handle, slot, passphrase)
        slots.append(described)
        if found is not None and (newest is None or found[0].generation > newest[0].generation):
            newest = found
    if all(slot.problem.startswith("no superblock") for slot in slots):
        raise FormatUnknown(f"{handle.path} is not a chain file: {slots[0].problem}")
    report = FileReport(path=str(handle.path), size_bytes=size, slots=tuple(slots))
    end = max((slot.end for slot in slots if slot.is_valid or slot.is_locked), default=size)
    if newest is None:
        reason = "the passphrase is missing" if report.is_locked else "no superblock counts"
        report = msgspec.structs.replace(report, problem=f"{reason}, so nothing else was read")
    else:
        report = msgspec.structs.replace(report, newest_slot=newest[0].generation % 2)
        report = _with_tables(report, handle, *newest)
    if records_listed is None:
        return report
    return msgspec.structs.replace(report, scan=_scan(handle, size, end, min(records_listed, RECORDS_LISTED_MAX)))


def _slot(
    handle: FileHandle, slot: int, passphrase: str | None
) -> tuple[SlotReport, tuple[Superblock, ChainKeys] | None]:
    data = handle.read(slot * SUPERBLOCK_SIZE, SUPERBLOCK_SIZE)
    try:
        block = unpack_superblock(data)
    except HoldfastError as error:
        return SlotReport(slot=slot, is_valid=False, problem=error.message), None
    problem, keys = "", None
    try:
        keys = unlock(block.chain_id, block.envelope, passphrase)
    except PassphraseWrong as error:
        problem = error.message
    if keys is not None and not is_sealed(data, block.file_id, keys):
        problem = "superblock seal does not match"
    elif keys is not None and block.generation % 2 != slot:
        problem = f"generation {block.generation} stands in the wrong slot"
    report = SlotReport(
        slot=slot,
        is_valid=not problem,
        is_locked=keys is None,
        problem=problem,
        generation=block.generation,
        state=block.state.name.lower(),
        kind=block.kind.name.lower(),
        cipher=block.envelope.cipher.name.lower(),
        unit_size=block.unit_size,
        end=block.end,
        chain_id=block.chain_id.hex(),
        file_id=block.file_id.hex(),
        key_id=block.key_id.hex(),
        root_offset=block.root.offset,
        root_length=block.root.length,
    )
    return report, (block, keys) if keys is not None and not problem else None


def _with_tables(report: FileReport, handle: FileHandle, block: Superblock, keys: ChainKeys) -> FileReport:
    walker = _Walker(handle, keys, report.size_bytes)
    try:
        contents = decode_contents(walker.body(block.root))
    except HoldfastError as error:
        return msgspec.structs.replace(report, problem=f"contents page: {error.message}")
    tables = [walker.walk("digests", contents.digests, None)]
    units: list[UnitEntry] = []
    tables.append(walker.walk("units", contents.units.table, lambda body: _collect_units(body, units)))
    tables.append(walker.walk("notes", contents.notes.table, None, RecordKind.NOTES))
    tables += [walker.walk(f"pieces of {disk.machine}/{disk.key}", disk.pieces, _runs) for disk in contents.disks]
    tables += [
        walker.walk(f"machine file {file.name} at point {point.number}", Table(0, file.ref), None, RecordKind.FILE)
        for point in contents.points
        for file in point.machine_files
    ]
    tables += [
        walker.walk(f"map of {disk.key} at point {point.number}", disk.map, lambda body: len(MapRuns.decode(body).ends))
        for point in contents.points
        for disk in point.disks
    ]
    return msgspec.structs.replace(
        report,
        contents=contents,
        tables=tuple(tables),
        units=len(units),
        unit_bytes=sum(unit.length for unit in units),
    )


class _Walker:
    """Reads tables of one file and keeps going where a page cannot be read."""

    def __init__(self, handle: FileHandle, keys: ChainKeys, size: int) -> None:
        self._opener = RecordOpener(keys.cipher, keys.record_key)
        self._store = PageStore(handle, self._opener, keys.digest_key)
        self._handle = handle
        self._size = size

    def body(self, ref: Ref, kind: RecordKind = RecordKind.PAGE) -> bytes:
        """Return a page. Raises `FileDamaged`, also for a ref that cannot be one."""
        if not RECORDS_START <= ref.offset <= self._size or not HEADER_SIZE <= ref.length <= _RECORD_SIZE_MAX:
            raise FileDamaged(f"there is no page of {ref.length} bytes at offset {ref.offset}")
        if kind is RecordKind.PAGE:
            return self._store.body(ref)
        return self._opener.page(self._handle.read(ref.offset, ref.length), kind)

    def walk(
        self, name: str, table: Table, count: Callable[[bytes], int] | None, kind: RecordKind = RecordKind.PAGE
    ) -> TableReport:
        """Return what a table consists of; ``count`` tells how many entries a page has."""
        tally = _Tally()
        try:
            top = None if table.top is None else table.top.ref
        except ValueError as error:
            tally.problem(f"the ref of the top page cannot be read: {error}")
            top = None
        if not 0 <= table.depth <= _DEPTH_MAX:
            tally.problem(f"the table states a depth of {table.depth}")
        elif top is not None:
            self._walk(top, table.depth, tally, count, kind)
        return TableReport(
            name=name,
            depth=table.depth,
            pages=tally.pages,
            directories=tally.directories,
            stored_bytes=tally.stored_bytes,
            entries=tally.entries,
            problems=tuple(tally.problems),
            unnamed_problems=tally.unnamed,
        )

    def _walk(
        self, ref: Ref, depth: int, tally: "_Tally", count: Callable[[bytes], int] | None, kind: RecordKind
    ) -> None:
        is_directory = depth > 0
        try:
            body = self.body(ref, RecordKind.PAGE if is_directory else kind)
            if is_directory and len(body) != DIRECTORY_SIZE:
                raise FileDamaged(f"directory at offset {ref.offset} has {len(body)} bytes")
            tally.entries += 0 if is_directory or count is None else count(body)
        except HoldfastError as error:
            tally.problem(error.message)
            return
        tally.stored_bytes += ref.length
        tally.pages += not is_directory
        tally.directories += is_directory
        refs = [get_ref(body, entry) for entry in range(DIRECTORY_ENTRIES)] if is_directory else []
        for below in refs:
            if below is not None:
                self._walk(below, depth - 1, tally, count, kind)


class _Tally:
    def __init__(self) -> None:
        self.pages = self.directories = self.stored_bytes = self.entries = self.unnamed = 0
        self.problems: list[str] = []

    def problem(self, text: str) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(text)
        else:
            self.unnamed += 1


def _collect_units(body: bytes, units: list[UnitEntry]) -> int:
    if len(body) != UNITS_PER_PAGE * 16:
        raise FileDamaged(f"units page has {len(body)} bytes")
    found = [unit for index in range(UNITS_PER_PAGE) if (unit := get_unit(body, index)) is not None]
    units += found
    return len(found)


def _runs(body: bytes) -> int:
    return len(PieceRuns.decode(body).starts)


def _scan(handle: FileHandle, size: int, end: int, listed_max: int) -> ScanReport:
    by_kind: dict[str, int] = {}
    listed: list[RecordReport] = []
    stored = unreadable = behind = 0
    for offset, header in _headers(handle, size):
        if header is None:
            unreadable += offset < end
            continue
        if offset >= end:
            behind += 1
            continue
        name = _KIND_NAMES.get(header.kind, f"kind {header.kind}")
        by_kind[name] = by_kind.get(name, 0) + 1
        stored += header.length
        if len(listed) < listed_max:
            listed.append(_record(offset, header, name))
    return ScanReport(
        by_kind=by_kind,
        stored_bytes=stored,
        unreadable_headers=unreadable,
        behind_end=behind,
        listed=tuple(listed),
    )


def _headers(handle: FileHandle, size: int) -> Iterator[tuple[int, RecordHeader | None]]:
    """Yield every place where a record begins; without the header when that is damaged."""
    offset = RECORDS_START
    while offset < size:
        step = ALIGNMENT
        try:
            header = unpack_header(handle.read(offset, HEADER_SIZE))
        except FormatUnknown:
            pass  # the inside of something, or free space
        except DataDamaged:
            yield offset, None
        else:
            yield offset, header
            step = max(ALIGNMENT, -(-header.length // ALIGNMENT) * ALIGNMENT)
        offset += step


def _record(offset: int, header: RecordHeader, name: str) -> RecordReport:
    return RecordReport(
        offset=offset,
        length=header.length,
        kind=name,
        codec=header.codec,
        cipher=header.cipher.value,
        pieces=header.pieces,
        raw=header.raw,
        point=header.stamp.point,
        generation=header.stamp.generation,
        number=header.stamp.number,
    )
