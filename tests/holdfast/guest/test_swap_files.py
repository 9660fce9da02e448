"""Swap files are left out behind their header, and nothing that only looks like one."""

from pathlib import Path

import pytest

from holdfast.guest.volume import VolumeState
from holdfast.model.spans import Span, total_length
from holdfast.testing.images import FileSystem, check_image, make_image, read_file
from tests.holdfast.guest.drives import MIB, garble, look, run, swap_content

pytestmark = pytest.mark.tools("mke2fs", "debugfs", "mkfs.xfs", "xfs_repair")

SWAP = swap_content(2 * MIB)
PAGES = len(SWAP) - 4096
SIZES = {FileSystem.EXT4: 24 * MIB, FileSystem.XFS: 300 * MIB}
BOTH = pytest.mark.parametrize("kind", SIZES)
NOTES = {"notes": b"n" * 70_000, "swap/notes": b"m" * 70_000}


def image(path: Path, kind: FileSystem, tree: dict[str, bytes]) -> Path:
    make_image(path, kind, SIZES[kind], NOTES | tree)
    return path


def content(path: Path, spans: list[Span]) -> bytes:
    data = path.read_bytes()
    return b"".join(data[span.start : span.end] for span in spans)


@BOTH
@pytest.mark.parametrize("name", ["swapfile", "swap.img", "swap/swapfile", "var/swap"])
def test_a_swap_file_is_left_out_behind_its_header(tmp_path: Path, kind: FileSystem, name: str) -> None:
    path = image(tmp_path / "image.raw", kind, {name: SWAP})
    use = look(path)
    assert use.volumes[0].state is VolumeState.CLEAN
    assert use.volumes[0].swap_bytes == total_length(use.swap_spans()) == PAGES
    assert content(path, list(use.swap_spans())) == SWAP[4096:]
    garble(path, use.swap_spans())
    assert check_image(path, kind).is_clean
    assert look(path).volumes == use.volumes


@BOTH
def test_several_swap_files_are_all_left_out(tmp_path: Path, kind: FileSystem) -> None:
    path = image(tmp_path / "image.raw", kind, {"swapfile": SWAP, "swap/swapfile": SWAP})
    assert look(path).volumes[0].swap_bytes == 2 * PAGES


@BOTH
@pytest.mark.parametrize(
    "tree",
    [
        {"swapfile": b"x" * len(SWAP)},
        {"other": SWAP},
        {"d/swapfile": SWAP},
        {"swapfile": swap_content(2 * MIB, b"S1SUSPEND")},
        {"swapfile": swap_content(2 * MIB, b"LINHIB0001")},
        {"swapfile": SWAP[: MIB // 2]},
        {"swapfile": SWAP[:1024] + (2).to_bytes(4, "little") + SWAP[1028:]},
        {"swapfile/swap": SWAP},
    ],
    ids=["no header", "another name", "another folder", "asleep", "asleep elsewhere", "too short", "version", "folder"],
)
def test_what_is_no_swap_file_is_kept(tmp_path: Path, kind: FileSystem, tree: dict[str, bytes]) -> None:
    use = look(image(tmp_path / "image.raw", kind, tree))
    is_in_use = use.volumes[0].is_asleep and kind is FileSystem.XFS  # which does not say so itself
    assert use.volumes[0].state is (VolumeState.UNCLEAN if is_in_use else VolumeState.CLEAN)
    assert list(use.swap_spans()) == []


def test_a_swap_file_with_a_second_name_or_with_gaps_is_kept(tmp_path: Path) -> None:
    path = image(tmp_path / "image.raw", FileSystem.EXT4, {"swapfile": SWAP, "swap.img": SWAP})
    run("debugfs", "-w", "-R", "ln /swapfile /again", path)
    run("debugfs", "-w", "-R", "sif /swapfile links_count 2", path)
    run("debugfs", "-w", "-R", "punch /swap.img 100 200", path)
    assert list(look(path).swap_spans()) == []


def test_a_swap_file_is_left_out_while_the_file_system_is_in_use(tmp_path: Path) -> None:
    path = image(tmp_path / "image.raw", FileSystem.EXT4, {"swapfile": SWAP})
    run("debugfs", "-w", "-R", "feature needs_recovery", path)
    use = look(path, at_rest=False)
    assert (use.volumes[0].state, use.volumes[0].swap_bytes) == (VolumeState.UNCLEAN, PAGES)
    assert list(use.deleted_spans()) == []


def test_other_files_stay_as_they_are(tmp_path: Path) -> None:
    path = image(tmp_path / "image.raw", FileSystem.EXT4, {"swapfile": SWAP})
    garble(path, look(path).swap_spans())
    assert {name: read_file(path, FileSystem.EXT4, name) for name in NOTES} == NOTES
    assert read_file(path, FileSystem.EXT4, "swapfile")[:4096] == SWAP[:4096]
