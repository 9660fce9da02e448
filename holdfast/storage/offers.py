"""Sorts out which of the pieces that are offered have to be stored: the others are known, zeros, or as they were."""

from collections.abc import Sequence

import msgspec

from holdfast.formats.magic import DIGEST_SIZE, PIECES_PER_SEGMENT, ZERO_DIGEST
from holdfast.storage.chain import StoredDisk
from holdfast.storage.chain_writer import ChainWriter
from holdfast.storage.known_pieces import FormerPieces, KnownPieces


class Sorted(msgspec.Struct, frozen=True):
    """An offer, sorted out."""

    places: list[int]
    """Of those pieces that differ from the parent point and are not zeros, in order."""
    slots: list[int]
    """Indexes of the pieces that have to be stored."""
    first_new: int
    """The place of the first of those, or of the next that will be."""


class OfferSorter:
    """Sorts out offers of one disk and gives out the places in the file. Offers come in ascending order."""

    def __init__(self, writer: ChainWriter, parent: StoredDisk | None, former: FormerPieces | None = None) -> None:
        self.next_place = writer.next_unit * writer.pieces_per_unit
        self._per_unit = writer.pieces_per_unit
        self._known = KnownPieces(writer, former)
        self._parent = parent
        self._segment = -1
        self._before: bytes | bytearray = b""

    def begin_unit(self) -> None:
        """Leave the rest of the open unit empty."""
        self.next_place = -(-self.next_place // self._per_unit) * self._per_unit

    def sort_out(self, first: int, digests: Sequence[bytes]) -> Sorted:
        """Return what becomes of the pieces from ``first`` on; they do not cross the end of a segment."""
        before = self._digests_before(first, len(digests))
        found = Sorted([], [], self.next_place)
        if b"".join(digests) == before:
            return found
        for slot, digest in enumerate(digests):
            if digest == ZERO_DIGEST or digest == before[slot * DIGEST_SIZE : (slot + 1) * DIGEST_SIZE]:
                continue
            place = self._known.find_of(first + slot, digest)
            if place is None:
                place, self.next_place = self.next_place, self.next_place + 1
                self._known.add(digest, place)
                found.slots.append(slot)
            found.places.append(place)
        return found

    def _digests_before(self, first: int, count: int) -> bytes | bytearray:
        """Return the digests at the parent point; zeros where it had no such pieces."""
        segment, at = divmod(first, PIECES_PER_SEGMENT)
        if segment != self._segment:
            self._segment, self._before = segment, parent_digests(self._parent, segment)
        return self._before[at * DIGEST_SIZE : (at + count) * DIGEST_SIZE]


def parent_digests(parent: StoredDisk | None, segment: int) -> bytes | bytearray:
    """Return the digests of a whole segment at the parent point; zeros where it had no such pieces."""
    first = segment * PIECES_PER_SEGMENT
    if parent is None or first >= parent.pieces:
        return NO_DIGESTS
    return parent.piece_digests(first, min(first + PIECES_PER_SEGMENT, parent.pieces)).ljust(len(NO_DIGESTS), b"\0")


NO_DIGESTS = bytes(PIECES_PER_SEGMENT * DIGEST_SIZE)
