"""A window grows with the line and stays within its bounds."""

import pytest

from holdfast.formats.mover.window import RoundTrip, Window


def test_a_window_stays_where_answers_are_there_at_once() -> None:
    window = Window(16, 64)
    assert [window.moved(5, 0.001 * at, 0.0) for at in range(100)] == [0] * 100
    assert [window.moved(5, 0.001 * at, None) for at in range(100)] == [0] * 100
    assert window.size == 16


def test_a_window_grows_to_some_round_trips_and_not_beyond_its_bound() -> None:
    window = Window(16, 64, 3)
    assert window.moved(0, 0.0, 0.02) == 0
    assert window.moved(5, 0.05, 0.02) == 0
    assert window.moved(45, 0.1, 0.02) == 30 - 16  # 10 in a round trip
    assert window.moved(50, 0.3, 0.02) == 0  # 5 in a round trip
    assert window.size == 30
    assert window.moved(10000, 0.4, 0.02) == 34
    assert window.size == 64


def test_half_of_the_most_is_there_at_once_where_answers_have_a_long_way() -> None:
    window = Window(16, 64)
    assert window.moved(1, 5.0, 0.1) == 16
    assert window.size == 32
    assert window.moved(100, 6.0, 0.1) == 8  # 10 in a round trip


def test_a_burst_on_a_short_line_widens_nothing() -> None:
    window = Window(16, 64)
    for at in range(1000):
        window.moved(10 if at % 100 == 0 else 0, 0.001 * at, 0.002)  # 100 a second, 10 at once
    assert window.size == 16


def test_a_window_whose_bound_is_below_it_does_not_move() -> None:
    window = Window(16, 0)
    assert window.moved(0, 0.0, 0.1) == window.moved(1000, 0.1, 0.1) == 0
    assert window.size == 16


def test_the_shortest_round_trip_counts_and_one_message_at_a_time_is_watched() -> None:
    found = RoundTrip()
    found.arrived(0, 1.0)
    assert found.shortest_s is None
    found.sent(0, 1.0)
    found.sent(1, 1.1)
    found.arrived(1, 1.2)
    assert found.shortest_s is None
    found.arrived(0, 1.5)
    assert found.shortest_s == pytest.approx(0.5)
    for sequence, took_s in ((2, 0.2), (3, 0.9)):
        found.sent(sequence, 2.0)
        found.arrived(sequence, 2.0 + took_s)
    assert found.shortest_s == pytest.approx(0.2)
