"""Finds the bytes of lost pieces somewhere else: by their digest, or where another chain has the same disk.

Digests are keyed by chain. In the same chain, and in a copy of it, a piece is found by looking for its digest. Another
chain of the machine is asked for the piece at the same place of the same disk, and what it gives is digested under the
key of the damaged chain. Whatever is returned has the digest that was asked for.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Protocol

import msgspec

from holdfast.errors import ChainBroken, DataDamaged, DiskNotFound, FileDamaged, FormatUnknown, StoreFailed
from holdfast.formats.digests import piece_digests
from holdfast.formats.magic import DIGEST_SIZE, DIGESTS_PER_PAGE, PIECE_SIZE, ZERO_DIGEST
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chains.chain import Chain
from holdfast.storage.health.verifier import BadUnits

_PLACES_MAX: Final = 4
"""Places of one digest that are tried."""
_POINTS_MAX: Final = 16
"""Points of another chain that are asked for a piece, the newest first."""
_UNITS_KEPT: Final = 8
_UNUSABLE: Final = (DataDamaged, FileDamaged, FormatUnknown, StoreFailed, ChainBroken, DiskNotFound)


class LostPiece(msgspec.Struct, frozen=True):
    """A piece whose unit is damaged."""

    machine: str
    disk: str
    piece: int
    digest: bytes


class PieceSource(Protocol):
    """Something that may have lost pieces."""

    def find(self, piece: LostPiece) -> bytes | None:
        """Return the 64 KiB of a piece, compared with its digest, or None."""
        ...


class _Units:
    """Decoded units of chain files, the last few."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, int], bytes | memoryview | None] = OrderedDict()

    def piece(self, file: ChainFile, place: int) -> bytes | None:
        """Return the piece at a place, or None when it cannot be read."""
        unit, slot = divmod(place, file.pieces_per_unit)
        body = self._body(file, unit)
        found = b"" if body is None else bytes(body[slot * PIECE_SIZE : (slot + 1) * PIECE_SIZE])
        return found if len(found) == PIECE_SIZE else None

    def _body(self, file: ChainFile, unit: int) -> bytes | memoryview | None:
        key = (id(file), unit)
        if key not in self._kept:
            try:
                self._kept[key] = file.read_unit(unit)[1]
            except _UNUSABLE:
                self._kept[key] = None  # damaged, too
            if len(self._kept) > _UNITS_KEPT:
                self._kept.popitem(last=False)
        return self._kept[key]


class SameDigests:
    """A chain whose digests are made with the same key: the damaged chain itself, or a copy of it."""

    def __init__(self, chain: Chain, wanted: Iterable[bytes], bad: BadUnits) -> None:
        self._key = chain.files[0].keys.digest_key
        self._units = _Units()
        self._places: dict[bytes, list[tuple[ChainFile, int]]] = {digest: [] for digest in wanted}
        for file in chain.files:
            self._look_through(file, bad.get(file.contents.file, {}))

    def find(self, piece: LostPiece) -> bytes | None:
        """Return the piece from wherever its digest is."""
        for file, place in self._places.get(piece.digest, ()):
            found = self._units.piece(file, place)
            if found is not None and piece_digests(found, self._key) == [piece.digest]:
                return found
        return None

    def _look_through(self, file: ChainFile, bad: dict[int, str]) -> None:
        for place, digest in _digests(file):
            known = self._places.get(digest)
            if known is not None and len(known) < _PLACES_MAX and place // file.pieces_per_unit not in bad:
                known.append((file, place))


class SamePlaces:
    """Another chain, which may have the machine's disk with the same bytes at the same place."""

    def __init__(self, chain: Chain, digest_key: bytes) -> None:
        self._chain = chain
        self._key = digest_key
        self._units = _Units()

    def find(self, piece: LostPiece) -> bytes | None:
        """Return the piece from the newest points that have it, each place of it tried once."""
        for file, place in self._places(piece):
            found = self._units.piece(file, place)
            if found is not None and piece_digests(found, self._key) == [piece.digest]:
                return found
        return None

    def _places(self, piece: LostPiece) -> Sequence[tuple[ChainFile, int]]:
        complete = [point for _, point in reversed(self._chain.points()) if point.complete]
        points = [point for point in complete if point.machine.machine_id == piece.machine][:_POINTS_MAX]
        found: dict[tuple[str, int], tuple[ChainFile, int]] = {}
        for point in points:
            try:
                disk = self._chain.disk(point.number, piece.disk)
                runs = list(disk.runs(piece.piece, piece.piece + 1)) if piece.piece < disk.pieces else []
            except _UNUSABLE:
                continue  # another point may have it
            for run in runs:
                if run.file is not None:
                    found[run.file.contents.file, run.place] = (run.file, run.place)
        return list(found.values())


def _digests(file: ChainFile) -> Iterator[tuple[int, bytes]]:
    """Yield place and digest of everything that a file lists, as far as its digest table can be read."""
    places = file.contents.units.count * file.pieces_per_unit
    for first in range(0, places, DIGESTS_PER_PAGE):
        try:
            page = file.digests(first, min(DIGESTS_PER_PAGE, places - first))
        except _UNUSABLE:
            continue  # what is named there is not found this way
        for at in range(0, len(page), DIGEST_SIZE):
            digest = page[at : at + DIGEST_SIZE]
            if digest != ZERO_DIGEST:
                yield first + at // DIGEST_SIZE, digest
