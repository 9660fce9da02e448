"""What is free and what is used inside a chain file, in packed numbers: a file may have millions of records."""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator

from holdfast.formats.magic import ALIGNMENT

_GRAIN = 64 << 10
_BUCKET = 4 << 30
_LENGTH_BITS = 20
_LENGTH_MASK = (1 << _LENGTH_BITS) - 1


class Holes:
    """Holes in the order in which they were found; a record goes to the first that takes it. 16 bytes for each."""

    def __init__(self) -> None:
        self._offsets = array("Q")
        self._sizes = array("Q")
        self._first: dict[int, int] = {}
        """By size in grains: the first hole that may take one of that size. Holes only shrink."""

    def add(self, offset: int, size: int) -> None:
        """Take up a hole."""
        self._offsets.append(offset)
        self._sizes.append(size)

    def take(self, size: int) -> int | None:
        """Return a place for a record of an aligned size, which is used then, or None."""
        sizes, grains = self._sizes, size // _GRAIN
        index = self._first.get(grains, 0)
        least = max(grains * _GRAIN, ALIGNMENT)
        while index < len(sizes) and sizes[index] < least:
            index += 1
        self._first[grains] = index
        while index < len(sizes) and sizes[index] < size:
            index += 1
        if index == len(sizes):
            return None
        offset = self._offsets[index]
        self._offsets[index] += size
        sizes[index] -= size
        return offset

    def without_room(self, sizes: Iterable[int]) -> int:
        """Return how many bytes of records of these aligned sizes, taken one after the other, find no hole."""
        trial = Holes()
        trial._offsets, trial._sizes = self._offsets[:], self._sizes[:]
        return sum(size for size in sizes if trial.take(size) is None)


class UsedSpans:
    """Which bytes of a file records are in: 8 bytes for each record, however they come."""

    def __init__(self) -> None:
        self._buckets: defaultdict[int, array[int]] = defaultdict(lambda: array("Q"))
        """Place and length of each record in one number, by parts of the file that are sorted one by one."""

    def add(self, offset: int, length: int) -> None:
        """Say that a record is there."""
        self._buckets[offset // _BUCKET].append(_packed(offset, length))

    def add_all(self, offsets: Iterable[int], lengths: Iterable[int]) -> None:
        """Say that records are there; those of no length are none."""
        buckets = self._buckets
        for offset, length in zip(offsets, lengths, strict=True):
            if length:
                buckets[offset // _BUCKET].append(_packed(offset, length))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield (offset, aligned length) of each record in ascending order."""
        for _, bucket in sorted(self._buckets.items()):
            for packed in sorted(bucket):
                yield (packed >> _LENGTH_BITS) * ALIGNMENT, (packed & _LENGTH_MASK) * ALIGNMENT


def _packed(offset: int, length: int) -> int:
    return offset // ALIGNMENT << _LENGTH_BITS | -(-length // ALIGNMENT)
