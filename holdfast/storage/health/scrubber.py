"""Reads stored bytes again, span by span of a chain file, and says what is not as it was written.

Every record that begins in the span is read: units, tables, notes, machine files, the contents page, and with the
first span both superblocks. Units are compared with their checksum, or their tag where they are encrypted, and with
what the digest table says of them; a deep look decodes them and compares every piece with its digest, as a restore
does. Everything else is compared with the digest by which it is named.

Of each unit eight bytes are held while a file is read.
"""

from array import array
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec

from holdfast.errors import DataDamaged, FileDamaged, FormatUnknown, StoreFailed
from holdfast.formats.contents import Table
from holdfast.formats.magic import RECORDS_START, UNITS_PER_PAGE, RecordKind
from holdfast.formats.pages import Ref, get_unit, units_page
from holdfast.pipeline.buffers import keep_freed_blocks
from holdfast.pipeline.flow import in_order
from holdfast.pipeline.restore import checked_unit
from holdfast.storage.chain_files.chain_file import ChainFile, read_states
from holdfast.storage.chain_files.tables import table_refs

_WINDOW: Final = 16
_NOWHERE: Final = (1 << 64) - 1
_SLOTS: Final = 2
_DAMAGE: Final = (DataDamaged, FileDamaged, FormatUnknown, StoreFailed)


class SpanRead(msgspec.Struct, frozen=True, kw_only=True):
    """What reading a span has shown."""

    checked_bytes: int
    """Of records."""
    units: dict[int, str]
    """Damaged ones by number, with the reason."""
    problem: str = ""
    """What is wrong with tables or superblocks; empty when nothing is."""


class _Named(msgspec.Struct, frozen=True):
    """A record that is no unit."""

    ref: Ref
    kind: RecordKind


class FileScrub:
    """Reads a complete chain file again; use it for all spans of the file, one after the other.

    What is cached is dropped first, so that the medium is looked at, unless it is read ``from_cache``. ``before_read``
    gets the length of each record before it is read, from several threads; it may wait, and what it raises ends the
    reading.
    """

    def __init__(
        self,
        file: ChainFile,
        before_read: Callable[[int], None],
        *,
        is_deep: bool = False,
        from_cache: bool = False,
        threads: int = 2,
    ) -> None:
        keep_freed_blocks()
        self._file = file
        self._before_read = before_read
        self._is_deep = is_deep
        self._from_cache = from_cache
        self._threads = threads
        self._problems: list[str] = []
        self._lost: dict[int, str] = {}
        self._named = self._find_named()
        self._offsets = self._find_units()

    def read(self, start: int, end: int) -> SpanRead:
        """Read every record that begins in ``[start, end)``."""
        problems, self._problems = self._problems, []
        bad, self._lost = self._lost, {}
        self._forget(start, end)
        if start < RECORDS_START:
            problems += self._superblocks()
        checked = 0
        with ThreadPoolExecutor(self._threads, thread_name_prefix="scrub") as pool:
            for number, length, reason in in_order(pool, self._unit, self._units_in(start, end), _WINDOW):
                checked += length
                if reason is not None:
                    bad[number] = reason
            # The contents page of the other superblock may lie behind the end that this one states.
            limit = end if end < self._file.superblock.end else _NOWHERE
            named = (one for one in self._named if start <= one.ref.offset < limit)
            for length, reason in in_order(pool, self._other, named, _WINDOW):
                checked += length
                problems += [] if reason is None else [reason]
        self._forget(start, end)  # nobody wants it soon, and other things are wanted
        return SpanRead(checked_bytes=checked, units=bad, problem="; ".join(dict.fromkeys(problems)))

    def tables(self, *, needed_only: bool = False) -> str:
        """Read everything but units and machine files; return what is wrong, empty when nothing is.

        With ``needed_only`` what no restore needs does not count: notes, and the second superblock and contents page.
        """
        problems = list(self._problems) if needed_only else self._problems + self._superblocks()
        roots = {block.root for _, block in read_states(self._file.handle, None, self._file.keys)}
        for named in self._named:
            is_spare = needed_only and (named.kind is RecordKind.NOTES or named.ref in roots)
            reason = None if is_spare or named.kind is RecordKind.FILE else self._other(named)[1]
            problems += [] if reason is None else [reason]
        return "; ".join(dict.fromkeys(problems))

    def _forget(self, start: int, end: int) -> None:
        """Let the kernel forget what it has of the span: what is looked at is the medium."""
        if not self._from_cache:
            self._file.handle.forget(start, end - start)

    def lies_in(self, number: int, start: int, end: int) -> bool:
        """Return whether a unit begins in ``[start, end)``."""
        return number < len(self._offsets) and start <= self._offsets[number] < end

    def _unit(self, number: int) -> tuple[int, int, str | None]:
        try:
            length = self._file.unit_length(number)
            self._before_read(length)
            self._check_unit(number)
        except _DAMAGE as error:
            return number, 0, error.message
        return number, length, None

    def _check_unit(self, number: int) -> None:
        """Read a unit; one that is not as it should be is read again, since it may be the way and not the medium."""
        try:
            self._look_at(number)
        except _DAMAGE:
            entry = self._file.unit(number)
            if entry is not None:
                self._file.handle.forget(entry.offset, entry.length)
            self._look_at(number)

    def _look_at(self, number: int) -> None:
        if self._is_deep:
            checked_unit(self._file, number, self._file.keys.digest_key)
        else:
            self._file.sealed_unit(number)

    def _other(self, named: _Named) -> tuple[int, str | None]:
        self._before_read(named.ref.length)
        try:
            self._file.store.body(named.ref, named.kind)
        except _DAMAGE as error:
            return 0, error.message
        return named.ref.length, None

    def _superblocks(self) -> list[str]:
        """Return what is wrong with the superblocks: a complete file says the same in both."""
        states = read_states(self._file.handle, None, self._file.keys)
        if len(states) < _SLOTS:
            return [f"{self._file.path.name} has lost one of its two superblocks"]
        return []

    # -- what there is -------------------------------------------------------------------------------------------

    def _units_in(self, start: int, end: int) -> Iterator[int]:
        """Yield the units of a span in the order in which they lie."""
        found = [(offset, number) for number, offset in enumerate(self._offsets) if start <= offset < end]
        return (number for _, number in sorted(found))

    def _find_units(self) -> "array[int]":
        """Return where each unit begins; those whose page of the table cannot be read are lost."""
        file = self._file
        offsets = array("Q", (_NOWHERE,)) * file.contents.units.count
        missing = set(range(0, len(offsets), UNITS_PER_PAGE))
        for index, ref in self._refs(file.contents.units.table):
            if index is not None and self._enter_page(offsets, index * UNITS_PER_PAGE, ref):
                missing.discard(index * UNITS_PER_PAGE)
        if self._problems:
            lost = (range(first, min(first + UNITS_PER_PAGE, len(offsets))) for first in missing)
            self._lost = {number: "its entry in the units table is lost" for page in lost for number in page}
        return offsets

    def _enter_page(self, offsets: "array[int]", first: int, ref: Ref) -> bool:
        try:
            page = self._file.store.decoded(ref, units_page)
        except _DAMAGE as error:
            self._problems.append(error.message)
            return False
        for at in range(min(UNITS_PER_PAGE, len(offsets) - first)):
            unit = get_unit(page, at)
            if unit is not None:
                offsets[first + at] = unit.offset
        return True

    def _find_named(self) -> list[_Named]:
        """Return every record but units that the file names."""
        contents = self._file.contents
        tables = [contents.units.table, contents.digests, *(disk.pieces for disk in contents.disks)]
        tables += [disk.map for point in contents.points for disk in point.disks]
        found = [_Named(ref, RecordKind.PAGE) for table in tables for _, ref in self._refs(table)]
        for index, ref in self._refs(contents.notes.table):
            found.append(_Named(ref, RecordKind.PAGE if index is None else RecordKind.NOTES))
        files = (entry for point in contents.points for entry in point.machine_files if not entry.is_lost)
        found += [_Named(entry.ref.ref, RecordKind.FILE) for entry in files]
        found += [
            _Named(block.root, RecordKind.PAGE) for _, block in read_states(self._file.handle, None, self._file.keys)
        ]
        return sorted(found, key=lambda one: one.ref.offset)

    def _refs(self, table: Table) -> Iterator[tuple[int | None, Ref]]:
        """Yield the refs of a table as far as its directories can be read."""
        try:
            yield from table_refs(self._file.store, table)
        except _DAMAGE as error:
            self._problems.append(error.message)
