"""Whatever bytes a link is fed, it neither raises nor takes more memory than it may."""

import random
import tracemalloc
import zlib

import pytest

from holdfast.errors import ProtocolError
from holdfast.formats.mover.states import LinkState
from holdfast.formats.mover.wire import HEADER_SIZE, FrameKind, pack_header
from tests.holdfast.formats.mover.pair import MESSAGE_MAX, OPTIONS, Pair, control


def strange_frame(rng: random.Random) -> bytes:
    """Return a frame whose checksums are right and whose numbers need not be."""
    small = rng.choice((0, 0, 1, 2, rng.randrange(40)))
    body = rng.randbytes(rng.choice((0, 0, 12, 24, rng.randrange(1, 600))))
    numbers = [rng.choice((0, 0, 0, small, rng.getrandbits(64))) for _ in range(3)]
    kind = rng.choice((*FrameKind, rng.randrange(256)))
    length = rng.choice((len(body), len(body), rng.getrandbits(32)))
    return pack_header((kind, length, numbers[0]), (numbers[1], numbers[2]), zlib.crc32(body)) + body


@pytest.mark.parametrize("run", range(20))
def test_strange_frames_end_the_link_or_are_taken(run: int, seed: int) -> None:
    rng = random.Random(seed + run)
    for _ in range(60):
        pair = Pair(1, 2)
        link = pair.links[1]
        for _ in range(rng.randrange(1, 30)):
            pair.into(1, rng.choice((1, 2)), strange_frame(rng))
            pair.out(1, rng.choice((1, 2)), rng.randrange(1, 5000))
            assert link.memory[1] <= OPTIONS.receive_window
        assert link.error is None or isinstance(link.error, ProtocolError)
        assert (link.error is None) == (link.state is not LinkState.FAILED)


@pytest.mark.parametrize("run", range(10))
def test_noise_costs_the_connection(run: int, seed: int) -> None:
    rng = random.Random(seed + run)
    pair = Pair(1, 2)
    pair.into(1, 1, rng.randbytes(10_000))
    assert pair.dropped(1) == [1]
    assert pair.links[1].state is LinkState.OPEN


@pytest.mark.parametrize("cut", range(1, HEADER_SIZE + 10, 7))
def test_a_stream_that_breaks_off_waits_for_the_rest(cut: int) -> None:
    pair = Pair(1)
    pair.send(0, b"ten bytes!")
    data = pair.out(0, 1)
    pair.into(1, 1, data[:cut])
    assert pair.messages(1) == []
    pair.into(1, 1, data[cut:])
    assert pair.messages(1) == [b"ten bytes!"]


def test_frames_that_never_become_whole_take_no_more_than_the_window() -> None:
    pair = Pair(*range(50))
    tracemalloc.start()
    try:
        for connection in range(50):
            pair.into(1, connection, pack_header((FrameKind.DATA, MESSAGE_MAX, connection), (0, 0), 0))
        assert tracemalloc.get_traced_memory()[1] < 2 * OPTIONS.receive_window
    finally:
        tracemalloc.stop()
    assert isinstance(pair.links[1].error, ProtocolError)


def test_what_was_recorded_and_is_played_again_changes_nothing() -> None:
    pair = Pair(1)
    pair.send(0, b"a", b"b")
    data = pair.out(0, 1)
    for _ in range(5):
        pair.into(1, 1, data)
    assert pair.messages(1) == [b"a", b"b"]
    assert pair.links[1].counters.duplicates == 8


def test_a_peer_that_asks_and_takes_no_answers_loses_its_connection() -> None:
    pair = Pair(1, 2)
    for lost in range(100, 1124):
        pair.into(1, 1, control(FrameKind.LOST, lost))
    assert pair.dropped(1) == []
    pair.into(1, 1, control(FrameKind.LOST, 2000))
    assert pair.dropped(1) == [1]


def test_the_connections_of_a_link_have_a_limit() -> None:
    pair = Pair()
    assert [pair.links[1].connection_made(number, 0.0) for number in range(201)] == [True] * 200 + [False]
