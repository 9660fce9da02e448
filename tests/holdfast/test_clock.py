"""The clock of the host."""

from datetime import UTC, datetime, timedelta

from holdfast.clock import Clock, SystemClock


def test_now_is_the_host_s_time_in_utc() -> None:
    before = datetime.now(UTC)  # noqa: TID251 - what the clock is compared with
    now = SystemClock().now()
    assert now.utcoffset() == timedelta(0)
    assert before <= now <= datetime.now(UTC)  # noqa: TID251 - as above


def test_monotonic_seconds_never_run_backwards() -> None:
    clock: Clock = SystemClock()
    seconds = [clock.monotonic_s() for _ in range(1000)]
    assert seconds == sorted(seconds)
