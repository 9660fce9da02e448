"""Finding what differs: a target's disk against the digests of a restore point, whole blocks at once, many in flight.

Reading a target costs less than writing it, and what is equal needs nothing from the repository. Where the disk began
empty and an attempt that died has written a part of it, only that part is looked at: it ends where nothing is equal
any more.
"""

from bisect import bisect_right
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Final

import msgspec

from holdfast.formats.contents import LeftOut
from holdfast.formats.magic import DIGEST_SIZE, PIECE_SIZE, ZERO_DIGEST
from holdfast.model.spans import Span
from holdfast.pipeline.busy import PipeClocks, StageClock, StagePool
from holdfast.pipeline.flow import in_order
from holdfast.pipeline.restore import (
    BLOCK_PIECES,
    Digested,
    PieceSource,
    Readable,
    differing_pieces,
    first_difference,
)

IN_FLIGHT: Final = 16
"""Blocks of 1 MiB that are read from a target and compared at once."""
UNWRITTEN_BYTES: Final = 64 << 20
"""So much was read behind the last report and nothing of it was equal: an attempt that died did not come further.

Writing goes upwards, and blocks that were in flight are far less.
"""


class _Look(msgspec.Struct, frozen=True):
    """What was found out about some pieces."""

    block: range
    differing: list[int]
    written: list[int]
    """Pieces with content that the target holds as the point does; somebody has written them."""
    is_read: bool = True


class Comparable:
    """Tells which pieces of a point hold what the disk held: zeros may stand for what was left out of the point.

    Where they do, a difference says nothing about what has happened to the disk since.
    """

    def __init__(self, point: Digested, left_out: LeftOut | None) -> None:
        self._point = point
        self._left_out = left_out
        spans = () if left_out is None else sorted(left_out.swap)
        self._starts = [start for start, _ in spans]
        self._ends = [start + length for start, length in spans]

    def runs(self, pieces: range) -> Iterator[range]:
        """Yield, in order, the runs of some adjoining pieces that hold what the disk held."""
        if self._left_out is None:
            yield pieces
            return
        digests = self._point.piece_digests(pieces.start, pieces.stop)
        yield from _joined([at for at in pieces if not self._is_in_doubt(at, _digest(digests, at - pieces.start))])

    def _is_in_doubt(self, piece: int, digest: bytes) -> bool:
        if self._left_out is None or digest != ZERO_DIGEST:
            return False
        return self._left_out.deleted or self._is_remembered(piece * PIECE_SIZE)

    def _is_remembered(self, offset: int) -> bool:
        at = bisect_right(self._starts, offset) - 1
        return at >= 0 and offset < self._ends[at]


def untold_difference(
    disk: Readable, point: Digested, left_out: LeftOut | None, key: bytes, spans: Iterable[Span]
) -> int | None:
    """Return the offset of a difference in spans that are said to be as at the point, or None when there is none.

    ``left_out`` is what the point lacks; that is passed over.
    """
    comparable = Comparable(point, left_out)
    for span in spans:
        for pieces in comparable.runs(range(span.start // PIECE_SIZE, -(-span.end // PIECE_SIZE))):
            found = first_difference(disk, point, key, pieces)
            if found is not None:
                return found * PIECE_SIZE
    return None


class Comparison:
    """Yields the runs of pieces in which a target differs from a point, and counts. Use from one thread.

    An empty run says that there is nothing to write before it. What the point lacks by ``left_out`` counts as equal.
    """

    def __init__(self, source: PieceSource, target: Readable, key: bytes, left_out: LeftOut | None = None) -> None:
        self._source = source
        self._comparable = Comparable(source, left_out)
        self._target: Readable = target
        self._key = key
        self.compared_bytes = 0
        self.equal_bytes = 0
        self.again_bytes = 0
        """What an attempt that died had reported as written and was not there."""
        self._busy: PipeClocks | None = None

    def watch(self, busy: PipeClocks) -> None:
        """Count in these clocks how long reading and comparing take. To be called before anything is compared."""
        self._busy = busy
        self._target = _WatchedReads(self._target, busy.target)

    def runs(self, first_piece: int) -> Generator[range, None, None]:
        """Compare everything from a piece on."""
        with closing(self._looks(first_piece, is_rest=False)) as looks:
            for look in looks:
                yield from self._told(look)

    def runs_of_rest(self, first_piece: int, reported_piece: int) -> Generator[range, None, None]:
        """Compare, from a piece on, what an attempt that died may have written; all behind that counts as differing.

        It said that it had written everything before ``reported_piece``. Stretches of zeros count as differing without
        a look, because writing them to a disk that began empty costs nothing.
        """
        in_vain = 0
        with closing(self._looks(first_piece, is_rest=True)) as looks:
            for look in looks:
                if in_vain >= UNWRITTEN_BYTES:
                    yield range(look.block.start, self._source.pieces)
                    return
                self.again_bytes += sum(
                    self._length(range(piece, piece + 1))
                    for piece in look.differing
                    if look.is_read and piece < reported_piece
                )
                yield from self._told(look)
                if look.written or look.block.start < reported_piece:
                    in_vain = 0
                elif look.is_read:
                    in_vain += self._length(look.block)

    def _looks(self, first_piece: int, *, is_rest: bool) -> Generator[_Look, None, None]:
        end = self._source.pieces
        blocks = (range(at, min(at + BLOCK_PIECES, end)) for at in range(first_piece, end, BLOCK_PIECES))
        with self._pool() as pool:
            yield from in_order(pool, self._look_at_rest if is_rest else self._look, blocks, IN_FLIGHT)

    def _pool(self) -> ThreadPoolExecutor:
        if self._busy is None:
            return ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="compare")
        return StagePool(IN_FLIGHT, "compare", self._busy.proxy)

    def _look(self, block: range) -> _Look:
        differing = differing_pieces(self._target, self._source, self._key, block)
        if not differing:
            return _Look(block, [], [])
        comparable = {piece for run in self._comparable.runs(block) for piece in run}
        return _Look(block, [piece for piece in differing if piece in comparable], [])

    def _look_at_rest(self, block: range) -> _Look:
        digests = self._source.piece_digests(block.start, block.stop)
        if not any(digests):
            return _Look(block, list(block), [], is_read=False)
        look = self._look(block)
        equal = set(block).difference(look.differing)
        return _Look(block, look.differing, [at for at in equal if _digest(digests, at - block.start) != ZERO_DIGEST])

    def _told(self, look: _Look) -> Iterator[range]:
        if look.is_read:
            length = self._length(look.block)
            self.compared_bytes += length
            self.equal_bytes += length - sum(self._length(run) for run in _joined(look.differing))
        yield from _joined(look.differing)
        yield range(look.block.stop, look.block.stop)

    def _length(self, pieces: range) -> int:
        return min(pieces.stop * PIECE_SIZE, self._source.size_bytes) - pieces.start * PIECE_SIZE


class _WatchedReads:
    """A disk whose reads are counted."""

    def __init__(self, disk: Readable, stage: StageClock) -> None:
        self._disk = disk
        self._stage = stage

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Read, and count it."""
        with self._stage:
            self._disk.read_into(offset, buffer)


def _digest(joined: bytes | bytearray, slot: int) -> bytes:
    return bytes(joined[slot * DIGEST_SIZE : (slot + 1) * DIGEST_SIZE])


def _joined(pieces: list[int]) -> Iterator[range]:
    """Join adjoining pieces."""
    start = end = -1
    for piece in pieces:
        if piece == end:
            end += 1
            continue
        if start < end:
            yield range(start, end)
        start, end = piece, piece + 1
    if start < end:
        yield range(start, end)
