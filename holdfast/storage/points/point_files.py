"""The machine files of a restore point: small records that the contents page names, covered by the point's root."""

from collections.abc import Iterable, Sequence

import msgspec

from holdfast.errors import FileDamaged, PointNotFound, RequestInvalid, StoreFailed
from holdfast.formats.contents import Point, PointFile, RefText
from holdfast.formats.digests import page_digest
from holdfast.formats.magic import RecordKind
from holdfast.formats.pages import Ref
from holdfast.model.machine_files import FileLeftOut, MachineFile, MachineFiles
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.chain_files.tables import PageStore
from holdfast.storage.chains.chain import Chain
from holdfast.storage.points.begun_point import begun_point


def put_files(writer: ChainWriter, number: int, files: Sequence[MachineFile], point_id: str = "") -> Point:
    """Make these the machine files of a point that is being written, durably, in place of those it had. Idempotent.

    The files are within the limits of `holdfast.model.machine_files`. Raises `PointNotFound`, or `RequestInvalid` when
    the point is complete.
    """
    point = begun_point(writer.contents, number, point_id)
    if point is None:
        raise PointNotFound(f"file {writer.contents.file} has no point {number}")
    if point.complete:
        raise RequestInvalid(f"point {number} of {writer.handle.path.name} is complete")
    changed = point.with_files(_written(writer, point.machine_files, files))
    if changed != point:
        _replace(writer, changed)
        writer.commit()
    return changed


def _written(writer: ChainWriter, before: Sequence[PointFile], files: Sequence[MachineFile]) -> list[PointFile]:
    """Write the files that the point does not have yet; return all of them. Space of those that go is given back."""
    facts = {file.name: (len(file.content), page_digest(file.content, writer.keys.digest_key)) for file in files}
    kept = {
        file.name: file
        for file in before
        if not file.is_lost and facts.get(file.name) == (file.size, file.ref.ref.digest)
    }
    gone = [file.ref.ref for file in before if file.name not in kept and not file.is_lost]
    found = []
    for file in files:
        entry = kept.get(file.name)
        if entry is None:
            ref = writer.write_page(file.content, gone.pop() if gone else None, RecordKind.FILE)
            entry = PointFile(name=file.name, size=len(file.content), ref=_text(ref))
        found.append(entry)
    return found


def read_files(chain: Chain, number: int) -> MachineFiles:
    """Return the machine files of a complete point; those whose bytes are damaged are left out with the reason.

    Raises `PointNotFound`.
    """
    file, point = chain.point(number)
    found: list[MachineFile] = []
    left_out: list[FileLeftOut] = []
    for entry in point.machine_files:
        try:
            found.append(MachineFile(name=entry.name, content=file_bytes(file.store, entry)))
        except FileDamaged as error:
            left_out.append(FileLeftOut(name=entry.name, reason=error.message))
    return MachineFiles(files=tuple(found), left_out=tuple(left_out))


def file_bytes(store: PageStore, entry: PointFile) -> bytes:
    """Return the bytes of a machine file. Raises `FileDamaged`."""
    if entry.is_lost:
        raise FileDamaged(f"machine file {entry.name!r} was lost when the chain file was rebuilt")
    body = store.body(entry.ref.ref, RecordKind.FILE)
    if len(body) != entry.size:
        raise FileDamaged(f"machine file {entry.name!r} has {len(body)} bytes instead of {entry.size}")
    return body


def emptied(point: Point) -> Point:
    """Return the point with the places of its machine files taken out: their digests stay, which its root needs."""
    return point.with_files([_lost(file) for file in point.machine_files])


def move_files(old: PageStore, writer: ChainWriter, points: Iterable[Point]) -> tuple[str, ...]:
    """Bring machine files over from the file that ``old`` reads; return the names of those that are lost.

    The points are in the writer's contents, emptied. A lost file loses nothing else, so no error is raised.
    """
    lost: list[str] = []
    for point in points:
        moved = []
        for entry in point.machine_files:
            try:
                body = file_bytes(old, entry)
            except (FileDamaged, StoreFailed):
                lost.append(entry.name)
                moved.append(_lost(entry))
            else:
                ref = writer.write_page(body, None, RecordKind.FILE)
                moved.append(msgspec.structs.replace(entry, ref=_text(ref)))
        known = writer.contents.point(point.number)
        assert known is not None, "the points are those of the file"
        _replace(writer, known.with_files(moved))
    return tuple(lost)


def put_back(writer: ChainWriter, number: int, name: str, body: bytes) -> None:
    """Write a machine file of a complete point again; ``body`` has the digest that the point's root rests on."""
    point = writer.contents.point(number)
    assert point is not None, "the file is one of the point's"
    ref = _text(writer.write_page(body, None, RecordKind.FILE))
    files = (msgspec.structs.replace(file, ref=ref) if file.name == name else file for file in point.machine_files)
    _replace(writer, point.with_files(list(files)))


def _replace(writer: ChainWriter, point: Point) -> None:
    points = tuple(point if other.number == point.number else other for other in writer.contents.points)
    writer.contents = msgspec.structs.replace(writer.contents, points=points)


def _lost(file: PointFile) -> PointFile:
    return msgspec.structs.replace(file, ref=RefText(0, 0, file.ref.digest))


def _text(ref: Ref) -> RefText:
    return RefText(ref.offset, ref.length, ref.digest.hex())
