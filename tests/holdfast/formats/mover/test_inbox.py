"""Messages come out in order and once, and what is held stays below the window."""

import pytest

from holdfast.errors import ProtocolError
from holdfast.formats.mover.inbox import Inbox, Message
from holdfast.formats.mover.wire import FRAME_COST, RANGES_MAX, window_min

LONGEST = 1 << 20
WINDOW = window_min(LONGEST)


def arrived(inbox: Inbox, sequence: int, length: int = 10) -> list[int]:
    message = inbox.open(sequence, length)
    message.payload[:1] = bytes([sequence % 256])
    return [ready.sequence for ready in inbox.take(message)]


def test_messages_are_handed_out_in_order() -> None:
    inbox = Inbox(WINDOW, LONGEST)
    assert [arrived(inbox, at) for at in (1, 3, 0, 2, 4)] == [[], [], [0, 1], [2, 3], [4]]
    assert inbox.next_sequence == 5


def test_a_second_copy_is_dropped() -> None:
    inbox = Inbox(WINDOW, LONGEST)
    first, second = inbox.open(0, 5), inbox.open(0, 5)
    assert [ready.sequence for ready in inbox.take(first)] == [0]
    assert inbox.take(second) == ()
    assert inbox.held == 5 + FRAME_COST
    assert inbox.has(0)
    assert not inbox.has(1)
    arrived(inbox, 2)
    assert inbox.has(2)


def test_what_is_held_counts_from_the_first_byte_to_the_release() -> None:
    inbox = Inbox(WINDOW, LONGEST)
    message = inbox.open(0, 100)
    assert inbox.held == 100 + FRAME_COST
    [ready] = inbox.take(message)
    assert inbox.limit == WINDOW
    inbox.release(ready)
    assert (inbox.held, inbox.limit) == (0, WINDOW + 100 + FRAME_COST)


def test_a_frame_given_up_brings_no_credit() -> None:
    inbox = Inbox(WINDOW, LONGEST)
    inbox.abandon(inbox.open(0, 100))
    assert (inbox.held, inbox.limit) == (0, WINDOW)


def test_a_message_is_released_once() -> None:
    inbox = Inbox(WINDOW, LONGEST)
    [ready] = inbox.take(inbox.open(0, 100))
    inbox.release(ready)
    with pytest.raises(AssertionError, match="released already"):
        inbox.release(ready)


def test_a_sender_without_credit_is_refused() -> None:
    inbox = Inbox(WINDOW, LONGEST)
    messages = [inbox.open(at, LONGEST) for at in range(2)]
    with pytest.raises(ProtocolError, match="outside the window"):
        inbox.open(2, 1)
    inbox.abandon(messages[0])
    inbox.open(2, 1)


def test_a_frame_that_is_too_long_or_too_far_ahead_is_refused() -> None:
    inbox = Inbox(WINDOW, LONGEST)
    with pytest.raises(ProtocolError, match=f"{LONGEST} are allowed$"):
        inbox.open(0, LONGEST + 1)
    ahead = WINDOW // FRAME_COST
    inbox.open(ahead, 1)
    with pytest.raises(ProtocolError, match="outside the window"):
        inbox.open(ahead + 1, 1)
    assert inbox.held == 1 + FRAME_COST


def test_a_window_holds_two_messages_at_least() -> None:
    with pytest.raises(AssertionError):
        Inbox(WINDOW - 1, LONGEST)


def test_what_came_out_of_order_is_listed_as_ranges() -> None:
    inbox = Inbox(WINDOW, LONGEST)
    assert inbox.ranges() == []
    for at in (1, 2, 3, 5, 9, 8):
        arrived(inbox, at)
    assert inbox.ranges() == [(1, 3), (5, 1), (8, 2)]


def test_a_list_of_ranges_has_an_end() -> None:
    inbox = Inbox(WINDOW, LONGEST)
    for at in range(RANGES_MAX + 5):
        arrived(inbox, 2 * at + 1)
    assert inbox.ranges() == [(2 * at + 1, 1) for at in range(RANGES_MAX)]


def received(inbox: Inbox, length: int) -> Message:
    [ready] = inbox.take(inbox.open(inbox.next_sequence, length))
    return ready


def test_large_buffers_are_used_again() -> None:
    inbox = Inbox(WINDOW, LONGEST)
    first = received(inbox, 1 << 19)
    buffer = first.payload.obj
    inbox.release(first)
    assert inbox.memory == 1 << 19
    again = received(inbox, (1 << 19) - (1 << 14))
    assert again.payload.obj is buffer
    assert len(again.payload) == (1 << 19) - (1 << 14)
    inbox.release(again)
    assert received(inbox, 1 << 18).payload.obj is not buffer
    assert received(inbox, (1 << 19) + 1).payload.obj is not buffer


def test_the_buffer_of_a_lost_connection_is_not_used_again() -> None:
    inbox = Inbox(WINDOW, LONGEST)
    damaged, lost = inbox.open(0, 1 << 19), inbox.open(1, 1 << 19)
    buffers = damaged.payload.obj, lost.payload.obj
    inbox.lose(lost)
    inbox.abandon(damaged)
    assert (inbox.held, inbox.memory) == (0, 1 << 19)
    again = [inbox.open(at, 1 << 19).payload.obj for at in range(2)]
    assert again[0] is buffers[0]
    assert again[1] is not buffers[1]


def test_small_buffers_are_not_kept() -> None:
    inbox = Inbox(WINDOW, LONGEST)
    inbox.release(received(inbox, 1000))
    assert inbox.memory == 0


def test_buffers_kept_for_later_give_way_to_what_arrives() -> None:
    inbox = Inbox(WINDOW, LONGEST)
    messages = [received(inbox, 100_000 + at) for at in range(20)]
    for message in messages:
        inbox.release(message)
    assert 20 * 100_000 <= inbox.memory <= WINDOW
    for _ in range(2):
        received(inbox, LONGEST)
        assert inbox.memory <= WINDOW


def test_no_more_buffers_are_kept_than_the_window_leaves() -> None:
    inbox = Inbox(WINDOW, LONGEST)
    messages = [received(inbox, 1 << 19) for _ in range(3)]
    inbox.release(messages.pop())
    other = [received(inbox, 1 << 17) for _ in range(4)]
    for message in [*messages, *other]:
        inbox.release(message)
        assert inbox.memory <= WINDOW


def test_a_cleared_inbox_keeps_nothing_for_later() -> None:
    inbox = Inbox(WINDOW, LONGEST)
    arrived(inbox, 1)
    kept = Inbox(WINDOW, LONGEST)
    kept.release(received(kept, 1 << 19))
    for each in (inbox, kept):
        each.clear()
        assert each.ranges() == []
        assert (each.held, each.memory) == (0, 0)
