"""The rollback pipe: restore point to a disk that holds a later state, writing only what differs.

What differs is told by change tracking, or found by comparing the disk with the digests of the point: whole blocks at
once and several in flight, while what was found is written behind.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import Final

import msgspec

from holdfast.clock import Clock
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.session import Figures
from holdfast.model.spans import Span, align, clip
from holdfast.pipeline.busy import PipeClocks, StageClock, StagePool
from holdfast.pipeline.disks import DiskWriter
from holdfast.pipeline.flow import in_order
from holdfast.pipeline.restore import BLOCK_PIECES, DiskRestore, PieceSource, Readable, compare_target, differing_pieces
from holdfast.pipeline.stages import PipeProgress, StageTimes

_COMPARING: Final = 4
"""Blocks that are read from the target at once."""
_AHEAD: Final = 16

Report = Callable[[PipeProgress], None]


class RolledBack(msgspec.Struct, frozen=True, kw_only=True):
    """What a rollback did."""

    figures: Figures
    """Read is what came from the repository, and what was read of the target to find differences."""
    stages: StageTimes
    written_bytes: int
    """Zeros included."""


class DiskRollback:
    """Makes one disk equal to a restore point. Methods may be called one after the other."""

    def __init__(self, source: PieceSource, target: DiskWriter, key: bytes, clock: Clock) -> None:
        self._source = source
        self._target = target
        self._key = key
        self._clock = clock
        self._compared_bytes = 0
        self._busy = PipeClocks(clock)

    def write_changed(self, changed: Iterable[Span], first_piece: int, report: Report) -> RolledBack:
        """Write every piece from one on that sorted spans touch. What ``report`` raises stops it."""
        return self._write(self._changed_runs(changed, first_piece), first_piece, report)

    def write_differing(self, first_piece: int, report: Report) -> RolledBack:
        """Compare the target with the point from a piece on and write what differs. What ``report`` raises stops it."""
        with closing(self._differing_runs(first_piece)) as runs:
            return self._write(runs, first_piece, report)

    def make_equal(self, report: Callable[[], None]) -> int:
        """Compare the whole target with the point, and return how many bytes differed and were written once more.

        Raises `RestoredBytesDiffer` when the target does not keep them.
        """
        found = self.write_differing(0, lambda _: report()).written_bytes
        if found:
            compare_target(self._source, self._target, self._key, lambda _: report())
        return found

    def _write(self, runs: Iterable[range], first_piece: int, report: Report) -> RolledBack:
        restore = DiskRestore(self._source, self._target, self._key, self._clock)
        self._busy = restore.busy
        before = self._compared_bytes

        def compared(figures: Figures) -> Figures:
            return msgspec.structs.replace(figures, read_bytes=figures.read_bytes + self._compared_bytes - before)

        def passed_on(progress: PipeProgress) -> None:
            report(msgspec.structs.replace(progress, figures=compared(progress.figures)))

        figures = restore.write(runs, first_piece, passed_on)
        stages = restore.progress().stages
        return RolledBack(figures=compared(figures), stages=stages, written_bytes=restore.written_bytes)

    def _changed_runs(self, changed: Iterable[Span], first_piece: int) -> Iterator[range]:
        size = self._source.size_bytes
        for span in clip(align(changed, PIECE_SIZE, size), first_piece * PIECE_SIZE, size):
            yield range(span.start // PIECE_SIZE, -(-span.end // PIECE_SIZE))

    def _differing_runs(self, first_piece: int) -> Generator[range, None, None]:
        end = self._source.pieces
        blocks = (range(at, min(at + BLOCK_PIECES, end)) for at in range(first_piece, end, BLOCK_PIECES))

        target = _WatchedReads(self._target, self._busy.target)

        def look(block: range) -> tuple[range, list[int]]:
            return block, differing_pieces(target, self._source, self._key, block)

        with StagePool(_COMPARING, "compare", self._busy.proxy) as pool:
            for block, pieces in in_order(pool, look, blocks, _AHEAD):
                self._compared_bytes += min(block.stop * PIECE_SIZE, self._source.size_bytes) - block.start * PIECE_SIZE
                yield from _runs(pieces)
                yield range(block.stop, block.stop)


class _WatchedReads:
    """A disk whose reads are counted."""

    def __init__(self, disk: Readable, stage: StageClock) -> None:
        self._disk = disk
        self._stage = stage

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Read, and count it."""
        with self._stage:
            self._disk.read_into(offset, buffer)


def _runs(pieces: list[int]) -> Iterator[range]:
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
