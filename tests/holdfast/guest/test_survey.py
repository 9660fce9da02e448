"""A survey says of each volume what is not needed; damage of any kind ends in less left out, never in an error."""

import random
from pathlib import Path

import pytest

from holdfast.guest.masks import parse_masks
from holdfast.guest.survey import survey
from holdfast.guest.volume import VolumeState
from holdfast.guest.window import Disk
from holdfast.model.spans import Span
from holdfast.testing.images import FileSystem, check_image, make_image, read_file, write_files
from tests.holdfast.guest.drives import (
    LINUX,
    MIB,
    SECTOR,
    blocks,
    garble,
    linear,
    look,
    lvm_text,
    lvm_volume,
    mbr,
    patch,
    physical_volume,
    place_volume,
    reader,
    run,
    sparse,
    swap_content,
    write_gpt,
)
from tests.holdfast.providers.local.mounts import mounted, require_root

TREE = {f"d{folder}/f{number}": b"%d" % number * 9000 for folder in range(3) for number in range(5)}
ROUNDS = 150
MASKS = parse_masks(["*.bin", "/d1/*", "/none/*"])
PAGED: dict[str, dict[str, bytes]] = {
    "ntfs": {"pagefile.sys": b"p" * MIB, "x.bin": b"x" * 200_000},
    "ext4": {"swapfile": swap_content(MIB), "swap/swapfile": swap_content(MIB), **TREE},
    "xfs": {"swapfile": swap_content(MIB), "swap/swapfile": swap_content(MIB), **TREE},
    "swap": {},
}
LEAST = 65536

pytestmark = pytest.mark.tools("mke2fs", "debugfs", "mkntfs", "ntfscp", "mkswap", "mkfs.xfs")


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """Return a disk with a partition of ext4, one of swap, and a group of two plain volumes."""
    path = sparse(tmp_path / "server.raw", 120 * MIB)
    write_gpt(path, [(LINUX, 2048, 34_815), (LINUX, 34_816, 51_199), (LINUX, 51_200, 51_200 + 64 * 2048 - 1)])
    inner = tmp_path / "inner.raw"
    make_image(inner, FileSystem.EXT4, 16 * MIB, TREE)
    place_volume(path, inner, 2048 * SECTOR)
    make_image(inner, FileSystem.SWAP, 8 * MIB)
    place_volume(path, inner, 34_816 * SECTOR)
    volumes = lvm_volume("root", linear(0, 8, 40), linear(8, 12, 10)) + lvm_volume("swap", linear(0, 4, 30))
    patch(path, 25 * MIB, physical_volume(lvm_text(volumes)))
    make_image(inner, FileSystem.EXT4, 20 * MIB, TREE)
    head = inner.read_bytes()
    patch(path, (26 + 40) * MIB, head[: 8 * MIB])
    patch(path, (26 + 10) * MIB, head[8 * MIB :])
    make_image(inner, FileSystem.SWAP, 4 * MIB)
    place_volume(path, inner, (26 + 30) * MIB)
    return path


def test_every_volume_of_a_disk_is_looked_into(server: Path) -> None:
    use = look(server, least=LEAST)
    assert [(volume.place, volume.kind, volume.state) for volume in use.volumes] == [
        ("partition 1", "ext", VolumeState.CLEAN),
        ("partition 2", "swap", VolumeState.CLEAN),
        ("partition 3, volume vg0/root", "ext", VolumeState.CLEAN),
        ("partition 3, volume vg0/swap", "swap", VolumeState.CLEAN),
    ]
    assert list(use.swap_spans()) == [
        Span(34_816 * SECTOR + 4096, 8 * MIB - 4096),
        Span((26 + 30) * MIB + 4096, 4 * MIB - 4096),
    ]
    spans = list(use.deleted_spans())
    assert spans == sorted(spans, key=lambda span: span.start)
    assert sum(span.length for span in spans) == sum(volume.deleted_bytes for volume in use.volumes) > 20 * MIB


def test_what_is_needed_of_every_volume_stays(server: Path, tmp_path: Path) -> None:
    use = look(server, least=LEAST)
    garble(server, use.swap_spans())
    garble(server, use.deleted_spans())
    data = server.read_bytes()
    first, second = tmp_path / "1.raw", tmp_path / "2.raw"
    first.write_bytes(data[MIB : 17 * MIB])
    second.write_bytes(data[66 * MIB : 74 * MIB] + data[36 * MIB : 48 * MIB])
    for path in (first, second):
        checked = check_image(path, FileSystem.EXT4)
        assert checked.is_clean, checked.report
        assert {name: read_file(path, FileSystem.EXT4, name) for name in TREE} == TREE
    assert look(server, least=LEAST).volumes == use.volumes


def test_an_unknown_volume_keeps_everything(tmp_path: Path) -> None:
    use = look(sparse(tmp_path / "empty.raw", MIB))
    assert [(volume.kind, volume.state) for volume in use.volumes] == [("", VolumeState.UNKNOWN)]
    assert use.volumes[0].reason == "it bears the marks of nothing known"
    assert (list(use.swap_spans()), list(use.deleted_spans())) == ([], [])


def pair(path: Path, first: tuple[FileSystem, dict[str, bytes]], second: tuple[FileSystem, dict[str, bytes]]) -> Path:
    """Make a disk with two partitions of 16 MiB, at 1 MiB and at 20 MiB."""
    patch(sparse(path, 64 * MIB), 0, mbr((0x83, 2048, 16 * 2048), (0x83, 20 * 2048, 16 * 2048)))
    part = path.with_suffix(".part")
    for at, (kind, tree) in ((1, first), (20, second)):
        make_image(part, kind, 16 * MIB, tree)
        place_volume(path, part, at * MIB)
    return path


ASLEEP: dict[str, tuple[FileSystem, dict[str, bytes]]] = {
    "hibernation file": (FileSystem.NTFS, {"hiberfil.sys": b"HIBR" + b"h" * MIB}),
    "swap file": (FileSystem.EXT4, {"swapfile": swap_content(MIB, b"S1SUSPEND")}),
    "swap space": (FileSystem.SWAP, {}),
}
SWAP_BESIDE: list[tuple[FileSystem, dict[str, bytes]]] = [
    (FileSystem.NTFS, {"pagefile.sys": b"p" * MIB}),
    (FileSystem.EXT4, {"swapfile": swap_content(MIB)}),
    (FileSystem.SWAP, {}),
]


@pytest.mark.parametrize("at_rest", [True, False], ids=["off", "on"])
@pytest.mark.parametrize("beside", SWAP_BESIDE, ids=["page file", "swap file", "swap space"])
@pytest.mark.parametrize("asleep", ASLEEP)
def test_a_machine_that_sleeps_keeps_the_swap_of_all_volumes(
    tmp_path: Path, asleep: str, beside: tuple[FileSystem, dict[str, bytes]], at_rest: bool
) -> None:
    path = pair(tmp_path / "disk.raw", ASLEEP[asleep], beside)
    if asleep == "swap space":
        patch(path, MIB + 4086, b"S1SUSPEND\0")
    use = look(path, at_rest=at_rest)
    assert list(use.swap_spans()) == []
    assert [volume.swap_bytes for volume in use.volumes] == [0, 0]
    assert use.swap_reason == "partition 1 may hold the memory of a machine that sleeps"


def test_a_page_file_of_a_machine_that_sleeps_is_kept_though_a_mask_means_it(tmp_path: Path) -> None:
    path = pair(tmp_path / "disk.raw", ASLEEP["hibernation file"], SWAP_BESIDE[0])
    assert list(look(path, masks=["/pagefile.sys"]).files_spans()) == []


@pytest.mark.parametrize("hidden", ["LUKS", "damage"])
def test_a_machine_that_is_off_may_sleep_in_what_is_not_understood(tmp_path: Path, hidden: str) -> None:
    path = pair(tmp_path / "disk.raw", (FileSystem.NTFS, {}), SWAP_BESIDE[2])
    patch(path, MIB, b"LUKS\xba\xbe" + bytes(5) if hidden == "LUKS" else b"\xeb\x52\x90NTFS    \xff\xff")
    assert look(path).swap_reason == "the machine may sleep in partition 1, which is not understood"
    assert list(look(path).swap_spans()) == []
    assert list(look(path, at_rest=False).swap_spans()) == [Span(20 * MIB + 4096, 16 * MIB - 4096)]


def test_a_volume_without_a_mark_keeps_no_swap(tmp_path: Path) -> None:
    path = pair(tmp_path / "disk.raw", SWAP_BESIDE[2], SWAP_BESIDE[2])
    patch(path, MIB, bytes(1 << 20))
    assert list(look(path).swap_spans()) == [Span(20 * MIB + 4096, 16 * MIB - 4096)]


def test_what_was_not_looked_at_when_the_time_was_up_is_needed(server: Path) -> None:
    asked = 0

    def count() -> bool:
        nonlocal asked
        asked += 1
        return True

    use = survey(Disk(reader(server), server.stat().st_size, count), LEAST, at_rest=False, masks=MASKS)
    for most in range(asked):
        left = iter(range(most))
        timed = Disk(reader(server), server.stat().st_size, lambda left=left: next(left, None) is not None)  # type: ignore[misc]
        use = survey(timed, LEAST, at_rest=False, masks=MASKS)
        assert any("time" in volume.reason + volume.files_reason for volume in use.volumes)
    assert [volume.state for volume in use.volumes[:2]] == [VolumeState.CLEAN] * 2, "what was found stays"
    assert list(use.swap_spans())
    timed = Disk(reader(server), server.stat().st_size, lambda: False)
    assert list(survey(timed, LEAST, at_rest=True).swap_spans()) == []


def test_a_disk_error_is_not_taken_for_damage() -> None:
    def read(offset: int, length: int) -> bytes:
        raise OSError(f"{offset} {length}")

    with pytest.raises(OSError, match="0 65536"):
        survey(Disk(read, MIB), LEAST, at_rest=True)


MEANT = {"big.iso": b"i" * MIB, "pagefile.bak": b"p" * 300_000}
KEPT = {"notes": b"n" * 300_000, "small.iso.txt": b"s" * 90_000}
IMAGES = {FileSystem.EXT4: 24 * MIB, FileSystem.XFS: 300 * MIB, FileSystem.NTFS: 24 * MIB}


@pytest.mark.parametrize("kind", IMAGES)
def test_files_that_masks_mean_are_not_needed_and_others_are(tmp_path: Path, kind: FileSystem) -> None:
    path = tmp_path / "image.raw"
    make_image(path, kind, IMAGES[kind], MEANT | KEPT)
    use = look(path, masks=["*.iso", "/pagefile.bak", "/none"])
    assert use.matched == {0, 1}
    spans = list(use.files_spans())
    assert sum(span.length for span in spans) == use.volumes[0].files_bytes >= sum(map(len, MEANT.values()))
    assert not set(blocks(spans, SECTOR)) & set(blocks(use.deleted_spans(), SECTOR))
    garble(path, spans)
    assert check_image(path, kind).is_clean
    if kind is not FileSystem.XFS:
        assert {name: read_file(path, kind, name) for name in KEPT} == KEPT
        assert {len(read_file(path, kind, name)) for name in MEANT} == set(map(len, MEANT.values()))
    assert look(path, masks=["*.iso", "/pagefile.bak", "/none"]).volumes == use.volumes


@pytest.mark.parametrize("kind", [FileSystem.XFS, FileSystem.NTFS])
def test_of_a_running_machine_only_ext_is_believed_about_files(tmp_path: Path, kind: FileSystem) -> None:
    path = tmp_path / "image.raw"
    make_image(path, kind, IMAGES[kind], MEANT)
    use = look(path, at_rest=False, masks=["*.iso"])
    assert (list(use.files_spans()), use.matched) == ([], set())
    make_image(path, FileSystem.EXT4, 24 * MIB, MEANT)
    assert look(path, at_rest=False, masks=["*.iso"]).volumes[0].files_bytes == MIB
    run("debugfs", "-w", "-R", "feature needs_recovery", path)
    assert look(path, at_rest=False, masks=["*.iso"]).volumes[0].files_bytes == 0


def test_damaged_folders_cost_the_files_and_not_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "image.raw"
    make_image(path, FileSystem.EXT4, 24 * MIB, {"d/big.iso": b"i" * MIB})
    use = look(path, masks=["*.iso"])
    block = int(run("debugfs", "-R", "bmap /d 0", path))
    patch(path, block * 1024 + 4, b"\xff\xff")
    found = look(path, masks=["*.iso"])
    assert found.volumes[0].state is VolumeState.CLEAN
    assert found.volumes[0].deleted_bytes == use.volumes[0].deleted_bytes
    assert (found.volumes[0].files_bytes, found.matched) == (0, set())
    assert found.volumes[0].files_reason.startswith("no files are left out: ")


def without_checksums(path: Path) -> None:
    """Make an ext2 with folders in folders."""
    run("mke2fs", "-q", "-F", "-t", "ext2", sparse(path, 24 * MIB))
    write_files(path, FileSystem.EXT4, {**PAGED["ext4"], "d1/deep/er/x.bin": b"x" * 200_000})


def with_folders(path: Path) -> None:
    """Make an NTFS with folders in folders."""
    require_root()
    run("mkntfs", "-q", "-F", "-s", "512", "-p", "0", "-H", "255", "-S", "63", sparse(path, 24 * MIB))
    with mounted(path.parent / "mount", "-t", "ntfs-3g", "-o", "loop", str(path)) as top:
        for number in range(60):
            (top / "d1" / "deep" / f"er{number}").mkdir(parents=True)
            (top / "d1" / "deep" / f"er{number}" / "x.bin").write_bytes(b"x" * 9000)


@pytest.mark.tools("ntfs-3g", "mount")
@pytest.mark.parametrize("kind", ["server", "ext2", "folders of ntfs", *FileSystem])
def test_damage_ends_in_less_left_out_and_never_in_an_error(kind: str, server: Path, tmp_path: Path, seed: int) -> None:
    path = server
    if kind in ("ext2", "folders of ntfs"):
        path = tmp_path / "image.raw"
        (without_checksums if kind == "ext2" else with_folders)(path)
    elif kind != "server":
        path = tmp_path / "image.raw"
        size = 300 * MIB if kind == "xfs" else 24 * MIB
        make_image(path, FileSystem(kind), size, PAGED[kind])
    asked: dict[int, bytes] = {}
    read, size = reader(path), path.stat().st_size

    def noted(offset: int, length: int) -> bytes:
        asked[offset] = read(offset, length)
        return asked[offset]

    intact = survey(Disk(noted, size), LEAST, at_rest=True, masks=MASKS)
    assert all(volume.state is VolumeState.CLEAN for volume in intact.volumes)
    chance = random.Random(seed)
    for _ in range(ROUNDS):
        damaged = dict(asked)
        for _ in range(chance.choice((1, 1, 4))):
            _damage(damaged, chance)
        reads = 0

        def served(offset: int, length: int, chunks: dict[int, bytes] = damaged) -> bytes:
            nonlocal reads
            reads += 1
            return chunks[offset] if offset in chunks else read(offset, length)

        use = survey(Disk(served, size), LEAST, at_rest=True, masks=MASKS)
        assert reads < 60_000
        spans = [*use.swap_spans(), *use.files_spans(), *use.deleted_spans()]
        assert all(0 <= span.start < span.end <= size and span.start % SECTOR == 0 for span in spans)
        if kind in (
            "server",
            "ext4",
            "xfs",
        ):  # these have checksums: a damaged volume keeps all, another one all of its
            known = {(volume.place, volume.deleted_bytes) for volume in intact.volumes}
            assert all((v.place, v.deleted_bytes) in known or not v.deleted_bytes for v in use.volumes)


def _damage(chunks: dict[int, bytes], chance: random.Random) -> None:
    at = chance.choice(sorted(chunks))
    data = bytearray(chunks[at])
    places = [place for place in (chance.randrange(len(data)) for _ in range(30)) if data[place]]
    place = places[0] if places else chance.randrange(len(data))
    match chance.randrange(3):
        case 0:
            data[place] ^= 1 << chance.randrange(8)
        case 1:
            data[place : place + 4] = b"\xff" * 4
        case _:
            data[place : place + 8] = chance.randbytes(8)
    chunks[at] = bytes(data[: len(chunks[at])])
