"""Files and folders come, change and go in one step."""

import errno
import os
from pathlib import Path

import pytest

from holdfast.errors import ConfigurationInvalid, FormatTooNew, ProviderUnavailable, SnapshotFailed
from holdfast.providers.local.files import (
    StoredFile,
    building,
    is_full,
    leftovers,
    os_errors,
    read_json,
    remove_tree,
    replacing,
    retire_folder,
    visible_folders,
    write_json,
)


class Note(StoredFile, frozen=True, kw_only=True, forbid_unknown_fields=True):
    text: str


def read(path: Path) -> Note:
    return read_json(path, Note, ConfigurationInvalid, "note")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_json(tmp_path / "note.json", Note(text="one"))
    write_json(tmp_path / "note.json", Note(text="zwölf ☃"))
    assert read(tmp_path / "note.json") == Note(text="zwölf ☃")
    assert [p.name for p in tmp_path.iterdir()] == ["note.json"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"text": 1}', b'{"text": "a", "more": 1}', b"{}", b'{"text": "\xff"}'],
)
def test_what_cannot_be_understood_names_the_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "note.json").write_bytes(content)
    with pytest.raises(ConfigurationInvalid, match=r"note .*note\.json cannot be read"):
        read(tmp_path / "note.json")


def test_a_file_of_a_later_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "note.json").write_text('{"format": 2, "something": "new"}')
    with pytest.raises(FormatTooNew, match="has format 2, this version reads up to 1"):
        read(tmp_path / "note.json")


def test_an_enormous_file_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "note.json").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(ConfigurationInvalid, match="larger than"):
        read(tmp_path / "note.json")


def test_a_failed_replacement_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail() -> None:
        with replacing(path) as file:
            file.write(b"new")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space") as caught:
        fail()
    assert is_full(caught.value)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_folder_appears_complete(tmp_path: Path) -> None:
    place = tmp_path / "one" / "two"
    with building(place) as making:
        (making / "file").touch()
        assert visible_folders(tmp_path / "one") == []
        assert leftovers(tmp_path / "one") == [making]
    assert visible_folders(tmp_path / "one") == [place]
    assert leftovers(tmp_path / "one") == []
    assert (place / "file").exists()


def test_a_dead_attempt_is_replaced(tmp_path: Path) -> None:
    (tmp_path / ".making-one").mkdir()
    (tmp_path / ".making-one" / "dead").touch()
    with building(tmp_path / "one") as making:
        assert list(making.iterdir()) == []


def test_a_failed_folder_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with building(tmp_path / "one") as making:
            (making / "file").touch()
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_no_folder_is_made_where_the_mount_has_vanished(tmp_path: Path) -> None:
    with (
        pytest.raises(FileNotFoundError),
        building(tmp_path / "vanished" / "machine" / "snapshot"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_retiring_removes_all_and_can_be_repeated(tmp_path: Path) -> None:
    place = tmp_path / "all" / "one"
    (place / "deep" / "deeper").mkdir(parents=True)
    (place / "deep" / "file").touch()
    for _ in range(2):
        retire_folder(place)
        assert list((tmp_path / "all").iterdir()) == []


def test_removal_follows_no_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to(outside)
    remove_tree(tmp_path / "tree")
    remove_tree(tmp_path / "tree")
    assert (outside / "kept").exists()
    assert not (tmp_path / "tree").exists()


def test_files_are_leftovers_of_their_own(tmp_path: Path) -> None:
    for name in (".a.json.new", ".b.json.new", "a.json", ".profile"):
        (tmp_path / name).touch()
    assert leftovers(tmp_path, tmp_path / "a.json") == [tmp_path / ".a.json.new"]
    assert leftovers(tmp_path) == [tmp_path / ".a.json.new", tmp_path / ".b.json.new"]
    assert leftovers(tmp_path / "missing") == []
    remove_tree(tmp_path / ".a.json.new")
    assert not (tmp_path / ".a.json.new").exists()


def test_a_missing_folder_is_not_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(ProviderUnavailable, match="No such file"):
        visible_folders(tmp_path / "vanished")


def test_errors_of_the_system_get_a_name(tmp_path: Path) -> None:
    with (
        pytest.raises(SnapshotFailed, match=r"doing it failed: No such file .*\(.*none\)") as caught,
        os_errors(SnapshotFailed, "doing it"),
    ):
        os.stat(tmp_path / "none")  # noqa: PTH116 - any call of the system will do
    assert isinstance(caught.value.__cause__, FileNotFoundError)
