"""A folder is the provider's only with its marker, and stays the one it was."""

import json
import shutil
from pathlib import Path

import pytest

from holdfast.errors import ConfigurationInvalid, FormatTooNew, ProviderUnavailable
from holdfast.providers.local.root import MARKER, PARTS, Root
from tests.holdfast.providers.local.mounts import mounted_tmpfs


def test_a_folder_is_made_with_all_its_parts(tmp_path: Path) -> None:
    root = Root(tmp_path / "a" / "b")
    root.create()
    root.check()
    assert sorted(p.name for p in root.path.iterdir()) == sorted([*PARTS, MARKER])


def test_making_it_again_changes_nothing(tmp_path: Path) -> None:
    Root(tmp_path).create()
    marker = (tmp_path / MARKER).read_bytes()
    Root(tmp_path).create()
    assert (tmp_path / MARKER).read_bytes() == marker


def test_an_interrupted_creation_is_completed(tmp_path: Path) -> None:
    (tmp_path / "machines").mkdir()
    (tmp_path / "lost+found").mkdir()
    (tmp_path / f".{MARKER}.new").touch()
    Root(tmp_path).create()


def test_a_folder_with_something_else_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").touch()
    with pytest.raises(ConfigurationInvalid, match=r"holds 'thesis\.doc'"):
        Root(tmp_path).create()
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.doc"]


def test_a_missing_folder_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(ProviderUnavailable, match="is not there") as caught:
        Root(tmp_path / "none").check()
    assert "Mount the folder" in str(caught.value.hint)
    with pytest.raises(ProviderUnavailable, match=MARKER):
        Root(tmp_path).check()


@pytest.mark.parametrize("part", PARTS)
def test_a_folder_with_a_part_missing_is_unavailable(tmp_path: Path, part: str) -> None:
    root = Root(tmp_path)
    root.create()
    (tmp_path / part).rmdir()
    with pytest.raises(ProviderUnavailable, match=part):
        root.check()


def test_another_folder_in_its_place_is_unavailable(tmp_path: Path) -> None:
    root = Root(tmp_path / "root")
    root.create()
    shutil.rmtree(tmp_path / "root")
    Root(tmp_path / "root").create()
    with pytest.raises(ProviderUnavailable, match="has become another one"):
        root.check()


def test_a_damaged_marker_is_unavailable(tmp_path: Path) -> None:
    Root(tmp_path).create()
    (tmp_path / MARKER).write_text("{")
    with pytest.raises(ProviderUnavailable, match="marker file"):
        Root(tmp_path).check()


def test_a_marker_of_a_later_version_is_refused(tmp_path: Path) -> None:
    Root(tmp_path).create()
    (tmp_path / MARKER).write_text(json.dumps({"format": 2}))
    with pytest.raises(FormatTooNew):
        Root(tmp_path).check()


def test_a_file_in_the_place_of_the_folder_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ProviderUnavailable):
        Root(tmp_path / "file").check()
    with pytest.raises(ProviderUnavailable):
        Root(tmp_path / "file").create()


@pytest.mark.tools("mount")
def test_parts_on_different_file_systems_are_refused(tmp_path: Path) -> None:
    root = Root(tmp_path / "root")
    root.create()
    with mounted_tmpfs(tmp_path, 1 << 20) as place:
        root.targets.rmdir()
        root.targets.symlink_to(place)
        with pytest.raises(ConfigurationInvalid, match="different file systems"):
            root.check()
