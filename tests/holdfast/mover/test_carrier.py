"""A carrier moves what is there and sleeps no longer than it is told."""

import random
import socket
import threading
from collections.abc import Iterator

import pytest

from holdfast.mover.carrier import Carrier, in_records
from tests.holdfast.mover.movers import CLOCK, MIB

Pair = tuple[Carrier, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    near, far = socket.socketpair()
    carrier = Carrier(7, near)
    yield carrier, far
    carrier.close()
    carrier.close()
    far.close()


def test_bytes_go_out_in_order_and_come_in_as_they_are_there(pair: Pair) -> None:
    carrier, far = pair
    carrier.output([memoryview(b"one"), memoryview(b"two")])
    assert carrier.exchange(memoryview(bytearray(8)), 0.0) == 0
    assert not carrier.has_output
    assert far.recv(100) == b"onetwo"
    far.sendall(b"answer")
    buffer = bytearray(4)
    assert carrier.exchange(memoryview(buffer), 1.0) == 4
    assert buffer == b"answ"


def test_more_than_the_peer_takes_waits_and_goes_on(pair: Pair) -> None:
    carrier, far = pair
    sent = bytes(range(256)) * 16384
    carrier.output([memoryview(sent[at : at + 65536]) for at in range(0, len(sent), 65536)])
    found = bytearray()

    def drain() -> None:
        while len(found) < len(sent):
            found.extend(far.recv(1 << 16))

    thread = threading.Thread(target=drain)
    thread.start()
    while carrier.has_output:
        carrier.exchange(memoryview(bytearray(8)), 1.0)
    thread.join()
    assert found == sent


def test_who_has_sent_everything_comes_back_for_more_at_once(pair: Pair) -> None:
    carrier, far = pair
    started_s = CLOCK.monotonic_s()
    for _ in range(3):
        carrier.output([memoryview(bytes(1000))])
        assert carrier.exchange(memoryview(bytearray(8)), 60.0) == 0
        assert not carrier.has_output
    assert len(far.recv(10000)) <= 3000
    assert CLOCK.monotonic_s() - started_s < 30


@pytest.mark.parametrize("seed", range(20))
def test_records_are_full_but_the_last_and_hold_the_same_bytes(seed: int) -> None:
    rng = random.Random(seed)
    record = 16 << 10
    lengths = (1, 40, 300, record - 1, record, record + 1, 5 * record, 9 * record + 7)
    parts = [memoryview(rng.randbytes(rng.choice(lengths))) for _ in range(9)]
    *full, last = filter(len, in_records(parts))
    assert all(len(each) % record == 0 for each in full)
    assert b"".join([*full, last]) == b"".join(parts)


def test_a_sleeper_is_woken_and_time_ends_its_sleep(pair: Pair) -> None:
    carrier, _ = pair
    started_s = CLOCK.monotonic_s()
    assert carrier.exchange(memoryview(bytearray(8)), 0.01) == 0
    threading.Timer(0.05, carrier.wake).start()
    assert carrier.exchange(memoryview(bytearray(8)), 60.0) == 0
    for _ in range(1 << 17):  # more than the pipe takes
        carrier.wake()
    assert carrier.exchange(memoryview(bytearray(8)), 60.0) == 0
    assert CLOCK.monotonic_s() - started_s < 30


def test_the_end_of_the_peer_comes_behind_its_last_bytes(pair: Pair) -> None:
    carrier, far = pair
    far.sendall(b"last")
    far.close()
    assert carrier.exchange(memoryview(bytearray(MIB)), 1.0) == 4
    with pytest.raises(EOFError):
        carrier.exchange(memoryview(bytearray(8)), 1.0)
