"""Fills points with units that hold next to nothing: real records and tables, as many as a large disk has."""

import hashlib

from holdfast.formats.codec import compress
from holdfast.formats.magic import DIGEST_SIZE
from holdfast.formats.record import PieceEntry
from holdfast.model.compression import Compression
from holdfast.model.ids import SessionId
from holdfast.model.machine import Snapshot
from holdfast.model.points import PointSummary
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.chains.repository import Repository
from holdfast.storage.intake.finishing import finish_point
from holdfast.storage.intake.lifecycle import StoreOptions, begin_point
from holdfast.storage.points.offers import Sorted
from holdfast.storage.points.point_writer import DiskPointWriter, open_disk

_UNITS_OF_A_COMMIT = 1024


def fill(
    repository: Repository, session: SessionId, snapshot: Snapshot, options: StoreOptions, stride: int
) -> PointSummary:
    """Make a point with every piece of a machine's only disk of which the number is a multiple of ``stride``."""
    opened = begin_point(repository, session, snapshot, options)
    path, [key] = repository.chain_file(opened.chain, opened.file), [disk.key for disk in snapshot.disks]
    with (
        repository.open_chain(opened.chain, options.passphrase) as chain,
        ChainWriter.resume(repository.files, path, options.passphrase) as writer,
    ):
        parent = None if opened.parent_number is None else chain.disk(opened.parent_number, key)
        _fill_disk(writer, open_disk(writer, opened.number, key, parent), stride)
    return finish_point(repository, opened, options.passphrase)


def _fill_disk(writer: ChainWriter, disk: DiskPointWriter, stride: int) -> None:
    """Write pieces of which none is like another.

    The digests are made up: what only moves units, and decodes none, cannot tell them from those of real bytes.
    """
    codec, packed = compress(bytes(writer.unit_size), Compression.ZSTD_1)
    pieces, each = range(0, disk.pieces, stride), writer.pieces_per_unit
    for first in range(0, len(pieces), each):
        batch = pieces[first : first + each]
        digests = [_digest(disk.point_number, piece) for piece in batch]
        entries = [PieceEntry(disk.disk_tag, *pair) for pair in zip(batch, digests, strict=True)]
        number, stamp = writer.reserve_unit(), writer.stamp(disk.point_number)
        writer.write_unit(number, stamp, digests, writer.sealer.unit(stamp, entries, codec, packed))
        for place, (piece, digest) in enumerate(zip(batch, digests, strict=True), number * each):
            disk.keep_until(piece)
            disk.enter([digest], Sorted([place], [0], place))
        if number % _UNITS_OF_A_COMMIT == 0:
            disk.start_commit()
            writer.finish_commit()
    disk.keep_until(disk.pieces)
    disk.finish()


def _digest(point: int, piece: int) -> bytes:
    return hashlib.blake2b(b"%d %d" % (point, piece), digest_size=DIGEST_SIZE).digest()
