"""The partition table of PCs, with extended partitions, and everything wrong with them."""

from pathlib import Path

import pytest

from holdfast.guest.mbr import partitions, read_table
from holdfast.guest.window import Implausible
from holdfast.model.spans import Span
from tests.holdfast.guest.drives import SECTOR, disk, mbr, patch, sparse

SECTORS = 100_000


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    return sparse(tmp_path / "disk.raw", SECTORS * SECTOR)


def found(drive: Path) -> list[tuple[str, int, int, str]]:
    whole = disk(drive)
    table = read_table(whole.read(0, SECTOR), SECTORS)
    assert table is not None
    parts = [(part.place, part.spans, part.obstacle) for part in partitions(whole, table)]
    assert all(len(spans) == 1 for _, spans, _ in parts)
    return [(place, spans[0].start // SECTOR, spans[0].length // SECTOR, why) for place, spans, why in parts]


def test_primary_partitions_are_found(drive: Path) -> None:
    patch(drive, 0, mbr((0x83, 2048, 1000), (0, 0, 0), (0x82, 4096, 10), (0xFD, 9000, 1)))
    assert found(drive) == [
        ("partition 1", 2048, 1000, ""),
        ("partition 2", 4096, 10, ""),
        ("partition 3", 9000, 1, "a member of an array"),
    ]


def test_logical_partitions_are_found(drive: Path) -> None:
    patch(drive, 0, mbr((0x83, 64, 100), (0x05, 1000, 50_000)))
    patch(drive, 1000 * SECTOR, mbr((0x83, 10, 100), (0x05, 5000, 2000)))
    patch(drive, 6000 * SECTOR, mbr((0x8E, 20, 300), (0x05, 9000, 2000)))
    patch(drive, 10_000 * SECTOR, mbr((0x83, 1, 2)))
    assert found(drive)[1:] == [
        ("partition 5", 1010, 100, ""),
        ("partition 6", 6020, 300, ""),
        ("partition 7", 10_001, 2, ""),
    ]


@pytest.mark.parametrize(
    "sector",
    [
        bytes(512),
        mbr((0x83, 0, 5)),
        mbr((0x83, 5, 0)),
        mbr((0x83, 5, SECTORS)),
        mbr((0x83, 5, 5)).replace(b"\0" * 446 + b"\0", b"\0" * 446 + b"\x7f", 1),
    ],
)
def test_what_is_no_table_is_none(sector: bytes) -> None:
    assert read_table(sector, SECTORS) is None


def test_the_entry_for_a_gpt_may_speak_of_the_largest_disk() -> None:
    table = read_table(mbr((0xEE, 1, 0xFFFFFFFF)), SECTORS)
    assert table is not None
    assert table[0].kind == 0xEE


@pytest.mark.parametrize(
    "inner",
    [
        b"",
        mbr((0x83, 10, 60_000)),
        mbr((0x83, 10, 100), (0x05, 0, 5)),
        mbr((0x83, 10, 100), (0x05, 60_000, 2000)),
    ],
)
def test_a_chain_that_leads_nowhere_is_refused(drive: Path, inner: bytes) -> None:
    patch(drive, 0, mbr((0x0F, 1000, 50_000)))
    patch(drive, 1000 * SECTOR, inner)
    with pytest.raises(Implausible):
        found(drive)


def test_a_chain_that_goes_back_is_refused(drive: Path) -> None:
    patch(drive, 0, mbr((0x0F, 1000, 50_000)))
    patch(drive, 1000 * SECTOR, mbr((0x83, 10, 100), (0x05, 50, 100)))
    patch(drive, 1050 * SECTOR, mbr((0x83, 10, 100), (0x05, 50, 100)))
    with pytest.raises(Implausible, match="does not go forward"):
        found(drive)


def test_a_chain_without_end_is_refused(drive: Path) -> None:
    patch(drive, 0, mbr((0x0F, 1000, 50_000)))
    patch(drive, 1000 * SECTOR, mbr((0x83, 1, 1), (0x05, 2, 2)))
    for link in range(1, 200):
        patch(drive, (1000 + 2 * link) * SECTOR, mbr((0x83, 1, 1), (0x05, 2 * link + 2, 2)))
    with pytest.raises(Implausible, match="more than 128"):
        found(drive)


def test_spans_are_in_bytes(drive: Path) -> None:
    patch(drive, 0, mbr((0x83, 2, 3)))
    table = read_table(mbr((0x83, 2, 3)), SECTORS)
    assert table is not None
    assert [part.spans for part in partitions(disk(drive), table)] == [(Span(1024, 1536),)]
