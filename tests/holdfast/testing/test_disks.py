"""The content of a patterned disk says where it came from."""

import random

import pytest

from holdfast.model.spans import Span
from holdfast.testing.disks import Origin, PatternedDisk, origin, sectors

SIZE = 1 << 20


def test_a_sector_names_its_disk_its_place_and_its_version() -> None:
    data = sectors(7, 1000, 300, 3)
    assert len(data) == 300 * 512
    for index in (0, 1, 127, 128, 299):
        found = origin(data[index * 512 : (index + 1) * 512])
        assert found == Origin(seed=7, sector=1000 + index, version=3)


def test_the_content_does_not_depend_on_how_it_is_cut() -> None:
    whole = sectors(1, 0, 1024, 2)
    for first, count in ((0, 1), (127, 2), (100, 900), (1023, 1), (5, 0)):
        assert sectors(1, first, count, 2) == whole[first * 512 : (first + count) * 512]


def test_zeros_and_foreign_bytes_are_told_apart() -> None:
    assert origin(bytes(512)) == Origin(seed=0, sector=0, version=0)
    assert sectors(7, 0, 4, 0) == bytes(2048)
    damaged = bytearray(sectors(7, 9, 1, 1))
    damaged[511] ^= 1
    assert origin(bytes(damaged)) is None
    assert origin(b"x" * 512) is None


def test_the_disk_remembers_what_was_written(seed: int) -> None:
    chance = random.Random(seed)
    disk, real = PatternedDisk(3, SIZE), bytearray(SIZE)
    for _ in range(50):
        start = chance.randrange(SIZE // 512)
        span = Span(start * 512, min(chance.randrange(64), SIZE // 512 - start) * 512)
        if chance.random() < 0.3:
            disk.zero(span)
            real[span.start : span.end] = bytes(span.length)
        else:
            real[span.start : span.end] = disk.write(span)
    assert disk.read(Span(0, SIZE)) == bytes(real)
    assert disk.difference(0, bytes(real)) is None
    assert disk.read(Span(1000, 5000)) == bytes(real[1000:6000])
    covered = bytearray(SIZE)
    for span in disk.nonzero_spans():
        covered[span.start : span.end] = b"x" * span.length
    used = [any(real[at : at + 512]) for at in range(0, SIZE, 512)]
    assert [bool(covered[at]) for at in range(0, SIZE, 512)] == used


def test_every_write_is_a_new_version() -> None:
    disk = PatternedDisk(3, SIZE)
    first = disk.write(Span(0, 512))
    disk.zero(Span(0, 512))
    assert disk.write(Span(0, 512)) != first


def test_differences_are_explained() -> None:
    disk, other = PatternedDisk(3, SIZE), PatternedDisk(4, SIZE)
    old = disk.write(Span(0, 2048))
    new = disk.write(Span(512, 512))
    assert disk.difference(0, old) == (
        "sector 1 should be version 2 of sector 1 of disk 3 and is version 1 of sector 1 of disk 3"
    )
    assert disk.difference(512, bytes(512)) == ("sector 1 should be version 2 of sector 1 of disk 3 and is zeros")
    assert disk.difference(1024, new) == (
        "sector 2 should be version 1 of sector 2 of disk 3 and is version 2 of sector 1 of disk 3"
    )
    assert "of disk 4" in str(disk.difference(0, other.write(Span(0, 512))))
    assert "foreign bytes (7878787878787878...)" in str(disk.difference(0, b"x" * 512))
    assert disk.difference(SIZE - 512, bytes(1024)) == (
        f"sector {SIZE // 512} should be a piece of 0 bytes and is zeros"
    )


def test_differing_spans_compare_two_states() -> None:
    disk = PatternedDisk(3, SIZE)
    disk.write(Span(0, 4096))
    before = disk.copy()
    assert list(disk.differing_spans(before)) == []
    disk.write(Span(512, 1024))
    disk.resize(2 * SIZE)
    disk.write(Span(2 * SIZE - 512, 512))
    expected = [Span(512, 1024), Span(2 * SIZE - 512, 512)]
    assert list(disk.differing_spans(before)) == expected
    assert list(before.differing_spans(disk)) == expected
    disk.resize(512)
    assert disk.size_bytes == 512
    assert list(disk.differing_spans(before)) == [Span(512, 4096 - 512)]


def test_only_whole_sectors_inside_the_disk_are_written() -> None:
    disk = PatternedDisk(3, SIZE)
    with pytest.raises(ValueError, match="not a multiple of 512"):
        disk.write(Span(0, 513))
    with pytest.raises(IndexError, match=r"2048\.\.2049 of 2048"):
        disk.write(Span(SIZE, 512))
