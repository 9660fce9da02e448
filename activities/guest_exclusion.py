"""What of a disk is not read because its guest does not need it, counted and told."""

import heapq
import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

from holdfast.clock import Clock
from holdfast.formats.contents import LeftOut
from holdfast.formats.magic import PIECE_SIZE
from holdfast.guest.masks import FileMask
from holdfast.guest.survey import GuestUse, survey
from holdfast.guest.volume import VolumeState
from holdfast.guest.window import Disk
from holdfast.model.plan import Action, PlanStep
from holdfast.model.spans import Span, coalesce, intersect
from holdfast.pipeline.disks import DiskReader
from holdfast.planning.guest_exclusion import (
    Unneeded,
    explanation,
    remembered_spans,
    without_unneeded,
)

LOOK_MAX_S = 300.0
"""Longest time for looking a disk over; what was not looked at by then is read."""
_STREAMED = "it comes as one stream and is not looked over, so nothing is left out"
_SEVERAL_DISKS = "the machine is off, and may sleep in another disk"


class Guest(NamedTuple):
    """What is known of the guest whose disk is read."""

    at_rest: bool
    """Its machine was switched off when its disks were frozen."""
    is_only_disk: bool

    @property
    def why_swap_is_needed(self) -> str:
        """Return why swap stays whatever this disk says; empty when the disk decides.

        A machine that runs does not sleep. One that is off may, and the disk that says so may be another one: page
        files that are read as zeros then are memory that is lost when it wakes up.
        """
        return _SEVERAL_DISKS if self.at_rest and not self.is_only_disk else ""


class Looks(NamedTuple):
    """How a disk is looked over, without standing still or taking for ever."""

    clock: Clock
    waiting: Callable[[], None]
    """Says that the work goes on. Raises when the activity shall stop."""
    is_stream: bool
    """Not at all: reads here and there make the disk come from its front again, and after some times fail."""


class GuestExclusion:
    """Keeps the steps of one disk from reading what is ``unwanted``; its figures are complete behind the last step.

    ``masks`` mean files that are unwanted, too.
    """

    def __init__(
        self,
        reader: DiskReader,
        unwanted: Collection[Unneeded],
        guest: Guest,
        looks: Looks,
        masks: Sequence[FileMask] = (),
    ) -> None:
        self._reader = reader
        self._looks = looks
        self._guest = guest
        self._asked = frozenset(unwanted)
        self._unwanted = frozenset(unwanted) - ({Unneeded.SWAP} if guest.why_swap_is_needed else set())
        if looks.is_stream:
            self._unwanted = frozenset()
        self._masks = masks
        self._bytes: dict[Unneeded, int] = {}
        self._has_looked = False
        self.keeps_lacking_deleted = False
        """Whether pieces stay that the parent point left out as deleted."""

    @cached_property
    def _use(self) -> GuestUse:
        self._has_looked = True
        clock, waiting = self._looks.clock, self._looks.waiting
        until_s = clock.monotonic_s() + LOOK_MAX_S

        def go_on() -> bool:
            waiting()
            return clock.monotonic_s() < until_s

        disk = Disk(self._read, self._reader.size_bytes, go_on)
        return survey(disk, PIECE_SIZE, at_rest=self._guest.at_rest, masks=self._masks)

    @cached_property
    def remembered(self) -> tuple[Span, ...]:
        """Return what is left out as swap and as excluded files; looks the disk over."""
        if self._unwanted.isdisjoint((Unneeded.SWAP, Unneeded.FILES)):
            return ()
        spans = heapq.merge(self._swap(), self._use.files_spans(), key=lambda span: span.start)
        return remembered_spans(coalesce(spans), self._reader.size_bytes, PIECE_SIZE)

    def _swap(self) -> Iterator[Span]:
        return self._use.swap_spans() if Unneeded.SWAP in self._unwanted else iter(())

    def without(self, steps: Iterator[PlanStep]) -> Iterator[PlanStep]:
        """Yield the steps, with zeros in the place of what is left out. The disk is looked over at the first read."""
        for step in steps:
            if step.action is Action.READ and self._unwanted:
                yield from self._filtered(itertools.chain((step,), steps))
                return
            yield step

    def _filtered(self, steps: Iterator[PlanStep]) -> Iterator[PlanStep]:
        size = self._reader.size_bytes
        swap = intersect(self._swap(), self.remembered)
        steps = self._counted(Unneeded.SWAP, without_unneeded(steps, swap, size, PIECE_SIZE))
        steps = self._counted(Unneeded.FILES, without_unneeded(steps, self.remembered, size, PIECE_SIZE))
        if Unneeded.DELETED in self._unwanted:
            unneeded = without_unneeded(steps, self._use.deleted_spans(), size, PIECE_SIZE)
            steps = self._counted(Unneeded.DELETED, unneeded)
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
    def left_out(self) -> LeftOut | None:
        """Return what the point has to remember; None when it lacks nothing."""
        deleted = self.keeps_lacking_deleted or Unneeded.DELETED in self._bytes
        spans = tuple((span.start, span.length) for span in self.remembered) if self._has_looked else ()
        return LeftOut(deleted=deleted, swap=spans) if deleted or spans else None

    @property
    def words(self) -> str:
        """Return what was left out, of which volumes not all was and why, and which masks mean nothing."""
        if self._looks.is_stream:
            return explanation({}, [("the whole disk", _STREAMED)]) if self._asked else ""
        volumes = self._use.volumes if self._has_looked else ()
        kept = [("swap", reason)] if (reason := self._why_swap_is_kept) else []
        kept += [(volume.place, volume.reason) for volume in volumes if volume.state is not VolumeState.CLEAN]
        kept += [(volume.place, volume.files_reason) for volume in volumes if volume.files_reason]
        matched = self._use.matched if self._has_looked else range(len(self._masks))
        missing = [mask.text for number, mask in enumerate(self._masks) if number not in matched]
        return explanation(self._bytes, kept, missing)

    @property
    def _why_swap_is_kept(self) -> str:
        found = self._use.swap_reason if self._has_looked else ""
        return self._guest.why_swap_is_needed or found if Unneeded.SWAP in self._asked else ""
