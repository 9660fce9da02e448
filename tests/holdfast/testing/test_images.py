"""Images hold what was put into them, in the eyes of each file system's own programs."""

import hashlib
import random
from pathlib import Path

import pytest

from holdfast.errors import RequestInvalid, ToolMissing
from holdfast.testing.images import (
    MIB,
    PROGRAMS,
    SMALLEST_BYTES,
    FileSystem,
    available_file_systems,
    check_image,
    find_program,
    make_image,
    read_file,
    remove_files,
    system_tree,
    tree_size,
    write_files,
)

SIZE = 32 * MIB

pytestmark = pytest.mark.tools(*(name for programs in PROGRAMS.values() for name in programs))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def content(seed: int) -> bytes:
    return random.Random(seed).randbytes(300_000)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return tmp_path / "disk.raw"


def test_every_file_system_can_be_made_on_this_host() -> None:
    assert available_file_systems() == tuple(FileSystem)


@pytest.mark.parametrize("file_system", FileSystem)
def test_the_checker_finds_a_new_image_clean(file_system: FileSystem, image: Path) -> None:
    make_image(image, file_system, SMALLEST_BYTES[file_system])
    assert image.stat().st_size == SMALLEST_BYTES[file_system]
    checked = check_image(image, file_system)
    assert checked.is_clean, checked.report


@pytest.mark.parametrize("file_system", FileSystem)
def test_the_checker_finds_damage(file_system: FileSystem, image: Path, seed: int) -> None:
    make_image(image, file_system, SMALLEST_BYTES[file_system])
    with image.open("r+b") as disk:
        disk.seek(1024)
        disk.write(random.Random(seed).randbytes(2 * MIB)[: image.stat().st_size - 1024])
    assert not check_image(image, file_system).is_clean


@pytest.mark.parametrize("file_system", [FileSystem.EXT4, FileSystem.SWAP])
def test_the_same_tree_and_seed_give_the_same_bytes(file_system: FileSystem, tmp_path: Path, content: bytes) -> None:
    tree = {"var/log/a": content, "etc/b": b"b"} if file_system is FileSystem.EXT4 else {}
    for name, seed in (("one", 1), ("two", 1), ("other", 2)):
        make_image(tmp_path / name, file_system, SIZE, tree, seed=seed)
    assert digest(tmp_path / "one") == digest(tmp_path / "two") != digest(tmp_path / "other")


def test_an_image_is_sparse(image: Path) -> None:
    make_image(image, FileSystem.EXT4, 4096 * MIB)
    assert image.stat().st_blocks * 512 < 200 * MIB


def test_ext4_gives_back_files_in_folders(image: Path, tmp_path: Path, content: bytes) -> None:
    source = tmp_path / "source"
    source.write_bytes(content[:1000])
    make_image(image, FileSystem.EXT4, SIZE, {"srv/data/x": content, "srv/y": source, "z": b""})
    found = [read_file(image, FileSystem.EXT4, name) for name in ("srv/data/x", "srv/y", "z")]
    assert found == [content, content[:1000], b""]


def test_ext4_stays_clean_when_files_are_written_replaced_and_removed(image: Path, content: bytes) -> None:
    make_image(image, FileSystem.EXT4, SIZE, {"srv/x": b"old", "srv/y": content})
    write_files(image, FileSystem.EXT4, {"srv/x": content, "srv/new/z": b"new"})
    remove_files(image, ["srv/y"])
    assert read_file(image, FileSystem.EXT4, "srv/x") == content
    assert read_file(image, FileSystem.EXT4, "srv/new/z") == b"new"
    with pytest.raises(RequestInvalid, match="File not found"):
        read_file(image, FileSystem.EXT4, "srv/y")
    checked = check_image(image, FileSystem.EXT4)
    assert checked.is_clean, checked.report


def test_removing_a_file_that_is_not_there_is_refused(image: Path) -> None:
    make_image(image, FileSystem.EXT4, SIZE)
    with pytest.raises(RequestInvalid, match="File not found"):
        remove_files(image, ["nowhere"])


def test_a_file_that_does_not_fit_is_refused(image: Path, content: bytes) -> None:
    with pytest.raises(RequestInvalid, match="debugfs"):
        make_image(image, FileSystem.EXT4, 4 * MIB, {f"{number}": content for number in range(20)})


def test_ntfs_gives_back_files_and_stays_clean_when_they_are_replaced(image: Path, content: bytes) -> None:
    make_image(image, FileSystem.NTFS, SIZE, {"x.bin": b"old", "y.bin": content})
    write_files(image, FileSystem.NTFS, {"x.bin": content})
    assert [read_file(image, FileSystem.NTFS, name) for name in ("x.bin", "y.bin")] == [content, content]
    checked = check_image(image, FileSystem.NTFS)
    assert checked.is_clean, checked.report


def test_xfs_is_filled_with_files_in_folders(image: Path, content: bytes) -> None:
    tree = {"srv/data/x": content, "srv/y": b"unmistakable words", "z": b"z"}
    make_image(image, FileSystem.XFS, SMALLEST_BYTES[FileSystem.XFS], tree)
    checked = check_image(image, FileSystem.XFS)
    assert checked.is_clean, checked.report
    raw = image.read_bytes()
    assert content in raw
    assert b"unmistakable words" in raw


@pytest.mark.parametrize("file_system", [FileSystem.XFS, FileSystem.SWAP])
def test_changes_that_need_a_mount_are_refused(file_system: FileSystem, image: Path) -> None:
    make_image(image, file_system, SMALLEST_BYTES[file_system])
    with pytest.raises(RequestInvalid):
        write_files(image, file_system, {"x": b""})
    with pytest.raises(RequestInvalid):
        read_file(image, file_system, "x")


def test_folders_inside_ntfs_are_refused(image: Path) -> None:
    with pytest.raises(RequestInvalid, match="folders"):
        make_image(image, FileSystem.NTFS, SIZE, {"folder/x": b""})


@pytest.mark.parametrize("name", ['a"b', "a b", "../a", "a\nb", "$"])
def test_names_that_a_program_could_misread_are_refused(name: str, image: Path) -> None:
    with pytest.raises(RequestInvalid, match="path"):
        make_image(image, FileSystem.EXT4, SIZE, {name: b""})


def test_a_size_that_is_too_small_is_refused(image: Path) -> None:
    with pytest.raises(RequestInvalid, match=r"mkfs\.xfs"):
        make_image(image, FileSystem.XFS, 4 * MIB)


def test_a_missing_program_is_named() -> None:
    with pytest.raises(ToolMissing, match="mkfs-of-nothing"):
        find_program("mkfs-of-nothing")


def test_the_system_tree_takes_the_same_files_up_to_its_budget(tmp_path: Path) -> None:
    for name, size in (("c", 700), ("a", 400), ("b b", 1), ("d/e", 50), ("f", 600)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    (tmp_path / "aa").symlink_to(tmp_path / "a")
    tree = system_tree(1100, [tmp_path])
    assert [path.name for path in tree.values()] == ["a", "c"]
    assert tree_size(tree) == 1100
    assert system_tree(600, [tmp_path]) == {str((tmp_path / n).relative_to("/")): tmp_path / n for n in ("a", "d/e")}


def test_the_host_has_a_system_to_take_files_from(image: Path) -> None:
    tree = system_tree(8 * MIB)
    assert 7 * MIB < tree_size(tree) <= 8 * MIB
    make_image(image, FileSystem.EXT4, SIZE, tree)
    name = next(iter(tree))
    assert read_file(image, FileSystem.EXT4, name) == tree[name].read_bytes()
