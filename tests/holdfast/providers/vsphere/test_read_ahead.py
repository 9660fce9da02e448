"""Reading ahead changes how much is asked for at once, never what is read."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import DiskReadFailed
from holdfast.providers.vsphere.read_ahead import STRETCH_MAX, ReadAhead

MIB = 1 << 20


class Server:
    """Holds bytes, and remembers what was asked for."""

    def __init__(self, size_bytes: int, seed: int = 1) -> None:
        self.content = random.Random(seed).randbytes(size_bytes)
        self.asked: list[tuple[int, int]] = []
        self.failures = 0
        self.lock = threading.Lock()

    def fetch(self, offset: int, buffer: memoryview) -> None:
        with self.lock:
            self.asked.append((offset, len(buffer)))
            if self.failures:
                self.failures -= 1
                raise DiskReadFailed("the server is away")
        buffer[:] = self.content[offset : offset + len(buffer)]


@pytest.fixture(scope="module")
def large() -> Server:
    return Server(40 * MIB + 512)


def read(ahead: ReadAhead, offset: int, length: int) -> bytes:
    buffer = bytearray(length)
    ahead.read_into(offset, memoryview(buffer))
    return bytes(buffer)


def test_a_reader_in_order_needs_few_requests(large: Server) -> None:
    large.asked.clear()
    ahead = ReadAhead(large.fetch, len(large.content))
    for offset in range(0, len(large.content), MIB):
        length = min(MIB, len(large.content) - offset)
        assert read(ahead, offset, length) == large.content[offset : offset + length]
    assert len(large.asked) <= 9
    assert sum(length for _, length in large.asked) == len(large.content)


def test_reads_here_and_there_fetch_what_they_need(large: Server) -> None:
    large.asked.clear()
    ahead = ReadAhead(large.fetch, len(large.content))
    places = [(30 * MIB, 4096), (2 * MIB, 512), (20 * MIB, 65536), (9 * MIB, MIB)]
    for offset, length in places:
        assert read(ahead, offset, length) == large.content[offset : offset + length]
    assert large.asked == places


def test_no_request_is_larger_than_a_stretch(large: Server) -> None:
    large.asked.clear()
    ahead = ReadAhead(large.fetch, len(large.content))
    for offset in range(0, 32 * MIB, 256 * 1024):
        read(ahead, offset, 256 * 1024)
    assert max(length for _, length in large.asked) == STRETCH_MAX


def test_threads_that_take_turns_read_the_right_bytes(large: Server) -> None:
    ahead = ReadAhead(large.fetch, len(large.content))

    def every_fourth(first: int) -> bool:
        offsets = range(first * MIB, 40 * MIB, 4 * MIB)
        return all(read(ahead, offset, MIB) == large.content[offset : offset + MIB] for offset in offsets)

    for _ in range(5):
        with ThreadPoolExecutor(4) as threads:
            assert all(threads.map(every_fourth, range(4)))


def test_many_threads_read_the_right_bytes_anywhere(large: Server, seed: int) -> None:
    ahead = ReadAhead(large.fetch, len(large.content))

    def somewhere(number: int) -> bool:
        source = random.Random(seed + number)
        is_right = True
        for _ in range(30):
            start, length = source.randrange(38 * MIB), source.randrange(1, MIB)
            for offset in range(start, min(start + 4 * length, 39 * MIB), length):
                is_right &= read(ahead, offset, length) == large.content[offset : offset + length]
        return is_right

    with ThreadPoolExecutor(6) as threads:
        assert all(threads.map(somewhere, range(6)))


@given(st.lists(st.tuples(st.integers(0, 4095), st.integers(1, 600)), max_size=40))
def test_any_reads_give_the_right_bytes(reads: list[tuple[int, int]]) -> None:
    server = Server(4096)
    ahead = ReadAhead(server.fetch, 4096)
    for offset, length in reads:
        there = min(length, 4096 - offset)
        assert read(ahead, offset, there) == server.content[offset : offset + there]


def test_a_failed_request_fails_its_readers_and_is_made_anew() -> None:
    server = Server(8 * MIB)
    ahead = ReadAhead(server.fetch, 8 * MIB)
    read(ahead, 0, MIB)
    server.failures = 1
    with pytest.raises(DiskReadFailed, match="away"):
        read(ahead, MIB, 512)
    assert read(ahead, MIB, 512) == server.content[MIB : MIB + 512]
    ahead.clear()
    assert read(ahead, MIB, 512) == server.content[MIB : MIB + 512]
