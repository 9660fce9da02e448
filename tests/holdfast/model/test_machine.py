"""Machines and snapshots are plain values that travel unchanged."""

from datetime import UTC, datetime

import msgspec
import pytest

from holdfast.model.ids import ChangeId, DiskKey, MachineId, SnapshotId, TargetId
from holdfast.model.machine import (
    DISK_SIZE_MAX,
    SECTOR_SIZE,
    Disk,
    Machine,
    PowerState,
    RestoreTarget,
    SkippedDisk,
    Snapshot,
    SnapshotDisk,
)

MACHINE = Machine(
    machine_id=MachineId("1"),
    name="web ☃",
    power=PowerState.ON,
    disks=(Disk(key=DiskKey("a"), size_bytes=512), Disk(key=DiskKey("b"), size_bytes=1024)),
    configuration={"cpus": "4"},
)
SNAPSHOT = Snapshot(
    snapshot_id=SnapshotId("s"),
    machine_id=MACHINE.machine_id,
    tag="session",
    created=datetime(2026, 1, 1, tzinfo=UTC),
    disks=(
        SnapshotDisk(key=DiskKey("a"), size_bytes=512, change_id=ChangeId("c")),
        SnapshotDisk(key=DiskKey("b"), size_bytes=1024),
    ),
    machine=MACHINE,
)
TARGET = RestoreTarget(target_id=TargetId("t"), machine_name="web", disks=MACHINE.disks, replaces=MACHINE.machine_id)


@pytest.mark.parametrize("value", [MACHINE, SNAPSHOT, TARGET])
def test_a_value_travels_unchanged(value: msgspec.Struct) -> None:
    kind = type(value)
    assert msgspec.json.decode(msgspec.json.encode(value), type=kind) == value
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=kind) == value


def test_a_snapshot_finds_its_disks_by_key() -> None:
    assert SNAPSHOT.disk(DiskKey("b")) == SNAPSHOT.disks[1]
    assert SNAPSHOT.disk(DiskKey("c")) is None


def test_a_machine_needs_no_configuration() -> None:
    bare = Machine(machine_id=MachineId("1"), name="a", power=PowerState.OFF, disks=())
    assert bare.configuration == {}


def test_values_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        MACHINE.name = "other"  # type: ignore[misc] # the point of the test


def test_the_largest_disk_has_whole_sectors() -> None:
    assert DISK_SIZE_MAX % SECTOR_SIZE == 0
    assert DISK_SIZE_MAX == 64 * 1024**4


def test_disks_that_are_skipped_are_disks_of_the_machine() -> None:
    one = msgspec.structs.replace(MACHINE, disks=MACHINE.disks[:1])
    assert [machine.has_one_disk for machine in (MACHINE, one)] == [False, True]
    skipped = SkippedDisk(label="Hard disk 2", reason="independent")
    assert not msgspec.structs.replace(one, skipped=(skipped,)).has_one_disk
