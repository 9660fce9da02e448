"""Files that are unchangeable can be changed meanwhile, and are unchangeable again, whatever happens."""

from pathlib import Path

import pytest

from holdfast.storage.chains.changeable import changeable
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.files.immutable import is_immutable, set_immutable

FULL, GONE, PLAIN = "00000001-full.hfc", "00000002-increment.hfc", "00000003-increment.hfc"


class Failed(Exception):
    pass


def change_and_fail(paths: list[Path]) -> None:
    with changeable(HostFiles(), paths[0].parent):
        assert not any(map(is_immutable, paths))
        paths[0].write_bytes(b"new")
        paths[1].unlink()
        raise Failed


def test_files_are_as_changeable_afterwards_as_they_were(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in (FULL, GONE, PLAIN)]
    for path in paths:
        path.write_bytes(b"old")
    is_kept = [set_immutable(path, wanted=True) == "" for path in paths[:2]]
    try:
        with pytest.raises(Failed):
            change_and_fail(paths)
        assert [is_immutable(path) for path in paths] == [is_kept[0], False, False]
    finally:
        set_immutable(paths[0], wanted=False)
    assert paths[0].read_bytes() == b"new"
