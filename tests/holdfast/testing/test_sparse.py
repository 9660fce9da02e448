"""A sparse disk keeps what was written, whatever its size."""

import pytest

from holdfast.errors import DiskReadFailed, DiskWriteFailed
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.spans import Span
from holdfast.testing.sparse import SparseDisk


def read(disk: SparseDisk, offset: int, length: int) -> bytes:
    buffer = bytearray(length)
    disk.read_into(offset, memoryview(buffer))
    return bytes(buffer)


def test_what_was_written_across_pieces_is_read() -> None:
    disk = SparseDisk(64 << 40)
    far = (63 << 40) + PIECE_SIZE - 3
    disk.write(far, memoryview(b"abcdef"))
    assert read(disk, far - 2, 10) == b"\0\0abcdef\0\0"
    assert list(disk.allocated_spans()) == [Span(63 << 40, 2 * PIECE_SIZE)]


def test_zeros_take_no_room() -> None:
    disk = SparseDisk(10 * PIECE_SIZE)
    disk.write(0, memoryview(b"x" * (3 * PIECE_SIZE)))
    disk.write_zeros(Span(PIECE_SIZE // 2, 2 * PIECE_SIZE))
    assert sorted(disk.pieces) == [0, 2]
    disk.write(0, memoryview(bytes(PIECE_SIZE)))
    assert sorted(disk.pieces) == [2]
    assert read(disk, 2 * PIECE_SIZE, PIECE_SIZE) == bytes(PIECE_SIZE // 2) + b"x" * (PIECE_SIZE // 2)


def test_the_part_of_a_piece_behind_the_end_is_not_kept() -> None:
    disk = SparseDisk(PIECE_SIZE + 512)
    disk.put(1, b"x" * PIECE_SIZE)
    assert disk.pieces[1] == b"x" * 512 + bytes(PIECE_SIZE - 512)
    assert list(disk.allocated_spans()) == [Span(PIECE_SIZE, 512)]


def test_nothing_lies_outside_the_disk() -> None:
    with SparseDisk(512) as disk:
        with pytest.raises(DiskReadFailed):
            read(disk, 1, 512)
        with pytest.raises(DiskWriteFailed):
            disk.write(512, memoryview(b"x"))


def test_a_copy_is_another_disk() -> None:
    disk = SparseDisk(PIECE_SIZE)
    other = disk.copy()
    other.put(0, b"x")
    assert (disk.pieces, len(other.pieces)) == ({}, 1)
