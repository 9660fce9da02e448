"""Volumes are found on partitions, inside LVM and on whole disks; what is ambiguous is not looked into."""

from pathlib import Path

from holdfast.guest.places import volumes_on, without_overlaps
from holdfast.guest.volume import Part
from holdfast.model.spans import Span
from tests.holdfast.guest.drives import (
    LINUX,
    MIB,
    SECTOR,
    disk,
    linear,
    lvm_text,
    lvm_volume,
    mbr,
    patch,
    physical_volume,
    sparse,
    write_gpt,
)


def found(path: Path) -> list[tuple[str, str]]:
    return [(part.place, part.obstacle) for part in volumes_on(disk(path))]


def test_a_disk_without_a_table_is_one_volume(tmp_path: Path) -> None:
    assert found(sparse(tmp_path / "disk", MIB)) == [("the whole disk", "")]
    assert found(sparse(tmp_path / "tiny", 100)) == []


def test_logical_volumes_take_the_place_of_their_partition(tmp_path: Path) -> None:
    path = sparse(tmp_path / "disk", 80 * MIB)
    patch(path, 0, mbr((0x83, 2048, 2048), (0x8E, 4096, 64 * 2048)))
    patch(path, 4096 * SECTOR, physical_volume(lvm_text(lvm_volume("root", linear(0, 4, 0)))))
    assert found(path) == [("partition 1", ""), ("partition 2, volume vg0/root", "")]
    assert volumes_on(disk(path))[1].spans == (Span(3 * MIB, 4 * MIB),)
    patch(path, 4096 * SECTOR + 4100, b"\0")
    assert found(path)[1] == ("partition 2", "the header of its LVM metadata is damaged")


def test_a_gpt_is_found_behind_its_protective_entry(tmp_path: Path) -> None:
    path = sparse(tmp_path / "disk", 16 * MIB)
    write_gpt(path, [(LINUX, 2048, 4095)])
    assert found(path) == [("partition 1", "")]
    patch(path, 520, b"\xff" * 8)
    patch(path, 16 * MIB - 500, b"\xff" * 8)
    assert found(path) == [("the whole disk", "neither copy of the partition table is whole")]


def test_a_table_beside_a_mark_of_a_volume_is_ambiguous(tmp_path: Path) -> None:
    path = sparse(tmp_path / "disk", 16 * MIB)
    patch(path, 0, mbr((0x83, 2048, 2048)))
    patch(path, 1080, b"\x53\xef")
    assert found(path) == [("the whole disk", "it bears the mark of a volume and has partitions")]


def test_volumes_that_share_bytes_are_not_looked_into() -> None:
    parts = [
        Part(place=str(index), spans=(Span(start, length),))
        for index, (start, length) in enumerate(((0, 100), (200, 50), (10, 20), (99, 1), (250, 50)))
    ]
    shared = {part.place for part in without_overlaps(parts) if part.obstacle}
    assert shared == {"0", "2", "3"}


def test_a_volume_that_overlaps_itself_is_not_looked_into() -> None:
    (part,) = without_overlaps([Part(place="a", spans=(Span(0, 10), Span(5, 10)))])
    assert part.obstacle
