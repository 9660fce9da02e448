"""Faults happen where and how they are asked for."""

import errno
import os
import signal
from pathlib import Path

import pytest

from holdfast.testing.faults import FailingSystem, HitCounter, KillAt, SystemFault, open_below


def test_hits_are_counted_by_name() -> None:
    counter = HitCounter()
    for name in ("a", "b", "a"):
        counter(name)
    assert dict(counter.hits) == {"a": 2, "b": 1}


def test_a_process_dies_at_the_very_hit() -> None:
    child = os.fork()
    if child == 0:
        kill = KillAt("a", 2)
        for name in ("a", "b", "b", "a"):
            kill(name)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL


def test_a_process_lives_when_the_hit_does_not_come() -> None:
    kill = KillAt("a", 3)
    for name in ("a", "b", "a"):
        kill(name)
    assert kill.hits["a"] == 2


def failures(path: Path, fault: SystemFault, calls: int = 4) -> list[int | None]:
    """Return the error number of each of some writes."""
    found: list[int | None] = []
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    with FailingSystem(path.parent, fault).active():
        for _ in range(calls):
            try:
                os.pwritev(descriptor, [memoryview(b"data")], 0)
                found.append(None)
            except OSError as error:
                found.append(error.errno)
    os.close(descriptor)
    return found


def test_one_call_fails_or_all_from_it_on(tmp_path: Path) -> None:
    once = SystemFault(kind="write", number=2, error=errno.ENOSPC)
    assert failures(tmp_path / "a", once) == [None, errno.ENOSPC, None, None]
    for_ever = SystemFault(kind="write", number=2, error=errno.EIO, is_sticky=True)
    assert failures(tmp_path / "a", for_ever) == [None, errno.EIO, errno.EIO, errno.EIO]


def test_other_kinds_and_other_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    system = FailingSystem(tmp_path / "one", SystemFault(kind="write", number=1))
    descriptor = os.open(tmp_path / "two" / "a", os.O_RDWR | os.O_CREAT)
    with system.active():
        os.pwritev(descriptor, [b"data"], 0)
        os.fsync(descriptor)
        assert (tmp_path / "two" / "a").read_bytes() == b"data"
    os.close(descriptor)
    assert (system.failed, dict(system.calls)) == (0, {})


def test_a_write_can_come_out_short(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "a", os.O_RDWR | os.O_CREAT)
    with FailingSystem(tmp_path, SystemFault(kind="write", number=1, error=0)).active():
        assert os.pwritev(descriptor, [memoryview(b"12345678")], 0) == 4
    os.close(descriptor)


def test_reading_a_whole_file_can_fail(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"data")
    with FailingSystem(tmp_path, SystemFault(kind="open", number=1)).active(), pytest.raises(OSError, match="Input"):
        (tmp_path / "a").read_bytes()


def test_open_files_below_a_folder_are_named(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb"):
        assert open_below(tmp_path) == [str(tmp_path / "a")]
    assert open_below(tmp_path) == []
