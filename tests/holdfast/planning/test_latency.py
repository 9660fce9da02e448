"""Slow datastores: nothing new begins there, and copies find a speed at which the datastore is just fast enough."""

from datetime import UTC, datetime, timedelta
from statistics import fmean

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdfast.model.latency import DatastoreLatency, LatencyLimits
from holdfast.planning.latency import (
    FLOOR_BYTES_S,
    SHARE_MIN,
    LatencyRules,
    Slowing,
    after,
    next_share,
    rate_bytes_s,
    reason_to_wait,
    reasons_to_wait,
    seconds_to_start,
    slowing_words,
)

LIMITS = LatencyLimits(start_max_ms=20, slow_from_ms=30)
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
SHARES = st.floats(SHARE_MIN, 1.0)
LATENCIES = st.floats(0, 10_000)
ANY_LIMITS = st.builds(
    lambda start, more: LatencyLimits(start_max_ms=start, slow_from_ms=start + more),
    st.integers(1, 200),
    st.integers(0, 200),
)


def measured(latency_ms: float | None, limits: LatencyLimits = LIMITS, name: str = "ds1") -> DatastoreLatency:
    return DatastoreLatency(datastore=name, limits=limits, sample=1, latency_ms=latency_ms)


# -- beginning -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "running_since_s, expected_s",
    [((), 0.0), ((100.0,), 40.0), ((70.0, 90.0, 80.0), 30.0), ((60.0,), 0.0), ((1.0,), 0.0)],
)
def test_a_copy_begins_a_while_after_the_last_one_that_still_runs(
    running_since_s: tuple[float, ...], expected_s: float
) -> None:
    assert seconds_to_start(running_since_s, 100.0, LIMITS) == expected_s


@pytest.mark.parametrize("limits", [LatencyLimits(), LatencyLimits(slow_from_ms=30, start_pause_s=0)])
def test_without_limits_or_pause_copies_begin_at_once(limits: LatencyLimits) -> None:
    assert seconds_to_start([100.0, 100.0], 100.0, limits) == 0.0


@pytest.mark.parametrize("latency_ms, may_begin", [(0, True), (19.9, True), (20, False), (500, False), (None, True)])
def test_nothing_new_begins_from_the_first_limit_on(latency_ms: float | None, *, may_begin: bool) -> None:
    assert (reason_to_wait(measured(latency_ms)) is None) is may_begin


def test_without_a_first_limit_everything_begins() -> None:
    assert reason_to_wait(measured(500, LatencyLimits(slow_from_ms=30))) is None


def test_the_reasons_name_each_datastore_once_with_its_figures() -> None:
    reasons = reasons_to_wait([measured(35), measured(35), measured(5, name="ds2"), measured(21, name="ds3")])
    assert reasons == [
        "the latency of datastore ds1 is 35 ms, nothing new begins from 20 ms on",
        "the latency of datastore ds3 is 21 ms, nothing new begins from 20 ms on",
    ]


# -- limits ----------------------------------------------------------------------------------------------------------


def test_a_datastore_has_its_own_limits_or_those_of_all() -> None:
    own = LatencyLimits(start_max_ms=40, slow_from_ms=60)
    rules = LatencyRules(limits=LIMITS, by_datastore={"slow": own})
    assert (rules.of("slow"), rules.of("other")) == (own, LIMITS)


def test_control_is_off_when_no_datastore_has_a_limit() -> None:
    own = {"ds1": LatencyLimits(start_max_ms=40)}
    assert LatencyRules().is_off
    assert LatencyRules(by_datastore={"ds1": LatencyLimits()}).is_off
    assert not LatencyRules(by_datastore=own).is_off
    assert not LatencyRules(limits=LatencyLimits(slow_from_ms=30)).is_off


# -- the share of the full speed -------------------------------------------------------------------------------------


@given(SHARES, st.none() | LATENCIES, ANY_LIMITS)
def test_the_share_stays_between_the_floor_and_all_and_at_most_halves_or_doubles(
    share: float, latency_ms: float | None, limits: LatencyLimits
) -> None:
    found = next_share(share, latency_ms, limits)
    assert SHARE_MIN <= found <= 1.0
    assert share / 2 <= found <= max(share * 2, share + SHARE_MIN)


@given(SHARES, LATENCIES, LATENCIES, ANY_LIMITS)
def test_a_slower_datastore_never_gives_more(share: float, one: float, other: float, limits: LatencyLimits) -> None:
    assert next_share(share, max(one, other), limits) <= next_share(share, min(one, other), limits)


@given(SHARES, st.floats(20, 30, exclude_max=True))
def test_between_the_limits_nothing_changes(share: float, latency_ms: float) -> None:
    assert next_share(share, latency_ms, LIMITS) == share


@given(SHARES, st.floats(30, 10_000))
def test_from_the_second_limit_on_it_falls_to_the_floor_and_no_further(share: float, latency_ms: float) -> None:
    found = next_share(share, latency_ms, LIMITS)
    assert found < share or found == share == SHARE_MIN


@given(SHARES, ANY_LIMITS, st.floats(0, 0.5))
def test_it_recovers_within_six_measurements_of_a_calm_datastore(
    share: float, limits: LatencyLimits, part: float
) -> None:
    for _ in range(6):
        share = next_share(share, part * limits.start_max_ms, limits)
    assert share == 1.0


@given(SHARES, ANY_LIMITS)
def test_it_recovers_however_little_the_datastore_is_below_the_limit(share: float, limits: LatencyLimits) -> None:
    for _ in range(24):
        share = next_share(share, limits.start_max_ms - 0.001, limits)
    assert share == 1.0


@given(SHARES, ANY_LIMITS)
def test_what_is_not_known_holds_nobody_for_ever(share: float, limits: LatencyLimits) -> None:
    for _ in range(20):
        share = next_share(share, None, limits)
    assert share == 1.0


@given(SHARES, LATENCIES)
def test_without_a_second_limit_nothing_is_slowed_down(share: float, latency_ms: float) -> None:
    assert next_share(share, latency_ms, LatencyLimits(start_max_ms=20)) == 1.0


@pytest.mark.parametrize("latency_ms, share", [(10, 0.75), (30, 0.45), (60, 0.25)])
def test_the_second_limit_alone_is_enough(latency_ms: float, share: float) -> None:
    assert next_share(0.5, latency_ms, LatencyLimits(slow_from_ms=30)) == pytest.approx(share)


@example(share=1.0, limits=LatencyLimits(start_max_ms=1, slow_from_ms=1), others=0.0, part=0.875)
@given(share=SHARES, limits=ANY_LIMITS, others=st.floats(0, 0.9), part=st.floats(0.01, 0.99))
def test_a_datastore_that_the_copy_itself_makes_slow_is_brought_below_the_limit_and_not_let_go(
    share: float, limits: LatencyLimits, others: float, part: float
) -> None:
    # What others do, and what the copy adds in proportion to its speed: at full speed it is over the limit, and at
    # the floor below it.
    left = 1 - others * limits.start_max_ms / limits.slow_from_ms
    own = left * (1 + part * (1 / SHARE_MIN - 1))

    def latency_of(share: float) -> float:
        return others * limits.start_max_ms + own * share * limits.slow_from_ms

    assert latency_of(1.0) > limits.slow_from_ms > latency_of(SHARE_MIN)
    seen = []
    for _ in range(80):
        share = next_share(share, latency_of(share), limits)
        seen.append(share)
    late = seen[40:]
    assert min(late) >= SHARE_MIN
    # It neither swings between the floor and full speed nor rests where the datastore is too slow.
    assert max(late) - min(late) <= 0.3
    assert max(late) <= 2.2 * min(late)
    assert fmean(map(latency_of, late)) <= 1.2 * limits.slow_from_ms


# -- rates -----------------------------------------------------------------------------------------------------------


@given(SHARES, st.floats(0, 1e10))
def test_no_copy_is_slowed_to_less_than_the_floor(share: float, full_bytes_s: float) -> None:
    rate = rate_bytes_s(share, full_bytes_s)
    assert (rate is None) if share == 1.0 else rate is not None and rate >= FLOOR_BYTES_S


def test_a_share_is_one_of_the_full_speed() -> None:
    assert rate_bytes_s(0.25, 400 << 20) == 100 << 20


# -- words -----------------------------------------------------------------------------------------------------------


def slowed(*latencies: float | None) -> Slowing:
    slowing = Slowing()
    for number, latency_ms in enumerate(latencies):
        slowing = after(slowing, measured(latency_ms), NOON + timedelta(seconds=20 * number))
    return slowing


@pytest.mark.parametrize("latencies", [(), (5,), (25, 29.9), (None,)])
def test_a_copy_that_was_not_slowed_down_has_nothing_to_say(latencies: tuple[float | None, ...]) -> None:
    assert slowing_words(slowed(*latencies), 0.0) == ""


def test_a_copy_says_when_why_and_how_much_it_was_slowed_down() -> None:
    slowing = slowed(5, 45, 120, 60, 5, 5, 5, 5, 5)
    assert slowing_words(slowing, 41.4) == (
        "slowed down from 12:00:20 UTC to 12:02:20, to 17 % of its speed at the least, its readers waited 41 s: "
        "the latency of datastore ds1 was up to 120 ms, the limit is 30 ms"
    )


def test_a_copy_that_is_slowed_down_again_was_so_until_the_later_end() -> None:
    slowing = slowed(45, 5, 5, 45, 5)
    assert slowing.share < 1.0
    assert "from 12:00:00 UTC to its end" in slowing_words(slowing, 1.0)
    again = after(slowing, measured(0), NOON + timedelta(minutes=5))
    assert (again.share, again.ended) == (1.0, NOON + timedelta(minutes=5))
    assert after(again, measured(0), NOON + timedelta(minutes=6)).ended == NOON + timedelta(minutes=5)
