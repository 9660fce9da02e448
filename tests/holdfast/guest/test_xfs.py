"""The free blocks of XFS are the ones that its own programs see."""

import re
import struct
from pathlib import Path

import pytest

from holdfast.guest.volume import VolumeState
from holdfast.testing.images import MIB, FileSystem, check_image, make_image
from tests.holdfast.guest.drives import blocks, garble, look, numbers, patch, run, sparse, window

pytestmark = pytest.mark.tools("mkfs.xfs", "xfs_db", "xfs_repair")

SIZE = 320 * MIB
SHAPES = {
    "usual": (),
    "old format": ("-m", "crc=0,finobt=0,rmapbt=0,reflink=0"),
    "old format, small blocks": ("-m", "crc=0,finobt=0,rmapbt=0,reflink=0", "-b", "size=512"),
    "small blocks": ("-b", "size=1024"),
    "many groups": ("-d", "agcount=13"),
    "no reference counts": ("-m", "reflink=0,rmapbt=1"),
    "large sectors": ("-s", "size=4096"),
}


def make(path: Path, *options: str) -> Path:
    sparse(path, SIZE * (5 if "agcount=13" in options else 1))  # each group has to have room for a log
    run("mkfs.xfs", "-q", "-f", *options, path)
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return make(tmp_path / "xfs.raw")


def tool_view(path: Path) -> tuple[int, set[int], int]:
    """Return block size, free blocks as xfs_db sees them, and how many of these the trees have in reserve."""
    facts = dict(re.findall(r"(\w+) = (\d+)", run("xfs_db", "-r", "-c", "sb 0", "-c", "print", path)))
    size, per_group, groups = (int(facts[name]) for name in ("blocksize", "agblocks", "agcount"))
    free: set[int] = set()
    for line in run("xfs_db", "-r", "-c", "freesp -d", path).splitlines():
        if re.fullmatch(r"\s*\d+\s+\d+\s+\d+\s*", line):
            group, first, count = numbers(line)
            free.update(range(group * per_group + first, group * per_group + first + count))
    ask = [part for group in range(groups) for part in ("-c", f"agf {group}", "-c", "print flcount")]
    return size, free, sum(numbers(run("xfs_db", "-r", *ask, path)))


@pytest.mark.parametrize("shape", SHAPES)
def test_free_blocks_are_those_that_the_programs_see(tmp_path: Path, shape: str) -> None:
    path = make(tmp_path / "xfs.raw", *SHAPES[shape])
    size, free, reserved = tool_view(path)
    use = look(path)
    assert [(volume.kind, volume.state, volume.reason) for volume in use.volumes] == [("xfs", VolumeState.CLEAN, "")]
    found = blocks(use.deleted_spans(), size)
    assert found < free
    assert len(free - found) == reserved


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_that_is_needed_is_called_free(tmp_path: Path, shape: str) -> None:
    path = make(tmp_path / "xfs.raw", *SHAPES[shape])
    garble(path, look(path, least=65536).deleted_spans())
    checked = check_image(path, FileSystem.XFS)
    assert checked.is_clean, checked.report


def test_files_keep_their_bytes(tmp_path: Path) -> None:
    path = tmp_path / "xfs.raw"
    tree = {f"d{folder}/f{number}": b"%d-%d." % (folder, number) * 5000 for folder in range(2) for number in range(9)}
    make_image(path, FileSystem.XFS, SIZE, tree)
    garble(path, look(path, least=65536).deleted_spans())
    image = path.read_bytes()
    assert all(content in image for content in tree.values())
    assert check_image(path, FileSystem.XFS).is_clean


def test_a_tree_of_two_levels_is_read_leaf_by_leaf(tmp_path: Path) -> None:
    path = make(tmp_path / "xfs.raw", *SHAPES["old format, small blocks"])
    volume = window(path)
    sector, group = bytearray(volume.read(512, 512)), volume.read(0, 512)
    per_group = struct.unpack_from(">I", group, 84)[0]
    root = struct.unpack_from(">I", sector, 16)[0]
    first, count = struct.unpack_from(">II", volume.read(root * 512, 512), 16)
    assert first + count <= per_group
    # Two leaves with every second block of what was free stand at the end of it, and the root points to them.
    leaves = (first + count - 2, first + count - 1)
    runs = [(first + 2 * index, 1) for index in range(80)]
    parts = (runs[:50], runs[50:])
    for leaf, right, records in zip(leaves, (leaves[1], 0xFFFFFFFF), parts, strict=True):
        raw = struct.pack(">4sHHII", b"ABTB", 0, len(records), 0xFFFFFFFF, right)
        patch(path, leaf * 512, raw + b"".join(struct.pack(">II", *record) for record in records))
    most = (512 - 16) // 12
    keys = b"".join(struct.pack(">II", *records[0]) for records in parts)
    node = struct.pack(">4sHHII", b"ABTB", 1, 2, 0xFFFFFFFF, 0xFFFFFFFF) + keys.ljust(8 * most, b"\0")
    patch(path, root * 512, node + struct.pack(">II", *leaves))
    struct.pack_into(">I", sector, 28, 2)
    struct.pack_into(">I", sector, 52, 80)
    patch(path, 512, bytes(sector))
    found = blocks(look(path).deleted_spans(), 512)
    assert {block for block in found if block < per_group} == {start for start, _ in runs}
    for at, damage in ((leaves[1] * 512 + 12, struct.pack(">I", leaves[0])), (leaves[0] * 512 + 4, b"\0\1")):
        kept = window(path).read(at, len(damage))
        patch(path, at, damage)
        assert look(path).volumes[0].state is VolumeState.UNKNOWN
        patch(path, at, kept)


def test_a_running_machine_keeps_everything(image: Path) -> None:
    use = look(image, at_rest=False)
    assert use.volumes[0].state is VolumeState.UNCLEAN
    assert "does not say that it is in use" in use.volumes[0].reason
    assert (list(use.deleted_spans()), use.volumes[0].deleted_bytes) == ([], 0)


@pytest.mark.parametrize(
    "at,data",
    [(10, b"\xff"), (100, b"\0\6"), (127, b"\1"), (126, b"\1"), (215, b"\xff"), (216, b"\x80"), (224, b"\0\0\0")],
)
def test_a_superblock_that_is_odd_keeps_everything(image: Path, at: int, data: bytes) -> None:
    patch(image, at, data)
    assert look(image).volumes[0].state is VolumeState.UNKNOWN


@pytest.mark.parametrize(
    "command,words",
    [
        (("sb 0", "write -d features_incompat 0x1b"), "needs repair"),
        (("sb 0", "write -d logstart 0"), "on another disk"),
        (("sb 0", "write -d features_incompat 0x8000"), "not known here"),
        (("agf 1", "write -d freeblks 17"), "not what its header says"),
        (("agf 1", "write -d length 17"), "header of group 1 is damaged"),
        (("agf 1", "write -d bnolevel 0"), "header of group 1 is damaged"),
        (("agf 1", "write -d bnoroot 3000000"), "header of group 1 is damaged"),
        (("agf 1", "write -d bnoroot 2"), "free-space tree of group 1"),
        (("agf 1", "write -d bnolevel 2"), "free-space tree of group 1"),
        (("agf 1", "addr bnoroot", "write -d recs[1].blockcount 0xffffff"), "overlaps or lies outside"),
    ],
)
def test_contradictions_keep_everything(image: Path, command: tuple[str, ...], words: str) -> None:
    run("xfs_db", "-x", *(part for line in command for part in ("-c", line)), image)
    use = look(image)
    assert use.volumes[0].state is not VolumeState.CLEAN
    assert words in use.volumes[0].reason
    assert list(use.deleted_spans()) == []


@pytest.mark.parametrize("command", [("agf 2", "write -c longest 5"), ("agf 2", "addr bnoroot", "write -c leftsib 7")])
def test_a_wrong_checksum_keeps_everything(image: Path, command: tuple[str, ...]) -> None:
    run("xfs_db", "-x", *(part for line in command for part in ("-c", line)), image)
    assert "does not match its checksum" in look(image).volumes[0].reason
