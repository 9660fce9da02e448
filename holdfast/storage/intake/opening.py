"""Opens one disk of an unfinished point for writing."""

from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from holdfast.clock import Clock
from holdfast.errors import DiskMoved, DiskNotFound, PointNotFound
from holdfast.formats.contents import DiskSource, Point, PointDisk
from holdfast.model.machine import PowerState
from holdfast.pipeline.pace import Pace
from holdfast.pipeline.sink import WritableDisk
from holdfast.pipeline.stages import PipeOptions
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.chain_files.group_commit import CommitGroup
from holdfast.storage.chain_files.known_pieces import FormerPieces
from holdfast.storage.chains.chain import Chain, StoredDisk
from holdfast.storage.chains.repository import Repository
from holdfast.storage.health.health_file import bad_units, read_health
from holdfast.storage.health.lost_spans import lost_pieces
from holdfast.storage.intake.beginning_again import begin_again
from holdfast.storage.intake.disk_intake import DiskIntake
from holdfast.storage.intake.open_points import OpenPoints, SharedPoint
from holdfast.storage.points.begun_point import begun_point
from holdfast.storage.points.point_writer import open_disk

MOVES_MAX: Final = 2
"""How often a disk that moved is begun again; one that goes on moving is better left for another session."""


class DiskPlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where a disk of an unfinished point is."""

    chain: str
    file: str
    number: int
    point_id: str = ""
    """Of the point that is meant; empty in what an earlier version wrote down."""
    parent_number: int | None
    disk: str
    lies_at: str = ""
    """Where the source lies now; empty where it never moves. See `Snapshots.disk_place`."""
    repository: str = ""
    """Name under which commits and pieces are counted."""


class DiskOpener:
    """Opens disks of one repository; everything opened is closed with the stack that it is given.

    Disks of one point that are opened through the same ``points`` may be written at the same time; what comes through
    others, or from another process, finds the chain busy.
    """

    def __init__(  # noqa: PLR0913 - what it opens them with, and what they share
        self,
        repository: Repository,
        passphrase: str | None,
        clock: Clock,
        options: PipeOptions,
        points: OpenPoints | None = None,
        *,
        pace: Pace | None = None,
    ) -> None:
        self._pace = pace
        self._repository = repository
        self._passphrase = passphrase
        self._clock = clock
        self._options = options
        self._points = points if points is not None else OpenPoints()

    def open(self, place: DiskPlace, stack: ExitStack) -> WritableDisk:
        """Return the disk where its last commit left it, or at its start when it has moved since.

        Raises `ChainBusy`, `PointNotFound`, `DiskNotFound`, and `DiskMoved` when it does not come to rest.
        """
        path = self._repository.chain_file(place.chain, place.file)
        used = stack.enter_context(self._points.using(path, lambda inner: self._open_point(place, path, inner)))
        group, chain = used
        with group.lock:
            group.check_free(place.disk)
            group.make_even()
            return self._open_disk(place, group, chain, stack)

    def _open_disk(self, place: DiskPlace, group: CommitGroup, chain: Chain | None, stack: ExitStack) -> WritableDisk:
        writer = group.writer
        point, disk = _found(writer, place)
        former = _begun_again(group, place, disk)
        number = place.parent_number
        earlier = None if chain is None or number is None else _disk_at(chain, number, place.disk)
        if earlier is not None and chain is not None:
            earlier.lost = lost_pieces(earlier, bad_units(read_health(self._repository.files, chain.folder)))
        opened = open_disk(writer, place.number, place.disk, earlier, group.take_abandoned())
        if disk.begun_at:
            opened.begun_at += group.grown_without(place.disk)
        if place.lies_at:
            begun = DiskSource(place="") if opened.source is msgspec.UNSET else opened.source
            opened.source = msgspec.structs.replace(begun, place=place.lies_at)
        group.repository = place.repository
        sink = DiskIntake(opened, self._clock, self._options, former, group=group, pace=self._pace)
        stack.callback(sink.close)
        moves = 0 if opened.source is msgspec.UNSET else opened.source.moves
        return WritableDisk(
            machine=point.machine.name,
            change_id=disk.change_id,
            at_rest=point.machine.power is PowerState.OFF,
            moves=moves,
            sink=sink,
            earlier=earlier,
        )

    def _open_point(self, place: DiskPlace, path: Path, stack: ExitStack) -> SharedPoint:
        """Open the point's file for writing, and the chain of the parent point when there is one."""
        repository, files = self._repository, self._repository.files
        if not files.exists(path):
            repository.check_present()  # gone with its mount is another matter than gone
            raise PointNotFound(
                f"file {place.file} of chain {place.chain} is gone",
                hint="It was set aside after a failed flush, or removed; run the job again.",
            )
        chain, keys = None, None
        if place.parent_number is not None:
            folder = repository.chain_folder(place.chain)
            chain = stack.enter_context(Chain.open(files, folder, self._passphrase))
            keys = chain.files[0].keys
        writer = stack.enter_context(ChainWriter.resume(files, path, self._passphrase, keys))
        return SharedPoint(CommitGroup(writer, self._clock, self._options), chain)


def moved(disk: str, before: str, now: str, moves: int) -> DiskMoved:
    """Return the error for a disk that moved after it was begun again for ``moves`` times."""
    is_last = moves >= MOVES_MAX
    often = ", for the third time" if is_last else ""
    return DiskMoved(f"{disk} moved from {before} to {now} while it was copied{often}", is_last=is_last)


def _begun_again(group: CommitGroup, place: DiskPlace, disk: PointDisk) -> FormerPieces | None:
    """Begin the disk again when it has moved since it was begun; return what is stored of it already."""
    known = disk.source
    if known is msgspec.UNSET or not disk.done or known.place == place.lies_at:
        return None
    if known.moves >= MOVES_MAX:
        what = f"disk {place.disk} of point {place.number} of chain {place.chain}"
        raise moved(what, known.place, place.lies_at, known.moves)
    group.finish()
    group.bring_all()
    return begin_again(group.writer, place.number, disk, place.lies_at)


def _found(writer: ChainWriter, place: DiskPlace) -> tuple[Point, PointDisk]:
    point = begun_point(writer.contents, place.number, place.point_id)
    disk = None if point is None else point.disk(place.disk)
    if point is None or disk is None:
        raise DiskNotFound(f"point {place.number} of chain {place.chain} has no disk {place.disk}")
    return point, disk


def _disk_at(chain: Chain, number: int, key: str) -> StoredDisk | None:
    """Return the disk at the parent point; None when the machine did not have it then."""
    try:
        return chain.disk(number, key)
    except DiskNotFound:
        return None
