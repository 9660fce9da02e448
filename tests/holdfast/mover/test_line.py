"""A line brings messages over in order and ends for both sides, or fails for both."""

import socket
import threading

import msgspec
import pytest

from holdfast.errors import HoldfastError, LinkError, LinkLost, OperationCancelled, ProtocolError, WriterFenced
from holdfast.formats.mover.link import Link
from holdfast.formats.mover.wire import FrameKind
from holdfast.mover.line import Line
from tests.holdfast.mover.movers import CLOCK, MIB, SWIFT, until
from tests.holdfast.mover.test_opening import lines
from tests.holdfast.mover.weather import next_frame


def test_messages_of_many_threads_all_arrive_once() -> None:
    with lines() as (near, far):

        def send(first: int) -> None:
            for number in range(first, first + 50):
                near.send([number.to_bytes(4, "big"), bytes(number * 100)])

        threads = [threading.Thread(target=send, args=(first,)) for first in range(0, 200, 50)]
        for thread in threads:
            thread.start()
        found = []
        for _ in range(200):
            message = far.receive(20)
            assert message is not None
            found.append(int.from_bytes(message.payload[:4], "big"))
            far.release(message)
        for thread in threads:
            thread.join()
        assert sorted(found) == list(range(200))
        near.finish()
        assert far.receive() is None
        assert far.is_over


def test_a_message_does_not_wait_until_the_peer_says_something() -> None:
    near, far = socket.socketpair()
    peer = Link(SWIFT, CLOCK.monotonic_s(), is_dialler=False)
    peer.connection_made(0, CLOCK.monotonic_s())
    line = Line(msgspec.structs.replace(SWIFT, streams=1), CLOCK, lambda _: near)
    far.settimeout(30)
    far.sendall(b"".join(peer.take_output(0, MIB, CLOCK.monotonic_s())))  # the credit, and not another word
    started_s = CLOCK.monotonic_s()
    for number in range(12):
        line.send([bytes([number]) * 100])
        while next_frame(far)[0][0].kind != FrameKind.DATA:
            pass
    assert CLOCK.monotonic_s() - started_s < 6  # an idle connection looks around once a second
    far.close()
    line.close()


def test_a_message_that_no_window_ever_takes_is_refused() -> None:
    with lines() as (near, _), pytest.raises(ProtocolError, match="a message of 5242880 bytes"):
        near.send([bytes(5 * MIB)])


def test_sending_and_ending_wait_as_long_as_they_are_told() -> None:
    line = Line(SWIFT, CLOCK)
    for _ in range(3):
        line.send([bytes(4 * MIB)])
    with pytest.raises(LinkLost, match=r"took nothing for 0\.1 s"):
        line.send([bytes(4 * MIB)], 0.1)
    with pytest.raises(LinkLost, match=r"within 0\.1 s"):
        line.finish(0.1)
    assert line.receive(0.01) is None
    line.close()
    assert line.is_over


def test_a_line_whose_peer_has_heard_all_and_left_is_finished() -> None:
    with lines() as (near, far):
        near.send([b"the last words"])
        message = far.receive(20)
        assert message is not None
        until(lambda: bool(vars(near)["_link"].is_idle), "it is known that they have arrived")
        far.close()
        until(lambda: near.is_away, "nobody is there")
        near.finish()
        assert not near.is_over  # nobody was there to be told


def test_who_waits_gets_the_error_of_a_line_that_was_given_up() -> None:
    with lines() as (near, far):
        errors: list[HoldfastError] = []

        def wait() -> None:
            try:
                near.receive()
            except HoldfastError as error:
                errors.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        near.fail(WriterFenced("somebody else writes"))
        thread.join()
        assert [type(error) for error in errors] == [WriterFenced]
        with pytest.raises(WriterFenced):
            near.send([b"x"])
        until(lambda: far.counters.connections_lost == 1, "the other side sees it")


def test_closing_ends_whoever_waits_for_room_or_messages() -> None:
    line = Line(SWIFT, CLOCK)
    errors: list[type[HoldfastError]] = []

    def fill() -> None:
        try:
            while True:
                line.send([bytes(4 * MIB)])
        except HoldfastError as error:
            errors.append(type(error))

    thread = threading.Thread(target=fill)
    thread.start()
    line.close()
    line.close()
    thread.join()
    assert errors == [OperationCancelled]
    spare = socket.socketpair()
    assert not line.adopt(1, spare[0])
    assert spare[1].recv(1) == b""
    spare[1].close()


@pytest.mark.parametrize("error", [OSError(111, "Connection refused"), LinkError("greeting is damaged")])
def test_a_connection_that_does_not_come_about_is_dialled_until_it_is_given_up(error: Exception) -> None:
    numbers: list[int] = []

    def dial(number: int) -> socket.socket:
        numbers.append(number)
        raise error

    options = msgspec.structs.replace(SWIFT, streams=1, redial_s=0.05, give_up_s=0.5)
    line = Line(options, CLOCK, dial)
    until(lambda: line.trouble != "", "it is known why")
    with pytest.raises(LinkLost, match=r"no connection for 0.5 s; the last try: .*(refused|damaged)"):
        line.receive()
    line.close()
    assert len(numbers) > 2
    assert numbers == sorted(set(numbers))


def test_a_stream_that_the_peer_gave_up_before_it_was_taken_is_dialled_again() -> None:
    far: list[socket.socket] = []
    begun = threading.Event()

    def dial(number: int) -> socket.socket:
        assert begun.wait(30)
        near, other = socket.socketpair()
        far.append(other)
        if number == 0:
            with vars(line)["_lock"]:
                vars(line)["_link"]._gone.append(number)  # as the peer says on another connection
        return near

    line = Line(msgspec.structs.replace(SWIFT, streams=1), CLOCK, dial)
    begun.set()
    until(lambda: line.counters.connections_made == 1, "the next one is taken")
    assert len(far) == 2
    line.close()
    for each in far:
        each.close()


def test_a_stream_is_dialled_again_whatever_went_wrong(caplog: pytest.LogCaptureFixture) -> None:
    dialled: list[int] = []

    def dial(number: int) -> socket.socket:
        dialled.append(number)
        raise ValueError("a defect")

    line = Line(msgspec.structs.replace(SWIFT, streams=1, redial_s=0.05), CLOCK, dial)
    until(lambda: len(dialled) > 2, "it is dialled again")
    assert line.trouble == "ValueError: a defect"
    line.close()
    assert "connection 0 could not be dialled" in caplog.text


def test_a_line_that_is_closed_while_it_dials_does_not_wait_for_it() -> None:
    dialled, go_on = threading.Event(), threading.Event()
    pair = socket.socketpair()

    def dial(_: int) -> socket.socket:
        dialled.set()
        assert go_on.wait(30)
        return pair[0]

    line = Line(msgspec.structs.replace(SWIFT, streams=1), CLOCK, dial)
    assert dialled.wait(30)
    line.close()
    go_on.set()
    assert pair[1].recv(1) == b""
    pair[1].close()
