"""What a link does in each single case; test_link_cuts.py has lost connections, test_link_weather.py all at once."""

import msgspec
import pytest

from holdfast.errors import LinkLost, OperationCancelled, ProtocolError, WriterFenced
from holdfast.formats.mover.events import Counters, Dial, Dropped, Ended, Failed
from holdfast.formats.mover.inbox import Message
from holdfast.formats.mover.outbox import OutFrame
from holdfast.formats.mover.states import LinkState
from holdfast.formats.mover.wire import HEADER_SIZE, FrameKind, pack_header, pack_ranges
from tests.holdfast.formats.mover.pair import MESSAGE_MAX, OPTIONS, Pair, control, kinds

BODY = bytes(range(256)) * 4


# ---------------------------------------------------------------------------------------------------- messages


def test_messages_go_both_ways() -> None:
    pair = Pair(1, 2)
    pair.send(0, b"a", b"b")
    pair.send(1, b"c")
    pair.settle(1, 2)
    assert (pair.messages(1), pair.messages(0)) == ([b"a", b"b"], [b"c"])
    assert pair.links[0].is_idle
    assert pair.links[1].is_idle


def test_a_sender_learns_which_messages_have_arrived() -> None:
    pair = Pair(1)
    pair.send(0, b"a", b"b")
    data = pair.out(0, 1)
    pair.into(1, 1, data[:-1])
    pair.into(0, 1, pair.out(1, 1))
    assert pair.links[0].acknowledged == 1
    pair.into(1, 1, data[-1:])
    pair.into(0, 1, pair.out(1, 1))
    assert pair.links[0].acknowledged == 2


def test_nothing_is_sent_before_the_peer_gave_credit() -> None:
    pair = Pair()
    pair.links[0].connection_made(1, 0.0)
    pair.send(0, b"a")
    assert kinds(pair.out(0, 1)) == [FrameKind.ACK]
    assert not pair.links[0].wants_output(1)


def test_any_idle_connection_takes_the_next_message() -> None:
    pair = Pair(1, 2)
    pair.send(0, b"a", b"b", b"c")
    size = HEADER_SIZE + 1
    first, second, third = pair.out(0, 1, size), pair.out(0, 2, size), pair.out(0, 2, size)
    pair.into(1, 2, second)
    pair.into(1, 2, third)
    assert pair.messages(1) == []
    pair.into(1, 1, first)
    assert pair.messages(1) == [b"a", b"b", b"c"]


def test_payload_is_neither_joined_nor_copied_on_its_way_out() -> None:
    pair = Pair(1)
    head, body = b"head", bytearray(BODY)
    pair.links[0].send(OutFrame([head, body]))
    parts = pair.links[0].take_output(1, 1 << 20, 0.0)
    assert parts[1].obj is head
    assert parts[2].obj is body


def test_output_comes_in_the_sizes_that_are_asked_for() -> None:
    pair = Pair(1)
    pair.send(0, BODY)
    pieces = [pair.out(0, 1, 100) for _ in range(11)]
    assert [len(piece) for piece in pieces] == [100] * 10 + [64]
    assert not pair.links[0].wants_output(1)
    for piece in pieces:
        pair.into(1, 1, piece)
    assert pair.messages(1) == [BODY]


def test_bytes_may_be_received_into_the_links_buffer() -> None:
    pair = Pair(1)
    pair.send(0, BODY)
    data, link = pair.out(0, 1), pair.links[1]
    while data:
        buffer = link.buffer_for(1)
        count = min(len(buffer), len(data), 333)
        buffer[:count], data = data[:count], data[count:]
        link.received(1, count, 0.0)
    [message] = link.events()
    assert isinstance(message, Message)
    assert message.payload == BODY


def test_a_sender_stops_at_the_window_and_goes_on_after_a_release() -> None:
    pair = Pair(1)
    pair.send(0, *[bytes([at]) * MESSAGE_MAX for at in range(3)])
    pair.settle(1)
    assert len(pair.messages(1)) == 2
    assert pair.links[0].memory == (MESSAGE_MAX + 256, 0)
    assert pair.links[1].memory == (0, OPTIONS.receive_window)
    [first, _] = [event for event in pair.got[1] if isinstance(event, Message)]
    pair.links[1].release(first)
    pair.settle(1)
    assert len([event for event in pair.got[1] if isinstance(event, Message)]) == 3


def test_a_small_release_is_told_with_the_next_frame_only() -> None:
    pair = Pair(1)
    pair.send(0, b"a")
    pair.settle(1)
    [message] = pair.got[1]
    assert isinstance(message, Message)
    pair.links[1].release(message)
    assert not pair.links[1].wants_output(1)


def test_room_is_what_the_window_of_the_sender_leaves() -> None:
    pair = Pair()
    assert pair.links[0].room == MESSAGE_MAX
    pair.send(0, *[bytes(MESSAGE_MAX)] * 3)
    assert pair.links[0].room == MESSAGE_MAX - 4 * 256
    assert not pair.links[0].is_idle


# ---------------------------------------------------------------------------------------------------- damage


def test_a_damaged_message_alone_is_sent_again() -> None:
    pair = Pair(1)
    pair.send(0, BODY, b"next")
    data = bytearray(pair.out(0, 1))
    data[HEADER_SIZE + 100] ^= 4
    pair.into(1, 1, bytes(data))
    assert pair.messages(1) == []
    pair.settle(1)
    assert pair.messages(1) == [BODY, b"next"]
    assert pair.links[0].counters.resent_bytes == len(BODY)
    assert pair.counted(0) == {"frames_sent": 3, "resent_frames": 1, "nacks_received": 1, "connections_made": 1}
    assert pair.counted(1) == {"frames_received": 2, "nacks_sent": 1, "connections_made": 1}


def test_a_damaged_header_costs_the_connection() -> None:
    pair = Pair(1, 2)
    pair.send(0, BODY)
    data = bytearray(pair.out(0, 1))
    data[5] ^= 1
    pair.into(1, 1, bytes(data))
    assert pair.dropped(1) == [1]
    pair.cut(0, 1)
    pair.settle(2)
    assert pair.messages(1) == [BODY]


def test_a_damaged_acknowledgement_costs_the_connection() -> None:
    pair = Pair(1)
    payload = pack_ranges([(1, 1)])
    pair.into(1, 1, pack_header((FrameKind.ACK, len(payload), 0), (0, 0), 0) + payload)
    assert pair.dropped(1) == [1]
    assert pair.links[1].state is LinkState.OPEN


def test_a_request_for_what_is_not_in_flight_is_ignored() -> None:
    pair = Pair(1)
    pair.into(0, 1, control(FrameKind.NACK, 5))
    assert pair.links[0].counters.nacks_received == 0
    assert pair.others(0) == []


@pytest.mark.parametrize("length", [1, 70_000, 3 * (64 << 10)])
def test_what_is_here_already_is_passed_over(length: int) -> None:
    large = msgspec.structs.replace(OPTIONS, message_max=1 << 20, receive_window=4 << 20, send_window=4 << 20)
    pair = Pair(1, 2, options=large)
    pair.send(0, bytes(length))
    data = pair.out(0, 1)
    for connection in (1, 2, 2):
        pair.into(1, connection, data)
    assert len(pair.messages(1)) == 1
    assert pair.links[1].counters.duplicates == 2
    pair.send(0, b"next")
    pair.settle(1, 2)
    assert pair.messages(1)[1:] == [b"next"]


def test_two_copies_that_arrive_at_once_count_once() -> None:
    pair = Pair(1, 2)
    pair.send(0, BODY)
    data = pair.out(0, 1)
    pair.into(1, 1, data[:500])
    pair.into(1, 2, data)
    pair.into(1, 1, data[500:])
    assert pair.messages(1) == [BODY]
    assert pair.counted(1) == {"frames_received": 1, "duplicates": 1, "connections_made": 2}


# ---------------------------------------------------------------------------------------------------- time


def test_a_quiet_connection_says_that_it_lives() -> None:
    pair = Pair(1)
    assert pair.links[1].next_deadline() == 5.0
    pair.now_s = 5.0
    pair.links[1].tick(5.0)
    assert pair.links[1].next_deadline() == 10.0
    assert kinds(pair.out(1, 1)) == [FrameKind.ACK]


def test_a_silent_connection_is_given_up() -> None:
    pair = Pair(1, 2)
    pair.now_s = 6.0
    pair.send(0, b"a")
    pair.settle(2)
    for now_s in (10.0, 15.0, 20.0):
        pair.links[1].tick(now_s)
    assert pair.others(1) == [Dropped(1, "nothing was heard for 20 s")]


def test_a_dialler_dials_its_streams_and_again_those_it_lost() -> None:
    pair = Pair()
    link = pair.links[0]
    assert link.next_deadline() == 0.0
    link.tick(0.0)
    assert link.events() == [Dial(0)]
    assert link.next_deadline() == 1.0
    link.connection_lost(0, 0.5)
    link.tick(1.0)
    assert link.events() == [Dial(1), Dial(2)]  # the other one, and the first again
    link.connection_made(1, 1.0)
    link.connection_lost(2, 1.5)
    link.tick(1.9)
    assert link.events() == []
    link.tick(2.0)
    assert link.events() == [Dial(3)]
    assert pair.links[1].next_deadline() == 1800.0


@pytest.mark.parametrize("side", [0, 1])
def test_a_link_alone_for_half_an_hour_has_failed(side: int) -> None:
    pair = Pair(1)
    link = pair.links[side]
    link.connection_lost(1, 100.0)
    link.tick(1899.0)
    assert link.state is LinkState.OPEN
    link.tick(1900.0)
    assert isinstance(link.error, LinkLost)
    assert Failed(link.error) in link.events()
    assert link.next_deadline() is None
    link.tick(3000.0)
    assert link.events() == []


def test_a_dialler_dials_all_its_streams_and_more_where_answers_have_a_long_way() -> None:
    far = msgspec.structs.replace(OPTIONS, streams_far=4, far_s=0.03)
    for way_s, more in ((0.01, []), (0.02, [Dial(1), Dial(2), Dial(3)])):
        pair = Pair(0, options=far)
        pair.links[0].tick(0.0)
        assert pair.links[0].events() == [Dial(0)]
        pair.got[0].clear()
        pair.send(0, b"a")
        data = pair.out(0, 0)
        pair.now_s += way_s
        pair.into(1, 0, data)
        data = pair.out(1, 0)
        pair.now_s += way_s
        pair.into(0, 0, data)
        assert pair.links[0].round_trip_s == pytest.approx(2 * way_s)
        assert pair.got[0] == more


def test_a_receiver_gives_more_credit_where_answers_have_a_long_way() -> None:
    options = msgspec.structs.replace(OPTIONS, window_max=20 * MESSAGE_MAX, send_window=20 * MESSAGE_MAX)
    pair = Pair(0, options=options)
    at_once = []
    for _ in range(20):
        pair.send(1, b"a word back")
        while pair.links[0].room >= MESSAGE_MAX:
            pair.send(0, bytes(MESSAGE_MAX))
        data = [pair.out(side, 0) for side in (0, 1)]
        at_once.append(len(data[0]) // MESSAGE_MAX)
        pair.now_s += 0.1
        for side in (0, 1):
            pair.into(1 - side, 0, data[side])
        for message in pair.got[1]:
            assert isinstance(message, Message)
            pair.links[1].release(message)
        pair.got[1].clear()
    assert at_once[0] == 2
    assert 10 <= max(at_once) <= 20


# ---------------------------------------------------------------------------------------------------- the end


def test_a_finished_link_ends_on_both_sides_once_everything_arrived() -> None:
    pair = Pair(1, 2)
    pair.send(0, b"last")
    pair.links[0].finish()
    pair.settle(1, 2)
    assert pair.messages(1) == [b"last"]
    assert [link.state for link in pair.links] == [LinkState.ENDED] * 2
    assert pair.others(0) == pair.others(1) == [Ended()]
    assert pair.links[0].next_deadline() is None
    assert not pair.links[0].connection_made(5, 0.0)


def test_the_end_is_said_on_every_connection() -> None:
    pair = Pair(1, 2)
    pair.links[0].finish()
    assert [kinds(pair.out(0, connection)) for connection in (1, 2, 1)] == [[FrameKind.END], [FrameKind.END], []]


def test_both_sides_may_finish() -> None:
    pair = Pair(1)
    for link in pair.links:
        link.finish()
    pair.settle(1)
    assert [link.state for link in pair.links] == [LinkState.ENDED] * 2


def test_a_link_that_finishes_waits_for_its_messages() -> None:
    pair = Pair(1)
    pair.send(0, b"last")
    pair.links[0].finish()
    assert kinds(pair.out(0, 1)) == [FrameKind.DATA]
    assert pair.links[0].state is LinkState.FINISHING
    with pytest.raises(AssertionError, match="the link is finishing"):
        pair.send(0, b"more")


def test_a_failed_link_drops_everything_and_says_why() -> None:
    pair = Pair(1, 2)
    pair.send(0, BODY)
    error = WriterFenced("attempt 3 took over")
    pair.links[0].fail(error)
    pair.links[0].fail(OperationCancelled("again"))
    assert pair.others(0) == [
        Dropped(1, "the link failed: attempt 3 took over"),
        Dropped(2, "the link failed: attempt 3 took over"),
        Failed(error),
    ]
    assert pair.links[0].memory == (0, 0)
    with pytest.raises(WriterFenced):
        pair.send(0, b"more")
    pair.links[0].finish()
    assert pair.links[0].state is LinkState.FAILED


@pytest.mark.parametrize(
    "data",
    [
        control(FrameKind.ACK, below=1),
        control(FrameKind.LOST, 1),
        control(FrameKind.END, 1),
        pack_header((FrameKind.DATA, MESSAGE_MAX + 1, 0), (0, 0), 0),
        pack_header((FrameKind.DATA, 1, 1 << 60), (0, 0), 0),
        pack_header((FrameKind.ACK, 1, 0), (0, 0), 0xD202EF8D) + b"\0",
    ],
)
def test_a_peer_that_breaks_the_protocol_ends_the_link(data: bytes) -> None:
    pair = Pair(1, 2)
    pair.into(1, 1, data)
    assert isinstance(pair.links[1].error, ProtocolError)
    assert pair.dropped(1) == [1, 2]


def test_nonsense_behind_the_end_costs_the_connection_only() -> None:
    pair = Pair(1, 2)
    pair.links[0].finish()
    pair.settle(1)
    pair.into(1, 1, control(FrameKind.ACK, below=9))
    assert pair.dropped(1) == [1]
    assert pair.links[1].state is LinkState.ENDED


def test_counters_are_a_copy() -> None:
    pair = Pair(1)
    before = pair.links[0].counters
    pair.send(0, b"a")
    pair.settle(1)
    assert before != pair.links[0].counters
    assert before.frames_sent == 0
    assert Counters() == Counters(frames_sent=0)
