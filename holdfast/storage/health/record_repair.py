"""Stores lost machine files and notes of a chain file again, in fresh space of the same file.

A machine file is taken from wherever the same bytes are: at another point, in another chain, in a copy. Notes are
taken from a copy of the file; else they are made anew: units say which pieces they were written for, and what the
tables say beyond that is what notes have to tell. Nothing that any commit names is written over, and roots stay.

Memory grows with the number of pieces in the file when notes are made anew, about 200 bytes each.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

import msgspec

from holdfast.errors import (
    ChainBroken,
    DataDamaged,
    FileDamaged,
    FormatUnknown,
    PointNotFound,
    StoreFailed,
)
from holdfast.faults import reach
from holdfast.formats.contents import Point, PointFile
from holdfast.formats.digests import disk_tag, page_digest
from holdfast.formats.magic import NEVER_WRITTEN, ZERO_DIGEST, RecordKind
from holdfast.formats.pages import Ref
from holdfast.formats.record import Note, pack_notes
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chain_files.rewriter import ChainRewriter
from holdfast.storage.chain_files.tables import table_refs
from holdfast.storage.chains.chain import Chain, StoredDisk
from holdfast.storage.files.atomic import Files
from holdfast.storage.points.point_files import file_bytes, put_back

_DAMAGE: Final = (ChainBroken, DataDamaged, FileDamaged, FormatUnknown, PointNotFound, StoreFailed)
NOTES_AT_ONCE: Final = 1 << 16
"""Most notes of a file that are made anew."""


Told: TypeAlias = dict[tuple[bytes, int], set[bytes]]
"""Digests that units tell of pieces, by tag of the disk and number of the piece."""


class LostRecords(msgspec.Struct, frozen=True, kw_only=True):
    """What is damaged in a chain file that no disk needs."""

    files: tuple[tuple[Point, PointFile], ...] = ()
    notes: tuple[tuple[int, Ref], ...] = ()
    """By their number in the table of the notes."""


class RecordsRepaired(msgspec.Struct, frozen=True, kw_only=True):
    """What was stored again."""

    files: tuple[str, ...] = ()
    """Names of machine files."""
    notes: int = 0
    """Records of notes."""


def lost_records(file: ChainFile) -> LostRecords:
    """Return the machine files and notes of a chain file that cannot be read."""
    entries = ((point, entry) for point in file.contents.points for entry in point.machine_files)
    try:
        refs = [pair for pair in table_refs(file.store, file.contents.notes.table) if pair[0] is not None]
    except _DAMAGE:
        refs = []  # a lost directory takes a rebuild of the file
    return LostRecords(
        files=tuple((point, entry) for point, entry in entries if not _is_there(file, entry)),
        notes=tuple((index, ref) for index, ref in refs if index is not None and not _has_notes(file, ref)),
    )


class RecordRepair:
    """Repairs one complete chain file of a chain. Raises `ChainBusy` when the chain is written."""

    def __init__(self, files: Files, chain: Chain, file: ChainFile, others: Sequence[Chain]) -> None:
        self._files = files
        self._chain = chain
        self._file = file
        self._others = others

    def run(self, lost: LostRecords) -> RecordsRepaired:
        """Store again what is found of the lost records, durably."""
        file = self._file
        bodies = [(point, entry.name, self._machine_file(entry)) for point, entry in lost.files]
        found = [(point, name, body) for point, name, body in bodies if body is not None]
        notes = self._notes(lost)
        if not found and not notes:
            return RecordsRepaired()
        with ChainRewriter.resume(self._files, file.path, None, file.keys) as writer:
            writer.spare_readers()
            writer.stamp(file.contents.holds[1])  # what is written now is the last word on the file's points
            for point, name, body in found:
                put_back(writer, point.number, name, body)
            for index, body in notes:
                writer.put_notes(index, body)
            reach("repair.records")
            writer.commit_whole()
            writer.commit_whole()
        return RecordsRepaired(files=tuple(name for _, name, _ in found), notes=len(notes))

    # -- machine files -------------------------------------------------------------------------------------------

    def _machine_file(self, lost: PointFile) -> bytes | None:
        key, digest = self._file.keys.digest_key, lost.ref.ref.digest
        for chain in (self._chain, *self._others):
            for file in chain.files:
                entries = (entry for point in file.contents.points for entry in point.machine_files)
                for entry in entries:
                    body = _content(file, entry) if entry.size == lost.size else None
                    if body is not None and page_digest(body, key) == digest:
                        return body
        return None

    # -- notes ---------------------------------------------------------------------------------------------------

    def _notes(self, lost: LostRecords) -> list[tuple[int, bytes]]:
        """Return the bodies of lost notes, with their numbers."""
        if not lost.notes:
            return []
        copied = [(index, self._copied(ref)) for index, ref in lost.notes]
        found = [(index, body) for index, body in copied if body is not None]
        if len(found) == len(copied):
            return found
        try:
            made = list(_untold(self._chain, self._file))
        except _DAMAGE:
            return found  # units or tables are damaged, too: what the notes said is not to be told from them
        if len(made) > NOTES_AT_ONCE:
            return found
        # All that is untold goes into the first; the others have nothing to say any more.
        return [(index, pack_notes(made if at == 0 else [])) for at, (index, _) in enumerate(lost.notes)]

    def _copied(self, lost: Ref) -> bytes | None:
        for chain in self._others:
            for file in chain.files:
                if file.contents.file == self._file.contents.file:
                    for body in _notes_of(file):
                        if page_digest(body, self._file.keys.digest_key) == lost.digest:
                            return body
        return None


def _untold(chain: Chain, file: ChainFile) -> Iterator[Note]:
    """Yield what the tables of a file say of its point and units do not, so that notes have to.

    Raises what reading damaged units or tables raises, and `FileDamaged` for a file whose notes cannot be told so.
    """
    if file.is_rollback or len(file.contents.points) != 1:
        raise FileDamaged(f"notes of {file.path} cannot be made anew")
    [point] = file.contents.points
    told = _told(file)
    for disk in point.disks:
        tag = disk_tag(point.machine.machine_id, disk.key, file.keys.digest_key)
        stored = chain.disk(point.number, disk.key)
        yield from _untold_pieces(file, stored, tag, told)
        yield from _untold_zeros(stored, _disk_before(chain, point, disk.key), tag, told)


def _untold_pieces(file: ChainFile, stored: StoredDisk, tag: bytes, told: Told) -> Iterator[Note]:
    """Yield the pieces that the file holds and no unit was written for, or several with different bytes."""
    first, last = file.contents.holds
    index = file.contents.disk_index(stored.point.machine.machine_id, stored.disk.key)
    if index is None:
        return  # the file holds nothing of the disk
    for start, count, writer in stored.writers(0, stored.pieces):
        for piece in range(start, start + count) if first <= writer <= last else ():
            place = file.place(index, piece)
            if place is None:
                raise FileDamaged(f"piece {piece} of disk {stored.disk.key} is not in {file.path}")
            digest = file.digest(place)
            if told.get((tag, piece)) != {digest}:
                yield Note(tag, piece, 1, digest)


def _untold_zeros(stored: StoredDisk, parent: StoredDisk | None, tag: bytes, told: Told) -> Iterator[Note]:
    """Yield the pieces that are zeros though the parent point, or a unit, has something there."""
    pieces = sorted(piece for owner, piece in told if owner == tag)
    for start, count, writer in stored.writers(0, stored.pieces):
        if writer != NEVER_WRITTEN:
            continue
        end = start + count
        inside = pieces[bisect_left(pieces, start) : bisect_left(pieces, end)]
        yield from (Note(tag, piece, 1, ZERO_DIGEST) for piece in inside)
        runs = () if parent is None else parent.writers(start, min(end, parent.pieces))
        for first, length, before in runs:
            if before != NEVER_WRITTEN:
                yield Note(tag, first, length, ZERO_DIGEST)


def _disk_before(chain: Chain, point: Point, key: str) -> StoredDisk | None:
    """Return the disk at the point before of the same machine, which need not be the one that the file continues."""
    before = chain.newest(point.machine.machine_id, point.number)
    if before is None or before[1].disk(key) is None:
        return None
    return chain.disk(before[1].number, key)


def _told(file: ChainFile) -> Told:
    """Return which digests the units of a file tell of each piece, whatever their order."""
    told: Told = {}
    for number in range(file.contents.units.count):
        if file.unit(number) is not None:
            entries, _ = file.read_unit(number)
            for entry in entries:
                told.setdefault((entry.disk_tag, entry.piece), set()).add(entry.digest)
    return told


def _notes_of(file: ChainFile) -> Iterator[bytes]:
    try:
        for index, ref in table_refs(file.store, file.contents.notes.table):
            if index is not None:
                yield file.store.body(ref, RecordKind.NOTES)
    except _DAMAGE:
        return  # the copy is damaged, too


def _content(file: ChainFile, entry: PointFile) -> bytes | None:
    try:
        return file_bytes(file.store, entry)
    except (FileDamaged, StoreFailed):
        return None


def _is_there(file: ChainFile, entry: PointFile) -> bool:
    return _content(file, entry) is not None


def _has_notes(file: ChainFile, ref: Ref) -> bool:
    try:
        file.store.body(ref, RecordKind.NOTES)
    except _DAMAGE:
        return False
    return True
