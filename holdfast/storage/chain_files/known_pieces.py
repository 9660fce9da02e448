"""Deduplication inside one file: digests of the pieces stored lately, in bounded memory."""

from typing import Protocol

from holdfast.formats.magic import DIGEST_SIZE, DIGESTS_PER_PAGE, ZERO_DIGEST
from holdfast.storage.chain_files.chain_writer import ChainWriter

_GENERATION_SIZE = 65536
"""Digests in one generation; two are kept, so the window is 4 to 8 GiB of stored data at about 20 MiB of memory."""


class FormerPieces(Protocol):
    """Where the pieces of a disk were stored before it was begun again."""

    def find(self, piece: int, digest: bytes) -> int | None:
        """Return the place of a piece that has still this digest, or None."""
        ...


class KnownPieces:
    """Remembers where pieces are by their digest; forgets the older half when it is full.

    Disks that are written at once share it.
    """

    def __init__(self, writer: ChainWriter) -> None:
        self._young: dict[bytes, int] = {}
        self._old: dict[bytes, int] = {}
        self._warm_up(writer)

    def find(self, digest: bytes) -> int | None:
        """Return the place of a piece with this digest, or None."""
        place = self._young.get(digest)
        return self._old.get(digest) if place is None else place

    def add(self, digest: bytes, place: int) -> None:
        """Remember a piece."""
        if len(self._young) >= _GENERATION_SIZE:
            self._old, self._young = self._young, {}
        self._young[digest] = place

    def _warm_up(self, writer: ChainWriter) -> None:
        # Disks of one machine, and attempts of one transfer, share what earlier ones stored.
        places = writer.next_unit * writer.pieces_per_unit
        first = max(0, places - _GENERATION_SIZE) // DIGESTS_PER_PAGE
        for index in range(first, -(-places // DIGESTS_PER_PAGE)):
            page, before = writer.digests_page(index), index * DIGESTS_PER_PAGE
            for start in range(0, len(page) // DIGEST_SIZE, writer.pieces_per_unit):
                if writer.unit((before + start) // writer.pieces_per_unit) is None:
                    continue  # it was dropped; its digests stay
                for slot in range(start, start + writer.pieces_per_unit):
                    digest = bytes(page[slot * DIGEST_SIZE : (slot + 1) * DIGEST_SIZE])
                    if digest != ZERO_DIGEST:
                        self.add(digest, before + slot)
