"""Sorts out which of the pieces that are offered have to be stored: the others are known, zeros, or as they were."""

from array import array
from collections import deque
from collections.abc import Sequence
from typing import Final

import msgspec

from holdfast.errors import ProtocolError
from holdfast.formats.magic import DIGEST_SIZE, PIECES_PER_SEGMENT, PLACES_MAX, ZERO_DIGEST
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.chain_files.known_pieces import FormerPieces, KnownPieces
from holdfast.storage.chains.chain import StoredDisk

PROMISED: Final = PLACES_MAX
"""Added to places of pieces that were promised and are not written yet; no place in a file is as high."""


class Sorted(msgspec.Struct, frozen=True):
    """An offer, sorted out."""

    places: list[int]
    """Of those pieces that differ from the parent point and are not zeros, in order: where the file holds them, or
    `PROMISED` and where they are in the order of what was promised."""
    slots: list[int]
    """Indexes of the pieces that have to be stored."""
    first_new: int
    """Where the first of those is in the order of what was promised, or the next that will be."""


class OfferSorter:
    """Sorts out offers of one disk and promises places. Offers come in ascending order.

    What is promised is numbered as if the disk were alone in the file. Where its units really come to lie is known
    when they are written, since those of other disks may come in between.
    """

    def __init__(
        self,
        writer: ChainWriter,
        parent: StoredDisk | None,
        former: FormerPieces | None = None,
        known: KnownPieces | None = None,
    ) -> None:
        self._first_unit = writer.next_unit
        self.next_place = self._first_unit * writer.pieces_per_unit
        self._per_unit = writer.pieces_per_unit
        self._known = known if known is not None else KnownPieces(writer)
        self._former = former
        self._parent = parent
        self._promised: dict[bytes, int] = {}
        self._wanted: deque[list[bytes]] = deque()  # of each promised unit that is not written
        self._units = array("I")
        self._segment = -1
        self._before: bytes | bytearray = b""

    @property
    def open_unit(self) -> int | None:
        """Return the number of the promised unit that is begun and not full."""
        number, filled = divmod(self.next_place, self._per_unit)
        return number if filled else None

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
            place = self._find(first + slot, digest)
            if place is None:
                place, self.next_place = PROMISED + self.next_place, self.next_place + 1
                self._promise(place - PROMISED, digest)
                found.slots.append(slot)
            found.places.append(place)
        return found

    def _promise(self, place: int, digest: bytes) -> None:
        self._promised[digest] = PROMISED + place
        if place // self._per_unit == self._first_unit + len(self._units) + len(self._wanted):
            self._wanted.append([])
        self._wanted[-1].append(digest)

    def _find(self, piece: int, digest: bytes) -> int | None:
        place = self._known.find(digest)
        if place is None:
            place = self._promised.get(digest)
        return self._former.find(piece, digest) if place is None and self._former is not None else place

    def unit_needed(self, found: Sorted) -> int:
        """Return the last promised unit that an offer needs, 0 when the file holds everything, counted from 1."""
        last = max(found.places, default=0)
        return 0 if last < PROMISED else 1 + (last - PROMISED) // self._per_unit

    def receive(self, number: int, digests: Sequence[bytes]) -> None:
        """Take note that a promised unit is here; nothing more is promised in it.

        Raises `ProtocolError` when it brings anything but the pieces that were wanted: what is promised has to come.
        """
        at = number - self._first_unit - len(self._units)
        if at >= len(self._wanted) or self._wanted[at] != list(digests):
            raise ProtocolError(f"unit {number} brings {len(digests)} pieces that were not wanted so")
        if number == self.open_unit:
            self.begin_unit()

    def written(self, unit: int, digests: Sequence[bytes]) -> None:
        """Take note that the next of the promised units lies in the file as number ``unit``."""
        self._units.append(unit)
        self._wanted.popleft()
        for place, digest in enumerate(digests, unit * self._per_unit):
            self._promised.pop(digest, None)
            self._known.add(digest, place)

    def settled(self, found: Sorted) -> Sorted:
        """Return an offer with the places that its pieces really have; all its units are written."""
        places = [place if place < PROMISED else self._place(place - PROMISED) for place in found.places]
        return Sorted(places, found.slots, found.first_new)

    def _place(self, promised: int) -> int:
        unit, slot = divmod(promised, self._per_unit)
        return self._units[unit - self._first_unit] * self._per_unit + slot

    def _digests_before(self, first: int, count: int) -> bytes | bytearray:
        """Return the digests at the parent point; zeros where it had no such pieces."""
        segment, at = divmod(first, PIECES_PER_SEGMENT)
        if segment != self._segment:
            self._segment = segment
            self._before = without_lost(parent_digests(self._parent, segment), self._parent, segment)
        return self._before[at * DIGEST_SIZE : (at + count) * DIGEST_SIZE]


def parent_digests(parent: StoredDisk | None, segment: int) -> bytes | bytearray:
    """Return the digests of a whole segment at the parent point; zeros where it had no such pieces."""
    first = segment * PIECES_PER_SEGMENT
    if parent is None or first >= parent.pieces:
        return NO_DIGESTS
    return parent.piece_digests(first, min(first + PIECES_PER_SEGMENT, parent.pieces)).ljust(len(NO_DIGESTS), b"\0")


def without_lost(digests: bytes | bytearray, parent: StoredDisk | None, segment: int) -> bytes | bytearray:
    """Return the digests of a segment with those of pieces that the parent has lost made unlike any other.

    What the source has in their place is stored, also when it is the same.
    """
    if parent is None or not parent.lost:
        return digests
    first = segment * PIECES_PER_SEGMENT
    known = bytearray(digests)
    for start, end in parent.lost:
        for piece in range(max(start, first), min(end, first + PIECES_PER_SEGMENT)):
            at = (piece - first) * DIGEST_SIZE
            known[at : at + DIGEST_SIZE] = _LOST_DIGEST
    return known


_LOST_DIGEST: Final = b"\xff" * DIGEST_SIZE
NO_DIGESTS = bytes(PIECES_PER_SEGMENT * DIGEST_SIZE)
