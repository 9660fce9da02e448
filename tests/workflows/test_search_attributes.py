"""The attributes sessions are found by."""

from collections import Counter

from holdfast.model.ids import JobName, RepositoryName
from holdfast.model.session import Outcome, SessionKind
from workflows.search_attributes import (
    SEARCH_ATTRIBUTES,
    Subject,
    declared_types,
    ended,
    started,
)

# What SQL stores of visibility allow per namespace.
ALLOWED = {"Keyword": 10, "Int": 3, "Double": 3, "Bool": 3, "Datetime": 3, "Text": 3}


def test_the_attributes_fit_into_a_namespace_on_sql() -> None:
    used = Counter(declared_types().values())
    assert all(count <= ALLOWED[kind] for kind, count in used.items())


def test_every_attribute_has_a_name_of_its_own_with_our_prefix() -> None:
    names = [key.name for key in SEARCH_ATTRIBUTES]
    assert len(set(names)) == len(names)
    assert all(name.startswith("Holdfast") for name in names)


def test_a_session_starts_as_running_with_what_is_known_of_it() -> None:
    subject = Subject(
        kind=SessionKind.BACKUP,
        job=JobName("nightly"),
        machine="db1",
        repository=RepositoryName("main"),
    )
    assert pairs(subject) == {
        "HoldfastKind": "backup",
        "HoldfastResult": "running",
        "HoldfastJob": "nightly",
        "HoldfastMachine": "db1",
        "HoldfastRepository": "main",
    }


def test_what_a_session_does_not_have_is_left_out() -> None:
    subject = Subject(kind=SessionKind.VERIFY)
    assert pairs(subject) == {"HoldfastKind": "verify", "HoldfastResult": "running"}


def test_the_outcome_replaces_the_running_state_and_names_the_error() -> None:
    updates = ended(Outcome.FAILED, stored_bytes=5, error_code="repository-full")
    assert {update.key.name: update.value for update in updates} == {
        "HoldfastResult": "failed",
        "HoldfastStoredBytes": 5,
        "HoldfastErrorCode": "repository-full",
    }


def test_a_success_removes_the_code_of_an_earlier_error() -> None:
    updates = ended(Outcome.SUCCESS, stored_bytes=0)
    assert [update.key.name for update in updates if update.value is None] == ["HoldfastErrorCode"]


def pairs(subject: Subject) -> dict[str, object]:
    return {pair.key.name: pair.value for pair in started(subject)}
