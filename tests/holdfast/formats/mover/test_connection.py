"""A connection knows what arrives next and what goes out next, and decides nothing."""

import pytest

from holdfast.formats.mover.connection import Connection
from holdfast.formats.mover.inbox import Message
from holdfast.formats.mover.wire import HEADER_SIZE, FrameHeader, FrameKind


def fed(connection: Connection, data: bytes) -> bool:
    """Put bytes into the buffer as they fit; return whether the last of them made something whole."""
    whole = False
    while data:
        buffer = connection.buffer()
        count = min(len(buffer), len(data))
        buffer[:count], data = data[:count], data[count:]
        whole = connection.fill(count) is not None
    return whole


def test_a_connection_begins_with_a_header() -> None:
    connection = Connection(3, 7.0)
    assert len(connection.buffer()) == HEADER_SIZE
    assert not fed(connection, bytes(HEADER_SIZE - 1))
    assert len(connection.buffer()) == 1
    assert fed(connection, b"x")


def test_a_message_is_received_where_it_stays() -> None:
    connection, buffer = Connection(3, 7.0), bytearray(8)
    message = Message(0, memoryview(buffer)[:5], buffer)
    connection.expect_message(FrameHeader(FrameKind.DATA, 5, 0, 0, 0, 0), message)
    assert fed(connection, b"hello")
    assert buffer == b"hello\0\0\0"
    assert connection.message is message


def test_what_is_passed_over_takes_little_memory() -> None:
    connection = Connection(3, 7.0)
    connection.expect_nothing(1 << 20)
    assert len(connection.buffer()) == 64 << 10
    assert not fed(connection, bytes((1 << 20) - 1))
    assert len(connection.buffer()) == 1
    assert not fed(connection, b"x")
    assert len(connection.buffer()) == HEADER_SIZE


def test_more_bytes_than_the_buffer_has_are_a_defect_of_the_caller() -> None:
    with pytest.raises(AssertionError):
        Connection(3, 7.0).fill(HEADER_SIZE + 1)


def test_a_frame_goes_out_before_the_next_is_asked_for() -> None:
    connection = Connection(3, 7.0)
    frames = [[memoryview(b"head"), memoryview(b"body")], [memoryview(b"next")]]

    def refill(asked: Connection) -> bool:
        assert asked is connection
        if not frames:
            return False
        connection.put(frames.pop(0))
        return True

    assert [bytes(part) for part in connection.take(6, refill)] == [b"head", b"bo"]
    sending = [connection.is_sending]
    assert len(frames) == 1
    assert [bytes(part) for part in connection.take(100, refill)] == [b"dy", b"next"]
    assert [*sending, connection.is_sending] == [True, False]
    assert connection.take(100, refill) == connection.take(0, refill) == []
