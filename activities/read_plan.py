"""What is read of a disk: the provider's word about changes, and how far it is believed."""

import heapq
import itertools
from collections.abc import Iterator

import msgspec

from activities.contracts.transfer import CopyDisk
from activities.guest_exclusion import GuestExclusion
from holdfast.errors import ChangeTrackingLost
from holdfast.formats.contents import LeftOut
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.ids import ChangeId
from holdfast.model.plan import PlanStep, ReadDecision, ReadMode
from holdfast.model.spans import Span, align, clip, coalesce, subtract
from holdfast.pipeline.restore import first_difference
from holdfast.planning.change_trust import lie_reason, sampled_spans
from holdfast.planning.guest_exclusion import Unneeded
from holdfast.planning.read_plan import changed_steps, decide_mode, whole_disk_steps
from holdfast.providers.ports import Provider, SourceDisk
from holdfast.storage.chain import StoredDisk


class EarlierDisk(msgspec.Struct, frozen=True, kw_only=True):
    """The disk at the parent point, and the key of its digests."""

    disk: StoredDisk
    digest_key: bytes


class FrozenDisk(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the disk that is read."""

    change_id: str | None
    at_rest: bool
    """Whether the machine was switched off when its disks were frozen."""


class ReadPlan:
    """What is read of a disk and why; a lost change tracking becomes a comparison that says so."""

    def __init__(
        self,
        provider: Provider,
        request: CopyDisk,
        reader: SourceDisk,
        earlier: EarlierDisk | None,
        frozen: FrozenDisk,
    ) -> None:
        self.request = request
        self.reader = reader
        self.note = ""
        before, change_id = None if earlier is None else earlier.disk.disk.change_id, frozen.change_id
        self._lacked = _lacked(earlier)
        unwanted = _unwanted(request)
        self.exclusion = GuestExclusion(reader, unwanted, at_rest=frozen.at_rest)
        self.decision = decide_mode(
            has_parent=earlier is not None,
            parent_change_id=None if before is None else ChangeId(before),
            change_id=None if change_id is None else ChangeId(change_id),
            distrust=request.distrust_changes,
            lacking="deleted blocks" if self._lacked.deleted and Unneeded.DELETED not in unwanted else "",
        )
        steps = self._steps(provider, earlier, before, change_id)
        self.exclusion.keeps_lacking_deleted = self._lacked.deleted and self.decision.mode is ReadMode.CHANGED
        self.steps = self.exclusion.without(steps)

    def _steps(
        self, provider: Provider, earlier: EarlierDisk | None, before: str | None, change_id: str | None
    ) -> Iterator[PlanStep]:
        if self.decision.mode is ReadMode.CHANGED and earlier is not None and before is not None:
            return self._changed(provider, earlier, ChangeId(before))
        is_tracking_new_or_gone = (before is None) != (change_id is None)
        if self.decision.mode is ReadMode.COMPARED and is_tracking_new_or_gone and not self.request.distrust_changes:
            self._compare_because(self.decision.reason)
        return self._every_byte() if self.request.distrust_changes else self._whole()

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
        sizes = (earlier.disk.size_bytes, self.reader.size_bytes)
        allocated = self.reader.allocated_spans()
        changed = self._with_needed_again(itertools.chain(first, spans))
        return changed_steps(changed, allocated, sizes, PIECE_SIZE)

    def _with_needed_again(self, changed: Iterator[Span]) -> Iterator[Span]:
        """Add what the parent point left out as swap and this one will not, which tracking may be silent about."""
        before = self._swap_lacked()
        if not before:
            return changed
        again = clip(subtract(before, self.exclusion.swap), 0, self.reader.size_bytes)
        return coalesce(heapq.merge(changed, again, key=lambda span: span.start))

    def _swap_lacked(self) -> list[Span]:
        return [Span(start, length) for start, length in self._lacked.swap]

    def _lie(self, provider: Provider, earlier: EarlierDisk, since: ChangeId) -> int | None:
        """Return the offset of a change that was not told, looked for in a part of what is said to be unchanged."""
        request, sizes = self.request, (earlier.disk.size_bytes, self.reader.size_bytes)
        shared = min(sizes) // PIECE_SIZE * PIECE_SIZE
        samples = sampled_spans(shared, request.point.number, request.sample_bytes)
        changed = provider.changed_spans(request.machine_id, request.snapshot_id, request.disk, since)
        samples = subtract(samples, align(self._swap_lacked(), PIECE_SIZE, shared))
        for span in subtract(samples, align(changed, PIECE_SIZE, shared)):
            for pieces in self._comparable(earlier.disk, span.start // PIECE_SIZE, span.end // PIECE_SIZE):
                found = first_difference(self.reader, earlier.disk, earlier.digest_key, pieces)
                if found is not None:
                    return found * PIECE_SIZE
        return None

    def _comparable(self, disk: StoredDisk, start: int, end: int) -> Iterator[range]:
        """Yield the pieces that tell whether tracking lies: zeros at the parent point may be what it left out."""
        if not self._lacked.deleted:
            yield range(start, end)
            return
        for run in disk.runs(start, end):
            if run.file is not None:
                yield range(run.piece, run.piece + run.count)

    def _whole(self) -> Iterator[PlanStep]:
        return whole_disk_steps(self.reader.allocated_spans(), self.reader.size_bytes, PIECE_SIZE)

    def _every_byte(self) -> Iterator[PlanStep]:
        """Read holes too: over some transports the tracking that is not believed also says where they are."""
        size = self.reader.size_bytes
        return whole_disk_steps([Span(0, size)], size, PIECE_SIZE)

    def _compare_because(self, reason: str) -> None:
        self.decision = ReadDecision(mode=ReadMode.COMPARED, reason=reason)
        self.note = f"read in full and compared instead of only what changed: {reason}"


def _lacked(earlier: EarlierDisk | None) -> LeftOut:
    """Return what the parent point lacks."""
    kept = msgspec.UNSET if earlier is None else earlier.disk.disk.left_out
    return LeftOut() if isinstance(kept, msgspec.UnsetType) else kept


def _unwanted(request: CopyDisk) -> frozenset[Unneeded]:
    asked = ((Unneeded.SWAP, request.exclude_swap), (Unneeded.DELETED, request.exclude_deleted))
    return frozenset(kind for kind, is_asked in asked if is_asked)
