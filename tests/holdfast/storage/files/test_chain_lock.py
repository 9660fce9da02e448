"""One writer of a chain at a time, whatever happens to the lock file."""

from pathlib import Path

import pytest

from holdfast.errors import ChainBusy, RepositoryUnavailable
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.files.chain_lock import (
    LOCK_NAME,
    acquire_chain_lock,
    close_both,
    has_readers,
    hold_as_reader,
    make_readers_file,
    open_locked,
)
from holdfast.testing.faults import open_below

FILES = HostFiles()


def test_the_second_writer_of_a_chain_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    first = acquire_chain_lock(FILES, tmp_path)
    with pytest.raises(ChainBusy, match=tmp_path.name):
        acquire_chain_lock(FILES, tmp_path)
    first.close()
    acquire_chain_lock(FILES, tmp_path).close()
    assert open_below(tmp_path) == []


def test_a_lock_file_removed_under_a_writer_lets_nobody_in(tmp_path: Path) -> None:
    path = tmp_path / "00000001-full.hfc"
    path.write_bytes(b"")
    handles = open_locked(FILES, path, lambda path: FILES.open(path, write=True))
    (tmp_path / LOCK_NAME).unlink()
    with pytest.raises(ChainBusy, match=r"00000001-full\.hfc"):
        open_locked(FILES, path, lambda path: FILES.open(path, write=True))
    close_both(handles)
    assert open_below(tmp_path) == []


def test_a_file_that_cannot_be_opened_leaves_no_lock(tmp_path: Path) -> None:
    with pytest.raises(RepositoryUnavailable):
        open_locked(FILES, tmp_path / "missing.hfc", FILES.open)
    acquire_chain_lock(FILES, tmp_path).close()
    assert open_below(tmp_path) == []


def test_a_folder_that_is_gone_cannot_be_locked(tmp_path: Path) -> None:
    with pytest.raises(RepositoryUnavailable):
        acquire_chain_lock(FILES, tmp_path / "gone")


def test_readers_share_and_a_writer_sees_that_they_are_there(tmp_path: Path) -> None:
    make_readers_file(FILES, tmp_path)
    assert not has_readers(FILES, tmp_path)
    first, second = hold_as_reader(FILES, tmp_path), hold_as_reader(FILES, tmp_path)
    assert first is not None
    assert second is not None
    first.close()
    assert has_readers(FILES, tmp_path)
    second.close()
    assert not has_readers(FILES, tmp_path)


def test_readers_of_a_chain_without_their_file_leave_no_trace_and_are_taken_for_granted_once(tmp_path: Path) -> None:
    assert hold_as_reader(FILES, tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    assert has_readers(FILES, tmp_path)
    assert not has_readers(FILES, tmp_path)
