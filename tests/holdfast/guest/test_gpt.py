"""The GUID partition table and its second copy."""

from pathlib import Path

import pytest

from holdfast.guest.gpt import partitions
from holdfast.guest.window import Implausible
from holdfast.model.spans import Span
from tests.holdfast.guest.drives import LINUX, MIB, RAID, SECTOR, disk, gpt_copy, patch, sparse, write_gpt

SIZE = 16 * MIB
LAST = SIZE // SECTOR - 1
ENTRIES = [(LINUX, 2048, 4095), (RAID, 4096, 5000)]
PARTS = [
    ("partition 1", (Span(2048 * SECTOR, 2048 * SECTOR),), ""),
    ("partition 2", (Span(4096 * SECTOR, 905 * SECTOR),), "a member of an array"),
]


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    path = sparse(tmp_path / "disk.raw", SIZE)
    write_gpt(path, ENTRIES)
    return path


def found(drive: Path) -> list[tuple[str, tuple[Span, ...], str]]:
    return [(part.place, part.spans, part.obstacle) for part in partitions(disk(drive))]


def test_partitions_are_found(drive: Path) -> None:
    assert found(drive) == PARTS


@pytest.mark.parametrize("at", [0, 8, 17, 24, 40, 72, 80, 84, 88, SECTOR, SECTOR + 20])
def test_the_second_copy_helps_when_the_first_is_damaged(drive: Path, at: int) -> None:
    patch(drive, SECTOR + at, b"\x5a\xa5\x5a")
    assert found(drive) == PARTS


def test_without_a_whole_copy_nothing_is_believed(drive: Path) -> None:
    patch(drive, SECTOR + 100 * 16, b"\xff")
    patch(drive, SECTOR + 50, b"\xff")
    patch(drive, LAST * SECTOR + 50, b"\xff")
    with pytest.raises(Implausible, match="neither copy"):
        found(drive)


def test_a_partition_outside_of_the_table_is_refused(drive: Path) -> None:
    head, raw = gpt_copy(LAST + 1, [(LINUX, 33, 50)])
    patch(drive, SECTOR, head + raw)
    with pytest.raises(Implausible, match="partition 1 lies outside"):
        found(drive)


def test_a_disk_of_one_sector_has_no_table() -> None:
    with pytest.raises(Implausible):
        list(partitions(disk(bytes(SECTOR))))
