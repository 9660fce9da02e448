"""A look at one chain folder, whatever its state: files, points, what rests on what, what is kept, what is known wrong.

Tables are read, disks are not: what a damaged unit takes along is found by `holdfast.storage.health.folder` alone.
"""

import struct
from pathlib import Path

import msgspec

from holdfast.errors import ChainBroken, DataError, PassphraseWrong, RepositoryError
from holdfast.formats.chain_health import ChainHealth
from holdfast.formats.chain_metadata import ChainMetadata, MetadataFile
from holdfast.formats.contents import Point
from holdfast.formats.keys import ChainKeys
from holdfast.formats.magic import NEVER_WRITTEN, PIECE_SIZE
from holdfast.formats.pages import units_page
from holdfast.model.chain_view import ChainView, FileView, PointView
from holdfast.model.points import Health
from holdfast.model.retention import PointNote
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chain_files.tables import table_refs
from holdfast.storage.chains.chain import Chain, chain_file_names
from holdfast.storage.chains.keeping import read_notes
from holdfast.storage.chains.metadata import METADATA_NAME, check_against_metadata, check_links, keys_of, read_metadata
from holdfast.storage.files.atomic import Files
from holdfast.storage.health.folder import open_readable
from holdfast.storage.health.health_file import read_health

_ROLLBACK = "rollback"
_WRITER_OF_UNIT = struct.Struct("<8xII")


def look_at_chain(files: Files, folder: Path, name: str, passphrase: str | None = None) -> ChainView:
    """Return what a chain folder shows. ``name`` is what the chain is called by the caller.

    Raises `ChainBroken` when the folder holds neither a chain file nor metadata, `PassphraseWrong`, and errors of
    access.
    """
    chain, lost = _opened(files, folder, passphrase)
    with chain:
        keys = keys_of(files, chain, passphrase)
        metadata, troubles = _metadata(files, chain, passphrase)
        notes, problems = _notes(files, folder, keys)
        troubles += problems
        missing = _missing(chain, lost, metadata)
        if not missing:
            troubles += _links(chain, metadata)
        views = [_file_view(chain, file) for file in chain.files]
        views += [_lost_view(file, reason, metadata) for file, reason in missing.items()]
        return ChainView(
            name=name,
            id=keys.chain_id.hex(),
            is_encrypted=bool(keys.cipher),
            unit_size=chain.files[0].superblock.unit_size if chain.files else 0,
            files=tuple(_with_notes(view, notes, read_health(files, folder)) for view in sorted(views, key=_by_name)),
            troubles=tuple(troubles),
            leftovers=tuple(sorted(path.name for path in (*chain.superseded, *chain.empty))),
        )


def is_chain_folder(files: Files, folder: Path) -> bool:
    """Return whether a folder holds files of a chain."""
    return bool(chain_file_names(files, folder)) or files.exists(folder / METADATA_NAME)


def _opened(files: Files, folder: Path, passphrase: str | None) -> tuple[Chain, dict[str, str]]:
    """Open what can be opened; return it and why the other files cannot."""
    try:
        chain = Chain.open(files, folder, passphrase)
    except PassphraseWrong:
        raise
    except DataError:
        chain, problems = open_readable(files, folder, passphrase)
        return chain, {problem.name: problem.error.message for problem in problems}
    return chain, {lost.path.name: lost.error.message for lost in chain.unreadable}


def _metadata(files: Files, chain: Chain, passphrase: str | None) -> tuple[ChainMetadata | None, list[str]]:
    try:
        metadata = read_metadata(files, chain.folder, keys_of(files, chain, passphrase))
    except DataError as error:
        return None, [error.message]
    return metadata, [] if metadata is not None else [f"{METADATA_NAME} is missing"]


def _links(chain: Chain, metadata: ChainMetadata | None) -> list[str]:
    try:
        if metadata is None:
            check_links(chain)
        else:
            check_against_metadata(chain, metadata)
    except ChainBroken as error:
        return [error.message]
    return []


def _missing(chain: Chain, lost: dict[str, str], metadata: ChainMetadata | None) -> dict[str, str]:
    """Return the files that cannot be opened, and those that the metadata names and that are not there, with why."""
    opened = {file.contents.file for file in chain.files}
    gone = [] if metadata is None else [f for f in metadata.files if f.complete and f.file not in opened]
    leaving = () if metadata is None or not metadata.leaving else metadata.leaving.files
    return {f.name: "the file is missing" for f in gone if f.file not in leaving} | lost


def _notes(files: Files, folder: Path, keys: ChainKeys) -> tuple[dict[str, PointNote], list[str]]:
    try:
        return {note.point_id: note for note in read_notes(files, folder, keys).points}, []
    except DataError as error:
        return {}, [error.message]


def _with_notes(view: FileView, notes: dict[str, PointNote], health: ChainHealth) -> FileView:
    """Return the same with what keeps its points, and what a check or a scrub found wrong with them."""
    return msgspec.structs.replace(view, points=tuple(_noted(point, notes, health) for point in view.points))


def _noted(point: PointView, notes: dict[str, PointNote], health: ChainHealth) -> PointView:
    note, mark = notes.get(point.id), health.mark(point.number)
    damage = "" if mark is None or mark.state is Health.USABLE else f"found damaged: {mark.reason}"
    return msgspec.structs.replace(
        point,
        marks=() if note is None else tuple(mark.kind.value for mark in note.marks),
        locked_until=None if note is None else note.locked_until,
        archive=None if note is None else note.archive,
        is_quick=note is not None and note.is_quick,
        trouble=point.trouble or damage,
    )


def _by_name(view: FileView) -> str:
    return view.name


def _file_view(chain: Chain, file: ChainFile) -> FileView:
    return FileView(
        name=file.path.name,
        kind=file.contents.kind,
        size_bytes=file.superblock.end,
        is_complete=file.is_complete,
        points=tuple(_point_view(chain, file, point) for holder, point in chain.points() if holder is file),
    )


def _point_view(chain: Chain, file: ChainFile, point: Point) -> PointView:
    stored = changed = 0
    trouble = ""
    try:
        if file.contents.kind == _ROLLBACK:
            stored = _stored_bytes(file, None)
        else:
            stored = _stored_bytes(chain.holder(point.number), point.number)
        if point.complete:
            changed = sum(_changed_bytes(chain, file, point, disk.key) for disk in point.disks)
    except (DataError, RepositoryError) as error:
        trouble = error.message
    return PointView(
        number=point.number,
        id=point.id,
        machine=point.machine.name,
        created=point.created,
        is_complete=point.complete,
        size_bytes=sum(disk.size for disk in point.disks),
        changed_bytes=changed,
        stored_bytes=stored,
        needs=_needed(chain, file),
        trouble=trouble,
    )


def _needed(chain: Chain, file: ChainFile) -> int | None:
    """Return the point that a file's points cannot do without: the one before, of a rollback file the one behind."""
    if file.contents.kind == _ROLLBACK:
        behind = [point.number for _, point in chain.points() if point.number > file.contents.holds[1]]
        return min(behind, default=None)
    return None if file.contents.parent is None else file.contents.parent.point


def _stored_bytes(file: ChainFile, number: int | None) -> int:
    """Return the bytes of the units that a point wrote, None standing for any. Raises `FileDamaged`."""
    total = 0
    for index, ref in table_refs(file.store, file.contents.units.table):
        if index is not None:
            page = file.store.decoded(ref, units_page)
            total += sum(length for length, writer in _WRITER_OF_UNIT.iter_unpack(page) if number in {None, writer})
    return total


def _changed_bytes(chain: Chain, file: ChainFile, point: Point, key: str) -> int:
    stored = chain.disk(point.number, key)
    if file.contents.kind == _ROLLBACK:
        # What a later point put something else in place of.
        return PIECE_SIZE * sum(run.count for run in stored.runs(0, stored.pieces) if run.file is file)
    is_first = point.parent_root is None
    return PIECE_SIZE * sum(
        count
        for _, count, writer in stored.writers(0, stored.pieces)
        if writer == point.number or (is_first and writer != NEVER_WRITTEN)
    )


def _lost_view(name: str, reason: str, metadata: ChainMetadata | None) -> FileView:
    """Return what the metadata says of a file that cannot be opened; its name says a little without."""
    listed: MetadataFile | None = next((f for f in metadata.files if f.name == name), None) if metadata else None
    kind = name.partition("-")[2].partition(".")[0]
    if metadata is None or listed is None:
        return FileView(name=name, kind=kind, trouble=reason, is_complete=False)
    points = tuple(
        PointView(
            number=point.number,
            id=point.id,
            machine=point.machine_name,
            created=point.created,
            is_complete=point.complete,
            size_bytes=0,
            trouble=reason,
        )
        for point in metadata.points
        if point.file == listed.file
    )
    return FileView(
        name=name, kind=listed.kind, size_bytes=listed.size, is_complete=listed.complete, points=points, trouble=reason
    )
