"""The free blocks of ext2, ext3 and ext4 are the ones that their own programs see, in every shape they come in."""

import re
from pathlib import Path

import pytest

from holdfast.guest.ext import Ext
from holdfast.guest.volume import VolumeState
from holdfast.guest.window import Implausible
from holdfast.testing.images import FileSystem, check_image, read_file, write_files
from tests.holdfast.guest.drives import MIB, blocks, garble, look, patch, run, sparse, window

pytestmark = pytest.mark.tools("mke2fs", "debugfs", "dumpe2fs", "e2fsck")

SIZE = 96 * MIB
TREE = {f"d{folder}/f{number}": b"%d" % number * 9000 for folder in range(3) for number in range(12)}
SHAPES = {
    "usual": ("-t", "ext4"),
    "large blocks": ("-t", "ext4", "-b", "4096"),
    "ext2": ("-t", "ext2"),
    "ext3": ("-t", "ext3", "-b", "2048"),
    "small groups": ("-t", "ext4", "-b", "4096", "-g", "2048"),
    "32 bits": ("-t", "ext4", "-O", "^64bit"),
    "no checksums": ("-t", "ext4", "-O", "^metadata_csum,^uninit_bg,^64bit"),
    "old checksums": ("-t", "ext4", "-O", "^metadata_csum,uninit_bg"),
    "no flexible groups": ("-t", "ext4", "-O", "^flex_bg,^resize_inode"),
    "old checksums, no flexible groups": ("-t", "ext4", "-O", "^metadata_csum,uninit_bg,^flex_bg"),
    "descriptors in groups": ("-t", "ext4", "-O", "meta_bg,^resize_inode"),
    "descriptors in groups, old checksums": ("-t", "ext4", "-O", "meta_bg,^resize_inode,^metadata_csum,uninit_bg"),
    "clusters": ("-t", "ext4", "-b", "4096", "-O", "bigalloc", "-C", "32768"),
    "two superblocks": ("-t", "ext4", "-O", "sparse_super2"),
    "superblocks everywhere": ("-t", "ext4", "-O", "^sparse_super,^resize_inode,^metadata_csum,uninit_bg"),
    "seed of its own": ("-t", "ext4", "-O", "metadata_csum_seed"),
    "no journal": ("-t", "ext4", "-O", "^has_journal"),
    "many flexible groups": ("-t", "ext4", "-G", "4"),
}


def make(path: Path, *options: str) -> Path:
    sparse(path, SIZE)
    run("mke2fs", "-q", "-F", "-E", "lazy_itable_init=1,hash_seed=6a4a5bcb-1d6c-4d5c-a2b1-6a4a5bcb1d6c", *options, path)
    write_files(path, FileSystem.EXT4, TREE)
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return make(tmp_path / "ext.raw", "-t", "ext4")


def tool_view(path: Path) -> tuple[int, set[int]]:
    """Return block size and free blocks as dumpe2fs sees them."""
    text = run("dumpe2fs", path)
    size = re.search(r"Block size:\s+(\d+)", text)
    assert size is not None
    cluster = re.search(r"Cluster size:\s+(\d+)", text)
    # The tool names the first block of the last cluster of a run.
    more = 0 if cluster is None else int(cluster[1]) // int(size[1]) - 1
    free: set[int] = set()
    for line in re.findall(r"^  Free blocks: (.*)$", text, re.MULTILINE):
        for part in filter(None, line.split(", ")):
            first, _, last = part.partition("-")
            free.update(range(int(first), int(last or first) + more + 1))
    return int(size[1]), free


@pytest.mark.parametrize("shape", SHAPES)
def test_free_blocks_are_those_that_the_programs_see(tmp_path: Path, shape: str) -> None:
    path = make(tmp_path / "ext.raw", *SHAPES[shape])
    size, free = tool_view(path)
    use = look(path)
    assert [(volume.kind, volume.state, volume.reason) for volume in use.volumes] == [("ext", VolumeState.CLEAN, "")]
    assert blocks(use.deleted_spans(), size) == free
    assert use.volumes[0].deleted_bytes == len(free) * size


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_that_is_needed_is_called_free(tmp_path: Path, shape: str) -> None:
    path = make(tmp_path / "ext.raw", *SHAPES[shape])
    garble(path, look(path, least=65536).deleted_spans())
    checked = check_image(path, FileSystem.EXT4)
    assert checked.is_clean, checked.report
    assert {name: read_file(path, FileSystem.EXT4, name) for name in TREE} == TREE


def test_short_runs_are_left_out_and_long_ones_are_whole(image: Path) -> None:
    every = list(look(image).deleted_spans())
    assert list(look(image, least=MIB).deleted_spans()) == [span for span in every if span.length >= MIB]


@pytest.mark.parametrize(
    "command,words",
    [
        ("feature needs_recovery", "journal has to be replayed"),
        ("set_super_value state 0", "mounted, or has errors"),
        ("set_super_value state 3", "mounted, or has errors"),
        ("set_super_value state 5", "files wait to be removed"),
        ("feature orphan_present", "files wait to be removed"),
    ],
)
def test_a_file_system_that_is_in_use_keeps_everything(image: Path, command: str, words: str) -> None:
    run("debugfs", "-w", "-R", command, image)
    use = look(image)
    assert use.volumes[0].state is VolumeState.UNCLEAN
    assert words in use.volumes[0].reason
    assert list(use.deleted_spans()) == []


def test_a_journal_that_holds_something_keeps_everything(image: Path) -> None:
    text = run("debugfs", "-R", "bmap <8> 0", image)
    patch(image, int(text) * tool_view(image)[0] + 28, (1).to_bytes(4, "big"))
    assert look(image).volumes[0].reason == "its journal holds changes"


def test_ext_is_believed_while_the_machine_runs(image: Path) -> None:
    assert list(look(image, at_rest=False).deleted_spans()) == list(look(image).deleted_spans())


def test_unknown_features_keep_everything(image: Path) -> None:
    superblock = bytearray(window(image).read(1024, 1024))
    superblock[99] |= 0x80
    patch(image, 1024, bytes(superblock))
    assert look(image).volumes[0].reason == "it uses features that are not known here"


@pytest.mark.parametrize("at", [4, 20, 24, 32, 40, 88, 104, 254, 336, 372, 1020])
def test_a_flipped_bit_of_the_superblock_is_noticed(image: Path, at: int) -> None:
    patch(image, 1024 + at, bytes((window(image).read(1024 + at, 1)[0] ^ 2,)))
    assert look(image).volumes[0].state is VolumeState.UNKNOWN


@pytest.mark.parametrize(
    "at,value",
    [(24, 7), (28, 30), (4, 1 << 30), (20, 9), (32, 0), (32, 9), (32, 1 << 20), (88, 7), (4, 0)],
)
def test_measures_that_cannot_be_are_refused(tmp_path: Path, at: int, value: int) -> None:
    path = make(tmp_path / "ext.raw", *SHAPES["no checksums"])
    patch(path, 1024 + at, value.to_bytes(2 if at == 88 else 4, "little"))
    with pytest.raises(Implausible):
        Ext(window(path))


def test_damaged_groups_keep_everything(tmp_path: Path) -> None:
    for shape, at in (("no checksums", 0), ("no checksums", 12), ("old checksums", 4), ("usual", 30), ("usual", 24)):
        path = make(tmp_path / "ext.raw", *SHAPES[shape])
        place = 2048 + at
        patch(path, place, bytes((window(path).read(place, 1)[0] ^ 0x40,)))
        use = look(path)
        assert use.volumes[0].state is VolumeState.UNKNOWN, (shape, at)
        assert list(use.deleted_spans()) == []
