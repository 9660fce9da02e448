"""Errors across the boundary, resumption, and the heartbeat of a long activity."""

import dataclasses
import gc
import threading
import weakref
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import pytest
from temporalio import activity
from temporalio.activity import ActivityCancellationDetails
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import (
    ApplicationError,
    CancelledError,
    TerminatedError,
    TimeoutError,  # noqa: A004 - the SDK's own, which stands in failure chains
    TimeoutType,
)
from temporalio.testing import ActivityEnvironment

from activities.boundary import (
    FailureDetails,
    Heartbeat,
    application_error,
    boundary,
    error_from_failure,
    reason_of,
    resume_cursor,
)
from holdfast.errors import (
    ChainBusy,
    DataDamaged,
    HoldfastError,
    OperationCancelled,
    OperationInterrupted,
    SessionFailed,
    StoreFailed,
    error_classes,
)


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    done_bytes: int


class StillClock:
    """A clock that only moves when told to."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic_s(self) -> float:
        return self.seconds


def fail_with(error: Exception) -> None:
    with boundary():
        raise error


@pytest.mark.parametrize("cls", error_classes(), ids=lambda cls: cls.__name__)
def test_code_hint_and_retryability_cross_the_boundary_both_ways(cls: type[HoldfastError]) -> None:
    with pytest.raises(ApplicationError) as caught:
        ActivityEnvironment().run(fail_with, cls("thing t1 is lost", hint="Find it."))
    failure = caught.value
    assert (failure.type, failure.message) == (cls.code, "thing t1 is lost")
    assert failure.non_retryable is not cls.retryable
    back = error_from_failure(failure)
    assert type(back) is cls
    assert (back.message, back.hint) == ("thing t1 is lost", "Find it.")


def test_a_failure_says_where_it_happened() -> None:
    environment = ActivityEnvironment()
    environment.info = dataclasses.replace(environment.info, activity_type="a.b", attempt=3)
    failure = environment.run(application_error, ChainBusy("chain c1 is held"))
    assert failure.details[0].ids == {"activity": "a.b", "queue": "test", "attempt": "3"}
    assert application_error(ChainBusy("chain c1 is held")).details[0].ids == {}


def test_cause_and_traceback_of_an_error_are_kept() -> None:
    def deep() -> None:
        message = "chain c1 is held"
        raise ChainBusy(message) from OSError(5, "Input/output error")

    def shallow() -> None:
        with boundary():
            deep()

    with pytest.raises(ApplicationError) as caught:
        ActivityEnvironment().run(shallow)
    assert isinstance(caught.value.__cause__, OSError)
    assert "deep" in [entry.name for entry in caught.traceback]


class Buffer:
    """Something large."""


class Pipe:
    """Remembers its error, as everything does that tells it to others."""

    error: HoldfastError

    def run(self, held: Callable[[Buffer], None]) -> None:
        buffer = Buffer()
        held(buffer)
        self.error = DataDamaged("found")
        raise self.error


@pytest.mark.parametrize("is_reason", [False, True])
def test_what_failed_calls_held_is_given_back_at_once(is_reason: bool) -> None:
    held: list[weakref.ref[Buffer]] = []

    def fail() -> None:
        try:
            Pipe().run(lambda buffer: held.append(weakref.ref(buffer)))
        except DataDamaged as error:
            if is_reason:
                raise StoreFailed("told") from error
            raise

    gc.collect()
    gc.disable()
    try:
        with pytest.raises(ApplicationError), boundary():
            fail()
        assert [found() for found in held] == [None]
    finally:
        gc.enable()


def test_the_reason_of_an_error_is_its_cause_or_what_it_replaced() -> None:
    cause, context = OSError("cause"), OSError("context")
    error = ChainBusy("chain c1 is held")
    assert reason_of(error) is None
    error.__context__ = context
    assert reason_of(error) is context
    error.__cause__ = cause
    assert reason_of(error) is cause
    error.__cause__ = None
    assert reason_of(error) is None


def test_a_foreign_error_passes_the_boundary_unchanged() -> None:
    with pytest.raises(ZeroDivisionError):
        ActivityEnvironment().run(fail_with, ZeroDivisionError())


@pytest.mark.parametrize(
    "details",
    [
        ActivityCancellationDetails(cancel_requested=True),
        ActivityCancellationDetails(paused=True),
        ActivityCancellationDetails(cancel_requested=True, worker_shutdown=True),
    ],
)
def test_a_cancelled_activity_ends_as_cancelled(details: ActivityCancellationDetails) -> None:
    environment = ActivityEnvironment()
    environment.cancel(details)

    @activity.defn(no_thread_cancel_exception=True)
    def stops() -> None:
        with boundary():
            Heartbeat(StillClock()).check()

    with pytest.raises(CancelledError):
        environment.run(stops)


def test_a_cancellation_nobody_asked_temporal_for_is_a_final_failure() -> None:
    with pytest.raises(ApplicationError) as caught:
        ActivityEnvironment().run(fail_with, OperationCancelled("stopped by the operator"))
    assert caught.value.type == "cancelled"
    assert caught.value.non_retryable


def test_the_deepest_error_of_ours_is_the_one_that_counts() -> None:
    root = application_error(ChainBusy("chain c1 is held"))
    middle = ApplicationError("Activity task failed", type="SomethingElse")
    middle.__cause__ = root
    top = application_error(SessionFailed("session s1 failed"))
    top.__cause__ = middle
    found = error_from_failure(WorkflowFailureError(cause=top))
    assert type(found) is ChainBusy


def test_an_error_is_found_behind_details_that_were_decoded_without_types() -> None:
    details = msgspec.to_builtins(FailureDetails(hint="Wait.", ids={"attempt": "1"}))
    found = error_from_failure(ApplicationError("chain c1 is held", details, type="chain-busy"))
    assert found is not None
    assert (type(found), found.hint) == (ChainBusy, "Wait.")


def test_an_error_without_readable_details_keeps_the_default_hint() -> None:
    for details in ((), ("text",), ({"hint": 7},)):
        found = error_from_failure(ApplicationError("no", *details, type="chain-busy"))
        assert found is not None
        assert (type(found), found.hint) == (ChainBusy, ChainBusy.default_hint)


def test_a_code_of_a_newer_version_keeps_message_and_hint() -> None:
    details = {"hint": "Ask the newer version."}
    found = error_from_failure(ApplicationError("moon is full", details, type="moon-full"))
    assert found is not None
    assert (type(found), found.message) == (HoldfastError, "moon-full: moon is full")
    assert found.hint == "Ask the newer version."


def test_a_cancelled_or_terminated_workflow_counts_as_cancelled() -> None:
    cancelled = error_from_failure(WorkflowFailureError(cause=CancelledError("Workflow cancelled")))
    assert type(cancelled) is OperationCancelled
    terminated = error_from_failure(WorkflowFailureError(cause=TerminatedError("by hand")))
    assert terminated is not None
    assert (type(terminated), terminated.message) == (OperationCancelled, "terminated: by hand")


def test_a_chain_without_an_error_of_ours_gives_none() -> None:
    timeout = TimeoutError("late", type=TimeoutType.HEARTBEAT, last_heartbeat_details=[])
    assert error_from_failure(WorkflowFailureError(cause=timeout)) is None
    assert error_from_failure(ApplicationError("no", type="ValueError")) is None


def test_an_endless_chain_of_causes_is_given_up() -> None:
    failure = ApplicationError("ours")
    failure.__cause__ = failure
    assert error_from_failure(failure) is None


@pytest.mark.parametrize(
    "reported, expected",
    [
        ([], None),
        ([{"done_bytes": 7, "added_later": 1}], Cursor(done_bytes=7)),
        ([Cursor(done_bytes=7)], Cursor(done_bytes=7)),
        ([{"done_bytes": "seven"}], None),
        (["old format"], None),
    ],
)
def test_a_cursor_is_resumed_or_the_work_starts_over(reported: list[object], expected: Cursor | None) -> None:
    environment = ActivityEnvironment()
    environment.info = dataclasses.replace(environment.info, heartbeat_details=reported)
    assert environment.run(resume_cursor, Cursor) == expected


def test_a_heartbeat_reports_the_newest_cursor_at_most_once_per_interval() -> None:
    environment, sent, clock = ActivityEnvironment(), list[object](), StillClock()
    environment.on_heartbeat = sent.append

    def work() -> None:
        heartbeat = Heartbeat(clock)
        for done in range(25):
            heartbeat.beat(Cursor(done_bytes=done))
            clock.seconds += 0.125

    environment.run(work)
    assert sent == [Cursor(done_bytes=done) for done in (0, 8, 16, 24)]


def test_an_error_hands_over_the_last_cursor_and_success_does_not() -> None:
    environment, sent = ActivityEnvironment(), list[object]()
    environment.on_heartbeat = sent.append

    def work(*, fails: bool) -> None:
        with Heartbeat(StillClock()) as heartbeat:
            heartbeat.beat(Cursor(done_bytes=1))
            heartbeat.beat(Cursor(done_bytes=2))
            if fails:
                message = "chain c1 is held"
                raise ChainBusy(message)

    environment.run(work, fails=False)
    assert sent == [Cursor(done_bytes=1)]
    with pytest.raises(ChainBusy):
        environment.run(work, fails=True)
    assert sent == [Cursor(done_bytes=done) for done in (1, 1, 2)]


def test_a_cancelled_activity_stops_at_its_next_beat_with_its_cursor_reported() -> None:
    environment, sent = ActivityEnvironment(), list[object]()
    environment.on_heartbeat = sent.append

    @activity.defn(no_thread_cancel_exception=True)
    def work() -> None:
        heartbeat = Heartbeat(StillClock())
        heartbeat.beat(Cursor(done_bytes=1))
        environment.cancel()
        heartbeat.beat(Cursor(done_bytes=2))

    with pytest.raises(OperationCancelled, match="unknown test"):
        environment.run(work)
    assert sent == [Cursor(done_bytes=1), Cursor(done_bytes=2)]


def test_a_worker_that_shuts_down_interrupts_so_that_another_attempt_resumes() -> None:
    environment, sent = ActivityEnvironment(), list[object]()
    environment.on_heartbeat = sent.append

    def work() -> None:
        heartbeat = Heartbeat(StillClock())
        heartbeat.check()
        environment.worker_shutdown()
        heartbeat.beat(Cursor(done_bytes=2))

    with pytest.raises(OperationInterrupted) as caught:
        environment.run(work)
    assert caught.value.retryable
    assert sent == [Cursor(done_bytes=2)]


def test_a_cancellation_that_only_means_shutdown_interrupts_too() -> None:
    environment = ActivityEnvironment()
    environment.cancel(ActivityCancellationDetails(worker_shutdown=True))

    @activity.defn(no_thread_cancel_exception=True)
    def work() -> None:
        with boundary():
            Heartbeat(StillClock()).check()

    with pytest.raises(ApplicationError) as caught:
        environment.run(work)
    assert caught.value.type == "interrupted"
    assert not caught.value.non_retryable


def test_a_heartbeat_may_be_given_from_any_thread() -> None:
    environment, sent, clock = ActivityEnvironment(), list[object](), StillClock()
    environment.on_heartbeat = sent.append

    def work() -> None:
        heartbeat = Heartbeat(clock, interval_s=0.0)
        threads = [threading.Thread(target=heartbeat.beat, args=(Cursor(done_bytes=done),)) for done in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    environment.run(work)
    assert sorted(msgspec.to_builtins(cursor)["done_bytes"] for cursor in sent) == list(range(8))
