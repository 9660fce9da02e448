"""The rollback pipe: restore point to a disk that holds another state, writing only what differs.

What differs is told by change tracking, or found by comparing the disk with the digests of the point, while what was
found is written behind. A disk that began empty is written without a look, and looked at only as far as an attempt
that died may have written it.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

import msgspec

from holdfast.clock import Clock
from holdfast.formats.contents import LeftOut
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.session import Figures
from holdfast.model.spans import Span, align, clip
from holdfast.pipeline.comparing import Comparison
from holdfast.pipeline.disks import DiskWriter
from holdfast.pipeline.restore import DiskRestore, PieceSource, compare_target
from holdfast.pipeline.stages import PipeProgress, StageTimes

Report = Callable[[PipeProgress], None]


class RolledBack(msgspec.Struct, frozen=True, kw_only=True):
    """What a rollback did."""

    figures: Figures
    """Read is what came from the repository, and what was read of the target to find differences."""
    stages: StageTimes
    written_bytes: int
    """Zeros included."""
    compared_bytes: int = 0
    """Read of the target to find differences."""
    equal_bytes: int = 0
    """Of these, what needed no writing."""
    again_bytes: int = 0
    """What an attempt that died had reported as written, and was not there."""


class Repaired(msgspec.Struct, frozen=True):
    """What differed behind a rollback, and was written once more."""

    differing_bytes: int = 0
    in_doubt_bytes: int = 0
    """Zeros of the point that may stand for what was left out: written only because something else differed."""


class DiskRollback:
    """Makes one disk equal to a restore point. Methods may be called one after the other."""

    def __init__(self, source: PieceSource, target: DiskWriter, key: bytes, clock: Clock) -> None:
        self._source = source
        self._target = target
        self._key = key
        self._clock = clock

    def write_changed(self, changed: Iterable[Span], first_piece: int, report: Report) -> RolledBack:
        """Write every piece from one on that sorted spans touch. What ``report`` raises stops it."""
        return self._write(self._changed_runs(changed, first_piece), first_piece, report, self._comparison())

    def write_all(self, report: Report) -> RolledBack:
        """Write every piece without a look at the target, which began empty. What ``report`` raises stops it."""
        pieces = range(self._source.pieces)
        return self._write([pieces] if pieces else [], 0, report, self._comparison())

    def write_rest(self, first_piece: int, reported_piece: int, report: Report) -> RolledBack:
        """Write from a piece on what an attempt that died has not written to a target that began empty.

        Its last report said that it had written everything before ``reported_piece``. What ``report`` raises stops it.
        """
        comparison = self._comparison()
        self._target.flush()
        with closing(comparison.runs_of_rest(first_piece, reported_piece)) as runs:
            return self._write(runs, first_piece, report, comparison)

    def write_differing(self, first_piece: int, report: Report, left_out: LeftOut | None = None) -> RolledBack:
        """Compare the target with the point from a piece on and write what differs. What ``report`` raises stops it.

        What the point lacks by ``left_out`` is passed over.
        """
        comparison = self._comparison(left_out)
        self._target.flush()  # what is equal counts as committed; an attempt that died may have left it in memory
        with closing(comparison.runs(first_piece)) as runs:
            return self._write(runs, first_piece, report, comparison)

    def make_equal(self, report: Callable[[int], None], left_out: LeftOut | None = None) -> Repaired:
        """Compare the whole target with the point, and write once more what differs.

        ``report`` is told how many bytes that were so far. What the point lacks by ``left_out`` is passed over as long
        as nothing else differs. Raises `RestoredBytesDiffer` when the target does not keep what was written.
        """
        found = self.write_differing(0, lambda progress: report(progress.written_bytes), left_out).written_bytes
        if not found:
            return Repaired()
        in_doubt = 0
        if left_out is not None:
            in_doubt = self.write_differing(0, lambda _: report(found)).written_bytes
        compare_target(self._source, self._target, self._key, lambda _: report(found))
        return Repaired(found, in_doubt)

    def _comparison(self, left_out: LeftOut | None = None) -> Comparison:
        return Comparison(self._source, self._target, self._key, left_out)

    def _write(self, runs: Iterable[range], first_piece: int, report: Report, comparison: Comparison) -> RolledBack:
        restore = DiskRestore(self._source, self._target, self._key, self._clock)
        comparison.watch(restore.busy)

        def compared(figures: Figures) -> Figures:
            return msgspec.structs.replace(figures, read_bytes=figures.read_bytes + comparison.compared_bytes)

        def passed_on(progress: PipeProgress) -> None:
            report(msgspec.structs.replace(progress, figures=compared(progress.figures)))

        figures = restore.write(runs, first_piece, passed_on)
        return RolledBack(
            figures=compared(figures),
            stages=restore.progress().stages,
            written_bytes=restore.written_bytes,
            compared_bytes=comparison.compared_bytes,
            equal_bytes=comparison.equal_bytes,
            again_bytes=comparison.again_bytes,
        )

    def _changed_runs(self, changed: Iterable[Span], first_piece: int) -> Iterator[range]:
        size = self._source.size_bytes
        for span in clip(align(changed, PIECE_SIZE, size), first_piece * PIECE_SIZE, size):
            yield range(span.start // PIECE_SIZE, -(-span.end // PIECE_SIZE))
