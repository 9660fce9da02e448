"""The model file system does what files do, and fails as it is told to."""

from pathlib import Path

import pytest

from holdfast.errors import RepositoryFull, RepositoryUnavailable, StoreFailed, SyncFailed
from holdfast.testing.crashfs import SECTOR, CrashFiles

FOLDER = Path("/f")


@pytest.fixture
def files() -> CrashFiles:
    files = CrashFiles([Path("/")])
    files.make_folder(FOLDER)
    return files


def test_what_was_written_is_read(files: CrashFiles) -> None:
    handle = files.create(FOLDER / "a")
    handle.write(10, [b"one", bytearray(b"two")])
    assert handle.read(0, 100) == bytes(10) + b"onetwo"
    assert (handle.size(), files.read(FOLDER / "a")) == (16, bytes(10) + b"onetwo")
    handle.close()
    assert not files.open_handles


def test_names_are_those_of_files_and_folders(files: CrashFiles) -> None:
    files.make_folder(FOLDER / "inner" / "deep")
    files.replace(FOLDER / "b", b"data")
    files.rename(FOLDER / "b", FOLDER / "c")
    assert files.names(FOLDER) == ["c", "inner"]
    files.remove(FOLDER / "c")
    files.remove(FOLDER / "c")
    assert (files.exists(FOLDER / "c"), files.exists(FOLDER / "inner")) == (False, True)


def test_what_is_not_there_is_unavailable(files: CrashFiles) -> None:
    for path in (FOLDER / "missing", Path("/missing/file")):
        with pytest.raises(RepositoryUnavailable):
            files.open(path)
    with pytest.raises(RepositoryUnavailable):
        files.create(Path("/missing/file"))
    with pytest.raises(RepositoryUnavailable):
        files.names(Path("/missing"))
    files.create(FOLDER / "a")
    with pytest.raises(StoreFailed, match="File exists"):
        files.create(FOLDER / "a")


def test_a_lock_has_one_holder(files: CrashFiles) -> None:
    one, two = (files.open_lock(FOLDER / "lock") for _ in range(2))
    assert (one.lock(), two.lock(), one.lock()) == (True, False, True)
    one.close()
    assert two.lock()


def test_a_quota_lets_in_what_fits_and_no_more(files: CrashFiles) -> None:
    handle = files.create(FOLDER / "a")
    files.quota = 10
    with pytest.raises(RepositoryFull):
        handle.write(0, [b"0123456789ABC"])
    assert handle.read(0, 100) == b"0123456789"
    handle.write(0, [b"in place"])
    assert files.free_bytes(FOLDER) == 0


def test_a_flush_that_fails_poisons_its_handle_only(files: CrashFiles) -> None:
    handle = files.create(FOLDER / "a")
    handle.write(0, [b"data"])
    files.fail_sync = lambda number, waiting: () if (number, waiting) == (1, 1) else None
    with pytest.raises(SyncFailed):
        handle.sync()
    with pytest.raises(SyncFailed, match="not written any more"):
        handle.write(0, [b"more"])
    other = files.open(FOLDER / "a", write=True)
    other.sync()
    assert other.read(0, 4) == b"data"


def test_reads_can_be_made_to_show_something_else(files: CrashFiles) -> None:
    handle = files.create(FOLDER / "a")
    handle.write(0, [bytes(3 * SECTOR)])
    files.overlay = {(FOLDER / "a", 1): b"x" * SECTOR}
    assert handle.read(0, 3 * SECTOR) == bytes(SECTOR) + b"x" * SECTOR + bytes(SECTOR)
    assert handle.read(SECTOR - 2, 4) == b"\0\0xx"
    assert handle.read(2 * SECTOR - 2, 4) == b"xx\0\0"
    assert handle.read(2 * SECTOR, 4) == bytes(4)


def test_a_copy_is_another_file_system(files: CrashFiles) -> None:
    files.replace(FOLDER / "a", b"one")
    other = files.copy()
    other.replace(FOLDER / "a", b"two")
    files.drop(FOLDER)
    assert (files.exists(FOLDER), other.read(FOLDER / "a")) == (False, b"two")
