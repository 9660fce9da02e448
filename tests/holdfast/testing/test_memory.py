"""A disk in memory behaves as both ports of the pipe."""

import pytest

from holdfast.errors import DiskReadFailed, DiskWriteFailed
from holdfast.model.spans import Span
from holdfast.testing.memory import MemoryDisk


def test_what_is_written_is_read_and_durable_after_a_flush() -> None:
    disk = MemoryDisk(bytes(8192))
    disk.write(4096, memoryview(b"data"))
    buffer = bytearray(6)
    disk.read_into(4095, memoryview(buffer))
    assert bytes(buffer) == b"\0data\0"
    assert disk.flushed == bytes(8192)
    disk.flush()
    assert disk.flushed[4096:4100] == b"data"


def test_only_what_is_not_zeros_is_allocated() -> None:
    disk = MemoryDisk(bytes(4 * 4096) + b"x" + bytes(4095) + bytes(100))
    assert list(disk.allocated_spans()) == [Span(4 * 4096, 4096)]
    disk.write_zeros(Span(4 * 4096, 1))
    assert list(disk.allocated_spans()) == []


def test_nothing_lies_outside_the_disk() -> None:
    with MemoryDisk(bytes(10)) as disk:
        with pytest.raises(DiskReadFailed):
            disk.read_into(5, memoryview(bytearray(6)))
        with pytest.raises(DiskWriteFailed):
            disk.write(5, memoryview(b"123456"))
