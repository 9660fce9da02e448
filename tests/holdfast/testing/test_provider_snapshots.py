"""The suite finds providers whose snapshots are not as they should be."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from typing_extensions import override

from holdfast.errors import SnapshotNotFound
from holdfast.model.ids import DiskKey, MachineId, SnapshotId
from holdfast.model.machine import AS_IT_IS, Quiesce, Snapshot, SnapshotOptions
from holdfast.model.spans import Span
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.providers.ports import SourceDisk
from holdfast.providers.raw_disks import FrozenDisk
from holdfast.testing.provider_snapshots import SnapshotConformance
from tests.holdfast.testing.mutants import Test, assert_found

SUITE = SnapshotConformance()


class ReadsTheLiveDisk(LocalProvider):
    @override
    def open_disk(self, machine_id: MachineId, snapshot_id: SnapshotId, key: DiskKey) -> SourceDisk:
        super().open_disk(machine_id, snapshot_id, key).close()
        record = self._machines.with_id(machine_id)
        entry = next(entry for entry in record.file.disks if entry.key == key)
        return FrozenDisk(self._machines.disk_path(record, entry))


class SnapshotsEveryTime(LocalProvider):
    @override
    def create_snapshot(self, machine_id: MachineId, tag: str, options: SnapshotOptions = AS_IT_IS) -> Snapshot:
        count = len(self.snapshots(machine_id))
        return super().create_snapshot(machine_id, f"{tag} {count}", options)


class AsksGuestsThatAreOff(LocalProvider):
    @override
    def create_snapshot(self, machine_id: MachineId, tag: str, options: SnapshotOptions = AS_IT_IS) -> Snapshot:
        made = super().create_snapshot(machine_id, tag, options)
        notes = () if options.quiesce is Quiesce.NEVER else ("the guest has no tools",)
        return msgspec.structs.replace(made, notes=notes)


class ListsNewestFirst(LocalProvider):
    @override
    def snapshots(self, machine_id: MachineId) -> list[Snapshot]:
        return super().snapshots(machine_id)[::-1]


class RemovesOnlyOnce(LocalProvider):
    @override
    def remove_snapshot(self, machine_id: MachineId, snapshot_id: SnapshotId) -> None:
        if all(found.snapshot_id != snapshot_id for found in self.snapshots(machine_id)):
            raise SnapshotNotFound(snapshot_id)
        super().remove_snapshot(machine_id, snapshot_id)


class CountsOneAlways(LocalProvider):
    @override
    def remove_tagged(self, machine_id: MachineId, tag: str) -> int:
        super().remove_tagged(machine_id, tag)
        return 1


class LosesTheLastSpan(FrozenDisk):
    @override
    def allocated_spans(self) -> Iterator[Span]:
        yield from list(super().allocated_spans())[:-1]


class ReadsFromTheSectorStart(FrozenDisk):
    @override
    def read_into(self, offset: int, buffer: memoryview) -> None:
        super().read_into(offset // 512 * 512, buffer)


class ReadsZerosBehindTheEnd(FrozenDisk):
    @override
    def read_into(self, offset: int, buffer: memoryview) -> None:
        inside = max(0, min(self.size_bytes - offset, len(buffer)))
        super().read_into(offset if inside else 0, buffer[:inside])


class LosesSpans(LocalProvider):
    disk: type[FrozenDisk] = LosesTheLastSpan

    @override
    def open_disk(self, machine_id: MachineId, snapshot_id: SnapshotId, key: DiskKey) -> SourceDisk:
        super().open_disk(machine_id, snapshot_id, key).close()
        folder = self._root.snapshots / machine_id / snapshot_id
        return self.disk(folder / "disk-0.raw")


class Wanders(LocalProvider):
    @override
    def disk_place(self, machine_id: MachineId, snapshot_id: SnapshotId, key: DiskKey) -> str:
        return f"{machine_id} {super().disk_place(machine_id, snapshot_id, key)}"


class ReadsAlignedOnly(LosesSpans):
    disk = ReadsFromTheSectorStart


class ReadsBehindTheEnd(LosesSpans):
    disk = ReadsZerosBehindTheEnd


@pytest.mark.parametrize(
    "mutant, test",
    [
        (ReadsTheLiveDisk, SUITE.test_a_snapshot_keeps_the_content_while_the_disk_changes),
        (SnapshotsEveryTime, SUITE.test_the_same_tag_gives_the_same_snapshot),
        (AsksGuestsThatAreOff, SUITE.test_a_machine_that_is_off_is_at_rest),
        (ListsNewestFirst, SUITE.test_snapshots_are_listed_oldest_first),
        (RemovesOnlyOnce, SUITE.test_removal_is_idempotent_and_leaves_the_others),
        (CountsOneAlways, SUITE.test_removal_by_tag_counts_what_was_there),
        (LosesSpans, SUITE.test_allocated_spans_leave_out_only_zeros),
        (Wanders, SUITE.test_the_place_of_a_disk_stays_while_it_does),
        (ReadsAlignedOnly, SUITE.test_reads_at_any_offset_give_the_right_bytes),
        (ReadsBehindTheEnd, SUITE.test_reads_behind_the_end_fail),
    ],
)
def test_a_mutant_is_found(mutant: type[LocalProvider], test: Test, tmp_path: Path) -> None:
    assert_found(mutant, test, tmp_path)
