"""The suite finds providers whose targets in place are not as they should be."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from typing_extensions import override

from holdfast.model.ids import ChangeId, DiskKey, MachineId, TargetId
from holdfast.model.machine import Disk, Machine, PowerState, RestoreTarget
from holdfast.model.spans import Span
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.testing.provider_in_place import InPlaceConformance
from tests.holdfast.testing.mutants import Test, assert_found

SUITE = InPlaceConformance()


class BeginsEmpty(LocalProvider):
    @override
    def prepare_in_place(self, token: str, machine_id: MachineId, disks: Sequence[Disk]) -> RestoreTarget:
        target = super().prepare_in_place(token, machine_id, disks)
        for disk in disks:
            with self.open_target(target.target_id, disk.key) as opened:
                opened.write_zeros(Span(0, disk.size_bytes))
        return target


class CommitsAtOnce(LocalProvider):
    @override
    def abandon_target(self, target_id: TargetId) -> None:
        if any(target.target_id == target_id for target in self.targets()):
            self.commit_target(target_id)


class BeginsAnew(LocalProvider):
    @override
    def prepare_in_place(self, token: str, machine_id: MachineId, disks: Sequence[Disk]) -> RestoreTarget:
        target = super().prepare_in_place(token, machine_id, disks)
        self.abandon_target(target.target_id)
        return super().prepare_in_place(token, machine_id, disks)


class DropsWhatWasWritten(LocalProvider):
    @override
    def commit_target(self, target_id: TargetId) -> Machine:
        for target in self.targets():
            assert target.replaces is not None
            self.abandon_target(target_id)
            return self.machine(target.replaces)
        return super().commit_target(target_id)


class TellsNothing(LocalProvider):
    @override
    def target_changes(self, target_id: TargetId, key: DiskKey, since: ChangeId) -> Iterator[Span]:
        list(super().target_changes(target_id, key, since))
        return iter(())


class Guesses(LocalProvider):
    @override
    def target_changes(self, target_id: TargetId, key: DiskKey, since: ChangeId) -> Iterator[Span]:
        self._targets.in_place(target_id, key)
        return iter([Span(0, 1 << 20)])


class SwitchesOffByItself(LocalProvider):
    @override
    def prepare_in_place(self, token: str, machine_id: MachineId, disks: Sequence[Disk]) -> RestoreTarget:
        self.set_power(machine_id, PowerState.OFF)
        return super().prepare_in_place(token, machine_id, disks)


class TakesEveryDisk(LocalProvider):
    @override
    def prepare_in_place(self, token: str, machine_id: MachineId, disks: Sequence[Disk]) -> RestoreTarget:
        return super().prepare_in_place(token, machine_id, self.machine(machine_id).disks)


@pytest.mark.parametrize(
    "mutant, test",
    [
        (BeginsEmpty, SUITE.test_a_target_in_place_begins_with_what_the_machine_has),
        (BeginsEmpty, SUITE.test_a_commit_in_place_keeps_what_was_written),
        (DropsWhatWasWritten, SUITE.test_a_commit_in_place_keeps_what_was_written),
        (TakesEveryDisk, SUITE.test_only_some_disks_may_be_taken),
        (TakesEveryDisk, SUITE.test_disks_that_do_not_fit_are_refused),
        (CommitsAtOnce, SUITE.test_abandoning_in_place_gives_back_every_byte),
        (BeginsAnew, SUITE.test_the_same_token_goes_on_in_place),
        (TellsNothing, SUITE.test_changes_in_place_are_told_or_lost),
        (Guesses, SUITE.test_changes_since_an_unknown_state_are_lost),
        (DropsWhatWasWritten, SUITE.test_changes_by_a_rollback_are_tracked_or_lost),
        (SwitchesOffByItself, SUITE.test_a_running_machine_is_not_written_to),
    ],
)
def test_a_provider_that_breaks_a_rule_is_found(mutant: type[LocalProvider], test: Test, tmp_path: Path) -> None:
    assert_found(mutant, test, tmp_path)
