"""A pace is kept, may be changed while somebody waits, and says how long the transfer waited and why."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from holdfast.clock import SystemClock
from holdfast.errors import OperationCancelled
from holdfast.model.session import Figures
from holdfast.pipeline.pace import Pace
from holdfast.pipeline.stages import PipeProgress, StageTimes
from tests.holdfast.pipeline.stepped_clock import SteppedClock

SECOND_NS = 1_000_000_000
RULE = "throttling rule office"


def pace_of(rate: float | None) -> tuple[Pace, SteppedClock]:
    clock = SteppedClock()
    pace = Pace(clock, pause=clock.pause)
    pace.allot(rate, RULE)
    return pace, clock


def test_without_a_rate_nobody_waits_and_there_is_nothing_to_say() -> None:
    pace, clock = pace_of(None)
    for _ in range(3):
        pace.take(1 << 40)
    assert (pace.waited_ns, pace.words, clock.seconds) == (0, "", 1000.0)


def test_waits_are_counted_and_told_with_their_reason() -> None:
    pace, _ = pace_of(100.0)
    for _ in range(4):
        pace.take(100)
    assert pace.waited_ns == pytest.approx(3 * SECOND_NS, rel=0.01)
    assert pace.waited_s == pytest.approx(3.0, rel=0.01)
    assert pace.passed == (400, 100)
    assert pace.words == "waited 3 s for its share of throttling rule office"
    pace.allot(100.0, "write limit of repository vault")
    pace.take(100)
    assert pace.words.endswith("share of throttling rule office and of write limit of repository vault")


def test_a_wall_clock_that_is_put_forward_or_back_changes_nothing() -> None:
    pace, clock = pace_of(100.0)
    started_s = clock.seconds
    for step_s in (3600.0, -7200.0, 1e6, 0.0, -1e6, 0.0):
        clock.step_s = step_s
        pace.take(100)
    assert clock.seconds - started_s == pytest.approx(5.0, rel=0.01)
    assert pace.waited_s == pytest.approx(5.0, rel=0.01)


def test_another_rate_is_good_for_who_waits() -> None:
    clock = SteppedClock()

    def pause(seconds: float) -> None:
        clock.pause(seconds)
        pace.allot(None)

    pace = Pace(clock, pause=pause)
    pace.allot(1.0, RULE)
    pace.take(1000)
    pace.take(1000)
    assert clock.seconds - 1000.0 <= 0.25


def test_what_attending_raises_ends_the_wait_and_the_time_counts() -> None:
    clock = SteppedClock()
    answers = iter([None, None, OperationCancelled("stop")])

    def attend() -> None:
        error = next(answers)
        if error is not None:
            raise error

    pace = Pace(clock, attend, pause=clock.pause)
    pace.allot(1.0, RULE)
    pace.take(1000)
    with pytest.raises(OperationCancelled):
        pace.take(1000)
    assert pace.waited_s == pytest.approx(0.5)
    assert pace.passed == (1000, 1000)


def test_a_second_attendant_is_asked_too() -> None:
    pace, _ = pace_of(100.0)
    pace.take(100)

    def lost() -> None:
        raise OperationCancelled("the line is gone")

    with pytest.raises(OperationCancelled, match="the line is gone"):
        pace.take(100, lost)


def test_threads_that_wait_at_once_count_once_and_a_wait_counts_while_it_lasts() -> None:
    clock = SystemClock()
    both_wait = threading.Barrier(3)
    let_go = threading.Event()
    known = threading.local()

    def attend() -> None:
        if not hasattr(known, "waits"):
            known.waits = True
            both_wait.wait(20)
            let_go.wait(20)

    pace = Pace(clock, attend)
    pace.allot(1e6, RULE)
    pace.take(200_000)
    with ThreadPoolExecutor(2) as pool:
        started_s = clock.monotonic_s()
        flights = [pool.submit(pace.take, 1000) for _ in range(2)]
        both_wait.wait(20)
        assert 0 <= pace.waited_s <= clock.monotonic_s() - started_s
        let_go.set()
        for flight in flights:
            flight.result()
        assert 0 < pace.waited_s <= clock.monotonic_s() - started_s
    assert pace.passed[0] == 202_000


def test_waits_of_the_other_side_are_taken_over_and_attended_to() -> None:
    attended: list[None] = []
    clock = SteppedClock()
    pace = Pace(clock, lambda: attended.append(None), pause=clock.pause)
    for waited_s in (1.0, 5.5, 2.0):
        pace.note_wait(waited_s, RULE)
    assert pace.waited_s == pytest.approx(5.5)
    assert pace.words == "waited 6 s for its share of throttling rule office"
    assert len(attended) == 3


def test_waits_are_apart_from_the_source_of_a_pipe() -> None:
    pace, _ = pace_of(100.0)
    pace.note_wait(2.0, RULE)
    stages = StageTimes(source_s=5.0, target_s=1.0, throttled_s=0.5)
    progress = PipeProgress(size_bytes=1, reached_bytes=1, committed_bytes=1, figures=Figures(), stages=stages)
    assert pace.charged(progress).stages == StageTimes(source_s=3.0, target_s=1.0, throttled_s=2.5)
    assert pace.without_waits(StageTimes(source_s=1.0)).source_s == 0.0
