"""Who takes leave is heard when somebody is there, and waits for nobody otherwise."""

import threading

import pytest

from holdfast.formats.mover import messages as m
from holdfast.mover.line import Line
from holdfast.mover.parting import part
from tests.holdfast.mover.movers import CLOCK, SWIFT
from tests.holdfast.mover.test_opening import lines


@pytest.mark.parametrize("last", [None, m.Finish()])
def test_the_last_words_arrive_and_the_line_is_closed(last: m.Finish | None) -> None:
    with lines() as (near, far):
        parting = threading.Thread(target=part, args=(near, last))
        parting.start()
        if last is not None:
            message = far.receive(20)
            assert message is not None
            assert m.decode_message(message.payload)[0] == last
        far.finish(20)
        parting.join()
        assert near.has_ended


def test_nobody_takes_leave_of_nobody() -> None:
    line = Line(SWIFT, CLOCK)
    while (room := vars(line)["_link"].room) > 0:
        line.send([bytes(min(room, 4 << 20))])
    started_s = CLOCK.monotonic_s()
    part(line, m.Finish())
    assert CLOCK.monotonic_s() - started_s < 4
