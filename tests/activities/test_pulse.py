"""The heartbeat of a blocking activity."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from temporalio import activity

from activities import pulse as module
from activities.pulse import Pulse
from holdfast.errors import ChainBusy, HoldfastError, OperationCancelled, OperationInterrupted
from tests.activities.lab import Attempt, HurriedClock, StillClock

WAIT_S = 20


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_INTERVAL_S", 0.005)


def reaching(count: int) -> tuple[Attempt, threading.Event]:
    """Return an attempt, and what is set when it has reported this often, with or without a cursor."""
    attempt, reached, reports = Attempt(), threading.Event(), list[object]()

    def note(*details: object) -> None:
        attempt.beats.extend(details)
        reports.append(details)
        if len(reports) >= count:
            reached.set()

    attempt.environment.on_heartbeat = note
    return attempt, reached


def in_activity(attempt: Attempt, work: Callable[[], None]) -> None:
    """Run ``work`` as an activity into whose thread no exception is raised."""
    attempt.environment.run(activity.defn(no_thread_cancel_exception=True)(work))


def test_a_thread_that_is_busy_is_kept_alive_without_progress() -> None:
    attempt, reached = reaching(3)

    def work() -> None:
        with Pulse(StillClock()):
            assert reached.wait(WAIT_S)

    in_activity(attempt, work)
    assert attempt.beats == []


def test_the_last_report_is_repeated() -> None:
    attempt, reached = reaching(4)

    def work() -> None:
        with Pulse(HurriedClock()) as pulse:
            pulse.beat("one")
            assert reached.wait(WAIT_S)

    in_activity(attempt, work)
    assert set(attempt.beats) == {"one"}


def test_the_report_of_the_attempt_before_is_repeated_until_there_is_a_newer_one() -> None:
    attempt, reached = reaching(2)

    def work() -> None:
        with Pulse(HurriedClock(), cursor="before") as pulse:
            assert reached.wait(WAIT_S)
            pulse.beat("now")
            # The repeating thread may still be sending what it took a moment ago, never anything older.

    in_activity(attempt, work)
    assert attempt.beats[0] == "before"
    assert "now" in attempt.beats


def test_an_activity_that_stands_still_is_given_up() -> None:
    attempt, reached = reaching(1)
    clock = StillClock()

    def work() -> None:
        with Pulse(clock, stall_s=60) as pulse:
            assert reached.wait(WAIT_S)
            clock.seconds += 61
            pulse._thread.join(WAIT_S)
            assert not pulse._thread.is_alive()

    in_activity(attempt, work)


def test_progress_keeps_an_activity_from_being_given_up() -> None:
    attempt, reached = reaching(6)
    clock = StillClock()

    def work() -> None:
        with Pulse(clock, stall_s=60) as pulse:
            for step in range(6):
                clock.seconds += 59
                pulse.beat(step)
            assert pulse._thread.is_alive()

    in_activity(attempt, work)
    assert reached.is_set()


def test_a_call_that_cannot_report_may_take_long_and_what_follows_may_not() -> None:
    attempt, reached = reaching(1)
    clock = StillClock()

    def work() -> None:
        with Pulse(clock, stall_s=60) as pulse:
            with pulse.unhurried():
                clock.seconds += 600
                for _ in range(2):
                    reached.clear()
                    assert reached.wait(WAIT_S)
            clock.seconds += 61
            pulse._thread.join(WAIT_S)
            assert not pulse._thread.is_alive()

    in_activity(attempt, work)


class Streamed:
    """A disk that waits for its stream until it is told to stop."""

    def __init__(self) -> None:
        self.pieces_received = 0
        self.told: list[HoldfastError] = []
        self.stopped = threading.Event()

    def stop_waiting(self, error: HoldfastError) -> None:
        self.told.append(error)
        self.stopped.set()


def test_what_a_stream_brings_keeps_an_activity_from_being_given_up() -> None:
    attempt, reached = reaching(6)
    clock, disk = StillClock(), Streamed()

    def note(*_: object) -> None:
        reports.append(None)
        clock.seconds += 59
        disk.pieces_received += 1
        if len(reports) == 6:
            reached.set()

    reports: list[None] = []
    attempt.environment.on_heartbeat = note

    def work() -> None:
        with Pulse(clock, stall_s=60) as pulse:
            pulse.watch(disk)
            assert reached.wait(WAIT_S)
            assert pulse._thread.is_alive()

    in_activity(attempt, work)
    assert disk.told == []


@pytest.mark.parametrize("error", [OperationCancelled, OperationInterrupted])
def test_readers_of_a_stream_hear_that_they_shall_stop(error: type[HoldfastError]) -> None:
    attempt, disk = Attempt(), Streamed()

    def work() -> None:
        with Pulse(StillClock()) as pulse:
            pulse.watch(object())  # most disks are no streams
            pulse.watch(disk)
            if error is OperationInterrupted:
                attempt.environment.worker_shutdown()
            else:
                attempt.environment.cancel()
            assert disk.stopped.wait(WAIT_S)

    in_activity(attempt, work)
    assert isinstance(disk.told[0], error)


@pytest.mark.parametrize("error", [OperationCancelled, OperationInterrupted])
def test_the_activitys_own_thread_is_told_to_stop_and_not_the_repeating_one(
    error: type[OperationCancelled | OperationInterrupted],
) -> None:
    attempt, reached = reaching(3)

    def work() -> None:
        with Pulse(HurriedClock(), cursor="before") as pulse:
            if error is OperationInterrupted:
                attempt.environment.worker_shutdown()
            else:
                attempt.environment.cancel()
            assert reached.wait(WAIT_S)
            pulse.beat("now")

    with pytest.raises(error):
        in_activity(attempt, work)
    assert attempt.beats[-1] == "now"


def test_an_error_hands_the_last_cursor_over() -> None:
    attempt = Attempt()

    def work() -> None:
        with Pulse(StillClock()) as pulse:
            pulse.beat("first")
            pulse.beat("last")
            message = "chain c1 is held"
            raise ChainBusy(message)

    with pytest.raises(ChainBusy):
        in_activity(attempt, work)
    assert attempt.beats[-1] == "last"


def test_nothing_runs_on_after_the_activity() -> None:
    pulses = list[Pulse]()

    def work() -> None:
        with Pulse(StillClock()) as pulse:
            pulses.append(pulse)

    in_activity(Attempt(), work)
    assert not pulses[0]._thread.is_alive()


def test_waiting_on_purpose_is_no_standstill() -> None:
    clock = StillClock()

    def work() -> None:
        with Pulse(clock, stall_s=10.0) as pulse:
            clock.seconds += 9
            pulse.waiting()
            clock.seconds += 9
            reached.wait(WAIT_S)

    attempt, reached = reaching(3)
    in_activity(attempt, work)
    assert reached.is_set()


def test_asking_whether_to_stop_is_no_progress() -> None:
    attempt, reached = reaching(1)
    clock = StillClock()

    def work() -> None:
        with Pulse(clock, stall_s=60) as pulse:
            assert reached.wait(WAIT_S)
            clock.seconds += 61
            pulse.heed()
            pulse._thread.join(WAIT_S)
            assert not pulse._thread.is_alive()

    in_activity(attempt, work)


@pytest.mark.parametrize("ask", [Pulse.waiting, Pulse.heed])
def test_whoever_waits_learns_from_any_thread_that_the_activity_shall_stop(ask: Callable[[Pulse], None]) -> None:
    attempt = Attempt()

    def work() -> None:
        with Pulse(StillClock()) as pulse:
            attempt.environment.cancel()
            with ThreadPoolExecutor(1) as pool:
                pool.submit(ask, pulse).result()

    with pytest.raises(OperationCancelled):
        in_activity(attempt, work)
