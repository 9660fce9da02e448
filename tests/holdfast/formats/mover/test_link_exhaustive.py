"""Every place at which a short exchange can be cut, and every bit of it that can be changed."""

import pytest

from holdfast.formats.mover.wire import HEADER_SIZE
from tests.holdfast.formats.mover.pair import Pair

BODIES = [b"first", b"2", b"the third"]
ENDS = [HEADER_SIZE + 5, 2 * HEADER_SIZE + 6, 3 * HEADER_SIZE + 15]


def sent() -> tuple[Pair, bytes]:
    """Return a pair whose first connection has just been given three messages, and their bytes."""
    pair = Pair(1, 2)
    pair.send(0, *BODIES)
    return pair, pair.out(0, 1)


def check(pair: Pair, lost: list[int]) -> None:
    """Check that everything arrived once, and that just what was lost was sent again."""
    assert pair.messages(1) == BODIES
    assert pair.links[0].is_idle
    assert pair.links[1].counters.duplicates == 0
    counters = pair.links[0].counters
    assert (counters.resent_frames, counters.resent_bytes) == (len(lost), sum(len(BODIES[at]) for at in lost))


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("is_told", [False, True])
def test_a_cut_at_any_byte_costs_what_had_not_arrived(first: int, is_told: bool) -> None:
    """Whoever notices first, and whether or not the acknowledgement came through."""
    for at in range(ENDS[-1] + 1):
        pair, data = sent()
        pair.into(1, 1, data[:at])
        if is_told:
            pair.into(0, 1, pair.out(1, 1))
        pair.cut(first, 1)
        pair.settle(2)
        pair.cut(1 - first, 1)
        pair.settle(2)
        check(pair, [message for message, end in enumerate(ENDS) if end > at])


def test_a_cut_of_everything_at_any_byte_costs_what_had_not_arrived() -> None:
    for at in range(ENDS[-1] + 1):
        pair, data = sent()
        pair.into(1, 1, data[:at])
        for side in (0, 1):
            for connection in (1, 2):
                pair.cut(side, connection)
        pair.connect(3)
        check(pair, [message for message, end in enumerate(ENDS) if end > at])


def test_any_changed_bit_costs_the_message_or_the_connection() -> None:
    for bit in range(ENDS[-1] * 8):
        pair, data = sent()
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        pair.into(1, 1, bytes(changed))
        hit = next(message for message, end in enumerate(ENDS) if bit // 8 < end)
        start = ENDS[hit] - HEADER_SIZE - len(BODIES[hit])
        if bit // 8 < start + HEADER_SIZE:
            assert pair.dropped(1) == [1]
            pair.cut(0, 1)
            pair.settle(2)
            check(pair, list(range(hit, 3)))
        else:
            pair.settle(1, 2)
            check(pair, [hit])


def test_any_split_of_the_stream_is_the_same_stream() -> None:
    for at in range(ENDS[-1] + 1):
        pair, data = sent()
        pair.into(1, 1, data[:at])
        pair.into(1, 1, data[at:])
        pair.settle(1)
        check(pair, [])
