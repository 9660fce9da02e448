"""The first answer of a session, or why there is none."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from holdfast.errors import LinkLost, PointNotFound, ProtocolError
from holdfast.formats.mover import messages as m
from holdfast.mover.line import Line
from holdfast.mover.opening import expect
from tests.holdfast.mover.movers import CLOCK, SWIFT


@contextmanager
def lines() -> Iterator[tuple[Line, Line]]:
    pair = socket.socketpair()
    near, far = (Line(SWIFT, CLOCK) for _ in pair)
    try:
        near.adopt(0, pair[0])
        far.adopt(0, pair[1])
        yield near, far
    finally:
        near.close()
        far.close()


def test_the_message_that_was_expected_is_returned() -> None:
    with lines() as (near, far):
        far.send(m.encode_message(m.Keep(until=3)))
        assert expect(near, m.Keep) == m.Keep(until=3)


def test_a_failure_is_raised_as_what_it_is() -> None:
    with lines() as (near, far):
        far.send(m.encode_message(m.failure(PointNotFound("no such point", hint="Look."))))
        with pytest.raises(PointNotFound, match="no such point") as caught:
            expect(near, m.Keep)
    assert caught.value.hint == "Look."


def test_another_message_and_the_end_are_refused() -> None:
    with lines() as (near, far):
        far.send(m.encode_message(m.Finish()))
        with pytest.raises(ProtocolError, match="Finish came instead of Keep"):
            expect(near, m.Keep)
        far.finish()
        with pytest.raises(LinkLost, match="did not answer"):
            expect(near, m.Keep)
