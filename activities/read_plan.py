"""What is read of a disk: the provider's word about changes, and how far it is believed."""

import heapq
import itertools
from collections.abc import Iterator

from activities.contracts.transfer import CopyDisk
from activities.guest_exclusion import Guest, GuestExclusion, Looks
from holdfast.errors import ChangeTrackingLost
from holdfast.formats.contents import LeftOut
from holdfast.formats.magic import PIECE_SIZE
from holdfast.guest.masks import parse_masks
from holdfast.model.ids import ChangeId
from holdfast.model.plan import PlanStep, ReadDecision, ReadMode
from holdfast.model.spans import Span, align, clip, coalesce, subtract
from holdfast.pipeline.comparing import untold_difference
from holdfast.pipeline.sink import EarlierDisk, WritableDisk
from holdfast.planning.change_trust import lie_reason, sampled_spans
from holdfast.planning.guest_exclusion import Unneeded
from holdfast.planning.lost_tracking import told_or_rest, with_rest
from holdfast.planning.read_plan import changed_steps, decide_mode, whole_disk_steps
from holdfast.providers.ports import Provider, SourceDisk


class ReadPlan:
    """What is read of a disk and why; a lost change tracking becomes a comparison that says so."""

    def __init__(
        self,
        provider: Provider,
        request: CopyDisk,
        reader: SourceDisk,
        disk: WritableDisk,
        looks: Looks,
    ) -> None:
        self.request = request
        self.reader = reader
        self._digest_key = disk.sink.digest_key
        self.note = ""
        self._lost_at: int | None = None
        earlier, change_id = disk.earlier, disk.change_id
        before = None if earlier is None else earlier.change_id
        self._lacked = (earlier.left_out if earlier is not None else None) or LeftOut()
        self._is_resized = earlier is not None and earlier.size_bytes != reader.size_bytes
        unwanted = _unwanted(request)
        guest = Guest(at_rest=disk.at_rest, is_only_disk=request.is_only_disk)
        self.exclusion = GuestExclusion(reader, unwanted, guest, looks, parse_masks(request.exclude_files))
        self.decision = decide_mode(
            has_parent=earlier is not None,
            parent_change_id=None if before is None else ChangeId(before),
            change_id=None if change_id is None else ChangeId(change_id),
            distrust=request.distrust_changes,
            unlike=self._unlike(unwanted),
        )
        # An earlier attempt may have gone by what changed even when this one no longer can.
        may_have_kept = self.decision.mode is ReadMode.CHANGED and disk.sink.standing.taken > 0
        steps = self._steps(provider, disk, before)
        is_kept = may_have_kept or self.decision.mode is ReadMode.CHANGED
        self.exclusion.keeps_lacking_deleted = self._lacked.deleted and is_kept
        self.steps = self.exclusion.without(steps)

    def _unlike(self, unwanted: frozenset[Unneeded]) -> str:
        if self._is_resized:  # products have lost track of changes when a disk grew
            return "the disk has another size than at the earlier point"
        if self._lacked.deleted and Unneeded.DELETED not in unwanted:
            return "the earlier point left out deleted blocks that are now wanted"
        return ""

    def _steps(self, provider: Provider, disk: WritableDisk, before: str | None) -> Iterator[PlanStep]:
        if disk.moves:
            self._copy_again(disk.moves)
            return self._every_byte() if self.request.distrust_changes else self._whole()
        if self.request.point.compares and disk.earlier is not None:
            self._compare_because(self.request.point.compares)
            return self._whole()
        if self.decision.mode is ReadMode.CHANGED and disk.earlier is not None and before is not None:
            return self._changed(provider, disk.earlier, ChangeId(before))
        is_tracking_new_or_gone = (before is None) != (disk.change_id is None)
        if self.decision.mode is ReadMode.COMPARED and is_tracking_new_or_gone and not self.request.distrust_changes:
            self._compare_because(self.decision.reason)
        return self._every_byte() if self.request.distrust_changes or self._is_resized else self._whole()

    def _changed(self, provider: Provider, earlier: EarlierDisk, since: ChangeId) -> Iterator[PlanStep]:
        request = self.request
        try:
            spans = iter(provider.changed_spans(request.machine_id, request.snapshot_id, request.disk, since))
            # A provider may notice only while it answers; the first span makes it begin.
            first = list(itertools.islice(spans, 1))
            lie = self._lie(provider, earlier, since)
        except ChangeTrackingLost as error:
            self._compare_because(f"change tracking was lost: {error.message}")
            return self._whole()
        if lie is not None:
            self._compare_because(lie_reason(lie))
            return self._every_byte()
        sizes = (earlier.size_bytes, self.reader.size_bytes)
        told = told_or_rest(itertools.chain(first, spans), sizes[1], self._compare_rest)
        if self._lost_at is not None:
            told = with_rest(told, self._lost_at, sizes[1])
        return changed_steps(self._with_needed_again(told), self.reader.allocated_spans(), sizes, PIECE_SIZE)

    def _with_needed_again(self, changed: Iterator[Span]) -> Iterator[Span]:
        """Add what tracking may be silent about: what the parent left out and this one will not, and what it lost."""
        before = self._swap_lacked()
        lost = [Span(one.start, one.length) for one in self.request.point.damaged if one.disk == self.request.disk]
        if not before and not lost:
            return changed
        wanted = subtract(before, self.exclusion.remembered)
        again = clip(coalesce(heapq.merge(wanted, lost, key=lambda span: span.start)), 0, self.reader.size_bytes)
        return coalesce(heapq.merge(changed, again, key=lambda span: span.start))

    def _swap_lacked(self) -> list[Span]:
        return [Span(start, length) for start, length in self._lacked.swap]

    def _lie(self, provider: Provider, earlier: EarlierDisk, since: ChangeId) -> int | None:
        """Return the offset of a change that was not told, looked for in a part of what is said to be unchanged."""
        request, sizes = self.request, (earlier.size_bytes, self.reader.size_bytes)
        shared = min(sizes) // PIECE_SIZE * PIECE_SIZE
        samples = sampled_spans(shared, request.point.number, request.sample_bytes)
        changed = provider.changed_spans(request.machine_id, request.snapshot_id, request.disk, since)
        told = told_or_rest(changed, sizes[1], self._compare_rest)
        untold = subtract(samples, align(told, PIECE_SIZE, shared))
        return untold_difference(self.reader, earlier, earlier.left_out, self._digest_key, untold)

    def _whole(self) -> Iterator[PlanStep]:
        return whole_disk_steps(self.reader.allocated_spans(), self.reader.size_bytes, PIECE_SIZE)

    def _every_byte(self) -> Iterator[PlanStep]:
        """Read holes too: over some transports the tracking that is not believed also says where they are."""
        size = self.reader.size_bytes
        return whole_disk_steps([Span(0, size)], size, PIECE_SIZE)

    def _copy_again(self, moves: int) -> None:
        """Say that the disk was begun again; what changed is not asked for, since the tracking moved with the disk."""
        times = "" if moves == 1 else f" {moves} times"
        reason = f"the disk moved{times} while it was copied, and lies at {self.reader.place} now"
        mode = ReadMode.FULL if self.decision.mode is ReadMode.FULL else ReadMode.COMPARED
        self.decision = ReadDecision(mode=mode, reason=reason)
        self.note = f"copied again from the start, because {reason}"

    def _compare_rest(self, error: ChangeTrackingLost, offset: int) -> None:
        """Say that everything from ``offset`` on is compared: the provider stopped to tell there."""
        if self._lost_at is not None and self._lost_at <= offset:
            return
        self._lost_at = offset
        reason = f"change tracking was lost at offset {offset}: {error.message}"
        self.decision = ReadDecision(mode=ReadMode.CHANGED, reason=reason)
        self.note = f"compared from offset {offset} on instead of only what changed: {error.message}"

    def _compare_because(self, reason: str) -> None:
        self.decision = ReadDecision(mode=ReadMode.COMPARED, reason=reason)
        self.note = f"read in full and compared instead of only what changed: {reason}"


def _unwanted(request: CopyDisk) -> frozenset[Unneeded]:
    asked = (
        (Unneeded.SWAP, request.exclude_swap),
        (Unneeded.FILES, bool(request.exclude_files)),
        (Unneeded.DELETED, request.exclude_deleted),
    )
    return frozenset(kind for kind, is_asked in asked if is_asked)
