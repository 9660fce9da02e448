"""The health file of a chain on disk, and what checks and repairs write into it.

It stands beside the chain: it goes where the chain goes, a repository that is found on a shelf knows how it was, and
the list of damaged units, which may be long, is where the files are. The catalog has a copy of what it says of points.
"""

import threading
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from holdfast.errors import ChainBusy, DataError, FileDamaged, FormatUnknown, RepositoryUnavailable
from holdfast.formats.chain_health import ChainHealth, PointMark, UnitMark, decode_health, encode_health
from holdfast.formats.contents import Contents
from holdfast.model.points import Health, PointHealth
from holdfast.model.reads import ReadSpan, ReadTimes, filled, laid_over
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chains.chain import Chain
from holdfast.storage.files.atomic import FileHandle, Files
from holdfast.storage.health.verifier import BadUnits

HEALTH_NAME: Final = "chain.health"
_LOCK_NAME: Final = "chain.health.lock"
_LOOKS: Final = 200
_LOOK_S: Final = 0.05
"""Between two looks whether its lock is free: ten seconds in all."""
UNITS_NAMED_MAX: Final = 100_000
"""Damaged units of one file that are kept: what is beyond is found by the next look."""


class PointFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A point, as a chain file or the metadata names it."""

    number: int
    point_id: str
    machine: str


def read_health(files: Files, folder: Path) -> ChainHealth:
    """Return what is known of a chain; nothing when there is no such file, or it is damaged itself."""
    path = folder / HEALTH_NAME
    if not files.exists(path):
        return ChainHealth()
    try:
        return decode_health(files.read(path))
    except (FileDamaged, FormatUnknown):
        return ChainHealth()  # everything is read again, and what is damaged is found again


def change_health(files: Files, folder: Path, change: Callable[[ChainHealth], ChainHealth]) -> ChainHealth:
    """Put what ``change`` makes of the health file in its place, durably.

    Others write it for a moment each and are waited for. Raises `ChainBusy` when that takes longer.
    """
    with _locked(files, folder):
        known = read_health(files, folder)
        health = change(known)
        if health != known:
            files.replace(folder / HEALTH_NAME, encode_health(health))
    return health


@contextmanager
def _locked(files: Files, folder: Path) -> Iterator[None]:
    lock = files.open_lock(folder / _LOCK_NAME)
    try:
        if not _is_taken_in_time(lock):
            raise ChainBusy(f"the health file of chain {folder.name} is being written by another session")
        yield
    finally:
        lock.close()


def _is_taken_in_time(lock: FileHandle) -> bool:
    """Take a lock that others have for a moment; return whether it was free in time."""
    pause = threading.Event()
    for _ in range(_LOOKS):
        if lock.lock():
            return True
        pause.wait(_LOOK_S)
    return lock.lock()


def with_read(health: ChainHealth, file_id: str, span: ReadSpan) -> ChainHealth:
    """Return the same with a span of a file read."""
    known = health.file(file_id)
    return health.with_file(msgspec.structs.replace(known, reads=laid_over(known.reads, span)))


def with_reads(health: ChainHealth, file_id: str, reads: Sequence[ReadSpan]) -> ChainHealth:
    """Return the same with other times of when the bytes of a file were read."""
    return health.with_file(msgspec.structs.replace(health.file(file_id), reads=tuple(reads)))


def with_all_read(files: Files, health: ChainHealth, chain: Chain, read: datetime) -> ChainHealth:
    """Return the same with every byte read of the chain's complete files that are as they were when it was opened."""
    for file in chain.files:
        if file.is_complete and is_as_opened(files, file):
            health = with_read(health, file.contents.file, ReadSpan(0, file.superblock.end, read))
    return health


def with_damage(health: ChainHealth, file_id: str, units: Mapping[int, str], problem: str = "") -> ChainHealth:
    """Return the same with these units and tables of a file damaged, besides those that are known to be."""
    known = health.file(file_id)
    marks = {mark.unit: mark for mark in known.units} | {unit: UnitMark(unit, text) for unit, text in units.items()}
    kept = tuple(marks[unit] for unit in sorted(marks)[:UNITS_NAMED_MAX])
    return health.with_file(msgspec.structs.replace(known, units=kept, problem=problem or known.problem))


def without_gone(health: ChainHealth, chain: Chain) -> ChainHealth:
    """Return the same without files that the chain has no more, and without marks of points that went with them."""
    ids = {file.contents.file for file in chain.files}
    numbers = {point.number for _, point in chain.points()}
    if chain.unreadable:
        return health  # what belongs to which file is not known then
    return msgspec.structs.replace(
        health,
        files=tuple(known for known in health.files if known.file in ids),
        points=tuple(mark for mark in health.points if mark.number in numbers or mark.state is Health.MISSING),
    )


def with_points(
    health: ChainHealth, points: Iterable[PointFacts], looked_at: Container[int], damaged: Mapping[int, str]
) -> ChainHealth:
    """Return the same with what a look at points has shown; ``damaged`` gives the reasons by number.

    A point that was never found damaged gets no mark.
    """
    marks = {mark.number: mark for mark in health.points}
    for point in points:
        is_bad = point.number in damaged
        if point.number in looked_at and (is_bad or point.number in marks):
            marks[point.number] = PointMark(
                number=point.number,
                point_id=point.point_id,
                machine=point.machine,
                state=Health.DAMAGED if is_bad else Health.USABLE,
                reason=damaged.get(point.number, ""),
            )
    return msgspec.structs.replace(health, points=tuple(marks[number] for number in sorted(marks)))


def bad_units(health: ChainHealth) -> BadUnits:
    """Return the damaged units by file id and number, with the reasons."""
    return {known.file: {mark.unit: mark.reason for mark in known.units} for known in health.files if known.units}


def points_of(chain: str, health: ChainHealth) -> tuple[PointHealth, ...]:
    """Return the points that are or were damaged, for whoever keeps a copy; ``chain`` is relative to the repository."""
    return tuple(
        PointHealth(
            chain=chain,
            number=mark.number,
            point_id=mark.point_id,
            machine=mark.machine,
            state=mark.state,
            reason=mark.reason,
        )
        for mark in health.points
    )


def is_as_opened(files: Files, file: ChainFile) -> bool:
    """Return whether a file is the one that was opened, without a commit since: places hold what they held then."""
    try:
        with ChainFile.open(files, file.path, keys=file.keys) as now:
            block, opened = now.superblock, file.superblock
    except (DataError, RepositoryUnavailable):
        return False
    return (block.generation, block.key_id) == (opened.generation, opened.key_id)


def written_at(contents: Contents) -> datetime:
    """Return when the newest point of a file was made."""
    return max((point.created for point in contents.points), default=contents.created)


def read_times(health: ChainHealth, contents: Contents, end: int) -> ReadTimes:
    """Return when the bytes of a file count as read, up to the end of its last commit."""
    written = written_at(contents)
    return ReadTimes(filled(health.file(contents.file).reads, end, written), written)


def without_files(health: ChainHealth, file_ids: Container[str]) -> ChainHealth:
    """Return the same with nothing known of some files: their bytes are others now."""
    return msgspec.structs.replace(health, files=tuple(known for known in health.files if known.file not in file_ids))


def without_problems(health: ChainHealth, file_ids: Container[str]) -> ChainHealth:
    """Return the same with the tables of some files in order."""
    files = (msgspec.structs.replace(known, problem="") if known.file in file_ids else known for known in health.files)
    return msgspec.structs.replace(health, files=tuple(files))


def without_units(health: ChainHealth, file_id: str, units: Container[int]) -> ChainHealth:
    """Return the same without the marks of some units of a file."""
    known = health.file(file_id)
    kept = tuple(mark for mark in known.units if mark.unit not in units)
    return health.with_file(msgspec.structs.replace(known, units=kept))
