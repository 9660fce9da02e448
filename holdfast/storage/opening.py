"""Opens one disk of an unfinished point for writing."""

from contextlib import ExitStack

import msgspec

from holdfast.clock import Clock
from holdfast.errors import DiskNotFound, PointNotFound
from holdfast.formats.contents import Point, PointDisk
from holdfast.pipeline.sink import WritableDisk
from holdfast.pipeline.stages import PipeOptions
from holdfast.storage.chain import Chain, StoredDisk
from holdfast.storage.chain_writer import ChainWriter
from holdfast.storage.intake import DiskIntake
from holdfast.storage.point_writer import open_disk
from holdfast.storage.repository import Repository


class DiskPlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where a disk of an unfinished point is."""

    chain: str
    file: str
    number: int
    parent_number: int | None
    disk: str


class DiskOpener:
    """Opens disks of one repository; everything opened is closed with the stack that it is given."""

    def __init__(self, repository: Repository, passphrase: str | None, clock: Clock, options: PipeOptions) -> None:
        self._repository = repository
        self._passphrase = passphrase
        self._clock = clock
        self._options = options

    def open(self, place: DiskPlace, stack: ExitStack) -> WritableDisk:
        """Return the disk, where its last commit left it. Raises `ChainBusy`, `PointNotFound`, `DiskNotFound`."""
        writer, earlier = self._open_point(place, stack)
        point, disk = _found(writer, place)
        sink = DiskIntake(open_disk(writer, place.number, place.disk, earlier), self._clock, self._options)
        stack.callback(sink.close)
        return WritableDisk(machine=point.machine.name, change_id=disk.change_id, sink=sink, earlier=earlier)

    def _open_point(self, place: DiskPlace, stack: ExitStack) -> tuple[ChainWriter, StoredDisk | None]:
        """Open the point's file for writing, and the disk at the parent point when there is one."""
        repository, files = self._repository, self._repository.files
        path = repository.chain_file(place.chain, place.file)
        if not files.exists(path):
            repository.check_present()  # gone with its mount is another matter than gone
            raise PointNotFound(
                f"file {place.file} of chain {place.chain} is gone",
                hint="It was set aside after a failed flush, or removed; run the job again.",
            )
        if place.parent_number is None:
            return stack.enter_context(ChainWriter.resume(files, path, self._passphrase)), None
        folder = repository.chain_folder(place.chain)
        chain = stack.enter_context(Chain.open(files, folder, self._passphrase))
        earlier = _disk_at(chain, place.parent_number, place.disk)
        keys = chain.files[0].keys
        return stack.enter_context(ChainWriter.resume(files, path, self._passphrase, keys)), earlier


def _found(writer: ChainWriter, place: DiskPlace) -> tuple[Point, PointDisk]:
    point = writer.contents.point(place.number)
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
