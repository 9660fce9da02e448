"""What differs between two points: spans by the maps and digests of their chain, and the files that lie there.

Inside one chain no byte of a disk is read for the spans: equal segments have equal digests, pieces that the same point
wrote last are equal, and what is left is told by the digests of pieces. Digests of two chains cannot be compared,
because each chain has a key of its own; then the older disk is read and digested with the key of the newer one.
"""

from collections.abc import Callable, Iterator

from holdfast.errors import DiskNotFound
from holdfast.formats.magic import (
    DIGEST_SIZE,
    PIECE_SIZE,
    PIECES_PER_PAGE,
    PIECES_PER_SEGMENT,
    ZERO_DIGEST,
)
from holdfast.guest.changed_files import SPANS_MAX, SpanIndex, changed_files
from holdfast.model.difference import DiskDifference, VolumeChanges
from holdfast.model.spans import Span, coalesce
from holdfast.pipeline.restore import BLOCK_PIECES, differing_pieces
from holdfast.storage.chains.chain import Chain, StoredDisk
from holdfast.storage.points.point_reader import PointReader

Report = Callable[[int, int], None]
"""Gets how many bytes of a disk were compared, and of how many; what it raises ends the comparison."""


class Comparison:
    """Compares two points of one machine, which may be in one chain or in two. Chains stay open meanwhile."""

    def __init__(
        self, old: tuple[Chain, int], new: tuple[Chain, int], *, spans_max: int, files_max: int | None
    ) -> None:
        """``files_max`` is how many files of each volume are named; None: none are looked for."""
        self._old, self._new = old, new
        self._spans_max = spans_max
        self._files_max = files_max

    def keys(self) -> list[str]:
        """Return the keys of the disks that either point has."""
        points = [chain.point(number)[1] for chain, number in (self._old, self._new)]
        return sorted({disk.key for point in points for disk in point.disks})

    def disk(self, key: str, report: Report) -> DiskDifference:
        """Return what differs on one disk. Raises `DiskNotFound` when neither point has it, and errors of the files."""
        old, new = _disk_at(self._old, key), _disk_at(self._new, key)
        sizes = (None if old is None else old.size_bytes, None if new is None else new.size_bytes)
        if old is None and new is None:
            raise DiskNotFound(f"neither point has a disk {key}")
        if old is None or new is None:
            return DiskDifference(key=key, old_size_bytes=sizes[0], new_size_bytes=sizes[1])
        is_by_digest = old.digest_key == new.digest_key
        pieces = differing_by_digest(old, new, report) if is_by_digest else differing_by_bytes(old, new, report)
        spans: list[Span] = []
        index = SpanIndex()
        total = count = 0
        for span in merged_spans(pieces, max(old.size_bytes, new.size_bytes)):
            total, count = total + span.length, count + 1
            index.add(span)
            if len(spans) < self._spans_max:
                spans.append(span)
        volumes, reason = self._volumes((old, new), index)
        return DiskDifference(
            key=key,
            old_size_bytes=sizes[0],
            new_size_bytes=sizes[1],
            changed_bytes=total,
            spans=tuple(spans),
            unnamed_spans=count - len(spans),
            compared_by="digests" if is_by_digest else "bytes",
            old_volumes=volumes[0],
            new_volumes=volumes[1],
            reason=reason,
        )

    def _volumes(
        self, disks: tuple[StoredDisk, StoredDisk], index: SpanIndex
    ) -> tuple[tuple[tuple[VolumeChanges, ...], tuple[VolumeChanges, ...]], str]:
        if self._files_max is None:
            return ((), ()), ""
        if not index.is_whole:
            return ((), ()), f"the disk differs in more than {SPANS_MAX} places"
        old, new = (
            tuple(changed_files(PointReader(disk).read, disk.size_bytes, index, self._files_max)) for disk in disks
        )
        return (old, new), ""


def merged_spans(pieces: Iterator[range], size_bytes: int) -> Iterator[Span]:
    """Yield runs of pieces as spans of a disk, those that touch as one."""
    spans = (
        Span(run.start * PIECE_SIZE, min(run.stop * PIECE_SIZE, size_bytes) - run.start * PIECE_SIZE) for run in pieces
    )
    return coalesce(spans)


def differing_by_digest(old: StoredDisk, new: StoredDisk, report: Report) -> Iterator[range]:
    """Yield, in order, the pieces in which two disks of one chain differ; what is behind an end counts as zeros."""
    end = max(old.pieces, new.pieces)
    for page in range(0, end, PIECES_PER_PAGE):
        report(min(page, end) * PIECE_SIZE, end * PIECE_SIZE)
        if old.is_page_empty(page // PIECES_PER_PAGE) and new.is_page_empty(page // PIECES_PER_PAGE):
            continue
        for first in range(page, min(page + PIECES_PER_PAGE, end), PIECES_PER_SEGMENT):
            segment = first // PIECES_PER_SEGMENT
            if old.segment_digest(segment) != new.segment_digest(segment):
                yield from _in_segment(old, new, range(first, min(first + PIECES_PER_SEGMENT, end)))


def differing_by_bytes(old: StoredDisk, new: StoredDisk, report: Report) -> Iterator[range]:
    """Yield, in order, the pieces in which two disks of different chains differ, by reading the old one."""
    reader = PointReader(old)
    end = max(old.pieces, new.pieces)
    for first in range(0, end, PIECES_PER_SEGMENT):
        report(first * PIECE_SIZE, end * PIECE_SIZE)
        segment = first // PIECES_PER_SEGMENT
        if old.segment_digest(segment) == new.segment_digest(segment) == ZERO_DIGEST:
            continue
        stop = min(first + PIECES_PER_SEGMENT, end)
        for start in range(first, stop, BLOCK_PIECES):
            block = range(start, min(start + BLOCK_PIECES, stop))
            for piece in differing_pieces(reader, _Stretched(new, end), new.digest_key, block):
                yield range(piece, piece + 1)


class _Stretched:
    """The digests of a disk that counts as ``pieces`` long, with zeros behind its end."""

    def __init__(self, disk: StoredDisk, pieces: int) -> None:
        self.size_bytes = pieces * PIECE_SIZE
        self._disk = disk

    def piece_digests(self, start: int, end: int) -> bytearray:
        """Return the joined digests of pieces."""
        return self._disk.piece_digests(start, end)


def _in_segment(old: StoredDisk, new: StoredDisk, pieces: range) -> Iterator[range]:
    for run in _other_writers(old, new, pieces):
        before, after = old.piece_digests(run.start, run.stop), new.piece_digests(run.start, run.stop)
        for at, piece in enumerate(run):
            place = slice(at * DIGEST_SIZE, (at + 1) * DIGEST_SIZE)
            if before[place] != after[place]:
                yield range(piece, piece + 1)


def _other_writers(old: StoredDisk, new: StoredDisk, pieces: range) -> Iterator[range]:
    """Yield the runs of pieces that different points wrote last."""
    befores = old.writers(pieces.start, pieces.stop)
    before = next(befores)
    for first, count, writer in new.writers(pieces.start, pieces.stop):
        at, stop = first, first + count
        while at < stop:
            if before[0] + before[1] <= at:
                before = next(befores)
            until = min(stop, before[0] + before[1])
            if before[2] != writer:
                yield range(at, until)
            at = until


def _disk_at(place: tuple[Chain, int], key: str) -> StoredDisk | None:
    """Return the disk at a point; None when the machine did not have it then."""
    chain, number = place
    return None if chain.point(number)[1].disk(key) is None else chain.disk(number, key)
