"""A file appears whole or not at all, never in place of another, and nothing is left behind."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from holdfast.errors import DiskWriteFailed, RequestInvalid, TargetExists
from workers.part_file import PartFile


def write(part: PartFile, content: bytes = b"whole") -> None:
    part.path.write_bytes(content)
    part.publish(part.path)


def test_the_file_appears_when_it_is_published(tmp_path: Path) -> None:
    target = tmp_path / "disk"
    with PartFile(target) as part:
        assert not target.exists()
        write(part)
    assert target.read_bytes() == b"whole"
    assert target.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [target]


def test_what_was_made_from_it_can_be_published_instead(tmp_path: Path) -> None:
    with PartFile(tmp_path / "disk") as part:
        part.second_path.write_bytes(b"other")
        part.publish(part.second_path)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"other"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_whatever_ends_the_work_leaves_nothing_behind(tmp_path: Path, error: type[BaseException]) -> None:
    def stopped() -> None:
        with PartFile(tmp_path / "disk") as part:
            part.resize(1 << 20)
            part.second_path.write_bytes(b"other")
            raise error

    with pytest.raises(error):
        stopped()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_link", [False, True])
def test_nothing_is_overwritten(tmp_path: Path, is_link: bool) -> None:
    target = tmp_path / "disk"
    if is_link:
        target.symlink_to(tmp_path / "nowhere")
    else:
        target.write_bytes(b"mine")
    with pytest.raises(TargetExists, match="there already"), PartFile(target):
        pass
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("has_links", [True, False])
def test_a_file_that_appears_meanwhile_is_not_overwritten(
    tmp_path: Path, has_links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_links:
        without_links(monkeypatch)
    target = tmp_path / "disk"

    def late() -> None:
        with PartFile(target) as part:
            target.write_bytes(b"mine")
            write(part)

    with pytest.raises(TargetExists):
        late()
    assert target.read_bytes() == b"mine"


def without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be on a file system that knows one name for a file only, such as those of memory sticks."""

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)


def test_a_file_system_without_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_links(monkeypatch)
    with PartFile(tmp_path / "disk") as part:
        write(part)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"whole"]


def test_a_killed_process_leaves_nothing_that_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / ".disk.part").write_bytes(b"half" * 1000)
    (tmp_path / ".disk.part2").write_bytes(b"half")
    with PartFile(tmp_path / "disk") as part:
        assert part.path.read_bytes() == b""
        assert not part.second_path.exists()


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    with PartFile(tmp_path / "disk") as part:
        with pytest.raises(RequestInvalid, match="another process"), PartFile(tmp_path / "disk"):
            pass
        write(part)
    assert (tmp_path / "disk").read_bytes() == b"whole"


@pytest.mark.parametrize("is_new", [True, False])
def test_a_lock_on_a_file_that_was_removed_meanwhile_is_worth_nothing(
    tmp_path: Path, is_new: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who had it before removes it between our opening and our lock."""
    path, lock = tmp_path / ".disk.part", fcntl.flock

    def late(descriptor: int, how: int) -> None:
        path.unlink()
        if is_new:
            path.write_bytes(b"theirs")
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(RequestInvalid, match="another process"), PartFile(tmp_path / "disk"):
        pass


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DiskWriteFailed, match="No such file"), PartFile(tmp_path / "no" / "disk"):
        pass


def test_a_size_that_cannot_be_is_told(tmp_path: Path) -> None:
    with PartFile(tmp_path / "disk") as part:
        assert part.free_bytes() > 0
        with pytest.raises(DiskWriteFailed, match="bytes long"):
            part.resize(1 << 62)
        with pytest.raises(DiskWriteFailed, match="naming"):
            part.publish(tmp_path / "gone")
