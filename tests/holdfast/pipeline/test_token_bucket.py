"""A rate is kept over any time, may be changed while somebody waits, and a wait may be ended."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.clock import SystemClock
from holdfast.errors import OperationCancelled
from holdfast.pipeline.token_bucket import TokenBucket

BURST_S = 0.11


class PausedClock:
    """Time passes only while somebody pauses."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic_s(self) -> float:
        return self.seconds

    def pause(self, seconds: float) -> None:
        self.seconds += seconds


def nothing() -> None:
    """Attend to nothing."""


def bucket_of(rate: float | None) -> tuple[TokenBucket, PausedClock]:
    clock = PausedClock()
    return TokenBucket(clock, rate, pause=clock.pause), clock


def test_without_a_rate_nobody_waits() -> None:
    bucket, clock = bucket_of(None)
    assert [bucket.take(1 << 40, nothing) for _ in range(3)] == [0.0] * 3
    assert clock.seconds == 1000.0


def test_a_request_passes_at_once_and_the_next_one_waits_for_it() -> None:
    bucket, clock = bucket_of(100.0)
    assert bucket.take(250, nothing) == 0.0
    assert bucket.take(100, nothing) == pytest.approx(2.5, abs=0.01)
    assert bucket.take(1, nothing) == pytest.approx(1.0, abs=0.01)
    assert clock.seconds == pytest.approx(1003.5, abs=0.01)


@given(st.floats(1, 1e9), st.lists(st.tuples(st.integers(1, 1 << 24), st.floats(0, 5)), min_size=1, max_size=30))
def test_over_any_time_no_more_passes_than_the_rate_and_one_request(
    rate: float, requests: list[tuple[int, float]]
) -> None:
    clock = PausedClock()
    # A slow rate makes for many slices of waiting, so requests are small parts of it.
    requests = [(1 + int(count * rate / (1 << 24)), idle_s) for count, idle_s in requests]
    bucket = TokenBucket(clock, rate, pause=clock.pause)
    passed: list[tuple[float, int]] = []
    for count, idle_s in requests:
        clock.seconds += idle_s
        bucket.take(count, nothing)
        passed.append((clock.seconds, count))
    largest = max(count for count, _ in requests)
    for first, (since_s, _) in enumerate(passed):
        for last in range(first, len(passed)):
            total = sum(count for _, count in passed[first : last + 1])
            span_s = passed[last][0] - since_s
            assert total <= (rate * (span_s + BURST_S) + largest) * 1.001


def test_time_that_was_not_used_is_kept_for_a_moment_only() -> None:
    bucket, clock = bucket_of(1000.0)
    clock.seconds += 3600
    assert bucket.take(100, nothing) == 0.0
    assert bucket.take(10, nothing) == 0.0
    assert bucket.take(1, nothing) == pytest.approx(0.01)


@pytest.mark.parametrize("rate, waited_s", [(1000.0, 1.15), (None, 0.25)])
def test_a_new_rate_holds_for_those_who_wait_already(rate: float | None, waited_s: float) -> None:
    bucket, _ = bucket_of(10.0)
    bucket.take(1000, nothing)
    seen = []

    def change() -> None:
        seen.append(1)
        bucket.set_rate(rate)

    assert bucket.take(10, change) == pytest.approx(waited_s, abs=0.2)
    assert seen


def test_a_rate_may_be_set_where_there_was_none() -> None:
    bucket, _ = bucket_of(None)
    bucket.take(1 << 30, nothing)
    bucket.set_rate(100.0)
    assert bucket.take(50, nothing) == 0.0
    assert bucket.take(1, nothing) == pytest.approx(0.5)


def test_a_wait_that_is_ended_lets_nothing_pass() -> None:
    bucket, clock = bucket_of(10.0)
    bucket.take(100, nothing)

    def stop() -> None:
        raise OperationCancelled("stop")

    with pytest.raises(OperationCancelled):
        bucket.take(1000, stop)
    clock.seconds += 10
    assert bucket.take(1, nothing) == 0.0


def test_several_threads_share_one_rate() -> None:
    clock = SystemClock()
    bucket = TokenBucket(clock, 1_000_000.0)
    started_s, ready = clock.monotonic_s(), threading.Barrier(4)

    def work() -> None:
        ready.wait()
        for _ in range(10):
            bucket.take(10_000, nothing)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for _ in range(4)]:
            done.result()
    # 400 kB in all, of which one request and a tenth of a second pass for nothing.
    assert clock.monotonic_s() - started_s >= 0.28
