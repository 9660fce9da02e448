"""Feeds disks of points with digests instead of content, so that size does not matter."""

from collections.abc import Callable
from pathlib import Path

from holdfast.clock import SystemClock
from holdfast.formats.contents import Contents, ParentPoint, Point, PointDisk, PointMachine
from holdfast.formats.keys import plain_keys
from holdfast.formats.magic import (
    DIGEST_SIZE,
    PIECE_SIZE,
    FileKind,
)
from holdfast.storage.chain_files.chain_writer import ChainWriter, FileSpec
from holdfast.storage.chains.chain import Chain, chain_file_name
from holdfast.storage.points.offers import PROMISED, OfferSorter, Sorted
from holdfast.storage.points.point_writer import DiskPointWriter, complete_point, open_disk, with_new_point
from holdfast.testing.crashfs import CrashFiles

FOLDER = Path("/chain")
KEYS = plain_keys(bytes(range(16)))
UNIT = 1 << 20
TIB_PIECES = (1 << 40) // PIECE_SIZE


def digest_of(value: int) -> bytes:
    """Return a digest that stands for a content; 0 is zeros."""
    return value.to_bytes(DIGEST_SIZE, "little")


class Sink:
    """Feeds one disk with digests instead of content; what is new is stored as units without bytes."""

    def __init__(self, files: CrashFiles, number: int, size_bytes: int) -> None:
        self.files = files
        self.number = number
        files.make_folder(FOLDER)
        parent = None
        if number:
            with Chain.open(files, FOLDER) as chain:
                file, point = chain.point(number - 1)
                parent = ParentPoint(file=file.contents.file, point=point.number, root=point.root or "")
        contents = Contents(
            chain=KEYS.chain_id.hex(),
            file=number.to_bytes(16, "big").hex(),
            kind="increment" if number else "full",
            unit_size=UNIT,
            created=SystemClock().now(),
            parent=parent,
            holds=(number, number),
        )
        point = Point(
            number=number,
            id=number.to_bytes(16, "big").hex(),
            session="s",
            machine=PointMachine(machine_id="m", name="m"),
            created=contents.created,
            disks=(PointDisk(disk=0, key="d", size=size_bytes),),
        )
        kind = FileKind.INCREMENT if number else FileKind.FULL
        self.path = FOLDER / chain_file_name(number, contents.kind)
        spec = FileSpec(kind=kind, unit_size=UNIT, contents=with_new_point(contents, point))
        ChainWriter.create(files, self.path, spec, KEYS).close()

    def run(self, feed: Callable[["Feeder"], None]) -> None:
        """Open the disk where the last commit left it, and feed it."""
        with Chain.open(self.files, FOLDER) as chain, ChainWriter.resume(self.files, self.path) as writer:
            parent = chain.disk(self.number - 1, "d") if self.number else None
            feed(Feeder(writer, open_disk(writer, self.number, "d", parent)))

    def complete(self) -> Point:
        with ChainWriter.resume(self.files, self.path) as writer:
            return complete_point(writer, self.number)


class Feeder:
    def __init__(self, writer: ChainWriter, disk: DiskPointWriter) -> None:
        self.writer = writer
        self.disk = disk
        self._sorter = OfferSorter(writer, disk.parent)
        self._new: list[bytes] = []

    def offer(self, digest: bytes) -> None:
        found = self._sorter.sort_out(self.disk.cursor, [digest])
        at = [place - PROMISED if place >= PROMISED else place for place in found.places]
        self.disk.enter([digest], Sorted(at, found.slots, found.first_new))
        if found.slots:
            self._new.append(digest)
            if len(self._new) == self.writer.pieces_per_unit:
                self.store()

    def store(self) -> None:
        if self._new:
            stamp = self.writer.stamp(self.disk.point_number)
            self.writer.write_unit(self.writer.reserve_unit(), stamp, self._new, [bytes(16), bytes(4080)])
            self._new = []
            self._sorter.begin_unit()

    def commit(self) -> None:
        self.store()
        self.disk.start_commit()
        self.writer.finish_commit()

    def finish(self) -> None:
        self.disk.keep_until(self.disk.pieces)
        self.store()
        self.disk.finish()
