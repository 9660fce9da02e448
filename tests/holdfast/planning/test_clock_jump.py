"""A clock that went back, or too far ahead, is not believed; one that goes on as clocks do is."""

from datetime import UTC, datetime, timedelta

import pytest

from holdfast.planning.clock_jump import ClockSight, ClockState, judge_clock

NOW = datetime(2026, 11, 21, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    "passed, state, is_to_be_noted",
    [
        (timedelta(0), ClockState.STEADY, False),
        (timedelta(minutes=59), ClockState.STEADY, False),
        (timedelta(hours=1), ClockState.STEADY, True),
        (timedelta(days=14), ClockState.STEADY, True),
        (timedelta(days=14, seconds=1), ClockState.AHEAD, False),
        (timedelta(days=3650), ClockState.AHEAD, False),
        (timedelta(hours=-1), ClockState.STEADY, False),
        (timedelta(hours=-1, seconds=-1), ClockState.BACK, False),
        (timedelta(days=-3650), ClockState.BACK, False),
    ],
)
def test_a_jump_in_either_direction_is_seen(passed: timedelta, state: ClockState, is_to_be_noted: bool) -> None:
    sight = judge_clock(NOW - passed, NOW, 14)
    assert (sight.state, sight.is_steady) == (state, state is ClockState.STEADY)
    assert sight.is_to_be_noted is is_to_be_noted


def test_the_bound_is_a_setting() -> None:
    seen = NOW - timedelta(days=31)
    assert judge_clock(seen, NOW, 14).state is ClockState.AHEAD
    assert judge_clock(seen, NOW, 45).is_steady


def test_the_first_use_is_noted() -> None:
    assert judge_clock(None, NOW, 14).is_to_be_noted


@pytest.mark.parametrize(
    "sight, words",
    [
        (judge_clock(None, NOW, 14), "not used before"),
        (judge_clock(NOW, NOW, 14), "last used 2026-11-21T03:00+00:00"),
        (judge_clock(NOW + timedelta(days=2), NOW, 14), "behind 2026-11-23T03:00+00:00"),
        (judge_clock(NOW - timedelta(days=40), NOW, 14), "40 days ahead of 2026-10-12T03:00+00:00"),
        (ClockSight(state=ClockState.UNKNOWN, now=NOW), "cannot be read"),
    ],
)
def test_what_is_seen_is_said(sight: ClockSight, words: str) -> None:
    assert words in sight.words
