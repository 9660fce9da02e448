"""What went wrong, as a session keeps and shows it, and how a workflow fails with it."""

from collections.abc import Iterator
from typing import Any, Final, TypeVar

import msgspec
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    CancelledError,
    FailureError,
    TerminatedError,
    WorkflowAlreadyStartedError,
)
from temporalio.exceptions import TimeoutError as TemporalTimeout

from holdfast.errors import (
    CatalogUnavailable,
    ChainBusy,
    HoldfastError,
    OperationCancelled,
    ProviderUnavailable,
    RepositoryUnavailable,
    error_class,
)
from holdfast.model.session import Problem

_CAUSES_MAX: Final = 64
_MESSAGE_LENGTH_MAX: Final = 1000

_SERVED_BY: Final = {
    "catalog": (CatalogUnavailable, "control"),
    "moving": (RepositoryUnavailable, "repository"),
    "extents": (RepositoryUnavailable, "repository"),
    "repository": (RepositoryUnavailable, "repository"),
}
"""Whose absence a timeout of an activity means; that of the others is the proxy's."""

_Result = TypeVar("_Result")


def problem_of(failure: BaseException) -> Problem:
    """Return the deepest cause we know: it names what really happened."""
    found = Problem(code=HoldfastError.code, message=_cut(str(failure)), hint=HoldfastError.default_hint)
    late: ActivityError | None = None
    for link in _chain(failure):
        if isinstance(link, ActivityError):
            late = link
        elif isinstance(link, TemporalTimeout):
            found = _of_timeout(late, link)
        else:
            told = _of_link(link)
            # Below an error of ours stands what it was made from, which says less.
            if told is not None and (told.code != HoldfastError.code or found.code == HoldfastError.code):
                found = told
    return found


def failure_with(problem: Problem, result: object) -> ApplicationError:
    """Return the failure a workflow ends with: our code as type, the result beside the hint."""
    details = {"hint": problem.hint, "ids": {}}
    return ApplicationError(problem.message, details, result, type=problem.code, non_retryable=True)


def result_in(failure: BaseException, result_type: type[_Result]) -> _Result | None:
    """Return what `failure_with` put beside the hint, None when the chain holds nothing of that type."""
    for link in _chain(failure):
        if isinstance(link, ApplicationError) and len(link.details) > 1:
            raw = link.details[1]
            try:
                return raw if isinstance(raw, result_type) else msgspec.convert(raw, result_type)
            except msgspec.ValidationError:
                continue  # another workflow's result, further up in the chain
    return None


def _of_link(link: BaseException) -> Problem | None:
    match link:
        case HoldfastError():
            return Problem(code=link.code, message=_cut(link.message), hint=link.hint)
        case ApplicationError():
            return _of_application(link)
        case CancelledError():
            return _of_class(OperationCancelled, "cancelled")
        case TerminatedError():
            hint = "No undo step ran; look for a snapshot of this session at the hypervisor."
            return Problem(code=OperationCancelled.code, message="terminated by an operator", hint=hint)
        case WorkflowAlreadyStartedError():
            return _of_class(ChainBusy, f"{link.workflow_id} is still running for another session")
        case _:
            return None


def _of_application(failure: ApplicationError) -> Problem:
    cls = error_class(failure.type or "")
    details: Any = failure.details[0] if failure.details else None
    hint = details.get("hint") if isinstance(details, dict) else getattr(details, "hint", None)
    code = HoldfastError.code if cls is None else cls.code
    message = failure.message if cls is not None else f"{failure.type}: {failure.message}"
    default = HoldfastError.default_hint if cls is None else cls.default_hint
    return Problem(code=code, message=_cut(message), hint=hint if isinstance(hint, str) else default)


def _of_timeout(late: ActivityError | None, timeout: TemporalTimeout) -> Problem:
    if late is None:
        return Problem(code=HoldfastError.code, message=_cut(f"timed out: {timeout.message}"))
    family = late.activity_type.partition(".")[0]
    cls, role = _SERVED_BY.get(family, (ProviderUnavailable, "proxy"))
    hint = f"Start the {role}'s worker, or look into its log, and run it again."
    return Problem(code=cls.code, message=f"no worker finished {late.activity_type} in time", hint=hint)


def _of_class(cls: type[HoldfastError], message: str) -> Problem:
    return Problem(code=cls.code, message=message, hint=cls.default_hint)


def _chain(failure: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = failure
    for _ in range(_CAUSES_MAX):
        if link is None:
            return
        yield link
        link = link.cause if isinstance(link, FailureError) else link.__cause__


def _cut(message: str) -> str:
    return message if len(message) <= _MESSAGE_LENGTH_MAX else message[: _MESSAGE_LENGTH_MAX - 1] + "…"
