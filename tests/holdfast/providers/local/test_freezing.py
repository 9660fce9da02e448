"""Frozen disks are of one moment, or the freezing fails."""

import os
from pathlib import Path

import pytest

from holdfast.errors import DiskChanged, SnapshotFailed
from holdfast.model.ids import DiskKey
from holdfast.providers.local import freezing
from holdfast.providers.local.cloning import copy_sparse
from holdfast.providers.local.freezing import LiveDisk, freeze
from tests.holdfast.providers.local.bench import make_disk
from tests.holdfast.providers.local.mounts import loop_device, mounted_tmpfs, mounted_xfs

MIB = 1 << 20


def disk(folder: Path, key: str, frozen: Path, size_bytes: int = MIB) -> LiveDisk:
    live = folder / f"{key}.raw"
    if not live.exists():
        make_disk(live, size_bytes)
        with live.open("r+b") as file:
            file.write(key.encode() * (size_bytes // 2))
        os.utime(live, ns=(0, 0))
    return LiveDisk(key=DiskKey(key), size_bytes=size_bytes, live=live, frozen=frozen / f"{key}.raw")


@pytest.fixture
def frozen(tmp_path: Path) -> Path:
    place = tmp_path / "frozen"
    place.mkdir()
    return place


def test_every_disk_is_copied(tmp_path: Path, frozen: Path) -> None:
    disks = [disk(tmp_path, key, frozen) for key in "abc"]
    freeze(disks, frozen)
    for each in disks:
        assert each.frozen.read_bytes() == each.live.read_bytes()


@pytest.mark.parametrize("written", ["a", "b"])
def test_a_disk_that_is_written_to_meanwhile_fails_the_snapshot(
    tmp_path: Path, frozen: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    disks = [disk(tmp_path, key, frozen) for key in "ab"]

    def copy_and_write(source: int, target: int) -> None:
        copy_sparse(source, target)
        with (tmp_path / f"{written}.raw").open("r+b") as file:
            file.write(b"!")

    monkeypatch.setattr(freezing, "copy_sparse", copy_and_write)
    monkeypatch.setattr(freezing, "reflink", lambda *_: False)
    with pytest.raises(SnapshotFailed, match=rf"disk '{written}' .*was written to") as caught:
        freeze(disks, frozen)
    assert "XFS" in str(caught.value.hint)


def test_a_disk_of_another_size_is_refused(tmp_path: Path, frozen: Path) -> None:
    found = disk(tmp_path, "a", frozen)
    os.truncate(found.live, 2 * MIB)
    with pytest.raises(DiskChanged, match="had 1048576 bytes before the snapshot and 2097152"):
        freeze([found], frozen)


@pytest.mark.tools("mount")
def test_too_little_space_is_told_before_copying(tmp_path: Path) -> None:
    with mounted_tmpfs(tmp_path, 4 * MIB) as place:
        found = disk(tmp_path, "a", place, 16 * MIB)
        with pytest.raises(SnapshotFailed, match=r"takes up to 8388608 bytes and \d+ are free"):
            freeze([found], place)
        assert (place / "a.raw").stat().st_blocks == 0


@pytest.mark.tools("mount")
def test_space_that_runs_out_is_told_with_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freezing, "needed_bytes", lambda _: 0)
    with mounted_tmpfs(tmp_path, 4 * MIB) as place:
        found = disk(tmp_path, "a", place, 16 * MIB)
        with pytest.raises(SnapshotFailed, match=r"takes up to 0 bytes and 0 are free"):
            freeze([found], place)


@pytest.mark.tools("mkfs.xfs", "mount", "losetup")
def test_shared_copies_need_no_space_and_do_not_mind_a_writer(tmp_path: Path) -> None:
    with mounted_xfs(tmp_path) as place:
        (place / "frozen").mkdir()
        disks = [disk(place, key, place / "frozen", 160 * MIB) for key in "ab"]
        freeze(disks, place / "frozen")
        for each in disks:
            assert each.frozen.read_bytes() == each.live.read_bytes()


@pytest.mark.tools("losetup")
def test_a_block_device_is_frozen(tmp_path: Path, frozen: Path) -> None:
    image = disk(tmp_path, "a", frozen)
    with loop_device(image.live) as device:
        freeze([LiveDisk(key=DiskKey("a"), size_bytes=MIB, live=device, frozen=image.frozen)], frozen)
    assert image.frozen.read_bytes() == image.live.read_bytes()
