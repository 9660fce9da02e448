"""The suite finds providers whose changed spans are not as they should be."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from typing_extensions import override

from holdfast.clock import Clock
from holdfast.errors import ChangeTrackingLost
from holdfast.model.ids import ChangeId, DiskKey, MachineId, SnapshotId
from holdfast.model.spans import Span
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.testing.provider_changes import ChangeConformance
from tests.holdfast.testing.mutants import MutantBench, Test, assert_found

SUITE = ChangeConformance()


class LosesTheLastSpan(LocalProvider):
    @override
    def changed_spans(
        self, machine_id: MachineId, snapshot_id: SnapshotId, key: DiskKey, since: ChangeId
    ) -> Iterator[Span]:
        found = list(super().changed_spans(machine_id, snapshot_id, key, since))
        return iter(found[:-1])


class LosesTheFirstSpan(LocalProvider):
    @override
    def changed_spans(
        self, machine_id: MachineId, snapshot_id: SnapshotId, key: DiskKey, since: ChangeId
    ) -> Iterator[Span]:
        found = list(super().changed_spans(machine_id, snapshot_id, key, since))
        return iter(found[1:])


class ReportsEverything(LocalProvider):
    @override
    def changed_spans(
        self, machine_id: MachineId, snapshot_id: SnapshotId, key: DiskKey, since: ChangeId
    ) -> Iterator[Span]:
        super().changed_spans(machine_id, snapshot_id, key, since)
        with self.open_disk(machine_id, snapshot_id, key) as disk:
            return iter([Span(0, disk.size_bytes)])


class NothingIsEverLost(LocalProvider):
    @override
    def changed_spans(
        self, machine_id: MachineId, snapshot_id: SnapshotId, key: DiskKey, since: ChangeId
    ) -> Iterator[Span]:
        try:
            return super().changed_spans(machine_id, snapshot_id, key, since)
        except ChangeTrackingLost:
            return iter([])


class AlwaysLost(LocalProvider):
    @override
    def changed_spans(
        self, machine_id: MachineId, snapshot_id: SnapshotId, key: DiskKey, since: ChangeId
    ) -> Iterator[Span]:
        super().changed_spans(machine_id, snapshot_id, key, since)
        raise ChangeTrackingLost("always")


class Untracked(LocalProvider):
    def __init__(self, root: Path, clock: Clock) -> None:
        super().__init__(root, clock, change_tracking=False)


@pytest.mark.parametrize(
    "mutant, test",
    [
        (LosesTheLastSpan, SUITE.test_random_writes_are_never_missed),
        (LosesTheFirstSpan, SUITE.test_changes_are_told_also_when_later_snapshots_exist),
        (LosesTheLastSpan, SUITE.test_zeroed_bytes_count_as_changed),
        (LosesTheLastSpan, SUITE.test_a_grown_disk_is_tracked_or_lost),
        (ReportsEverything, SUITE.test_nothing_is_reported_when_nothing_changed),
        (ReportsEverything, SUITE.test_the_disks_of_a_machine_are_tracked_apart),
        (NothingIsEverLost, SUITE.test_an_unknown_change_id_is_lost_tracking),
        (NothingIsEverLost, SUITE.test_a_state_newer_than_the_snapshot_is_lost_tracking),
        (Untracked, SUITE.test_every_snapshot_names_its_state),
    ],
)
def test_a_mutant_is_found(mutant: type[LocalProvider], test: Test, tmp_path: Path) -> None:
    assert_found(mutant, test, tmp_path)


def test_a_provider_may_lose_tracking_when_a_disk_grows(tmp_path: Path) -> None:
    SUITE.test_a_grown_disk_is_tracked_or_lost(MutantBench(tmp_path / "root", 1, AlwaysLost))
