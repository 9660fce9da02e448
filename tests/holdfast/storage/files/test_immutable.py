"""The attribute is there, or it is said why not; either way a file can be made changeable again."""

from pathlib import Path

import pytest

from holdfast.storage.files.immutable import is_immutable, set_immutable


def test_an_immutable_file_cannot_be_removed_and_a_changeable_one_can(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    problem = set_immutable(path, wanted=True)
    try:
        assert is_immutable(path) == (not problem)
        if not problem:
            with pytest.raises(PermissionError):
                path.unlink()
    finally:
        set_immutable(path, wanted=False)
    assert not is_immutable(path)
    path.unlink()


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    assert set_immutable(tmp_path / "nothing", wanted=True).startswith("nothing cannot be opened")


def test_a_file_system_without_the_attribute_is_said() -> None:
    assert "do not allow it" in set_immutable(Path("/proc/self/status"), wanted=True)
    assert not is_immutable(Path("/proc/self/status"))
