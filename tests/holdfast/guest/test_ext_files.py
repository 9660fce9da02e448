"""Names and bytes of files in ext2, ext3 and ext4 are those that went in, in every shape they come in."""

import random
import re
from pathlib import Path

import pytest

from holdfast.guest.ext import Ext
from holdfast.guest.ext_files import ExtFiles
from holdfast.guest.file_tree import Entry, Kind
from holdfast.guest.window import Implausible
from holdfast.testing.images import FileSystem, remove_files, write_files
from tests.holdfast.guest.drives import MIB, entry, patch, run, sparse, stored, window
from tests.holdfast.providers.local.mounts import mounted, require_root

pytestmark = pytest.mark.tools("mke2fs", "debugfs")

SIZE = 24 * MIB
SHAPES = {
    "usual": ("-t", "ext4"),
    "large blocks": ("-t", "ext4", "-b", "4096"),
    "ext2": ("-t", "ext2"),
    "ext3": ("-t", "ext3", "-b", "2048"),
    "no checksums": ("-t", "ext4", "-O", "^metadata_csum,^uninit_bg,^64bit"),
    "no kinds in folders": ("-t", "ext4", "-O", "^filetype"),
    "clusters": ("-t", "ext4", "-b", "4096", "-O", "bigalloc", "-C", "32768"),
    "small inodes": ("-t", "ext3", "-I", "128"),
    "large inodes": ("-t", "ext4", "-I", "512"),
    "inline": ("-t", "ext4", "-O", "inline_data"),
}


def make(path: Path, *options: str, tree: dict[str, bytes]) -> Path:
    sparse(path, SIZE)
    run("mke2fs", "-q", "-F", "-E", "lazy_itable_init=1", *options, path)
    write_files(path, FileSystem.EXT4, tree)
    return path


def files_of(path: Path) -> ExtFiles:
    return ExtFiles(Ext(window(path)))


@pytest.mark.parametrize("shape", SHAPES)
def test_names_and_bytes_are_those_that_went_in(tmp_path: Path, shape: str, seed: int) -> None:
    chance = random.Random(seed)
    tree = {f"d{folder}/f{n}": chance.randbytes(n * 30_000 + 5000) for folder in range(3) for n in range(8)}
    path = make(tmp_path / "ext.raw", *SHAPES[shape], tree=tree)
    files = files_of(path)
    for folder in range(3):
        found = entry(files, f"d{folder}")
        assert found.kind is Kind.FOLDER
        names = {one.name: one.kind for one in files.entries(found.node)}
        assert names == {f"f{n}": Kind.FILE for n in range(8)}
    for name, content in tree.items():
        assert stored(path, files, name)[: len(content)] == content


@pytest.mark.parametrize("shape", ["usual", "ext2"])
def test_a_file_in_many_pieces_is_found_whole(tmp_path: Path, shape: str, seed: int) -> None:
    """Its extents take a tree, or its block map three levels."""
    chance = random.Random(seed)
    crumbs = {f"c/{n}": b"c" * 1024 for n in range(1500)}
    path = make(tmp_path / "ext.raw", *SHAPES[shape], "-b", "1024", "-N", "4096", tree=crumbs)
    filler = {"fill": chance.randbytes(14 * MIB)}
    write_files(path, FileSystem.EXT4, filler)
    remove_files(path, list(crumbs)[::2])
    content = chance.randbytes(6 * MIB)
    write_files(path, FileSystem.EXT4, {"big": content})
    files = files_of(path)
    assert len(files.content(entry(files, "big"))) > 300
    assert stored(path, files, "big")[: len(content)] == content


def test_a_folder_with_an_index_is_read_whole(tmp_path: Path) -> None:
    tree = {f"many/{'n' * 60}{n}": b"" for n in range(700)}
    path = make(tmp_path / "ext.raw", "-t", "ext4", "-N", "4096", tree=tree)
    run("e2fsck", "-fyD", path)
    files = files_of(path)
    folder = entry(files, "many").node
    assert {one.name for one in files.entries(folder)} == {name.partition("/")[2] for name in tree}


@pytest.mark.tools("mount")
@pytest.mark.parametrize("shape", ["usual", "large blocks", "no checksums"])
def test_folders_that_a_kernel_made_are_read_whole(tmp_path: Path, shape: str) -> None:
    """It turns the first block into the root of an index, and leaves the mark of its earlier checksum there."""
    require_root()
    path = make(tmp_path / "ext.raw", *SHAPES[shape], "-N", "8192", tree={})
    counts = {"few": 5, "some": 100, "many": 1500, "gone": 900}
    with mounted(tmp_path / "mount", "-o", "loop", str(path)) as top:
        for folder, count in counts.items():
            (top / folder).mkdir()
            for number in range(count):
                (top / folder / f"{'n' * 100}{number}").touch()
        for number in range(7, 900):
            (top / "gone" / f"{'n' * 100}{number}").unlink()
    files = files_of(path)
    for folder, count in (counts | {"gone": 7}).items():
        names = {one.name for one in files.entries(entry(files, folder).node)}
        assert names == {f"{'n' * 100}{number}" for number in range(count)}


def test_what_is_no_plain_file_of_one_name_has_no_content(tmp_path: Path) -> None:
    path = make(tmp_path / "ext.raw", "-t", "ext4", "-O", "inline_data", tree={"twice": b"t" * 9000, "small": b"s"})
    for command in ("ln twice again", "sif twice links_count 2", "symlink link twice", "mknod pipe p"):
        run("debugfs", "-w", "-R", command, path)
    files = files_of(path)
    for name in ("twice", "small", "link", "pipe", "lost+found"):
        assert files.content(entry(files, name)) == []
    assert entry(files, "link").kind is entry(files, "pipe").kind is Kind.OTHER
    assert list(files.entries(entry(files, "twice").node)) == []


def test_gaps_of_a_file_are_no_content(tmp_path: Path) -> None:
    path = make(tmp_path / "ext.raw", "-t", "ext4", "-b", "1024", tree={"f": b"x" * 100 * 1024})
    run("debugfs", "-w", "-R", "punch f 10 19", path)
    files = files_of(path)
    found = entry(files, "f")
    assert sum(span.length for span in files.content(found)) == 90 * 1024
    assert files.content(found, is_gapless=True) == []


@pytest.mark.parametrize("shape", ["usual", "ext2"])
def test_damage_of_a_file_is_noticed_or_harmless(tmp_path: Path, shape: str, seed: int) -> None:
    chance = random.Random(seed)
    path = make(tmp_path / "ext.raw", *SHAPES[shape], tree={"d/f": b"x" * 900_000})
    [_, place, offset] = re.findall(r"(?:group|block|offset) (\w+)", run("debugfs", "-R", "imap /d/f", path))
    size = int(run("debugfs", "-R", "stats -h", path).split("Block size:")[1].split()[0])
    at = int(place) * size + int(offset, 16)
    before = window(path).read(at, 256)
    for _ in range(200):
        damaged = bytearray(before)
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        patch(path, at, bytes(damaged))
        files = files_of(path)
        try:
            spans = files.content(entry(files, "d/f"))
        except Implausible:
            continue
        assert all(0 < span.start < span.end <= SIZE for span in spans)


@pytest.mark.parametrize("number", [0, 1 << 31])
def test_an_inode_that_cannot_be_is_refused(tmp_path: Path, number: int) -> None:
    files = files_of(make(tmp_path / "ext.raw", "-t", "ext4", tree={}))
    with pytest.raises(Implausible):
        files.content(Entry("", number, Kind.FILE))
