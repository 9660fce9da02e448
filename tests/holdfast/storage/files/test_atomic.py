"""Files of the host: whole writes or an error, poisoned handles, and errors of one tree."""

import errno
import os
import resource
from pathlib import Path

import pytest

from holdfast.errors import RepositoryError, RepositoryFull, RepositoryUnavailable, StoreFailed, SyncFailed
from holdfast.faults import set_hook
from holdfast.storage.files.atomic import HostFiles
from holdfast.testing.faults import FailingSystem, SystemFault, open_below

FILES = HostFiles()


def test_a_new_file_is_there_and_takes_all_buffers_in_order(tmp_path: Path) -> None:
    handle = FILES.create(tmp_path / "a")
    buffers = [bytes([at]) * 100 for at in range(200)]
    handle.write(50, [*buffers, b""])
    handle.sync()
    assert handle.size() == 20050
    assert handle.read(50, 20000) == b"".join(buffers)
    assert handle.read(20000, 1000) == bytes([199]) * 50
    handle.close()
    handle.close()
    assert (tmp_path / "a").stat().st_mode & 0o077 == 0
    assert open_below(tmp_path) == []


def test_a_file_is_never_made_over_another(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(StoreFailed, match="File exists"):
        FILES.create(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize("action", ["open", "read", "names", "create", "open_lock"])
def test_what_is_gone_is_unavailable(tmp_path: Path, action: str) -> None:
    with pytest.raises(RepositoryUnavailable, match="gone"):
        getattr(FILES, action)(tmp_path / "gone" / "file")


def test_nothing_is_renamed_or_replaced_in_a_folder_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "file"
    with pytest.raises(RepositoryUnavailable, match="gone"):
        FILES.rename(path, path.with_name("new"))
    with pytest.raises(RepositoryUnavailable, match="gone"):
        FILES.replace(path, b"data")


def test_a_file_where_a_folder_should_be_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RepositoryUnavailable):
        FILES.exists(tmp_path / "file" / "below")


def test_replacing_leaves_the_old_content_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "a"
    FILES.replace(path, b"first")
    seen: list[tuple[str, bytes]] = []
    set_hook(lambda name: seen.append((name, path.read_bytes())))
    try:
        FILES.replace(path, b"second, and longer")
    finally:
        set_hook(None)
    contents = {name: content for name, content in seen if name.startswith("replace")}
    assert contents == {
        "replace.written": b"first",
        "replace.synced": b"first",
        "replace.renamed": b"second, and longer",
    }
    assert FILES.names(tmp_path) == ["a"]


def test_what_an_interrupted_replacement_left_does_not_disturb_the_next(tmp_path: Path) -> None:
    (tmp_path / "a.new").write_bytes(b"half of something much longer")
    FILES.replace(tmp_path / "a", b"whole")
    assert FILES.read(tmp_path / "a") == b"whole"
    assert FILES.names(tmp_path) == ["a"]


def test_removing_twice_is_removing_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    FILES.remove(tmp_path / "a")
    FILES.remove(tmp_path / "a")
    assert not FILES.exists(tmp_path / "a")


def test_renaming_moves_the_content(tmp_path: Path) -> None:
    FILES.replace(tmp_path / "a", b"data")
    FILES.rename(tmp_path / "a", tmp_path / "b")
    assert (FILES.names(tmp_path), FILES.read(tmp_path / "b")) == (["b"], b"data")


def test_folders_are_made_with_their_parents_and_may_be_there(tmp_path: Path) -> None:
    for _ in range(2):
        FILES.make_folder(tmp_path / "one" / "two")
    assert FILES.names(tmp_path) == ["one"]
    assert FILES.exists(tmp_path / "one" / "two")


def test_a_lock_has_one_holder_and_ends_with_it(tmp_path: Path) -> None:
    one, two = (FILES.open_lock(tmp_path / "lock") for _ in range(2))
    assert (one.lock(), two.lock(), one.lock()) == (True, False, True)
    one.close()
    assert two.lock()
    two.close()


@pytest.mark.parametrize(
    "number, error", [(errno.EIO, SyncFailed), (errno.ENOSPC, RepositoryFull), (errno.EDQUOT, RepositoryFull)]
)
def test_a_failed_sync_poisons_the_handle_for_good(tmp_path: Path, number: int, error: type[RepositoryError]) -> None:
    # The kernel may have thrown the data away and call the next flush a success.
    handle = FILES.create(tmp_path / "a")
    handle.write(0, [b"data"])
    with FailingSystem(tmp_path, SystemFault(kind="sync", number=1, error=number)).active(), pytest.raises(error):
        handle.sync()
    with pytest.raises(SyncFailed, match="not written any more"):
        handle.sync()
    with pytest.raises(SyncFailed, match="not written any more"):
        handle.write(0, [b"more"])
    assert handle.read(0, 4) == b"data"
    handle.close()


def test_a_file_system_that_is_full_is_a_full_repository(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handle = FILES.create(tmp_path / "a")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(RepositoryFull, match="no space left"):
            handle.write(0, [bytes(600 << 10), bytes(600 << 10)])
        with pytest.raises(RepositoryFull):
            FILES.replace(tmp_path / "b", bytes(2 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    handle.close()
    assert not FILES.exists(tmp_path / "b")
    assert open_below(tmp_path) == []


def test_a_read_only_handle_is_not_written_through(tmp_path: Path) -> None:
    FILES.replace(tmp_path / "a", b"data")
    handle = FILES.open(tmp_path / "a")
    with pytest.raises(StoreFailed):
        handle.write(0, [b"x"])
    handle.close()


def test_a_closed_handle_reports_our_error(tmp_path: Path) -> None:
    handle = FILES.create(tmp_path / "a")
    handle.close()
    for action in (lambda: handle.read(0, 1), lambda: handle.write(0, [b"x"]), handle.size):
        with pytest.raises(StoreFailed):
            action()


def test_free_space_is_a_number_of_bytes(tmp_path: Path) -> None:
    facts = os.statvfs(tmp_path)
    assert 0 <= FILES.free_bytes(tmp_path) <= facts.f_blocks * facts.f_frsize
