"""Copies of disks: equal, sparse, and shared where the file system can."""

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.model.spans import Span
from holdfast.providers.local import cloning
from holdfast.providers.local.cloning import (
    clear,
    copy_differences,
    copy_sparse,
    needed_bytes,
    reflink,
    shares_blocks,
    stamp,
)
from holdfast.providers.raw_disks import disk_size
from tests.holdfast.providers.local.mounts import loop_device, mounted_tmpfs, mounted_xfs

MIB = 1 << 20


def make(path: Path, size_bytes: int, pieces: dict[int, bytes]) -> Path:
    with path.open("xb") as file:
        file.truncate(size_bytes)
        for offset, data in pieces.items():
            file.seek(offset)
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return path


def apply(action: Callable[[int, int], object], source: Path, target: Path) -> object:
    flags = os.O_RDWR | (0 if target.exists() else os.O_CREAT)
    read, write = os.open(source, os.O_RDWR), os.open(target, flags, 0o600)
    try:
        return action(read, write)
    finally:
        os.close(read)
        os.close(write)


PIECES = {0: b"a" * 512, 5 * MIB: b"b" * 3 * MIB, 30 * MIB + 7: b"c"}


def test_a_sparse_copy_is_equal_and_sparse(tmp_path: Path) -> None:
    source = make(tmp_path / "source", 64 * MIB + 512, PIECES)
    target = tmp_path / "target"
    apply(copy_sparse, source, target)
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks * 512 < 4 * MIB


@pytest.mark.tools("mount")
def test_a_copy_across_file_systems_is_equal_and_sparse(tmp_path: Path) -> None:
    source = make(tmp_path / "source", 64 * MIB, PIECES)
    with mounted_tmpfs(tmp_path, 16 * MIB) as place:
        target = place / "target"
        assert apply(reflink, source, target) is False
        apply(copy_sparse, source, target)
        assert target.read_bytes() == source.read_bytes()
        assert target.stat().st_blocks * 512 < 4 * MIB


def test_a_copy_without_help_of_the_kernel_is_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    source = make(tmp_path / "source", 64 * MIB, PIECES)
    apply(copy_sparse, source, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == source.read_bytes()


def test_a_source_that_ends_early_fails_the_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make(tmp_path / "source", MIB, {0: b"a" * MIB})

    def too_large(_: int) -> int:
        return 2 * MIB

    monkeypatch.setattr(cloning, "disk_size", too_large)
    monkeypatch.setattr(cloning, "data_spans", lambda _, size: iter([Span(0, size)]))
    with pytest.raises(OSError, match="ended at 1048576"):
        apply(copy_sparse, source, tmp_path / "target")


@pytest.mark.parametrize("action, call", [(copy_sparse, "copy_file_range"), (reflink, "ioctl")])
def test_errors_of_the_disk_are_passed_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    action: Callable[[int, int], object],
    call: str,
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os if call == "copy_file_range" else fcntl, call, fail)
    source = make(tmp_path / "source", MIB, {0: b"a"})
    with pytest.raises(OSError, match="Input/output error"):
        apply(action, source, tmp_path / "target")


def test_a_target_that_is_too_short_fails_the_comparison(tmp_path: Path) -> None:
    source, target = make(tmp_path / "source", MIB, {}), make(tmp_path / "target", 512, {})
    with pytest.raises(OSError, match="ended after 512 of 1048576"):
        apply(lambda s, t: copy_differences(s, t, MIB), source, target)


def test_only_differences_are_written(tmp_path: Path) -> None:
    source = make(tmp_path / "source", 8 * MIB + 512, {0: b"a", 5 * MIB: b"b" * MIB})
    target = make(tmp_path / "target", 8 * MIB + 512, {0: b"a", 7 * MIB: b"x", 8 * MIB: b"z" * 512})
    written = apply(lambda s, t: copy_differences(s, t, 8 * MIB + 512), source, target)
    assert written == 2 * MIB + 512
    assert target.read_bytes() == source.read_bytes()


def test_clearing_leaves_zeros_and_nothing_else(tmp_path: Path) -> None:
    target = make(tmp_path / "target", 4 * MIB, {0: b"a" * 3 * MIB})
    apply(lambda _, t: clear(t, Span(MIB, 3 * MIB)), target, target)
    assert target.read_bytes() == b"a" * MIB + bytes(3 * MIB)


def test_a_written_file_has_another_stamp(tmp_path: Path) -> None:
    source = make(tmp_path / "source", MIB, {})
    os.utime(source, ns=(0, 0))
    with source.open("r+b") as file:
        before = stamp(file.fileno())
        assert stamp(file.fileno()) == before
        os.pwrite(file.fileno(), b"x", 0)
        assert stamp(file.fileno()) != before


@pytest.mark.tools("mkfs.xfs", "mount", "losetup")
def test_a_shared_copy_takes_no_space_and_keeps_its_content(tmp_path: Path) -> None:
    with mounted_xfs(tmp_path) as place:
        source = make(place / "source", 200 * MIB, {0: b"a" * 100 * MIB})
        target = place / "target"
        assert apply(reflink, source, target) is True
        with source.open("r+b") as file:
            file.write(b"changed")
        assert target.read_bytes() == b"a" * 100 * MIB + bytes(100 * MIB)
        free = os.statvfs(place)
        assert free.f_bavail * free.f_frsize > 100 * MIB


@pytest.mark.tools("losetup")
def test_zeros_of_a_block_device_become_holes(tmp_path: Path) -> None:
    image = make(tmp_path / "image", 16 * MIB, {0: b"a", 9 * MIB: b"b" * MIB})
    with image.open("r+b") as file:
        file.seek(3 * MIB)
        file.write(bytes(MIB))
    with loop_device(image) as device:
        target = tmp_path / "target"
        assert apply(reflink, device, target) is False
        apply(copy_sparse, device, target)
        assert target.read_bytes() == image.read_bytes()
        assert target.stat().st_blocks * 512 < 2 * MIB
        assert apply(lambda s, _: needed_bytes(s), device, target) == 16 * MIB
        assert apply(lambda s, _: disk_size(s), device, target) == 16 * MIB
        assert apply(lambda s, _: stamp(s).modified_ns, device, target) == 0


@pytest.mark.tools("mkfs.xfs", "mount", "losetup")
def test_it_is_tried_whether_a_copy_would_share_blocks(tmp_path: Path) -> None:
    with mounted_xfs(tmp_path) as root:
        inside = make(root / "source", 8 * MIB, {MIB: b"x"})
        outside = make(tmp_path / "outside", MIB, {})
        assert shares_blocks(inside, root)
        assert not shares_blocks(inside, tmp_path)
        assert not shares_blocks(outside, root)
        assert [path.name for path in root.iterdir()] == ["source"]
        with loop_device(tmp_path / "outside") as device:
            assert not shares_blocks(device, root)


def test_a_disk_that_is_not_there_shares_nothing(tmp_path: Path) -> None:
    assert not shares_blocks(tmp_path / "none", tmp_path)
