"""A frame is kept until it arrived, and is sent once unless it was lost."""

import pytest

from holdfast.errors import ProtocolError
from holdfast.formats.mover.outbox import Outbox, OutFrame
from holdfast.formats.mover.wire import FRAME_COST

WINDOW = 100_000


def filled(count: int, *, limit: int = WINDOW) -> Outbox:
    box = Outbox(WINDOW, 4000)
    for at in range(count):
        box.put(OutFrame([bytes([at]), b"", bytes([at]) * 9]))
    box.grant(limit)
    return box


def taken(box: Outbox, connection: int) -> list[int]:
    found = []
    while (frame := box.take(connection)) is not None:
        found.append(frame.sequence)
    return found


def test_frames_are_taken_in_order_by_whoever_comes() -> None:
    box = filled(3)
    assert [box.take(at) is not None and box.is_ready for at in (5, 6)] == [True, True]
    assert taken(box, 7) == [2]
    assert not box.is_ready


def test_urgent_frames_go_before_those_that_wait_and_in_their_own_order() -> None:
    box = filled(2)
    assert taken_bodies(box, 1) == [0]
    for at in (10, 11):
        box.put(OutFrame([bytes([at])]), is_urgent=True)
    assert box.is_ready
    assert taken_bodies(box, 3) == [10, 11, 1]
    box.put(OutFrame([b"x"]), is_urgent=True)
    box.clear()
    assert not box.is_ready


def taken_bodies(box: Outbox, count: int) -> list[int]:
    frames = [box.take(1) for _ in range(count)]
    assert [frame.sequence for frame in frames if frame] == list(range(box.next_sequence - count, box.next_sequence))
    return [frame.parts[0][0] for frame in frames if frame]


def test_a_window_grows_to_what_moves_while_an_answer_comes_back() -> None:
    box = Outbox(5000, 4000, 20_000)
    box.grant(1 << 40)
    for second in range(40):
        box.at(second * 0.1)
        while box.room >= 1000:
            box.put(OutFrame([bytes(1000)]))
        taken(box, 1)
        box.at(second * 0.1 + 0.05)
        box.acknowledge(box.next_sequence)
    assert box.round_trip.shortest_s == pytest.approx(0.05)
    assert box.room == 4000
    while box.room >= 1000:
        box.put(OutFrame([bytes(1000)]))
    assert 20_000 - 2000 < box.kept <= 20_000


def test_the_parts_of_a_message_are_referred_to() -> None:
    part = bytearray(b"abc")
    box = Outbox(WINDOW, 4000)
    box.put(OutFrame([part, b""]))
    box.grant(WINDOW)
    frame = box.take(1)
    assert isinstance(frame, OutFrame)
    assert [view.obj for view in frame.parts] == [part]


def test_nothing_is_taken_without_credit() -> None:
    box = filled(2, limit=2 * (10 + FRAME_COST) - 1)
    assert taken(box, 1) == [0]
    box.grant(5)
    assert not box.is_ready
    box.grant(2 * (10 + FRAME_COST))
    box.grant(5)
    assert taken(box, 1) == [1]


def test_room_is_what_the_window_leaves() -> None:
    box = Outbox(5000, 4000)
    assert box.room == 4000
    box.put(OutFrame([bytes(4000)]))
    assert box.room == 5000 - 4000 - 2 * FRAME_COST
    box.put(OutFrame([bytes(box.room)]))
    assert box.room == -FRAME_COST
    assert box.kept == 5000
    with pytest.raises(AssertionError, match="room for"):
        box.put(OutFrame([b"x"]))


def test_an_empty_message_is_a_defect_of_the_caller() -> None:
    with pytest.raises(AssertionError, match=r"^frame of 0 bytes"):
        Outbox(WINDOW, 4000).put(OutFrame([b""]))


def test_acknowledged_frames_are_forgotten() -> None:
    box = filled(6)
    taken(box, 1)
    box.acknowledge(2, [(3, 1), (5, 1)])
    box.acknowledge(2, [(3, 1), (5, 1)])
    assert box.kept == 2 * (10 + FRAME_COST)
    box.acknowledge(1)
    box.repeat_all(1)
    assert taken(box, 2) == [2, 4]
    box.acknowledge(6)
    assert box.is_empty


@pytest.mark.parametrize("below, ranges", [(4, []), (0, [(3, 1)]), (0, [(0, 1), (2, 1 << 31)])])
def test_frames_that_were_never_sent_cannot_be_acknowledged(below: int, ranges: list[tuple[int, int]]) -> None:
    box = filled(4, limit=3 * (10 + FRAME_COST))
    assert taken(box, 1) == [0, 1, 2]
    with pytest.raises(ProtocolError, match=r"those below 3 were sent$"):
        box.acknowledge(below, ranges)


def test_a_damaged_frame_is_sent_again_once() -> None:
    box = filled(3)
    taken(box, 1)
    assert box.repeat(1, 1)
    assert not box.repeat(1, 1)
    assert box.is_ready
    frame = box.take(2)
    assert frame is not None
    assert (frame.sequence, frame.is_again, frame.connection) == (1, True, 2)
    assert not box.repeat(1, 1)
    assert not box.repeat(99, 2)


def test_a_frame_that_arrives_after_all_is_not_sent_again() -> None:
    box = filled(3)
    taken(box, 1)
    box.repeat(1, 1)
    box.acknowledge(2)
    assert taken(box, 2) == []


def test_the_frames_of_a_dead_connection_go_to_others_and_no_others_do() -> None:
    box = filled(4)
    for connection in (1, 2, 1, 2):
        box.take(connection)
    box.acknowledge(1)
    assert box.has_flights_on(1)
    assert not box.has_flights_on(3)
    box.repeat_all(1)
    assert not box.has_flights_on(1)
    assert taken(box, 2) == [2]


def test_lost_frames_go_first_and_need_no_credit() -> None:
    box = filled(4, limit=2 * (10 + FRAME_COST))
    taken(box, 1)
    box.repeat_all(1)
    assert taken(box, 2) == [0, 1]


def test_a_cleared_box_is_empty() -> None:
    box = filled(3)
    box.take(1)
    box.clear()
    assert (box.is_empty, box.is_ready, box.take(1)) == (True, False, None)
