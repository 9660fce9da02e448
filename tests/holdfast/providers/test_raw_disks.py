"""Raw disks: what is read, written, zeroed and flushed, and what happens when that fails."""

import errno
import os
import random
from pathlib import Path

import pytest

from holdfast.errors import DiskReadFailed, DiskWriteFailed
from holdfast.model.spans import Span, coalesce
from holdfast.providers import raw_disks
from holdfast.providers.raw_disks import (
    FrozenDisk,
    TargetDisk,
    data_spans,
    punch_hole,
    read_fully,
    write_fully,
    zero,
)

MIB = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "disk.raw"
    with found.open("xb") as file:
        file.truncate(16 * MIB)
        file.seek(4 * MIB)
        file.write(b"x" * MIB)
    return found


def test_data_spans_cover_all_data_and_leave_holes_out(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    path = tmp_path / "disk.raw"
    written = []
    with path.open("xb") as file:
        file.truncate(64 * MIB)
        for _ in range(20):
            start = chance.randrange(64 * MIB // 4096) * 4096
            file.seek(start)
            file.write(b"x" * 4096)
            written.append(Span(start, 4096))
        file.flush()
        os.fsync(file.fileno())
        found = list(data_spans(file.fileno(), 64 * MIB))
        cut = list(data_spans(file.fileno(), 32 * MIB))
    expected = list(coalesce(sorted(written, key=lambda span: span.start)))
    assert found == expected
    assert all(span.end <= 32 * MIB for span in cut)


def test_all_is_data_where_the_file_system_cannot_tell(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    with FrozenDisk(path) as disk:
        monkeypatch.setattr(os, "lseek", refuse)
        assert list(disk.allocated_spans()) == [Span(0, 16 * MIB)]


def test_a_failing_device_fails_the_listing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FrozenDisk(path) as disk:
        monkeypatch.setattr(os, "lseek", failing)
        with pytest.raises(DiskReadFailed, match=r"disk\.raw.*Input/output error"):
            list(disk.allocated_spans())


def test_a_failing_read_names_file_and_offset(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FrozenDisk(path) as disk:
        monkeypatch.setattr(os, "preadv", failing)
        with pytest.raises(DiskReadFailed, match=r"at offset 4096 of .*disk\.raw"):
            disk.read_into(4096, memoryview(bytearray(512)))


def test_a_file_that_was_cut_fails_the_read(path: Path) -> None:
    with FrozenDisk(path) as disk:
        os.truncate(path, MIB)
        with pytest.raises(DiskReadFailed, match="ended after 512 bytes"):
            disk.read_into(MIB - 512, memoryview(bytearray(1024)))


def test_a_missing_file_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(DiskReadFailed, match="No such file"):
        FrozenDisk(tmp_path / "none")
    with pytest.raises(DiskWriteFailed, match="No such file"):
        TargetDisk(tmp_path / "none")


def test_a_closed_disk_lists_nothing(path: Path) -> None:
    disk = FrozenDisk(path)
    disk.close()
    with pytest.raises(DiskReadFailed, match="closed"):
        list(disk.allocated_spans())


def test_short_reads_and_writes_are_continued(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite, preadv = os.pwrite, os.preadv
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:100], at))
    monkeypatch.setattr(os, "preadv", lambda fd, views, at: preadv(fd, [views[0][:77]], at))
    with path.open("r+b") as file:
        write_fully(file.fileno(), 1000, memoryview(b"abcde" * 100))
        buffer = bytearray(500)
        assert read_fully(file.fileno(), 1000, memoryview(buffer)) == 500
    assert bytes(buffer) == b"abcde" * 100


def test_zeroing_gives_the_space_back(path: Path) -> None:
    with TargetDisk(path) as disk:
        disk.write_zeros(Span(4 * MIB, MIB))
        disk.flush()
    assert path.stat().st_blocks == 0
    assert path.stat().st_size == 16 * MIB


def test_zeroing_writes_where_no_hole_can_be_made(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_disks, "punch_hole", lambda *_: False)
    with path.open("r+b") as file:
        zero(file.fileno(), Span(4 * MIB + 100, MIB + 5))
        zero(file.fileno(), Span(0, 0))
    assert path.read_bytes()[4 * MIB : 5 * MIB] == b"x" * 100 + bytes(MIB - 100)


def test_a_hole_cannot_be_made_in_a_file_open_for_reading(path: Path) -> None:
    with path.open("rb") as file, pytest.raises(OSError, match="Bad file descriptor"):
        punch_hole(file.fileno(), Span(0, 512))


def test_a_hole_cannot_be_made_in_a_pipe() -> None:
    read, write = os.pipe()
    try:
        with pytest.raises(OSError, match="Illegal seek"):
            punch_hole(write, Span(0, 512))
    finally:
        os.close(read)
        os.close(write)


def test_after_a_failed_flush_nothing_is_taken_any_more(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with TargetDisk(path) as disk:
        disk.write(0, memoryview(b"x"))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", failing)
            with pytest.raises(DiskWriteFailed, match="flushing"):
                disk.flush()
        with pytest.raises(DiskWriteFailed, match="not trusted after a failed flush"):
            disk.flush()
        with pytest.raises(DiskWriteFailed, match="not trusted"):
            disk.write(0, memoryview(b"x"))
        with pytest.raises(DiskWriteFailed, match="not trusted"):
            disk.write_zeros(Span(0, 512))


def test_a_failing_write_names_file_and_offset(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwrite", failing)
    monkeypatch.setattr(raw_disks, "punch_hole", lambda *_: False)
    with TargetDisk(path) as disk:
        with pytest.raises(DiskWriteFailed, match=r"1 bytes at offset 7 of .*disk\.raw"):
            disk.write(7, memoryview(b"x"))
        with pytest.raises(DiskWriteFailed, match=r"zeroing 512 bytes at offset 0 of"):
            disk.write_zeros(Span(0, 512))


def failing(*_: object) -> int:
    raise OSError(errno.EIO, "Input/output error")
