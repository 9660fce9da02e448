"""Disks whose content proves where it came from.

Every sector of 512 bytes that was ever written begins with the disk's seed, the number of the
sector and its version (8 bytes each, little-endian); the rest follows from these three and does
not compress. A byte in the wrong place is therefore not only found: its sector says from which
disk, which place and which write it came. Sectors of version 0 were never written, or were
zeroed: they are zeros.
"""

import struct
from array import array
from collections.abc import Iterator
from functools import lru_cache

import blake3
import msgspec

from holdfast.model.machine import SECTOR_SIZE
from holdfast.model.spans import Span, coalesce

HEADER = struct.Struct("<QQQ")
VERSION_MAX = (1 << 32) - 1

_GROUP_SECTORS = 128
_KEPT_SECTORS = 2048
_ZERO_SECTOR = bytes(SECTOR_SIZE)


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where a sector came from. ``version`` 0 stands for zeros."""

    seed: int
    sector: int
    version: int


def sectors(seed: int, first: int, count: int, version: int) -> bytes:
    """Return the content of ``count`` sectors from number ``first``, all of one version."""
    if version == 0:
        return bytes(count * SECTOR_SIZE)
    # The same few disks are compared with thousands of states of a repository.
    return _made_before(seed, first, count, version) if count <= _KEPT_SECTORS else _made(seed, first, count, version)


def _made(seed: int, first: int, count: int, version: int) -> bytes:
    made = bytearray()
    end = first + count
    while first < end:
        group, start = divmod(first, _GROUP_SECTORS)
        taken = min(_GROUP_SECTORS - start, end - first)
        made += _filling(seed, version, group, Span(start, taken))
        first += taken
    for index in range(count):
        HEADER.pack_into(made, index * SECTOR_SIZE, seed, end - count + index, version)
    return bytes(made)


_made_before = lru_cache(maxsize=64)(_made)


def origin(sector: bytes) -> Origin | None:
    """Return where a sector came from, or None when no patterned disk has such a sector."""
    if sector == _ZERO_SECTOR:
        return Origin(seed=0, sector=0, version=0)
    seed, number, version = HEADER.unpack_from(sector)
    if 0 < version <= VERSION_MAX and sectors(seed, number, 1, version) == sector:
        return Origin(seed=seed, sector=number, version=version)
    return None


class PatternedDisk:
    """The expected content of one disk, kept as a version per sector (4 bytes for 512).

    Whoever writes to the real disk takes the bytes from `write`; whoever reads from anywhere asks
    `difference` what is wrong. Offsets and lengths of writes are multiples of 512.
    """

    def __init__(self, seed: int, size_bytes: int) -> None:
        self.seed = seed
        self.versions = array("I", [0]) * _in_sectors(size_bytes)
        self.latest = 0

    @property
    def size_bytes(self) -> int:
        """Present size in bytes."""
        return len(self.versions) * SECTOR_SIZE

    def write(self, span: Span) -> bytes:
        """Give every sector of the span a version no sector ever had; return the new content."""
        first, count = _in_sectors(span.start), _in_sectors(span.length)
        self.latest += 1
        self._set(first, count, self.latest)
        return sectors(self.seed, first, count, self.latest)

    def zero(self, span: Span) -> None:
        """Let the span read as zeros."""
        self._set(_in_sectors(span.start), _in_sectors(span.length), 0)

    def resize(self, size_bytes: int) -> None:
        """Cut the disk, or let it grow by zeros."""
        count = _in_sectors(size_bytes)
        del self.versions[count:]
        self.versions.extend([0] * (count - len(self.versions)))

    def copy(self) -> "PatternedDisk":
        """Return the content as it is now, to compare with later."""
        other = PatternedDisk(self.seed, 0)
        other.versions, other.latest = self.versions[:], self.latest
        return other

    def read(self, span: Span) -> bytes:
        """Return the expected bytes of a span, at any offset."""
        first, end = span.start // SECTOR_SIZE, -(-span.end // SECTOR_SIZE)
        content = b"".join(
            sectors(self.seed, run.start, run.length, self.versions[run.start]) for run in self._runs(first, end)
        )
        skipped = span.start - first * SECTOR_SIZE
        return content[skipped : skipped + span.length]

    def nonzero_spans(self) -> Iterator[Span]:
        """Yield, sorted, what is not zeros."""
        yield from coalesce(
            Span(run.start * SECTOR_SIZE, run.length * SECTOR_SIZE)
            for run in self._runs(0, len(self.versions))
            if self.versions[run.start]
        )

    def differing_spans(self, other: "PatternedDisk") -> Iterator[Span]:
        """Yield, sorted, where two contents differ; behind the end of the smaller one are zeros."""
        count = max(len(self.versions), len(other.versions))
        ours, theirs = (d.versions + array("I", [0]) * (count - len(d.versions)) for d in (self, other))
        groups = (range(at, min(at + _GROUP_SECTORS, count)) for at in range(0, count, _GROUP_SECTORS))
        yield from coalesce(
            Span(index * SECTOR_SIZE, SECTOR_SIZE)
            for group in groups
            if ours[group.start : group.stop] != theirs[group.start : group.stop]
            for index in group
            if ours[index] != theirs[index]
        )

    def difference(self, offset: int, actual: bytes) -> str | None:
        """Return in words how bytes from ``offset``, a multiple of 512, differ; None if not."""
        expected = self.read(Span(offset, len(actual)))
        if expected == actual:
            return None
        cuts = (slice(at, at + SECTOR_SIZE) for at in range(0, len(actual), SECTOR_SIZE))
        cut = next(cut for cut in cuts if actual[cut] != expected[cut])
        number = (offset + cut.start) // SECTOR_SIZE
        return f"sector {number} should be {_words(expected[cut])} and is {_words(actual[cut])}"

    def _set(self, first: int, count: int, version: int) -> None:
        if first + count > len(self.versions):
            raise IndexError(f"sectors {first}..{first + count} of {len(self.versions)}")
        self.versions[first : first + count] = array("I", [version]) * count

    def _runs(self, first: int, end: int) -> Iterator[Span]:
        """Yield runs of sectors, in sectors, that have one version."""
        versions = self.versions
        end = min(end, len(versions))
        while first < end:
            stop = first + 1
            while stop < end and versions[stop] == versions[first]:
                stop += 1
            yield Span(first, stop - first)
            first = stop


def _filling(seed: int, version: int, group: int, inside: Span) -> bytes:
    """Return random-looking bytes for sectors ``inside`` a group; they do not depend on the cut."""
    hasher = blake3.blake3(HEADER.pack(seed, group, version))
    return hasher.digest(length=inside.length * SECTOR_SIZE, seek=inside.start * SECTOR_SIZE)


def _in_sectors(length: int) -> int:
    count, rest = divmod(length, SECTOR_SIZE)
    if rest:
        raise ValueError(f"{length} is not a multiple of {SECTOR_SIZE}")
    return count


def _words(sector: bytes) -> str:
    if len(sector) < SECTOR_SIZE:
        return f"a piece of {len(sector)} bytes"
    found = origin(sector)
    if found is None:
        return f"foreign bytes ({sector[:8].hex()}...)"
    if found.version == 0:
        return "zeros"
    return f"version {found.version} of sector {found.sector} of disk {found.seed}"
