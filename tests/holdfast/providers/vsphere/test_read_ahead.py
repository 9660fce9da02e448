"""Reading ahead changes how much is asked for at once, never what is read."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import DiskReadFailed
from holdfast.providers.vsphere.read_ahead import GAP_MAX, SKIPPED_MAX, ReadAhead

MIB = 1 << 20


class Server:
    """Holds bytes, and remembers what was asked for."""

    def __init__(self, size_bytes: int, seed: int = 1) -> None:
        self.content = random.Random(seed).randbytes(size_bytes)
        self.asked: list[tuple[int, int]] = []
        self.sent = 0
        self.open = 0
        self.failures = 0
        self.lock = threading.Lock()

    def ask(self, offset: int, length: int) -> "Arriving":
        with self.lock:
            self.asked.append((offset, length))
        return Arriving(self, offset, offset + length)


class Arriving:
    """The bytes of one request."""

    def __init__(self, server: Server, offset: int, end: int) -> None:
        self.server = server
        self.offset = offset
        self.end = end
        self.turn = threading.Lock()
        with server.lock:
            server.open += 1

    def read_into(self, buffer: memoryview) -> None:
        assert self.turn.acquire(blocking=False), "two threads receive at once"
        with self.server.lock:
            if self.server.failures:
                self.server.failures -= 1
                self.turn.release()
                raise DiskReadFailed("the server is away")
            self.server.sent += len(buffer)
        assert self.offset + len(buffer) <= self.end
        buffer[:] = self.server.content[self.offset : self.offset + len(buffer)]
        self.offset += len(buffer)
        self.turn.release()

    def close(self) -> None:
        with self.server.lock:
            self.server.open -= 1


@pytest.fixture(scope="module")
def held() -> Server:
    return Server(40 * MIB + 512)


@pytest.fixture
def large(held: Server) -> Server:
    held.asked.clear()
    held.sent = held.open = 0
    return held


def read(ahead: ReadAhead, offset: int, length: int) -> bytes:
    buffer = bytearray(length)
    ahead.read_into(offset, memoryview(buffer))
    return bytes(buffer)


def test_a_reader_in_order_needs_few_requests(large: Server) -> None:
    ahead = ReadAhead(large.ask, len(large.content))
    for offset in range(0, len(large.content), MIB):
        length = min(MIB, len(large.content) - offset)
        assert read(ahead, offset, length) == large.content[offset : offset + length]
    assert [length // MIB for _, length in large.asked] == [1, 2, 6, 18, 13]
    assert large.sent == len(large.content)
    assert large.open == 0


def test_reads_here_and_there_fetch_what_they_need(large: Server) -> None:
    ahead = ReadAhead(large.ask, len(large.content))
    places = [(30 * MIB, 4096), (2 * MIB, 512), (20 * MIB, 65536), (9 * MIB, MIB)]
    for offset, length in places:
        assert read(ahead, offset, length) == large.content[offset : offset + length]
    assert large.asked == places


def test_what_is_left_out_is_received_once_and_kept_for_who_comes_late(large: Server) -> None:
    ahead = ReadAhead(large.ask, len(large.content))
    for offset in (0, MIB, 2 * MIB, 6 * MIB, 4 * MIB, 3 * MIB, 5 * MIB, 7 * MIB, 8 * MIB):
        assert read(ahead, offset, MIB) == large.content[offset : offset + MIB]
    assert large.asked == [(0, MIB), (MIB, 2 * MIB), (3 * MIB, 6 * MIB)]
    assert large.sent == 9 * MIB
    assert not ahead._skipped


def test_a_hole_is_jumped_over(large: Server) -> None:
    ahead = ReadAhead(large.ask, len(large.content))
    for offset in range(0, 9 * MIB, MIB):
        read(ahead, offset, MIB)
    beyond = 9 * MIB + GAP_MAX + 512
    assert read(ahead, beyond, MIB) == large.content[beyond : beyond + MIB]
    assert large.asked[-1] == (beyond, MIB)
    assert large.sent == 10 * MIB


def test_no_more_is_held_than_the_bounds_say(large: Server) -> None:
    ahead = ReadAhead(large.ask, len(large.content))
    for start in range(0, 36 * MIB, 6 * MIB):
        read(ahead, start, 512)
        read(ahead, start + 512, MIB)
        read(ahead, start + 2 * MIB, 512)
        read(ahead, start + 5 * MIB, 512)
    assert large.open <= 5
    assert sum(len(piece) for piece in ahead._skipped.values()) <= SKIPPED_MAX
    ahead.clear()
    assert large.open == 0


def test_threads_that_take_turns_read_the_right_bytes(large: Server) -> None:
    ahead = ReadAhead(large.ask, len(large.content))

    def every_fourth(first: int) -> bool:
        offsets = range(first * MIB, 40 * MIB, 4 * MIB)
        return all(read(ahead, offset, MIB) == large.content[offset : offset + MIB] for offset in offsets)

    for _ in range(5):
        with ThreadPoolExecutor(4) as threads:
            assert all(threads.map(every_fourth, range(4)))


def test_many_threads_read_the_right_bytes_anywhere(large: Server, seed: int) -> None:
    ahead = ReadAhead(large.ask, len(large.content))

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
    ahead = ReadAhead(server.ask, 4096)
    for offset, length in reads:
        there = min(length, 4096 - offset)
        assert read(ahead, offset, there) == server.content[offset : offset + there]


def test_a_failed_request_fails_its_readers_and_is_made_anew() -> None:
    server = Server(8 * MIB)
    ahead = ReadAhead(server.ask, 8 * MIB)
    read(ahead, 0, MIB)
    server.failures = 1
    with pytest.raises(DiskReadFailed, match="away"):
        read(ahead, MIB, 512)
    assert read(ahead, MIB, 512) == server.content[MIB : MIB + 512]
    ahead.clear()
    assert read(ahead, MIB, 512) == server.content[MIB : MIB + 512]
