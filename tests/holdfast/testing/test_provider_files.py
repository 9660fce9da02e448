"""The suite finds providers whose machine files are not as they should be."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from typing_extensions import override

from holdfast.model.ids import MachineId, SnapshotId, TargetId
from holdfast.model.machine_files import FileLeftOut, MachineFile, MachineFiles, PlacedFiles
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.testing.provider_files import FilesConformance
from tests.holdfast.testing.mutants import Test, assert_found

SUITE = FilesConformance()


class NamesPaths(LocalProvider):
    @override
    def machine_files(self, machine_id: MachineId, snapshot_id: SnapshotId) -> MachineFiles:
        return MachineFiles(files=(MachineFile(name="machines/machine.json", content=b""),))


class NamesAFileTwice(LocalProvider):
    @override
    def machine_files(self, machine_id: MachineId, snapshot_id: SnapshotId) -> MachineFiles:
        found = super().machine_files(machine_id, snapshot_id)
        return msgspec.structs.replace(found, files=found.files * 2)


class GivesNoReason(LocalProvider):
    @override
    def machine_files(self, machine_id: MachineId, snapshot_id: SnapshotId) -> MachineFiles:
        return MachineFiles(left_out=(FileLeftOut(name="machine.json", reason=""),))


class ReadsTooMuch(LocalProvider):
    @override
    def machine_files(self, machine_id: MachineId, snapshot_id: SnapshotId) -> MachineFiles:
        return MachineFiles(files=(MachineFile(name="machine.json", content=bytes((1 << 20) + 1)),))


class RemovesTheSnapshot(LocalProvider):
    @override
    def machine_files(self, machine_id: MachineId, snapshot_id: SnapshotId) -> MachineFiles:
        found = super().machine_files(machine_id, snapshot_id)
        self.remove_snapshot(machine_id, snapshot_id)
        return found


class NeedsNoSnapshot(LocalProvider):
    @override
    def machine_files(self, machine_id: MachineId, snapshot_id: SnapshotId) -> MachineFiles:
        return MachineFiles()


class CommitsWithTheFiles(LocalProvider):
    @override
    def place_machine_files(self, target_id: TargetId, files: Sequence[MachineFile]) -> PlacedFiles:
        done = super().place_machine_files(target_id, files)
        self.commit_target(target_id)
        return done


class SaysItPlacedWhatItDidNot(LocalProvider):
    @override
    def place_machine_files(self, target_id: TargetId, files: Sequence[MachineFile]) -> PlacedFiles:
        super().place_machine_files(target_id, files)
        return PlacedFiles(placed=tuple(file.name for file in files))


class TakesFilesAtAnyTime(LocalProvider):
    @override
    def place_machine_files(self, target_id: TargetId, files: Sequence[MachineFile]) -> PlacedFiles:
        return PlacedFiles()


@pytest.mark.parametrize(
    "mutant, test",
    [
        (NamesPaths, SUITE.test_the_files_of_a_machine_are_read_beside_a_snapshot),
        (NamesAFileTwice, SUITE.test_the_files_of_a_machine_are_read_beside_a_snapshot),
        (GivesNoReason, SUITE.test_the_files_of_a_machine_are_read_beside_a_snapshot),
        (ReadsTooMuch, SUITE.test_the_files_of_a_machine_are_read_beside_a_snapshot),
        (RemovesTheSnapshot, SUITE.test_reading_the_files_changes_nothing),
        (NeedsNoSnapshot, SUITE.test_without_its_snapshot_no_files_are_read),
        (CommitsWithTheFiles, SUITE.test_a_new_machine_takes_files_and_stays_itself),
        (SaysItPlacedWhatItDidNot, SUITE.test_a_new_machine_takes_files_and_stays_itself),
        (SaysItPlacedWhatItDidNot, SUITE.test_a_machine_whose_disks_are_replaced_keeps_its_own_files),
        (TakesFilesAtAnyTime, SUITE.test_only_a_prepared_target_takes_files),
    ],
)
def test_a_mutant_is_found(mutant: type[LocalProvider], test: Test, tmp_path: Path) -> None:
    assert_found(mutant, test, tmp_path)


def test_a_target_without_files_is_the_same_for_every_provider(tmp_path: Path) -> None:
    assert_found(SaysMore, SUITE.test_no_files_are_no_fault, tmp_path)


class SaysMore(LocalProvider):
    @override
    def place_machine_files(self, target_id: TargetId, files: Sequence[MachineFile]) -> PlacedFiles:
        return PlacedFiles(placed=("a.nvram",))
