"""Snapshots of the local provider, beyond what every provider must do."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from holdfast.errors import (
    ChangeTrackingLost,
    DiskChanged,
    DiskReadFailed,
    RequestInvalid,
    SnapshotFailed,
)
from holdfast.model.ids import ChangeId, DiskKey, MachineId, SnapshotId
from holdfast.model.spans import Span
from holdfast.providers.local import freezing
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.testing.provider_bench import Subject, assert_same, read_all
from tests.holdfast.providers.local.bench import LocalBench
from tests.holdfast.providers.local.mounts import mounted_tmpfs, mounted_xfs

MIB = 1 << 20


def folder(bench: LocalBench, subject: Subject, snapshot_id: SnapshotId) -> Path:
    return bench.root / "snapshots" / subject.machine_id / snapshot_id


def test_the_order_does_not_depend_on_the_clock(bench: LocalBench) -> None:
    subject = Subject(bench, "web", MIB)
    made = []
    for tag in "abc":
        made.append(subject.snapshot(tag))
        bench.clock.advance(timedelta(hours=-1))
    assert bench.provider.snapshots(subject.machine_id) == made
    assert made[0].created - made[1].created == timedelta(hours=1)


def test_without_tracking_there_are_no_change_ids(bench: LocalBench) -> None:
    subject = Subject(bench, "web", MIB)
    provider = LocalProvider(bench.root, bench.clock, change_tracking=False)
    snapshot = provider.create_snapshot(subject.machine_id, "tag")
    assert snapshot.disks[0].change_id is None
    assert list((bench.root / "tracking").iterdir()) == []
    with pytest.raises(ChangeTrackingLost, match="without change tracking"):
        provider.changed_spans(subject.machine_id, snapshot.snapshot_id, subject.key, ChangeId("any"))


def test_changes_are_told_for_the_size_of_the_snapshot(bench: LocalBench) -> None:
    subject = Subject(bench, "web", MIB)
    first = subject.snapshot("first")
    subject.write(Span(MIB - 512, 512))
    second = subject.snapshot("second")
    bench.grow_disk(subject.machine_id, subject.key, 2 * MIB)
    subject.content.resize(2 * MIB)
    subject.write(Span(MIB, 512))
    subject.snapshot("third")
    since = first.disks[0].change_id
    assert since is not None
    found = bench.provider.changed_spans(subject.machine_id, second.snapshot_id, subject.key, since)
    assert list(found) == [Span(MIB - 65536, 65536)]


def test_the_snapshot_of_a_lost_machine_can_still_be_read(bench: LocalBench) -> None:
    subject = Subject(bench, "web", MIB)
    subject.write(Span(0, 4096))
    snapshot = subject.snapshot("tag")
    (bench.record(subject.machine_id).folder / "machine.json").unlink()
    assert bench.provider.snapshots(subject.machine_id) == [snapshot]
    with bench.provider.open_disk(subject.machine_id, snapshot.snapshot_id, subject.key) as disk:
        assert_same(subject.content, read_all(disk), "frozen disk")
    bench.provider.remove_snapshot(subject.machine_id, snapshot.snapshot_id)
    assert bench.provider.snapshots(subject.machine_id) == []


def test_a_tag_finds_its_snapshot_also_when_a_live_disk_is_lost(bench: LocalBench) -> None:
    subject = Subject(bench, "web", MIB)
    snapshot = subject.snapshot("tag")
    bench.path(subject.machine_id, subject.key).unlink()
    assert subject.snapshot("tag") == snapshot
    with pytest.raises(DiskReadFailed):
        subject.snapshot("another")


def test_a_frozen_disk_that_was_cut_is_refused(bench: LocalBench) -> None:
    subject = Subject(bench, "web", MIB)
    snapshot = subject.snapshot("tag")
    os.truncate(folder(bench, subject, snapshot.snapshot_id) / "disk-0.raw", 512)
    with pytest.raises(DiskChanged, match="has 512 bytes instead of 1048576"):
        bench.provider.open_disk(subject.machine_id, snapshot.snapshot_id, subject.key)


def test_a_frozen_disk_that_is_lost_is_refused(bench: LocalBench) -> None:
    subject = Subject(bench, "web", MIB)
    snapshot = subject.snapshot("tag")
    (folder(bench, subject, snapshot.snapshot_id) / "disk-0.raw").unlink()
    with pytest.raises(DiskReadFailed, match=r"disk-0\.raw"):
        bench.provider.open_disk(subject.machine_id, snapshot.snapshot_id, subject.key)


def test_a_damaged_snapshot_file_is_named(bench: LocalBench) -> None:
    subject = Subject(bench, "web", MIB)
    snapshot = subject.snapshot("tag")
    (folder(bench, subject, snapshot.snapshot_id) / "snapshot.json").write_text("{")
    with pytest.raises(SnapshotFailed, match=r"snapshot\.json cannot be read"):
        bench.provider.snapshots(subject.machine_id)
    with pytest.raises(SnapshotFailed, match=r"snapshot\.json cannot be read"):
        subject.snapshot("tag")


@pytest.mark.parametrize("tag", ["", "t" * 1025])
def test_impossible_tags_are_refused(bench: LocalBench, tag: str) -> None:
    with pytest.raises(RequestInvalid, match="1 to 1024"):
        Subject(bench, "web", MIB).snapshot(tag)


def test_ids_are_never_taken_for_paths(bench: LocalBench) -> None:
    Subject(bench, "web", MIB).snapshot("tag")
    assert bench.provider.snapshots(MachineId("..")) == []
    bench.provider.remove_snapshot(MachineId(".."), SnapshotId("machines"))
    assert (bench.root / "machines").exists()


def test_a_failed_snapshot_leaves_nothing(bench: LocalBench, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Subject(bench, "web", MIB)

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(freezing, "copy_sparse", fail)
        patch.setattr(freezing, "reflink", lambda *_: False)
        with pytest.raises(SnapshotFailed, match=r"snapshot 'tag' of machine 'web' .*Input/output"):
            subject.snapshot("tag")
    assert bench.provider.snapshots(subject.machine_id) == []
    assert bench.leftovers() == []
    subject.snapshot("tag")


@pytest.mark.tools("mount")
def test_a_full_folder_fails_the_snapshot_and_is_left_clean(tmp_path: Path, seed: int) -> None:
    with mounted_tmpfs(tmp_path, 8 * MIB) as place:
        bench = LocalBench(place / "provider", seed % 2**32)
        subject = Subject(bench, "web", 6 * MIB)
        subject.write(Span(0, 6 * MIB))
        with pytest.raises(SnapshotFailed, match=r"takes up to 6291456 bytes and \d+ are free"):
            subject.snapshot("tag")
        assert bench.leftovers() == []
        subject.assert_live()


@pytest.mark.tools("mkfs.xfs", "mount", "losetup")
def test_snapshots_share_blocks_where_the_file_system_can(tmp_path: Path, seed: int) -> None:
    with mounted_xfs(tmp_path) as place:
        bench = LocalBench(place / "provider", seed % 2**32)
        subject = Subject(bench, "web", 128 * MIB)
        subject.write(Span(0, 100 * MIB))
        for tag in "abc":  # three full copies would not fit
            snapshot, content = subject.snapshot(tag), subject.content.copy()
            subject.write(Span(MIB, MIB))
            with bench.provider.open_disk(subject.machine_id, snapshot.snapshot_id, subject.key) as disk:
                assert_same(content, read_all(disk), tag)
        subject.assert_live()


def test_the_key_of_a_disk_may_be_any_text(bench: LocalBench, tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(b"x" * 512)
    keys = [DiskKey(key) for key in ("../../a", "a/b", " ", "ä" * 200, "disk-0.raw")]
    machine = bench.provider.add_machine("web", dict.fromkeys(keys, path))
    first = bench.provider.create_snapshot(machine.machine_id, "first")
    second = bench.provider.create_snapshot(machine.machine_id, "second")
    for key, disk in zip(keys, first.disks, strict=True):
        assert disk.change_id is not None
        changed = bench.provider.changed_spans
        assert list(changed(machine.machine_id, second.snapshot_id, key, disk.change_id)) == []
        with bench.provider.open_disk(machine.machine_id, second.snapshot_id, key) as frozen:
            assert read_all(frozen) == b"x" * 512
