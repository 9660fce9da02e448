"""Disks are left out by name, and by nothing else."""

from datetime import UTC, datetime

import pytest

from holdfast.model.ids import DiskKey, MachineId, SnapshotId
from holdfast.model.machine import Disk, Machine, PowerState, Snapshot, SnapshotDisk
from holdfast.planning.disk_exclusion import without_excluded


def frozen(name: str, *keys: str) -> Snapshot:
    disks = tuple(Disk(key=DiskKey(key), size_bytes=512) for key in keys)
    return Snapshot(
        snapshot_id=SnapshotId("s"),
        machine_id=MachineId("m"),
        tag="t",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        disks=tuple(SnapshotDisk(key=disk.key, size_bytes=512) for disk in disks),
        machine=Machine(machine_id=MachineId("m"), name=name, power=PowerState.ON, disks=disks),
    )


@pytest.mark.parametrize(
    "patterns, left",
    [
        ((), ["a", "b"]),
        (("web/b",), ["a"]),
        (("*/b", "db/a"), ["a"]),
        (("web/*",), []),
        (("WEB/b", "b", "web/b?"), ["a", "b"]),
    ],
)
def test_a_pattern_names_machine_and_disk(patterns: tuple[str, ...], left: list[str]) -> None:
    snapshot, out = without_excluded(frozen("web", "a", "b"), patterns)
    assert [disk.key for disk in snapshot.disks] == [disk.key for disk in snapshot.machine.disks] == left
    assert sorted([*left, *out]) == ["a", "b"]


def test_a_snapshot_of_which_nothing_is_left_out_is_the_same() -> None:
    snapshot = frozen("web", "a")
    assert without_excluded(snapshot, ["db/*"])[0] is snapshot
