"""What a link does when connections are lost: what did not arrive goes on over others, and nothing else."""

from holdfast.formats.mover.wire import HEADER_SIZE, FrameKind
from tests.holdfast.formats.mover.pair import Pair, control, kinds

BODY = bytes(range(256)) * 4


def test_the_messages_of_a_dead_connection_go_on_after_the_peer_let_go_of_it() -> None:
    pair = Pair(1, 2)
    pair.send(0, BODY)
    pair.into(1, 1, pair.out(0, 1)[:500])
    pair.cut(0, 1)
    assert pair.links[1].memory[1] > 0
    question = pair.out(0, 2)
    assert kinds(question) == [FrameKind.ACK, FrameKind.LOST]
    assert not pair.links[0].wants_output(2)
    pair.into(1, 2, question)
    assert pair.dropped(1) == [1]
    assert pair.links[1].memory[1] == 0
    answer = pair.out(1, 2)
    assert kinds(answer) == [FrameKind.GONE]
    pair.into(0, 2, answer)
    pair.settle(2)
    assert pair.messages(1) == [BODY]
    assert pair.links[0].counters.resent_frames == 1


def test_what_arrived_before_the_cut_is_not_sent_again() -> None:
    pair = Pair(1, 2)
    pair.send(0, BODY, b"lost")
    data = pair.out(0, 1)
    pair.into(1, 1, data[:-1])
    pair.cut(0, 1)
    pair.settle(2)
    assert pair.messages(1) == [BODY, b"lost"]
    assert pair.links[0].counters.resent_bytes == len(b"lost")


def test_a_stalled_connection_does_not_make_others_send_again() -> None:
    pair = Pair(1, 2)
    pair.send(0, b"stalled", *[bytes([at]) for at in range(20)])
    stalled = pair.out(0, 1, HEADER_SIZE + 7)
    pair.settle(2)
    assert pair.messages(1) == []
    assert pair.links[0].memory[0] == len(b"stalled") + 256
    pair.into(1, 1, stalled)
    assert len(pair.messages(1)) == 21
    assert pair.links[0].counters.resent_frames == 0


def test_after_a_cut_of_all_connections_the_work_goes_on_over_new_ones() -> None:
    pair = Pair(1, 2)
    pair.send(0, BODY, b"b", b"c")
    pair.into(1, 1, pair.out(0, 1, HEADER_SIZE + len(BODY)))
    pair.out(0, 2)
    for connection in (1, 2):
        pair.cut(0, connection)
        pair.cut(1, connection)
    assert not pair.links[0].wants_output(1)
    assert pair.out(0, 1) == b""
    pair.connect(3)
    assert pair.messages(1) == [BODY, b"b", b"c"]
    assert pair.links[0].counters.resent_bytes == 2


def test_what_comes_late_on_a_lost_connection_does_not_change_a_message_that_arrived_on_another() -> None:
    pair = Pair(1, 2)
    pair.send(0, b"a" * 90_000, b"b" * 90_000)
    pair.into(1, 1, pair.out(0, 1, HEADER_SIZE + 45_000))
    late = pair.links[1].buffer_for(1)  # where the carrier of connection 1 is receiving right now
    pair.cut(1, 1)
    pair.into(1, 2, pair.out(0, 2))
    late[:] = bytes(len(late))
    pair.cut(0, 1)
    pair.settle(2)
    assert [set(body) for body in pair.messages(1)] == [{ord("a")}, {ord("b")}]


def test_a_question_that_was_lost_is_asked_again() -> None:
    pair = Pair(1, 2, 3)
    pair.send(0, BODY)
    pair.out(0, 1)
    pair.cut(0, 1)
    pair.out(0, 2)
    pair.cut(0, 2)
    pair.settle(3)
    assert pair.messages(1) == [BODY]
    assert pair.dropped(1) == [1]


def test_a_connection_that_carried_nothing_needs_no_question() -> None:
    pair = Pair(1, 2)
    pair.cut(0, 1)
    assert kinds(pair.out(0, 2)) == [FrameKind.ACK]
    pair.cut(0, 77)
    assert pair.links[0].counters.connections_lost == 1


def test_an_acknowledgement_that_was_lost_is_said_again() -> None:
    pair = Pair(1, 2)
    pair.send(0, BODY)
    pair.into(1, 1, pair.out(0, 1))
    pair.out(1, 2)
    pair.cut(1, 2)
    pair.settle(1)
    assert pair.links[0].is_idle


def test_a_number_that_was_given_up_is_refused() -> None:
    pair = Pair(1)
    pair.into(1, 1, control(FrameKind.LOST, 2))
    assert not pair.links[1].connection_made(2, 0.0)
    assert not pair.links[1].connection_made(1, 0.0)
    assert kinds(pair.out(1, 1)) == [FrameKind.GONE]


def test_an_answer_to_no_question_is_ignored() -> None:
    pair = Pair(1)
    pair.send(0, BODY)
    pair.out(0, 1)
    pair.into(0, 1, control(FrameKind.GONE, 1))
    assert not pair.links[0].wants_output(1)


def test_bytes_of_a_connection_that_was_given_up_are_ignored() -> None:
    pair = Pair(1, 2)
    pair.send(0, BODY)
    data = pair.out(0, 1)
    pair.cut(1, 1)
    pair.into(1, 1, data)
    pair.links[1].received(1, 5, 0.0)
    assert len(pair.links[1].buffer_for(1)) == 0
    assert pair.messages(1) == []
