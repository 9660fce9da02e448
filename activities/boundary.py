"""Where our errors become Temporal failures, and how a long activity reports, resumes and stops.

Outwards: a `HoldfastError` becomes an ``ApplicationError`` whose type is the stable code, which is
retried only when the class says so, and which carries the hint. Inwards: `error_from_failure` finds
that error again in the chain of a failed workflow. Any other exception is a defect or an unforeseen
fault of the world; it keeps its class name and is retried.

Stopping: a blocking activity learns of a cancellation only through a heartbeat, and only when it
asks. `Heartbeat` asks on every beat and raises `OperationCancelled` (the workflow wants it to stop)
or `OperationInterrupted` (the worker goes down and another attempt shall resume).
"""

import contextvars
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import clear_frames
from types import TracebackType
from typing import Self, TypeVar

import msgspec
from temporalio import activity
from temporalio.exceptions import (
    ApplicationError,
    CancelledError,
    FailureError,
    TemporalError,
    TerminatedError,
)

from holdfast.clock import Clock
from holdfast.decoding import converted
from holdfast.errors import (
    DiskMoved,
    HoldfastError,
    OperationCancelled,
    OperationInterrupted,
    RepositoryFull,
    error_class,
)

_BEAT_INTERVAL_S = 1.0
_FULL_ATTEMPTS_MAX = 20
"""Attempts against a full repository, about five minutes: space that is being freed is waited for, but a snapshot that
grows meanwhile must not be kept for long."""
_CAUSES_MAX = 64
"""Longest failure chain that is followed; a longer one is not ours."""

_Cursor = TypeVar("_Cursor")


class FailureDetails(msgspec.Struct, frozen=True, kw_only=True):
    """What travels beside the message of a failure. Encrypted with the payloads when they are."""

    hint: str = ""
    ids: dict[str, str] = {}
    """Where it happened: activity type, queue and attempt; empty when raised by a workflow."""


@contextmanager
def boundary() -> Iterator[None]:
    """Turn a `HoldfastError` that leaves the block into the failure Temporal understands.

    The cause and the traceback of the error are kept; other exceptions pass unchanged.
    """
    try:
        yield
    except HoldfastError as error:
        _let_go(error)
        raise _failure_of(error).with_traceback(error.__traceback__) from reason_of(error)


def _let_go(error: BaseException) -> None:
    """Clear the variables of the calls that an error came through, and of those of its reasons.

    What failed remembers its error, and the error the calls: the buffers of a transfer, about 12 MiB a disk, would stay
    until Python looks for circles among all of its objects, which a large process seldom does.
    """
    reason: BaseException | None = error
    for _ in range(_CAUSES_MAX):
        if reason is None:
            return
        clear_frames(reason.__traceback__)
        reason = reason_of(reason)


def application_error(error: HoldfastError) -> ApplicationError:
    """Return ``error`` as Temporal's failure: type is the code, the class decides on a retry."""
    details = FailureDetails(hint=error.hint, ids=_place())
    is_given_up = isinstance(error, RepositoryFull) and _attempt() >= _FULL_ATTEMPTS_MAX
    is_final = not error.retryable or is_given_up or (isinstance(error, DiskMoved) and error.is_last)
    return ApplicationError(error.message, details, type=error.code, non_retryable=is_final)


def reason_of(error: BaseException) -> BaseException | None:
    """Return what Python prints as the reason of ``error``: its cause, else what it replaced."""
    if error.__cause__ is not None or error.__suppress_context__:
        return error.__cause__
    return error.__context__


def error_from_failure(failure: BaseException) -> HoldfastError | None:
    """Return the most specific error of ours in the chain of causes of ``failure``.

    The deepest one is taken, since it names what really happened; a cancelled or terminated
    workflow without one gives `OperationCancelled`. None: the chain holds no error of ours, so it
    is a defect or a fault of Temporal.
    """
    found: HoldfastError | None = None
    for link in _chain(failure):
        match link:
            case HoldfastError():
                found = link
            case ApplicationError():
                found = _ours(link) or found
            case CancelledError():
                found = found or OperationCancelled(link.message.lower())
            case TerminatedError():
                hint = "No undo step ran; docs/workflows.md says what is left behind and how to remove it."
                found = found or OperationCancelled(f"terminated: {link.message}", hint=hint)
            case _:
                continue
    return found


def resume_cursor(cursor_type: type[_Cursor]) -> _Cursor | None:
    """Return the cursor the previous attempt reported last.

    None: this is the first attempt, nothing was reported, or the report cannot be read (it was
    written by a version with another cursor); the work then starts over, which is always correct,
    only slower.
    """
    details = activity.info().heartbeat_details
    if not details:
        return None
    if isinstance(details[0], cursor_type):
        return details[0]
    try:
        return converted(details[0], cursor_type)
    except msgspec.ValidationError as error:
        activity.logger.warning("heartbeat of the previous attempt is not readable: %s", error)
        return None


class Heartbeat:
    """Reports committed progress of the current activity and tells it when to stop.

    Create it in the activity; `beat` may then be called from any thread of a blocking activity, as
    often as is convenient: at most one report per ``interval_s`` leaves, the newest one. As a
    context manager it hands over the last cursor when the activity ends with an error, so that the
    next attempt resumes exactly there.
    """

    def __init__(self, clock: Clock, *, interval_s: float = _BEAT_INTERVAL_S) -> None:
        self._clock = clock
        self._interval_s = interval_s
        self._next_s = clock.monotonic_s()
        # The SDK finds the current activity through context variables, which other threads do not
        # inherit.
        self._context = contextvars.copy_context()
        self._lock = threading.Lock()
        self._unsent: tuple[object, ...] = ()

    def beat(self, cursor: object) -> None:
        """Report ``cursor``: a small struct (below 1 KB) that describes committed work only.

        Raises OperationCancelled or OperationInterrupted when the activity shall stop; the cursor
        is reported first.
        """
        with self._lock:
            self._unsent = (cursor,)
            stop = self._context.run(_stop_wanted)
            if stop is not None or self._clock.monotonic_s() >= self._next_s:
                self._send()
        if stop is not None:
            raise stop

    def check(self) -> None:
        """Raise OperationCancelled or OperationInterrupted when asked to stop; report nothing."""
        with self._lock:
            stop = self._context.run(_stop_wanted)
        if stop is not None:
            raise stop

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            with self._lock:
                self._send()

    def _send(self) -> None:
        if self._unsent:
            self._context.run(activity.heartbeat, *self._unsent)
            self._unsent = ()
            self._next_s = self._clock.monotonic_s() + self._interval_s


def _stop_wanted() -> HoldfastError | None:
    info = activity.info()
    if activity.is_cancelled() and not _is_shutdown_cancel():
        return OperationCancelled(f"{info.activity_type} {info.activity_id} was asked to stop")
    if activity.is_cancelled() or activity.is_worker_shutdown():
        return OperationInterrupted(f"the worker of {info.activity_type} {info.activity_id} is shutting down")
    return None


def _is_shutdown_cancel() -> bool:
    details = activity.cancellation_details()
    return details is not None and details.worker_shutdown and not details.cancel_requested


def _failure_of(error: HoldfastError) -> FailureError:
    if (
        isinstance(error, OperationCancelled)
        and activity.in_activity()
        and activity.is_cancelled()
        and not _is_shutdown_cancel()
    ):
        return CancelledError(error.message)
    return application_error(error)


def _attempt() -> int:
    return activity.info().attempt if activity.in_activity() else 1


def _place() -> dict[str, str]:
    if not activity.in_activity():
        return {}
    info = activity.info()
    return {
        "activity": info.activity_type,
        "queue": info.task_queue,
        "attempt": str(info.attempt),
    }


def _chain(failure: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = failure
    for _ in range(_CAUSES_MAX):
        if link is None:
            return
        yield link
        link = link.cause if isinstance(link, TemporalError) else link.__cause__


def _ours(failure: ApplicationError) -> HoldfastError | None:
    """Return the error a failure was made from; an unknown code gives the root class."""
    details = _details(failure)
    cls = error_class(failure.type or "")
    if cls is not None:
        return cls(failure.message, hint=details.hint if details is not None else None)
    if details is None:
        return None
    return HoldfastError(f"{failure.type}: {failure.message}", hint=details.hint)


def _details(failure: ApplicationError) -> FailureDetails | None:
    """Return the details of a failure, None when they are not ours."""
    if not failure.details:
        return None
    raw = failure.details[0]
    if isinstance(raw, FailureDetails):
        return raw
    if not isinstance(raw, dict) or "hint" not in raw:
        return None
    try:
        return converted(raw, FailureDetails)
    except msgspec.ValidationError:
        return None
