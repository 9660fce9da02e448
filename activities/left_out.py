"""What of a disk is not read because its guest does not need it, counted and told."""

import itertools
from collections.abc import Collection, Iterator

from holdfast.formats.magic import PIECE_SIZE
from holdfast.guest.survey import GuestUse, survey
from holdfast.guest.volume import VolumeState
from holdfast.model.plan import Action, PlanStep
from holdfast.pipeline.disks import DiskReader
from holdfast.planning.guest_exclusion import Unneeded, left_out_words, without_unneeded

_VOLUMES_TOLD = 4


class LeftOut:
    """Keeps the steps of one disk from reading what is not ``wanted``; complete once the steps have been gone through.

    ``inherited`` is what the parent point lacks and this one will lack too, where it keeps pieces of it.
    """

    def __init__(
        self, reader: DiskReader, unwanted: Collection[Unneeded], inherited: Collection[Unneeded] = ()
    ) -> None:
        self._reader = reader
        self._unwanted = unwanted
        self._bytes: dict[Unneeded, int] = dict.fromkeys(inherited, 0)
        self._use: GuestUse | None = None

    def without(self, steps: Iterator[PlanStep]) -> Iterator[PlanStep]:
        """Yield the steps, with zeros in the place of what is left out. The disk is looked over at the first read."""
        for step in steps:
            if step.action is Action.READ and self._unwanted:
                yield from self._filtered(itertools.chain((step,), steps))
                return
            yield step

    def _filtered(self, steps: Iterator[PlanStep]) -> Iterator[PlanStep]:
        reader = self._reader
        use = self._use = survey(self._read, reader.size_bytes, PIECE_SIZE)
        for kind, spans in ((Unneeded.SWAP, use.swap_spans()), (Unneeded.DELETED, use.deleted_spans())):
            if kind in self._unwanted:
                steps = self._counted(kind, without_unneeded(steps, spans, reader.size_bytes, PIECE_SIZE))
        yield from steps

    def _counted(self, kind: Unneeded, steps: Iterator[tuple[PlanStep, bool]]) -> Iterator[PlanStep]:
        for step, is_left_out in steps:
            if is_left_out:
                self._bytes[kind] = self._bytes.get(kind, 0) + step.span.length
            yield step

    def _read(self, offset: int, length: int) -> bytes:
        buffer = bytearray(length)
        self._reader.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    @property
    def words(self) -> str:
        """Return what was left out, as a point keeps it; empty when nothing was."""
        return left_out_words(self._bytes)

    @property
    def explanation(self) -> str:
        """Return what was left out, and of which volumes nothing was, and why."""
        volumes = () if self._use is None else self._use.volumes
        kept = [
            f"{volume.place} kept whole: {volume.reason}"
            for volume in volumes
            if volume.state is not VolumeState.CLEAN and not volume.swap_bytes
        ]
        kept = kept[:_VOLUMES_TOLD] + [f"and {len(kept) - _VOLUMES_TOLD} more"] * (len(kept) > _VOLUMES_TOLD)
        return "; ".join(filter(None, (self.words, *kept)))
