"""Missing streams are dialled at once, and again after a pause."""

from holdfast.formats.mover.dialling import Dialling


def test_all_streams_are_dialled_at_once() -> None:
    dialling = Dialling(3, 15.0, 100.0)
    assert dialling.deadline_s() == 100.0
    assert dialling.due(100.0) == [0, 1, 2]
    assert dialling.deadline_s() is None
    assert dialling.due(200.0) == []


def test_a_stream_that_failed_is_dialled_again_under_a_new_number_after_the_pause() -> None:
    dialling = Dialling(2, 15.0, 0.0)
    dialling.due(0.0)
    dialling.lost(1)
    assert dialling.deadline_s() == 15.0
    assert dialling.due(14.9) == []
    assert dialling.due(15.0) == [2]


def test_a_stream_that_lived_long_is_dialled_again_at_once() -> None:
    dialling = Dialling(1, 15.0, 0.0)
    dialling.due(0.0)
    dialling.lost(0)
    assert dialling.due(400.0) == [1]


def test_what_was_never_dialled_is_not_dialled_again() -> None:
    dialling = Dialling(0, 15.0, 0.0)
    dialling.lost(7)
    assert dialling.deadline_s() is None
    assert dialling.due(1000.0) == []
