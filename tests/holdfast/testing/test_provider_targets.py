"""The suite finds providers whose restore targets are not as they should be."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from typing_extensions import override

from holdfast.errors import ChangeTrackingLost, MachineRunning, TargetExists
from holdfast.model.ids import ChangeId, DiskKey, MachineId, SnapshotId, TargetId
from holdfast.model.machine import ANYWHERE, Disk, Machine, Placement, PowerState, RestoreTarget
from holdfast.model.spans import Span
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.providers.ports import OpenedTarget
from holdfast.providers.raw_disks import TargetDisk
from holdfast.testing.provider_targets import TargetConformance
from tests.holdfast.testing.mutants import MutantBench, Test, assert_found

SUITE = TargetConformance()


class BeginsAnew(LocalProvider):
    @override
    def prepare_target(
        self,
        token: str,
        machine: Machine,
        disks: Sequence[Disk],
        replaces: MachineId | None,
        placement: Placement = ANYWHERE,
    ) -> RestoreTarget:
        target = super().prepare_target(token, machine, disks, replaces, placement)
        self.abandon_target(target.target_id)
        return super().prepare_target(token, machine, disks, replaces, placement)


class CommitsAtOnce(LocalProvider):
    @override
    def prepare_target(
        self,
        token: str,
        machine: Machine,
        disks: Sequence[Disk],
        replaces: MachineId | None,
        placement: Placement = ANYWHERE,
    ) -> RestoreTarget:
        target = super().prepare_target(token, machine, disks, replaces, placement)
        self.commit_target(target.target_id)
        return target


class SwitchesOffByItself(LocalProvider):
    @override
    def commit_target(self, target_id: TargetId) -> Machine:
        for target in self.targets():
            if target.replaces is not None:
                self.set_power(target.replaces, PowerState.OFF)
        return super().commit_target(target_id)


class ReplacesEverything(LocalProvider):
    @override
    def commit_target(self, target_id: TargetId) -> Machine:
        machine = super().commit_target(target_id)
        record = self._machines.with_id(machine.machine_id)
        last = self._machines.disk_path(record, record.file.disks[-1])
        last.write_bytes(bytes(last.stat().st_size))
        return machine


class ForgetsTheCommit(LocalProvider):
    @override
    def commit_target(self, target_id: TargetId) -> Machine:
        machine = super().commit_target(target_id)
        for file in (self._root.targets / target_id).iterdir():
            file.unlink()
        return machine


class KeepsAbandonedTargets(LocalProvider):
    @override
    def abandon_target(self, target_id: TargetId) -> None:
        pass


class IgnoresNames(LocalProvider):
    @override
    def commit_target(self, target_id: TargetId) -> Machine:
        try:
            return super().commit_target(target_id)
        except TargetExists:
            return next(self.machines())


class ForgetsZeros(TargetDisk):
    @override
    def write_zeros(self, span: Span) -> None:
        pass


class GrowsByWriting(TargetDisk):
    @override
    def write(self, offset: int, data: memoryview) -> None:
        if offset < self.size_bytes:
            super().write(offset, data[: self.size_bytes - offset])


class LeavesData(LocalProvider):
    disk: type[TargetDisk] = ForgetsZeros

    @override
    def open_target(self, target_id: TargetId, key: DiskKey) -> OpenedTarget:
        super().open_target(target_id, key).close()
        return self.disk(self._root.targets / target_id / "machine" / "disk-0.raw")


class WritesBehindTheEnd(LeavesData):
    disk = GrowsByWriting


class MissesTheRestore(LocalProvider):
    @override
    def changed_spans(
        self, machine_id: MachineId, snapshot_id: SnapshotId, key: DiskKey, since: ChangeId
    ) -> Iterator[Span]:
        return iter([])


class LosesTracking(LocalProvider):
    @override
    def changed_spans(
        self, machine_id: MachineId, snapshot_id: SnapshotId, key: DiskKey, since: ChangeId
    ) -> Iterator[Span]:
        raise ChangeTrackingLost(f"machine {machine_id} was restored")


class NeverRefusesToPrepare(LocalProvider):
    @override
    def prepare_target(
        self,
        token: str,
        machine: Machine,
        disks: Sequence[Disk],
        replaces: MachineId | None,
        placement: Placement = ANYWHERE,
    ) -> RestoreTarget:
        try:
            return super().prepare_target(token, machine, disks, replaces, placement)
        except MachineRunning:
            return super().prepare_target(token, machine, disks, None, placement)


@pytest.mark.parametrize(
    "mutant, test",
    [
        (BeginsAnew, SUITE.test_the_same_token_keeps_what_was_written),
        (CommitsAtOnce, SUITE.test_a_new_machine_appears_only_with_the_commit),
        (CommitsAtOnce, SUITE.test_replacing_changes_only_the_restored_disks),
        (SwitchesOffByItself, SUITE.test_a_running_machine_is_not_replaced),
        (NeverRefusesToPrepare, SUITE.test_a_running_machine_is_not_replaced),
        (ReplacesEverything, SUITE.test_replacing_changes_only_the_restored_disks),
        (ForgetsTheCommit, SUITE.test_a_commit_can_be_repeated),
        (KeepsAbandonedTargets, SUITE.test_abandoned_targets_are_gone),
        (IgnoresNames, SUITE.test_a_taken_name_is_refused),
        (LeavesData, SUITE.test_a_new_target_is_empty_and_takes_what_is_written),
        (WritesBehindTheEnd, SUITE.test_nothing_is_written_or_read_behind_the_end),
        (MissesTheRestore, SUITE.test_changes_by_a_restore_are_tracked_or_lost),
    ],
)
def test_a_mutant_is_found(mutant: type[LocalProvider], test: Test, tmp_path: Path) -> None:
    assert_found(mutant, test, tmp_path)


def test_a_provider_may_lose_tracking_after_a_restore(tmp_path: Path) -> None:
    bench = MutantBench(tmp_path / "root", 1, LosesTracking)
    SUITE.test_changes_by_a_restore_are_tracked_or_lost(bench)
