"""Disks of an existing machine are replaced in the way that their place allows."""

import os
from pathlib import Path

import pytest

from holdfast.errors import DiskWriteFailed, LimitExceeded, RequestInvalid, SourceError
from holdfast.model.ids import DiskKey
from holdfast.model.machine import Disk, Machine, PowerState
from holdfast.model.spans import Span
from holdfast.providers.local import replacement
from holdfast.testing.disks import PatternedDisk
from holdfast.testing.provider_bench import assert_same
from tests.holdfast.providers.local.bench import LocalBench, make_disk
from tests.holdfast.providers.local.mounts import loop_device, mounted_tmpfs

MIB = 1 << 20
KEY = DiskKey("a")


def restore(bench: LocalBench, machine: Machine, *disks: Disk) -> PatternedDisk:
    """Prepare, write and commit a restore of the machine; return what its first disk should hold."""
    content = prepare(bench, machine, *disks)
    bench.provider.commit_target(bench.provider.targets()[0].target_id)
    return content


def prepare(bench: LocalBench, machine: Machine, *disks: Disk) -> PatternedDisk:
    content = PatternedDisk(bench.seed, disks[0].size_bytes)
    target = bench.provider.prepare_target("token", machine, disks, machine.machine_id)
    with bench.provider.open_target(target.target_id, disks[0].key) as disk:
        disk.write(MIB, memoryview(content.write(Span(MIB, MIB))))
        disk.flush()
    return content


def adopt(bench: LocalBench, path: Path, size_bytes: int = 4 * MIB) -> Machine:
    """Register a machine with a full disk at ``path``."""
    if not path.exists():
        make_disk(path, size_bytes)
    with path.open("r+b") as file:
        file.write(b"old" * (size_bytes // 3))
    return bench.provider.add_machine("web", {KEY: path})


def test_a_file_keeps_its_path_owner_and_mode(bench: LocalBench, tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    machine = adopt(bench, path)
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 1234, 4321)
    before = path.stat()
    content = restore(bench, machine, Disk(key=KEY, size_bytes=8 * MIB))
    after = path.stat()
    assert_same(content, path.read_bytes(), "restored disk")
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode, before.st_uid, before.st_gid,
    )  # fmt: skip
    assert after.st_ino != before.st_ino
    assert after.st_nlink == 1
    assert bench.leftovers() == []


def test_a_linked_disk_is_replaced_where_it_really_is(bench: LocalBench, tmp_path: Path) -> None:
    real, link = tmp_path / "real.raw", tmp_path / "link.raw"
    make_disk(real, 4 * MIB)
    link.symlink_to(real)
    content = restore(bench, adopt(bench, link), Disk(key=KEY, size_bytes=4 * MIB))
    assert link.is_symlink()
    assert_same(content, real.read_bytes(), "restored disk")


def test_a_lost_file_comes_back(bench: LocalBench, tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    machine = adopt(bench, path)
    path.unlink()
    content = restore(bench, machine, Disk(key=KEY, size_bytes=4 * MIB))
    assert_same(content, path.read_bytes(), "restored disk")


def test_a_lost_file_in_the_machines_folder_comes_back(bench: LocalBench) -> None:
    machine = bench.make_machine("web", [4 * MIB])
    key = machine.disks[0].key
    bench.path(machine.machine_id, key).unlink()
    content = restore(bench, machine, Disk(key=key, size_bytes=4 * MIB))
    assert_same(content, bench.read_live(machine.machine_id, key), "restored disk")


@pytest.mark.tools("mount")
@pytest.mark.parametrize("size", [2 * MIB, 8 * MIB])
def test_a_file_on_another_file_system_is_written_in_place(bench: LocalBench, tmp_path: Path, size: int) -> None:
    with mounted_tmpfs(tmp_path, 16 * MIB) as place:
        path = place / "disk.raw"
        machine = adopt(bench, path)
        inode = path.stat().st_ino
        content = restore(bench, machine, Disk(key=KEY, size_bytes=size))
        assert_same(content, path.read_bytes(), "restored disk")
        assert path.stat().st_ino == inode


@pytest.mark.tools("losetup")
def test_a_block_device_is_written_in_place_and_its_rest_cleared(bench: LocalBench, tmp_path: Path) -> None:
    make_disk(tmp_path / "image", 8 * MIB)
    with loop_device(tmp_path / "image") as device:
        machine = adopt(bench, device, 8 * MIB)
        content = restore(bench, machine, Disk(key=KEY, size_bytes=4 * MIB))
        content.resize(8 * MIB)
        assert_same(content, device.read_bytes(), "restored device")


@pytest.mark.tools("losetup")
def test_a_block_device_that_is_too_small_is_refused_at_once(bench: LocalBench, tmp_path: Path) -> None:
    make_disk(tmp_path / "image", 4 * MIB)
    with loop_device(tmp_path / "image") as device:
        machine = adopt(bench, device)
        with pytest.raises(RequestInvalid, match="has 4194304 bytes and the restored disk 8388608"):
            prepare(bench, machine, Disk(key=KEY, size_bytes=8 * MIB))
    assert bench.provider.targets() == []


def test_more_disks_than_a_machine_may_have_are_refused(bench: LocalBench) -> None:
    machine = bench.make_machine("web", [MIB] * 200)
    disks = [Disk(key=DiskKey(f"new {n}"), size_bytes=MIB) for n in range(57)]
    with pytest.raises(LimitExceeded, match="would have 257 disks"):
        bench.provider.prepare_target("token", machine, disks, machine.machine_id)


def test_a_disk_whose_place_cannot_be_written_changes_nothing(bench: LocalBench, tmp_path: Path) -> None:
    path = tmp_path / "gone" / "disk.raw"
    path.parent.mkdir()
    machine = adopt(bench, path)
    path.unlink()
    path.parent.rmdir()
    prepare(bench, machine, Disk(key=KEY, size_bytes=4 * MIB))
    target_id = bench.provider.targets()[0].target_id
    with pytest.raises(DiskWriteFailed, match="No such file"):
        bench.provider.commit_target(target_id)
    path.parent.mkdir()
    bench.provider.set_power(machine.machine_id, PowerState.ON)
    bench.provider.set_power(machine.machine_id, PowerState.OFF)
    bench.provider.commit_target(target_id)
    assert path.exists()


def test_a_commit_that_failed_half_way_goes_only_forward(
    bench: LocalBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = adopt(bench, tmp_path / "disk.raw")
    content = prepare(bench, machine, Disk(key=KEY, size_bytes=4 * MIB))
    target_id = bench.provider.targets()[0].target_id

    def fail(_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(replacement, "_switch", fail)
        with pytest.raises(DiskWriteFailed, match=f"committing target {target_id} failed"):
            bench.provider.commit_target(target_id)
        with pytest.raises(DiskWriteFailed):
            bench.provider.abandon_target(target_id)
    for refused in (
        lambda: bench.provider.set_power(machine.machine_id, PowerState.ON),
        lambda: bench.provider.create_snapshot(machine.machine_id, "tag"),
    ):
        with pytest.raises(SourceError, match=f"commit of target {target_id} was interrupted"):
            refused()
    bench.provider.abandon_target(target_id)
    assert_same(content, (tmp_path / "disk.raw").read_bytes(), "restored disk")
    bench.provider.set_power(machine.machine_id, PowerState.ON)


def test_a_second_restore_waits_for_an_interrupted_one(
    bench: LocalBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = adopt(bench, tmp_path / "disk.raw")
    disk = Disk(key=KEY, size_bytes=4 * MIB)
    prepare(bench, machine, disk)
    first = bench.provider.targets()[0].target_id
    second = bench.provider.prepare_target("second", machine, [disk], machine.machine_id)

    def fail(_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(replacement, "_switch", fail)
        with pytest.raises(DiskWriteFailed):
            bench.provider.commit_target(first)
    with pytest.raises(SourceError, match=f"commit of target {first} was interrupted"):
        bench.provider.commit_target(second.target_id)
    assert bench.provider.sweep() == [f"completed target {first} of machine {machine.machine_id}"]
    bench.provider.commit_target(second.target_id)
    assert (tmp_path / "disk.raw").read_bytes() == bytes(4 * MIB)
