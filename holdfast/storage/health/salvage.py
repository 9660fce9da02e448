"""Rebuilds a chain file whose superblocks, contents or tables are lost, from its records alone.

Units and notes say which pieces of which disks they speak of (docs/formats/chain-file.md section 4), so a scan of the
file finds everything but the tables. The rebuilt file is a new one beside the old: units are moved byte by byte, maps
and roots are computed anew, and machine files are copied where they can be read. A point counts as rebuilt only when
its root is the one that the old contents page, the chain metadata or a child names; the damaged file is kept under
another name.

Memory grows with the number of pieces in the file, about 200 bytes each: this is a repair, not the hot path.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeAlias

import msgspec

from holdfast.errors import ChainBroken, DataDamaged, DataError, FileDamaged, FormatUnknown
from holdfast.faults import reach
from holdfast.formats.contents import Contents, FileDisk, Notes, Point, Table, Units, decode_contents
from holdfast.formats.digests import disk_tag, piece_digests
from holdfast.formats.keys import ChainKeys
from holdfast.formats.magic import (
    ALIGNMENT,
    PIECE_SIZE,
    RECORDS_START,
    ZERO_DIGEST,
    FileKind,
    RecordKind,
)
from holdfast.formats.record import HEADER_SIZE, PieceEntry, RecordHeader, RecordOpener, unpack_header, unpack_notes
from holdfast.storage.chain_files.chain_writer import ChainWriter, FileSpec
from holdfast.storage.chain_files.tables import PageStore
from holdfast.storage.chains.chain import Chain, StoredDisk
from holdfast.storage.files.atomic import FileHandle, Files
from holdfast.storage.points.point_files import emptied, move_files
from holdfast.storage.points.point_writer import complete_point, open_disk

DAMAGED_SUFFIX = ".damaged"
REBUILT_SUFFIX = ".rebuilt"


class SalvageReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a rebuild did."""

    file: str
    kept_as: str
    """Name of the damaged file."""
    points: tuple[int, ...]
    units: int
    unreadable_records: int
    lost_files: tuple[str, ...] = ()
    """Machine files whose bytes are gone. Their digests are kept, so the points they belong to are still proven."""


class _Found(msgspec.Struct):
    """What a scan of one file showed."""

    contents: Contents | None = None
    contents_order: tuple[int, int] = (0, 0)
    units: list[tuple[int, RecordHeader]] = []
    notes: list[tuple[int, RecordHeader]] = []
    unreadable: int = 0
    floors: dict[tuple[bytes, int], int] = {}
    """Of disks, by tag and point, that were begun again: records up to this generation do not count."""
    ceilings: dict[bytes, int] = {}
    """Of disks, by tag: the point that the file has of them. What a later one began and was given up does not count."""
    last: int = 0
    """Highest generation of any record, committed or not."""


class _Claim(msgspec.Struct, frozen=True):
    """The newest word on a piece. ``order`` is point, generation and number of the record."""

    order: tuple[int, int, int]
    digest: bytes


class _Word(NamedTuple):
    """What a record says of a piece."""

    header: RecordHeader
    digest: bytes


Claims: TypeAlias = dict[tuple[bytes, int], _Claim]


def free_damaged_name(files: Files, folder: Path, name: str) -> str:
    """Return the name that a damaged file gets; an earlier one of the same name keeps its own."""
    taken = set(files.names(folder))
    names = [name + DAMAGED_SUFFIX, *(f"{name}{DAMAGED_SUFFIX}-{count}" for count in range(2, len(taken) + 3))]
    return next(free for free in names if free not in taken)


def salvage_file(
    files: Files,
    path: Path,
    held: tuple[ChainKeys, FileHandle],
    siblings: Chain | None,
    expected_roots: dict[int, str],
) -> SalvageReport:
    """Rebuild the chain file at ``path``; ``siblings`` are the chain's other files, needed for an increment.

    ``held`` are the keys of the chain and its lock, which is let go of when the file is in its place.
    ``expected_roots`` gives the known point roots by number. Raises `FileDamaged` when the file holds too little, and
    `DataDamaged` when a rebuilt root is not the expected one; the file is then left as it is.
    """
    (keys, lock), rebuilt = held, path.with_name(path.name + REBUILT_SUFFIX)
    handle = files.open(path)
    try:
        found = _scan(handle, RecordOpener(keys.cipher, keys.record_key))
        if found.contents is None:
            raise FileDamaged(f"{path} holds no readable contents page")
        files.remove(rebuilt)
        old = found.contents
        found.floors = _floors(old, keys.digest_key)
        found.ceilings = _ceilings(old, keys.digest_key)
        spec = FileSpec(
            kind=FileKind[old.kind.upper()],
            unit_size=old.unit_size,
            contents=_emptied(old),
            after_generation=found.last,
            lock=lock,
        )
        with ChainWriter.create(files, rebuilt, spec, keys) as writer:
            claims, places = _move_units(handle, writer, found, keys)
            lost_files = move_files(PageStore(handle, writer.opener, keys.digest_key), writer, old.points)
            for point in old.points:
                _rebuild_point(writer, point, claims, places, siblings)
                written = complete_point(writer, point.number)
                wanted = expected_roots.get(point.number) or point.root
                if written.root != wanted:
                    raise DataDamaged(f"point {point.number} of {path} cannot be rebuilt: its root differs")
            report = SalvageReport(
                file=path.name,
                kept_as=free_damaged_name(files, path.parent, path.name),
                points=tuple(point.number for point in old.points),
                units=writer.next_unit,
                unreadable_records=found.unreadable,
                lost_files=lost_files,
            )
            files.rename(path, path.with_name(report.kept_as))
            reach("rebuild.kept")
            files.rename(rebuilt, path)
    except DataError:
        files.remove(rebuilt)  # nobody may take it for a file that could not take its place any more
        raise
    finally:
        handle.close()
    return report


def _scan(handle: FileHandle, opener: RecordOpener) -> _Found:
    found = _Found(units=[], notes=[])
    for offset, header in _headers(handle):
        order = (header.stamp.generation, header.stamp.number)
        found.last = max(found.last, header.stamp.generation)
        if header.kind == RecordKind.UNIT:
            found.units.append((offset, header))
        elif header.kind == RecordKind.NOTES:
            found.notes.append((offset, header))
        elif header.kind == RecordKind.PAGE and order >= found.contents_order:
            contents = _contents_in(handle, offset, header, opener)
            if contents is not None:
                found.contents, found.contents_order = contents, order
    return found


def _headers(handle: FileHandle) -> Iterator[tuple[int, RecordHeader]]:
    """Yield every place where a record header stands. A damaged record hides none behind it."""
    offset, size = RECORDS_START, handle.size()
    while offset < size:
        with suppress(FormatUnknown, DataDamaged):  # no record begins here
            yield offset, unpack_header(handle.read(offset, HEADER_SIZE))
        offset += ALIGNMENT


def _contents_in(handle: FileHandle, offset: int, header: RecordHeader, opener: RecordOpener) -> Contents | None:
    try:
        body = opener.page(handle.read(offset, header.length))
        if not body.startswith(b"{"):
            return None
        contents = decode_contents(body)
    except (DataDamaged, FileDamaged, FormatUnknown):
        return None
    return contents if contents.file == header.stamp.file_id.hex() else None


def _emptied(old: Contents) -> Contents:
    """Return the contents with everything that names a place in the file taken out."""
    points = tuple(
        msgspec.structs.replace(
            emptied(point),
            complete=False,
            root=None,
            disks=tuple(msgspec.structs.replace(disk, map=Table(), root=None, done=0) for disk in point.disks),
        )
        for point in old.points
    )
    disks = tuple(FileDisk(machine=disk.machine, key=disk.key) for disk in old.disks)
    return msgspec.structs.replace(
        old,
        units=Units(),
        digests=Table(),
        notes=Notes(),
        disks=disks,
        points=points,
        moving=msgspec.UNSET,  # units get other numbers
    )


def _move_units(
    handle: FileHandle, writer: ChainWriter, found: _Found, keys: ChainKeys
) -> tuple[Claims, dict[bytes, int]]:
    """Move every good unit; return the newest claim on each piece, and the place of each digest."""
    claims: Claims = {}
    places: dict[bytes, int] = {}
    for offset, header in _committed(found, found.units):
        record = handle.read(offset, header.length)
        entries = _good_entries(writer.opener, record, keys.digest_key)
        if entries is None:
            found.unreadable += 1
            continue
        number = writer.reserve_unit()
        gap = bytes(-len(record) % ALIGNMENT)
        writer.write_unit(number, header.stamp, [entry.digest for entry in entries], [record, gap])
        for slot, entry in enumerate(entries):
            places[entry.digest] = number * writer.pieces_per_unit + slot
            _claim(found, claims, (entry.disk_tag, entry.piece), _Word(header, entry.digest))
    _claim_notes(handle, writer.opener, found, claims)
    return claims, places


def _committed(found: _Found, records: list[tuple[int, RecordHeader]]) -> Iterator[tuple[int, RecordHeader]]:
    """Yield the records that the contents page stands for.

    Those that moved in from other files have their generations. They count once the file has their point.
    """
    contents, last = found.contents, found.contents_order[0]
    assert contents is not None, "looked for first"
    for offset, header in records:
        is_own = header.stamp.file_id.hex() == contents.file
        if header.stamp.point <= contents.holds[1] and (header.stamp.generation <= last or not is_own):
            yield offset, header


def _claim_notes(handle: FileHandle, opener: RecordOpener, found: _Found, claims: Claims) -> None:
    for offset, header in _committed(found, found.notes):
        try:
            notes = unpack_notes(opener.page(handle.read(offset, header.length), RecordKind.NOTES))
        except DataDamaged:
            found.unreadable += 1
            continue
        for note in notes:
            for piece in range(note.piece, note.piece + note.count):
                _claim(found, claims, (note.disk_tag, piece), _Word(header, note.digest))


def _good_entries(opener: RecordOpener, record: bytes, key: bytes) -> list[PieceEntry] | None:
    try:
        entries, body = opener.unit(record)
    except (DataDamaged, FormatUnknown):
        return None
    return entries if piece_digests(body, key) == [entry.digest for entry in entries] else None


def _floors(contents: Contents, key: bytes) -> dict[tuple[bytes, int], int]:
    return {
        (disk_tag(point.machine.machine_id, disk.key, key), point.number): disk.source.after
        for point in contents.points
        for disk in point.disks
        if disk.source is not msgspec.UNSET
    }


def _ceilings(contents: Contents, key: bytes) -> dict[bytes, int]:
    return {
        disk_tag(point.machine.machine_id, disk.key, key): point.number
        for point in contents.points
        for disk in point.disks
    }


def _claim(found: _Found, claims: Claims, piece: tuple[bytes, int], word: _Word) -> None:
    stamp = word.header.stamp
    if stamp.point > found.ceilings.get(piece[0], stamp.point):
        return
    if stamp.generation <= found.floors.get((piece[0], stamp.point), 0):
        return  # from before the disk was begun again
    order = (stamp.point, stamp.generation, stamp.number)
    known = claims.get(piece)
    if known is None or order > known.order:
        claims[piece] = _Claim(order, word.digest)


def _rebuild_point(
    writer: ChainWriter,
    point: Point,
    claims: Claims,
    places: dict[bytes, int],
    siblings: Chain | None,
) -> None:
    for disk in point.disks:
        tag = disk_tag(point.machine.machine_id, disk.key, writer.keys.digest_key)
        sink = open_disk(writer, point.number, disk.key, _parent_disk(writer.contents, point, siblings, disk.key))
        pieces = sorted(piece for owner, piece in claims if owner == tag)
        for piece in pieces:
            if piece * PIECE_SIZE >= disk.size:
                break
            sink.keep_until(piece)
            digest = claims[tag, piece].digest
            place = places.get(digest)
            if place is None and digest != ZERO_DIGEST:
                raise DataDamaged(f"piece {piece} of disk {disk.key} at point {point.number} is lost with its unit")
            sink.adopt(digest, place or 0)
        sink.keep_until(sink.pieces)
        sink.finish()


def _parent_disk(contents: Contents, point: Point, siblings: Chain | None, key: str) -> StoredDisk | None:
    if contents.parent is None or point.parent_root is None:
        return None
    if siblings is None:
        raise ChainBroken(f"file {contents.file} continues another one, which is not there")
    # In a file that machines share each point continues one of its own machine, and `parent` is that of the file.
    before = siblings.newest(point.machine.machine_id, point.number)
    parent = siblings.point(contents.parent.point)[1] if before is None else before[1]
    return siblings.disk(parent.number, key) if parent.disk(key) is not None else None
