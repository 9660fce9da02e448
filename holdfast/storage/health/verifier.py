"""Verification: every stored byte is read and compared, and damage is named by point, disk and offset.

Units are checked once each, however many points use them; then each point's maps tell which spans of which disks the
damage hits. The digests of all pieces are compared with those of the segments, which the roots rest on: this finds
pieces that are intact and not those of the point. Machine files are read whole. A place of the storage that cannot be
read is damage like any other.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import msgspec

from holdfast.errors import ChainBroken, DataDamaged, FileDamaged, StoreFailed
from holdfast.formats.contents import Point, PointDisk
from holdfast.formats.digests import disk_root, point_root, segment_digest
from holdfast.formats.magic import DIGEST_SIZE, PIECE_SIZE, PIECES_PER_PAGE, PIECES_PER_SEGMENT
from holdfast.model.ids import DiskKey
from holdfast.model.points import Damage, VerifyReport
from holdfast.model.spans import Span, coalesce
from holdfast.pipeline.buffers import keep_freed_blocks
from holdfast.pipeline.flow import in_order
from holdfast.pipeline.restore import checked_unit
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chains.chain import Chain, PieceRun, StoredDisk, UnreadableFile
from holdfast.storage.points.point_files import file_bytes

BadUnits: TypeAlias = dict[str, dict[int, str]]
"""Units that cannot be read, by id of the file and number, with the reason."""

_WINDOW = 8
_THREADS = 2
_SEGMENT_DIGESTS = PIECES_PER_SEGMENT * DIGEST_SIZE
_DAMAGES_MAX = 10_000
"""How many damaged spans a report names; more are counted."""


class Findings:
    """What a look at a chain has found: more than a report names, and by number."""

    def __init__(self) -> None:
        self.units: BadUnits = {}
        """Units that were read and are damaged."""
        self.points: dict[int, str] = {}
        """Why points are damaged."""


class _Check:
    def __init__(self, chain: Chain, found: Findings | None) -> None:
        self.chain = chain
        self.found = found if found is not None else Findings()
        self.bad_units: dict[int, dict[int, str]] = {id(file): {} for file in chain.files}
        self.damages: list[Damage] = []
        self.unnamed = self.units = self.stored = 0

    def add(self, damage: Damage) -> None:
        self.found.points.setdefault(damage.point, damage.reason)
        if len(self.damages) < _DAMAGES_MAX:
            self.damages.append(damage)
        else:
            self.unnamed += 1


def verify_chain(
    chain: Chain,
    report: Callable[[int], None],
    *,
    numbers: Iterable[int] | None = None,
    found: Findings | None = None,
    is_new_only: bool = False,
) -> VerifyReport:
    """Check complete points of a chain, all or those with the given numbers.

    ``report`` gets the stored bytes checked so far, now and then; what it raises stops the verification. ``found``
    gets all that is damaged. With ``is_new_only`` of the units only those are read that the file of a point holds;
    maps, tables and digests are compared in any case.
    """
    keep_freed_blocks()
    wanted = None if numbers is None else set(numbers)
    points = _complete(chain, wanted)
    check = _Check(chain, found)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="verify") as pool:
        units = _all_units(chain) if wanted is None else _units_of(check, points, is_new_only=is_new_only)
        _check_units(check, pool, units, report)
    bad = {file.contents.file: check.bad_units[id(file)] for file in chain.files}
    check.found.units |= {file_id: units for file_id, units in bad.items() if units}
    return _check_points(check, points)


def assess_damage(
    chain: Chain, bad: BadUnits, numbers: Iterable[int] | None = None, found: Findings | None = None
) -> VerifyReport:
    """Return which spans of which points the damaged units take; of units nothing is read.

    Maps and tables of the points are read and compared with their digests and roots.
    """
    check = _Check(chain, found)
    for file in chain.files:
        check.bad_units[id(file)] |= bad.get(file.contents.file, {})
    return _check_points(check, _complete(chain, None if numbers is None else set(numbers)))


def _complete(chain: Chain, wanted: set[int] | None) -> list[Point]:
    return [point for _, point in chain.points() if point.complete and (wanted is None or point.number in wanted)]


def _check_points(check: _Check, points: list[Point]) -> VerifyReport:
    chain = check.chain
    for point in points:
        _check_point(check, point)
    for lost in chain.unreadable:
        check.add(_unreadable(check, lost))
    return VerifyReport(
        points=len(points),
        units=check.units,
        stored_bytes=check.stored,
        damages=tuple(check.damages),
        unnamed_damages=check.unnamed,
    )


def _check_units(
    check: _Check,
    pool: ThreadPoolExecutor,
    units: Iterable[tuple[ChainFile, int]],
    report: Callable[[int], None],
) -> None:
    def problem(item: tuple[ChainFile, int]) -> tuple[ChainFile, int, int, str | None]:
        file, number = item
        try:
            entry = file.unit(number)
            checked_unit(file, number, file.keys.digest_key)
        except (DataDamaged, FileDamaged, StoreFailed) as error:
            return file, number, 0, error.message
        return file, number, 0 if entry is None else entry.length, None

    for file, number, length, reason in in_order(pool, problem, units, _WINDOW):
        check.units += 1
        check.stored += length
        if reason is not None:
            check.bad_units[id(file)][number] = reason
        report(check.stored)


def _all_units(chain: Chain) -> Iterator[tuple[ChainFile, int]]:
    """Yield every unit that a piece table speaks of, file by file in ascending order."""
    for file in chain.files:
        seen = bytearray(file.contents.units.count)
        for index, disk in enumerate(file.contents.disks):
            for number in _numbers(_table_runs(file, index, disk.key), file.pieces_per_unit, seen):
                yield file, number


def _table_runs(file: ChainFile, index: int, key: str) -> Iterator[tuple[int, int]]:
    sizes = [d.size for p in file.contents.points for d in p.disks if d.key == key]
    pages = -(-max(sizes, default=0) // (PIECES_PER_PAGE * PIECE_SIZE))
    for page in range(pages):
        try:
            table = file.pieces_page(index, page)
        except (FileDamaged, StoreFailed):
            continue  # every point that needs the page reports it when its own pieces are looked up
        for _, count, place in table or ():
            yield place, count


def _numbers(runs: Iterable[tuple[int, int]], per_unit: int, seen: bytearray) -> Iterator[int]:
    for place, count in runs:
        for number in range(place // per_unit, (place + count - 1) // per_unit + 1):
            if number >= len(seen):
                yield number  # there is no such unit, which is damage
            elif not seen[number]:
                seen[number] = 1
                yield number


def _units_of(check: _Check, points: Iterable[Point], *, is_new_only: bool) -> Iterator[tuple[ChainFile, int]]:
    """Yield every unit that the given points use, or of those the ones in the points' own files, each once."""
    seen = {id(file): bytearray(file.contents.units.count) for file in check.chain.files}
    for point in points:
        for disk in point.disks:
            for run in _runs_until_broken(check.chain, point, disk):
                is_old = is_new_only and run.file is not None and run.file.contents.point(point.number) is None
                if run.file is not None and not is_old:
                    per_unit = run.file.pieces_per_unit
                    for number in _numbers([(run.place, run.count)], per_unit, seen[id(run.file)]):
                        yield run.file, number


def _runs_until_broken(chain: Chain, point: Point, disk: PointDisk) -> Iterator[PieceRun]:
    try:
        stored = chain.disk(point.number, disk.key)
        yield from stored.runs(0, stored.pieces)
    except (ChainBroken, FileDamaged, StoreFailed):
        return  # `_check_point` walks the same runs and reports what stops it


def _check_point(check: _Check, point: Point) -> None:
    roots = []
    for disk in point.disks:
        try:
            stored = check.chain.disk(point.number, disk.key)
            root = disk_root(disk.size, stored.segment_digests(), _digest_key(check.chain))
            if root.hex() != disk.root:
                check.add(_whole(check, point, disk.key, "the disk root does not match the map"))
            roots.append((disk.key, root))
            _check_spans(check, point, stored)
            _check_segments(check, point, stored)
        except (ChainBroken, FileDamaged, StoreFailed) as error:
            check.add(_whole(check, point, disk.key, error.message))
            roots.append((disk.key, b""))
    _check_files(check, point)
    parent = None if point.parent_root is None else bytes.fromhex(point.parent_root)
    found = point_root(bytes.fromhex(point.id), parent, roots, _digest_key(check.chain), point.file_facts)
    if found.hex() != point.root and all(root for _, root in roots):
        check.add(_whole(check, point, "", "the point root does not match the disks and files"))


def _check_files(check: _Check, point: Point) -> None:
    file, _ = check.chain.point(point.number)
    for entry in point.machine_files:
        try:
            file_bytes(file.store, entry)
            check.stored += entry.ref.length
        except (FileDamaged, StoreFailed) as error:
            reason = f"machine file {entry.name!r}: {error.message}"
            check.add(msgspec.structs.replace(_whole(check, point, "", reason), file=file.path.name))


def _check_spans(check: _Check, point: Point, stored: StoredDisk) -> None:
    for run in stored.runs(0, stored.pieces):
        if run.file is None:
            continue
        bad = check.bad_units[id(run.file)]
        if not bad:
            continue
        per_unit = run.file.pieces_per_unit
        spans = (
            Span((run.piece + at) * PIECE_SIZE, PIECE_SIZE)
            for at in range(run.count)
            if (run.place + at) // per_unit in bad
        )
        for span in coalesce(spans):
            number = (run.place + span.start // PIECE_SIZE - run.piece) // per_unit
            check.add(_part(check, point, stored, span, (run.file.path.name, bad[number])))


def _check_segments(check: _Check, point: Point, stored: StoredDisk) -> None:
    """Compare the digests of the pieces that would be restored with the digest of their segment."""
    key = _digest_key(check.chain)
    for index in range(-(-stored.pieces // PIECES_PER_SEGMENT)):
        first = index * PIECES_PER_SEGMENT
        if first % PIECES_PER_PAGE == 0 and stored.is_page_empty(first // PIECES_PER_PAGE):
            continue
        digests = stored.piece_digests(first, min(first + PIECES_PER_SEGMENT, stored.pieces))
        if segment_digest(digests.ljust(_SEGMENT_DIGESTS, b"\0"), key) != stored.segment_digest(index):
            span = Span(first * PIECE_SIZE, PIECES_PER_SEGMENT * PIECE_SIZE)
            check.add(_part(check, point, stored, span, ("", "the pieces are not those of the point")))


def _part(check: _Check, point: Point, stored: StoredDisk, span: Span, words: tuple[str, str]) -> Damage:
    return Damage(
        chain=check.chain.folder.name,
        point=point.number,
        machine=point.machine.name,
        disk=DiskKey(stored.disk.key),
        offset=span.start,
        length=min(span.length, stored.size_bytes - span.start),
        file=words[0],
        reason=words[1],
    )


def _unreadable(check: _Check, lost: UnreadableFile) -> Damage:
    """Return the damage of a file that cannot be opened; its name says which point is its first."""
    return Damage(
        chain=check.chain.folder.name,
        point=int(lost.path.name.partition("-")[0]),
        machine="",
        disk=DiskKey(""),
        offset=0,
        length=0,
        file=lost.path.name,
        reason=lost.error.message,
    )


def _whole(check: _Check, point: Point, disk: str, reason: str) -> Damage:
    return Damage(
        chain=check.chain.folder.name,
        point=point.number,
        machine=point.machine.name,
        disk=DiskKey(disk),
        offset=0,
        length=0,
        file="",
        reason=reason,
    )


def _digest_key(chain: Chain) -> bytes:
    return chain.files[0].keys.digest_key
