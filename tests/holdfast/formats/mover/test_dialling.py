"""Missing streams are dialled at once, and again after a pause."""

from holdfast.formats.mover.dialling import Dialling


def test_all_streams_are_dialled_at_once() -> None:
    dialling = Dialling(3, 15.0, 100.0)
    assert dialling.deadlines_s() == [100.0] * 2
    assert dialling.due(100.0) == [0, 1, 2]
    assert dialling.deadlines_s() == []
    assert dialling.due(200.0) == []


def test_the_first_stream_is_dialled_at_once_and_the_others_later() -> None:
    dialling = Dialling(3, 15.0, 100.0, others_after_s=2.0)
    assert dialling.deadlines_s() == [100.0, 102.0]
    assert dialling.due(100.0) == [0]
    dialling.lost(0, 100.5)
    assert dialling.due(101.0) == [1]
    assert dialling.due(101.9) == []
    assert dialling.due(102.0) == [2, 3]
    assert dialling.deadlines_s() == []


def test_on_a_long_line_all_are_dialled_as_soon_as_that_is_known() -> None:
    dialling = Dialling(3, 15.0, 0.0, others_after_s=60.0)
    dialling.more = 2
    assert dialling.due(0.1) == [0]
    dialling.add_more(0.2)
    assert dialling.due(0.2) == [1, 2, 3, 4]
    assert dialling.deadlines_s() == []


def test_a_stream_that_failed_is_dialled_again_under_a_new_number_after_ever_longer_pauses() -> None:
    dialling = Dialling(2, 15.0, 0.0)
    assert dialling.due(0.0) == [0, 1]
    now_s = 0.0
    for number, pause_s in enumerate((1.0, 2.0, 4.0, 8.0, 15.0, 15.0), 1):
        dialling.lost(number, now_s + 0.5)
        assert dialling.deadlines_s() == [now_s + pause_s]
        assert dialling.due(now_s + pause_s - 0.1) == []
        now_s += pause_s
        assert dialling.due(now_s) == [number + 1]


def test_streams_that_fail_together_are_dialled_together() -> None:
    dialling = Dialling(3, 15.0, 0.0)
    for number in dialling.due(0.0):
        dialling.lost(number, 0.1)
    assert dialling.due(1.0) == [3, 4, 5]


def test_a_stream_that_lived_long_is_dialled_again_at_once_and_then_soon() -> None:
    dialling = Dialling(1, 15.0, 0.0)
    dialling.due(0.0)
    dialling.lost(0, 0.0)
    dialling.due(1.0)
    dialling.lost(1, 400.0)
    assert dialling.due(400.0) == [2]
    dialling.lost(2, 400.0)
    assert dialling.deadlines_s() == [401.0]


def test_more_streams_are_dialled_when_they_are_wanted() -> None:
    dialling = Dialling(1, 15.0, 0.0)
    dialling.due(0.0)
    dialling.more = 2
    dialling.add_more(7.0)
    dialling.add_more(8.0)
    assert dialling.due(9.0) == [1, 2]


def test_a_pause_is_never_longer_than_the_longest() -> None:
    dialling = Dialling(1, 0.2, 0.0)
    dialling.due(0.0)
    dialling.lost(0, 0.0)
    assert dialling.deadlines_s() == [0.2]


def test_what_was_never_dialled_is_not_dialled_again() -> None:
    dialling = Dialling(0, 15.0, 0.0)
    dialling.lost(7, 0.0)
    assert dialling.deadlines_s() == []
    assert dialling.due(1000.0) == []
