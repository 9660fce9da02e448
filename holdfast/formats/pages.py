"""The bodies of table pages: refs, directories, units, piece runs and map runs (docs/formats/chain-file.md section 8).

Runs are kept as parallel arrays of 32-bit numbers: small, quick to search, and written as they are.
"""

import struct
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from operator import add, sub

import msgspec

from holdfast.errors import DataDamaged
from holdfast.formats.magic import (
    DIGEST_SIZE,
    DIGESTS_PER_PAGE,
    DIRECTORY_ENTRIES,
    NEVER_WRITTEN,
    PIECES_PER_PAGE,
    PLACES_MAX,
    SEGMENTS_PER_PAGE,
    UNITS_PER_PAGE,
)

_REF = struct.Struct("<QI16s")
_UNIT = struct.Struct("<QII")
_COUNT = struct.Struct("<I")
REF_SIZE = _REF.size
UNIT_ENTRY_SIZE = _UNIT.size
DIRECTORY_SIZE = DIRECTORY_ENTRIES * REF_SIZE
_SEGMENTS_SIZE = SEGMENTS_PER_PAGE * DIGEST_SIZE
_PLACE_MASK = PLACES_MAX - 1
_IS_LITTLE = sys.byteorder == "little"


class Ref(msgspec.Struct, frozen=True):
    """Where a page is, and its digest. ``length`` is the record length."""

    offset: int
    length: int
    digest: bytes


class UnitEntry(msgspec.Struct, frozen=True):
    """Where a unit is, and the number of the point that wrote it."""

    offset: int
    length: int
    point: int


def put_ref(directory: bytearray, index: int, ref: Ref | None) -> None:
    """Set one entry of a directory body."""
    entry = bytes(REF_SIZE) if ref is None else _REF.pack(ref.offset, ref.length, ref.digest)
    directory[index * REF_SIZE : (index + 1) * REF_SIZE] = entry


def get_ref(directory: bytes | bytearray, index: int) -> Ref | None:
    """Return one entry of a directory body."""
    offset, length, digest = _REF.unpack_from(directory, index * REF_SIZE)
    return Ref(offset, length, digest) if length else None


def put_unit(page: bytearray, index: int, unit: UnitEntry | None) -> None:
    """Set one entry of a units page."""
    entry = bytes(UNIT_ENTRY_SIZE) if unit is None else _UNIT.pack(unit.offset, unit.length, unit.point)
    page[index * UNIT_ENTRY_SIZE : (index + 1) * UNIT_ENTRY_SIZE] = entry


def get_unit(page: bytes | bytearray, index: int) -> UnitEntry | None:
    """Return one entry of a units page."""
    offset, length, point = _UNIT.unpack_from(page, index * UNIT_ENTRY_SIZE)
    return UnitEntry(offset, length, point) if length else None


def refs_in(directory: bytes | bytearray) -> Iterator[tuple[int, Ref]]:
    """Yield the entries of a directory body that are there, each with its index."""
    for index, (offset, length, digest) in enumerate(_REF.iter_unpack(directory)):
        if length:
            yield index, Ref(offset, length, digest)


def unit_places(page: bytes | bytearray) -> "tuple[array[int], array[int]]":
    """Return the offsets and the lengths of the entries of a units page, 0 where there is none."""
    [words] = _columns(bytes(page), 0, len(page) // 4, "I")
    [pairs] = _columns(bytes(page), 0, len(page) // 8, "Q")
    return pairs[::2], words[2::4]


def units_page(body: bytes) -> bytes:
    """Return a units page as it is. Raises `DataDamaged` when it has not its full size."""
    return _of_size(body, UNITS_PER_PAGE * UNIT_ENTRY_SIZE)


def digests_page(body: bytes) -> bytes:
    """Return a digests page as it is. Raises `DataDamaged` when it has not its full size."""
    return _of_size(body, DIGESTS_PER_PAGE * DIGEST_SIZE)


def empty_units_page() -> bytearray:
    """Return a units page without any unit."""
    return bytearray(UNITS_PER_PAGE * UNIT_ENTRY_SIZE)


class PieceRuns:
    """One page of a piece table: which pieces the file holds, and at which places.

    Piece numbers are relative to the page.
    """

    def __init__(self) -> None:
        self.starts = array("I")
        self.counts = array("I")
        self.places = array("I")

    def append(self, piece: int, place: int, count: int = 1) -> None:
        """Add pieces behind all that are there; consecutive places extend the last run."""
        if self.starts:
            end = self.starts[-1] + self.counts[-1]
            if piece < end:
                raise AssertionError(f"piece {piece} added behind piece {end}")
            if piece == end and place == self.places[-1] + self.counts[-1]:
                self.counts[-1] += count
                return
        self.starts.append(piece)
        self.counts.append(count)
        self.places.append(place)

    def find(self, piece: int) -> int | None:
        """Return the place of a piece, or None when the file does not hold it."""
        found = self.run_from(piece)
        return None if found is None else found[0]

    def run_from(self, piece: int) -> tuple[int, int] | None:
        """Return the place of a piece and how many pieces from it on lie at consecutive places, or None."""
        run = bisect_right(self.starts, piece) - 1
        if run < 0 or piece >= self.starts[run] + self.counts[run]:
            return None
        skipped = piece - self.starts[run]
        return self.places[run] + skipped, self.counts[run] - skipped

    def gap_from(self, piece: int, end: int) -> int:
        """Return how many pieces from one on, which the file does not hold, it does not hold either, up to ``end``."""
        run = bisect_right(self.starts, piece)
        return (min(self.starts[run], end) if run < len(self.starts) else end) - piece

    def truncate(self, piece: int) -> None:
        """Drop every piece from ``piece`` on."""
        while self.starts and self.starts[-1] >= piece:
            for column in (self.starts, self.counts, self.places):
                column.pop()
        if self.starts:
            self.counts[-1] = min(self.counts[-1], piece - self.starts[-1])

    def is_same(self, other: "PieceRuns") -> bool:
        """Return whether both say the same in the same runs."""
        return (self.starts, self.counts, self.places) == (other.starts, other.counts, other.places)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """Yield (piece, count, place) of each run."""
        return zip(self.starts, self.counts, self.places, strict=True)

    def encode(self) -> bytes:
        """Return the body of the page."""
        gaps, jumps = array("H"), array("I")
        end = next_place = 0
        for start, count, place in self:
            gaps.append(start - end)
            jumps.append((place - next_place) & _PLACE_MASK)
            end, next_place = start + count, place + count
        counts = array("H", (count - 1 for count in self.counts))
        return _COUNT.pack(len(gaps)) + _column_bytes(gaps) + _column_bytes(counts) + _column_bytes(jumps)

    @classmethod
    def decode(cls, body: bytes) -> "PieceRuns":
        """Return the runs in ``body``. Raises `DataDamaged`."""
        total = _stated_count(body, 0, 8)
        gaps, less_ones, jumps = _columns(body, _COUNT.size, total, "HHI")
        runs = cls()
        counts = [less_one + 1 for less_one in less_ones]
        ends = list(accumulate(map(add, gaps, counts)))
        if ends and ends[-1] > PIECES_PER_PAGE:
            raise DataDamaged(f"piece table page speaks of piece {ends[-1] - 1}")
        next_places = list(accumulate(map(add, jumps, counts)))
        runs.starts = array("I", map(sub, ends, counts))
        runs.counts = array("I", counts)
        runs.places = array("I", [place & _PLACE_MASK for place in map(sub, next_places, counts)])
        return runs


class MapRuns:
    """One page of a map: which point last wrote each piece, and the digests of the 64 segments.

    Runs are appended in order and cover the page from its first piece without a gap.
    """

    def __init__(self) -> None:
        self.segments = bytearray(_SEGMENTS_SIZE)
        self.ends = array("I")
        self.writers = array("I")

    @property
    def covered(self) -> int:
        """Return how many pieces, from the first, the runs speak of."""
        return self.ends[-1] if self.ends else 0

    def append(self, writer: int, count: int) -> None:
        """Say that the next ``count`` pieces were last written by ``writer``."""
        end = self.covered + count
        if end > PIECES_PER_PAGE:
            raise AssertionError(f"map page runs to piece {end}")
        if self.writers and self.writers[-1] == writer:
            self.ends[-1] = end
        elif count:
            self.ends.append(end)
            self.writers.append(writer)

    def runs(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield (first piece, count, writer) of the runs inside ``[start, end)``, cut to it."""
        run = bisect_right(self.ends, start)
        while start < end and run < len(self.ends):
            stop = min(self.ends[run], end)
            yield start, stop - start, self.writers[run]
            start, run = stop, run + 1

    def writer(self, piece: int) -> int:
        """Return the point that last wrote a piece, `NEVER_WRITTEN` for zeros."""
        run = bisect_right(self.ends, piece)
        return self.writers[run] if run < len(self.ends) else NEVER_WRITTEN

    def truncate(self, piece: int) -> None:
        """Drop what is said of pieces from ``piece`` on."""
        while self.ends and (self.ends[-2] if len(self.ends) > 1 else 0) >= piece:
            self.ends.pop()
            self.writers.pop()
        if self.ends:
            self.ends[-1] = min(self.ends[-1], piece)

    def segment(self, index: int) -> bytes:
        """Return the digest of one of the 64 segments."""
        return bytes(self.segments[index * DIGEST_SIZE : (index + 1) * DIGEST_SIZE])

    def set_segment(self, index: int, digest: bytes) -> None:
        """Set the digest of one of the 64 segments."""
        self.segments[index * DIGEST_SIZE : (index + 1) * DIGEST_SIZE] = digest

    def encode(self) -> bytes:
        """Return the body of the page; what is not covered counts as zeros."""
        counts, writers, start = array("H"), array("I", self.writers), 0
        for end in self.ends:
            counts.append(end - start - 1)
            start = end
        if start < PIECES_PER_PAGE:
            counts.append(PIECES_PER_PAGE - start - 1)
            writers.append(NEVER_WRITTEN)
        return bytes(self.segments) + _COUNT.pack(len(counts)) + _column_bytes(counts) + _column_bytes(writers)

    @classmethod
    def decode(cls, body: bytes) -> "MapRuns":
        """Return the page in ``body``. Raises `DataDamaged`."""
        total = _stated_count(body, _SEGMENTS_SIZE, 6)
        counts, writers = _columns(body, _SEGMENTS_SIZE + _COUNT.size, total, "HI")
        page = cls()
        page.segments[:] = body[:_SEGMENTS_SIZE]
        end = 0
        for less_one in counts:
            end += less_one + 1
            if end > PIECES_PER_PAGE:
                break  # refused below, before the number outgrows its column
            page.ends.append(end)
        page.writers = array("I", writers)
        if end != PIECES_PER_PAGE:
            raise DataDamaged(f"map page covers {end} pieces")
        return page


def _of_size(body: bytes, size: int) -> bytes:
    if len(body) != size:
        raise DataDamaged(f"table page has {len(body)} bytes instead of {size}")
    return body


def _stated_count(body: bytes, at: int, run_size: int) -> int:
    if len(body) < at + _COUNT.size:
        raise DataDamaged("table page is too short")
    total: int = _COUNT.unpack_from(body, at)[0]
    if len(body) != at + _COUNT.size + total * run_size:
        raise DataDamaged(f"table page of {len(body)} bytes states {total} runs")
    return total


def _columns(body: bytes, at: int, total: int, codes: str) -> list["array[int]"]:
    found = []
    for code in codes:
        column = array(code)
        column.frombytes(body[at : at + total * column.itemsize])
        if not _IS_LITTLE:
            column.byteswap()
        found.append(column)
        at += total * column.itemsize
    return found


def _column_bytes(column: "array[int]") -> bytes:
    if _IS_LITTLE:
        return column.tobytes()
    swapped = array(column.typecode, column)
    swapped.byteswap()
    return swapped.tobytes()
