"""Names and bytes of files in XFS are those that went in, in every shape they come in."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.guest.file_tree import Entry, Kind
from holdfast.guest.window import Implausible
from holdfast.guest.xfs import Xfs
from holdfast.guest.xfs_files import XfsFiles
from tests.holdfast.guest.drives import MIB, entry, patch, run, sparse, stored, window
from tests.holdfast.providers.local.mounts import mounted, require_root

pytestmark = pytest.mark.tools("mkfs.xfs", "mount")

SIZE = 320 * MIB
OLD = ("-m", "crc=0,finobt=0,rmapbt=0,reflink=0")
SHAPES = {
    "usual": (),
    "old format": OLD,
    "old format, kinds in folders": (*OLD, "-n", "ftype=1"),
    "small blocks": ("-b", "size=1024"),
    "large folder blocks": ("-n", "size=16384"),
    "large inodes": ("-i", "size=1024"),
    "few counts": ("-i", "nrext64=0"),
    "many counts": ("-i", "nrext64=1"),
}


def make(path: Path, *options: str, tree: dict[str, bytes] | None = None) -> Path:
    """Make a file system with files; old formats cannot be mounted any more, so the program fills them."""
    sources = path.parent / "sources"
    sources.mkdir()
    script = path.parent / "script"
    script.write_text("/\n0 0\nd--755 0 0\n" + "".join(_lines(tree or {}, sources)) + "$\n")
    sparse(path, SIZE)
    command = ["mkfs.xfs", "-q", "-f", "-p", str(script), *options, str(path)]
    try:
        run(*command)
    except AssertionError as error:
        if "nrext64" not in str(options) or "unknown option" not in str(error):
            raise
        run("mkfs.xfs", "-q", "-f", "-p", str(script), str(path))  # a program that is older than the option
    return path


def _lines(tree: dict[str, bytes], sources: Path) -> Iterator[str]:
    """Yield the lines of a script for files in folders of one level."""
    folder = ""
    for number, (name, content) in enumerate(sorted(tree.items())):
        source = sources / str(number)
        source.write_bytes(content)
        top, _, inner = name.rpartition("/")
        if top != folder:
            yield "$\n" * bool(folder) + f"{top} d--755 0 0\n"
            folder = top
        yield f"{inner} ---644 0 0 {source}\n"
    yield "$\n" * bool(folder)


def files_of(path: Path) -> XfsFiles:
    return XfsFiles(Xfs(window(path)))


@pytest.mark.parametrize("shape", SHAPES)
def test_names_and_bytes_are_those_that_went_in(tmp_path: Path, shape: str, seed: int) -> None:
    chance = random.Random(seed)
    tree = {f"d{folder}/f{n}": chance.randbytes(n * 30_000 + 5000) for folder in range(3) for n in range(8)}
    tree |= {f"block/{'n' * 30}{n}": b"" for n in range(40)}
    tree |= {f"leaf/{'n' * 60}{n}": b"" for n in range(300)}
    tree |= {f"node/{'n' * 200}{n}": b"" for n in range(1500)}
    path = make(tmp_path / "xfs.raw", *SHAPES[shape], tree=tree)
    files = files_of(path)
    for folder in ("d0", "d1", "d2", "block", "leaf", "node"):
        found = entry(files, folder)
        assert found.kind is Kind.FOLDER
        names = {one.name: one.kind for one in files.entries(found.node)}
        assert names == {name.partition("/")[2]: Kind.FILE for name in tree if name.startswith(f"{folder}/")}
    for name, content in tree.items():
        if content:
            assert stored(path, files, name)[: len(content)] == content


@pytest.mark.parametrize("shape", ["usual", "small blocks"])
def test_a_file_in_many_pieces_is_found_whole(tmp_path: Path, shape: str, seed: int) -> None:
    """Its extents take a tree; every other block of it was punched out."""
    require_root()
    path = make(tmp_path / "xfs.raw", *SHAPES[shape])
    content = random.Random(seed).randbytes(8 * MIB)
    with mounted(tmp_path / "mount", "-o", "loop", str(path)) as top:
        (top / "big").write_bytes(content)
        os.sync()
        for at in range(0, 2 * MIB, 8192):
            run("fallocate", "-p", "-o", str(at), "-l", "4096", top / "big")
    files = files_of(path)
    kept = b"".join(content[at + 4096 : at + 8192] for at in range(0, 2 * MIB, 8192)) + content[2 * MIB :]
    assert len(files.content(entry(files, "big"))) > 200
    assert stored(path, files, "big") == kept
    assert files.content(entry(files, "big"), is_gapless=True) == []


def test_what_is_shared_or_has_two_names_or_is_no_file_has_no_content(tmp_path: Path) -> None:
    require_root()
    path = make(tmp_path / "xfs.raw")
    with mounted(tmp_path / "mount", "-o", "loop", str(path)) as top:
        for name in ("twice", "shared", "plain"):
            (top / name).write_bytes(b"x" * 90_000)
        (top / "again").hardlink_to(top / "twice")
        run("cp", "--reflink=always", top / "shared", top / "copy")
        (top / "link").symlink_to("plain")
        os.mkfifo(top / "pipe")
    files = files_of(path)
    for name in ("twice", "again", "shared", "copy", "link", "pipe"):
        assert files.content(entry(files, name)) == []
    assert files.content(entry(files, "plain")) != []
    assert entry(files, "link").kind is entry(files, "pipe").kind is Kind.OTHER
    assert list(files.entries(entry(files, "plain").node)) == []


def test_damage_of_an_inode_is_noticed(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    path = make(tmp_path / "xfs.raw", tree={"f": b"x" * 900_000})
    node = entry(files_of(path), "f").node
    at = path.read_bytes().index(node.to_bytes(8, "big"), 4096 * 8) - 152
    before = window(path).read(at, 512)
    assert before[:2] == b"IN"
    for _ in range(100):
        damaged = bytearray(before)
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        patch(path, at, bytes(damaged))
        with pytest.raises(Implausible):
            files_of(path).content(Entry("f", node, Kind.FILE))
