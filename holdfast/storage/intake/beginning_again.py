"""Beginning a disk of a point again, after it turned out to have moved while it was read.

What was learnt of it is forgotten in one commit: its map, its piece table and how far it was. The units stay, and what
the next pass finds again is not stored twice. Their piece lists, and notes, would mislead whoever rebuilds the file
from its records alone, so the disk says from which generation on records count.
"""

import msgspec

from holdfast.formats.contents import DiskSource, PointDisk, Table
from holdfast.formats.magic import PIECES_PER_PAGE
from holdfast.formats.pages import PieceRuns
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.chain_files.known_pieces import FormerPieces
from holdfast.storage.chain_files.tables import TableReader
from holdfast.storage.points.point_writer import with_disk


def begin_again(writer: ChainWriter, number: int, disk: PointDisk, place: str) -> FormerPieces:
    """Set a disk of an unfinished point back to its start, durably; ``place`` is where it lies now.

    To be called before the disk is opened for writing. Returns where its pieces are stored already, which is known only
    as long as the writer is open; afterwards what was stored lately is found by its digest.
    """
    former = _Former(writer, writer.contents.disks[disk.disk].pieces)
    source = DiskSource(place=place, moves=disk.moves + 1, after=writer.committed.generation)
    writer.drop_pieces(disk.disk)
    fresh = msgspec.structs.replace(disk, map=Table(), root=None, done=0, source=source)
    writer.contents = with_disk(writer.contents, number, fresh)
    writer.commit()
    return former


class _Former:
    """Satisfies `FormerPieces`. The pages of the table are not written over as long as the writer is open."""

    def __init__(self, writer: ChainWriter, table: Table) -> None:
        self._writer = writer
        self._pieces = TableReader(writer.store, table, PieceRuns.decode)

    def find(self, piece: int, digest: bytes) -> int | None:
        """Return the place of a piece that has still this digest, or None."""
        page = self._pieces.page(piece // PIECES_PER_PAGE)
        place = None if page is None else page.find(piece % PIECES_PER_PAGE)
        return place if place is not None and self._writer.digest(place) == digest else None
