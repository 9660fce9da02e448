"""Names and bytes of files in NTFS are those that went in."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from holdfast.guest.file_tree import Kind
from holdfast.guest.ntfs import Ntfs
from holdfast.guest.ntfs_files import NtfsFiles
from tests.holdfast.guest.drives import MIB, entry, run, sparse, stored, window
from tests.holdfast.providers.local.mounts import mounted, require_root

pytestmark = pytest.mark.tools("mkntfs", "ntfs-3g", "mount")

SIZE = 32 * MIB


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    require_root()
    with mounted(path.parent / "mount", "-t", "ntfs-3g", "-o", "loop", str(path)) as top:
        yield top
    (path.parent / "mount").rmdir()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = sparse(tmp_path / "ntfs.raw", SIZE)
    run("mkntfs", "-q", "-F", "-s", "512", "-p", "0", "-H", "255", "-S", "63", path)
    return path


def files_of(path: Path) -> NtfsFiles:
    return NtfsFiles(Ntfs(window(path)))


def fill(path: Path, tree: dict[str, bytes]) -> None:
    with opened(path) as top:
        for name, content in tree.items():
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).write_bytes(content)


def test_names_and_bytes_are_those_that_went_in(image: Path, seed: int) -> None:
    chance = random.Random(seed)
    tree = {f"d{folder}/f{n}.iso": chance.randbytes(n * 30_000 + 5000) for folder in range(3) for n in range(8)}
    tree |= {f"many/{'n' * 60}{n}": b"" for n in range(700)}
    fill(image, tree)
    files = files_of(image)
    assert {one.name for one in files.entries(files.root)} == {"d0", "d1", "d2", "many"}
    for folder in ("d0", "d1", "d2", "many"):
        found = entry(files, folder)
        assert found.kind is Kind.FOLDER
        names = {one.name: one.kind for one in files.entries(found.node)}
        assert names == {name.partition("/")[2]: Kind.FILE for name in tree if name.startswith(f"{folder}/")}
    for name, content in tree.items():
        if content:
            assert stored(image, files, name)[: len(content)] == content


def test_names_that_are_gone_are_gone(image: Path) -> None:
    """Blocks of an index that are not in use any more still hold them."""
    fill(image, {f"many/{'n' * 60}{n}.iso": b"x" * 5000 for n in range(300)})
    with opened(image) as top:
        for path in sorted((top / "many").iterdir())[5:]:
            path.unlink()
        kept = sorted((top / "many").iterdir())
        kept[0].rename(top / "many" / "renamed.doc")
        kept[1].rename(top / "elsewhere.iso")
        names = {path.name for path in (top / "many").iterdir()}
    files = files_of(image)
    assert {one.name for one in files.entries(entry(files, "many").node)} == names


def test_what_is_no_plain_file_of_one_name_has_no_content(image: Path) -> None:
    with opened(image) as top:
        for name in ("twice", "plain", "gaps"):
            (top / name).write_bytes(b"x" * 90_000)
        (top / "small").write_bytes(b"s")
        (top / "empty").write_bytes(b"")
        os.link(top / "twice", top / "again")
        os.truncate(top / "gaps", 9 * MIB)
        (top / "link").symlink_to("plain")
    files = files_of(image)
    for name in ("twice", "again", "small", "empty", "gaps"):
        assert files.content(entry(files, name)) == [], name
    assert files.content(entry(files, "plain")) != []
    assert entry(files, "plain").kind is Kind.FILE


def test_an_entry_that_speaks_of_an_earlier_file_means_nothing(image: Path) -> None:
    fill(image, {"d/f": b"x" * 90_000})
    files = files_of(image)
    found = entry(files, "d/f")
    assert files.content(found)
    assert files.content(found._replace(name="other")) == []
    assert files.content(found._replace(node=found.node + (1 << 48))) == []
    assert files.content(found._replace(node=found.node + (1 << 64))) == []
    folder = entry(files, "d").node
    assert list(files.entries(folder + (1 << 48))) == []
