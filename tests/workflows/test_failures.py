"""What went wrong: the deepest cause counts, whoever wraps it."""

import msgspec
import pytest
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    CancelledError,
    RetryState,
    TerminatedError,
    TimeoutType,
    WorkflowAlreadyStartedError,
)
from temporalio.exceptions import TimeoutError as TemporalTimeout

from activities.boundary import application_error
from holdfast.errors import ChainBusy, RepositoryFull, SessionFailed
from holdfast.model.session import Problem
from workflows.failures import failure_with, problem_of, result_in


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    name: str


class Other(msgspec.Struct, frozen=True, kw_only=True):
    number: int


def activity_error(activity_type: str, cause: BaseException) -> ActivityError:
    error = ActivityError(
        "activity failed",
        scheduled_event_id=1,
        started_event_id=2,
        identity="w",
        activity_type=activity_type,
        activity_id="1",
        retry_state=RetryState.TIMEOUT,
    )
    error.__cause__ = cause
    return error


def test_the_error_inside_an_activity_failure_is_named_with_its_hint() -> None:
    inner = application_error(RepositoryFull("no space in r1", hint="Free some."))
    assert problem_of(activity_error("repository.begin_point", inner)) == Problem(
        code="repository-full", message="no space in r1", hint="Free some."
    )


def test_a_hint_is_found_in_decoded_details_too() -> None:
    failure = ApplicationError("held", {"hint": "Wait.", "ids": {}}, type="chain-busy")
    assert problem_of(failure).hint == "Wait."
    assert problem_of(ApplicationError("held", type="chain-busy")).hint == ChainBusy.default_hint


def test_an_error_of_ours_raised_by_a_workflow_is_taken_as_it_is() -> None:
    assert problem_of(ChainBusy("held")) == Problem(code="chain-busy", message="held", hint=ChainBusy.default_hint)


def test_the_cause_counts_more_than_what_wraps_it() -> None:
    outer = SessionFailed("1 of 2 machines failed")
    outer.__cause__ = activity_error("transfer.copy_disk", application_error(ChainBusy("held")))
    assert problem_of(outer).code == "chain-busy"


def test_an_error_of_ours_counts_more_than_the_foreign_one_it_was_made_from() -> None:
    inner = application_error(ChainBusy("held"))
    inner.__cause__ = ApplicationError("fault {}", type="NoPermission")
    assert problem_of(activity_error("repository.begin_point", inner)).message == "held"


def test_a_foreign_error_keeps_its_class_in_the_message() -> None:
    problem = problem_of(ApplicationError("division by zero", type="ZeroDivisionError"))
    assert (problem.code, problem.message) == ("internal", "ZeroDivisionError: division by zero")
    assert problem_of(ValueError("odd")).message == "odd"


@pytest.mark.parametrize(
    "activity_type, code",
    [
        ("transfer.copy_disk", "provider-unavailable"),
        ("snapshot.create", "provider-unavailable"),
        ("repository.begin_point", "repository-unavailable"),
        ("extents.gather_facts", "repository-unavailable"),
        ("catalog.begin_session", "catalog-unavailable"),
    ],
)
def test_an_activity_that_nobody_does_names_the_absent_role(activity_type: str, code: str) -> None:
    timeout = TemporalTimeout("late", type=TimeoutType.SCHEDULE_TO_CLOSE, last_heartbeat_details=[])
    problem = problem_of(activity_error(activity_type, timeout))
    assert problem.code == code
    assert activity_type in problem.message


def test_a_timeout_with_a_failure_behind_it_names_that_failure() -> None:
    timeout = TemporalTimeout("late", type=TimeoutType.SCHEDULE_TO_CLOSE, last_heartbeat_details=[])
    timeout.__cause__ = application_error(ChainBusy("held"))
    assert problem_of(activity_error("transfer.copy_disk", timeout)).code == "chain-busy"


def test_a_timeout_of_a_workflow_is_told() -> None:
    timeout = TemporalTimeout("late", type=TimeoutType.START_TO_CLOSE, last_heartbeat_details=[])
    assert problem_of(timeout).message == "timed out: late"


def test_cancelled_terminated_and_taken_are_told_apart() -> None:
    assert problem_of(CancelledError("x")).message == "cancelled"
    assert "terminated" in problem_of(TerminatedError("x")).message
    taken = problem_of(WorkflowAlreadyStartedError("backup-machine/r/web", "MachineBackup"))
    assert (taken.code, "backup-machine/r/web" in taken.message) == ("chain-busy", True)


def test_a_message_is_bounded() -> None:
    assert len(problem_of(ChainBusy("x" * 5000)).message) == 1000


def test_a_result_travels_with_the_failure() -> None:
    problem = Problem(code="chain-busy", message="held", hint="Wait.")
    failure = failure_with(problem, Ended(name="web"))
    assert failure.non_retryable
    assert problem_of(failure) == problem
    assert result_in(failure, Ended) == Ended(name="web")
    decoded = ApplicationError("held", {"hint": "Wait."}, {"name": "db"}, type="chain-busy")
    assert result_in(decoded, Ended) == Ended(name="db")


def test_the_result_of_another_workflow_in_the_chain_is_passed_over() -> None:
    outer = ApplicationError("outer", {"hint": ""}, {"number": 1}, type="session-failed")
    outer.__cause__ = ApplicationError("inner", {"hint": ""}, {"name": "web"}, type="chain-busy")
    assert result_in(outer, Ended) == Ended(name="web")
    assert result_in(outer, Other) == Other(number=1)
    assert result_in(ChainBusy("held"), Ended) is None


def test_a_chain_without_end_is_followed_for_a_while_only() -> None:
    error = ApplicationError("held", type="chain-busy")
    error.__cause__ = error
    assert problem_of(error).code == "chain-busy"
