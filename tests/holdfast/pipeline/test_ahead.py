"""What was said counts until it is taken."""

from holdfast.pipeline.ahead import AHEAD, AHEAD_MAX, UNIT_OPEN_MAX, ZEROS_MAX, Ahead


def test_there_is_room_again_once_something_is_taken() -> None:
    ahead = Ahead(10)
    ahead.add(8, 6)
    ahead.add(12, 4)
    assert not ahead.has_room(1)
    ahead.taken(7)
    assert not ahead.has_room(1)
    ahead.taken(8)
    assert ahead.has_room(6)
    assert not ahead.has_room(7)
    ahead.taken(100)
    assert ahead.has_room(10)


def test_something_can_always_be_said_when_nothing_waits() -> None:
    assert Ahead(4).has_room(5)


def test_a_unit_is_closed_and_its_peer_has_heard_of_it_long_before_there_is_no_room() -> None:
    heard_after = UNIT_OPEN_MAX + 2 * (ZEROS_MAX + 1024)
    assert 2 * heard_after < AHEAD
    assert 2 * AHEAD <= AHEAD_MAX
