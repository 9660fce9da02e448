"""A volume bears the marks of every use that left one."""

from pathlib import Path

import pytest

from holdfast.guest.signatures import marks
from holdfast.testing.images import PROGRAMS, SMALLEST_BYTES, FileSystem, make_image
from tests.holdfast.guest.drives import MIB, linear, lvm_text, lvm_volume, patch, physical_volume, window

ARRAY = b"\xfc\x4e\x2b\xa9"


@pytest.mark.tools(*(name for programs in PROGRAMS.values() for name in programs))
@pytest.mark.parametrize("file_system", FileSystem)
def test_file_systems_bear_one_mark(tmp_path: Path, file_system: FileSystem) -> None:
    path = tmp_path / "image.raw"
    make_image(path, file_system, SMALLEST_BYTES[file_system])
    assert marks(window(path)) == (file_system.value.replace("ext4", "ext"),)


@pytest.mark.tools("mke2fs")
def test_a_second_use_shows(tmp_path: Path) -> None:
    path = tmp_path / "image.raw"
    make_image(path, FileSystem.EXT4, 8 * MIB)
    patch(path, 4086, b"SWAPSPACE2")
    assert marks(window(path)) == ("ext", "swap")


def test_a_physical_volume_bears_its_mark() -> None:
    assert marks(window(physical_volume(lvm_text(lvm_volume("a", linear(0, 1, 0)))))) == ("lvm",)


@pytest.mark.parametrize(
    "at,mark,name",
    [
        (0, b"LUKS\xba\xbe", "LUKS"),
        (3, b"-FVE-FS-", "BitLocker"),
        (82, b"FAT32   ", "FAT"),
        (65600, b"_BHRfS_M", "Btrfs"),
        (4096, ARRAY, "array"),
        (MIB - 65536, ARRAY, "array"),
        (MIB - 8192, ARRAY, "array"),
        (140 << 10, b"\x0c\xb1\xba\0\0\0\0\0", "ZFS"),
        (140 << 10, b"\0\0\0\0\0\xba\xb1\x0c", "ZFS"),
    ],
)
def test_other_uses_show(at: int, mark: bytes, name: str) -> None:
    data = bytearray(MIB)
    data[at : at + len(mark)] = mark
    assert marks(window(bytes(data))) == (name,)


@pytest.mark.parametrize("size", [0, 1, 512, 4096, 70_000])
def test_small_volumes_bear_none(size: int) -> None:
    assert marks(window(bytes(size))) == ()
