"""The error tree keeps what it promises to scripts, retries and readers."""

import re

import pytest

from holdfast import errors
from holdfast.errors import (
    DataError,
    DiskMoved,
    EncodingFailed,
    HoldfastError,
    RepositoryFull,
    SnapshotFailed,
    WriterFenced,
    error_class,
    error_classes,
)
from scripts import errors_table

# What scripts out there rely on. Rows are added; none is changed or reused.
PUBLISHED = {
    "input-invalid": 10,
    "configuration-invalid": 11,
    "request-invalid": 12,
    "machine-not-found": 13,
    "disk-not-found": 14,
    "point-not-found": 15,
    "repository-not-found": 16,
    "session-not-found": 17,
    "credential-missing": 18,
    "target-exists": 19,
    "source-failed": 20,
    "provider-unavailable": 21,
    "snapshot-failed": 22,
    "snapshot-not-found": 23,
    "disk-changed": 24,
    "disk-read-failed": 25,
    "machine-running": 26,
    "change-tracking-lost": 27,
    "access-denied": 28,
    "quiesce-failed": 29,
    "snapshot-refused": 38,
    "disk-moved": 39,
    "target-failed": 30,
    "disk-write-failed": 31,
    "restored-bytes-differ": 32,
    "identity-taken": 33,
    "plan-changed": 34,
    "point-locked": 35,
    "clock-jumped": 36,
    "repository-failed": 40,
    "repository-unavailable": 41,
    "repository-full": 42,
    "chain-busy": 43,
    "writer-fenced": 44,
    "sync-failed": 45,
    "store-failed": 46,
    "data-invalid": 50,
    "format-unknown": 51,
    "format-too-new": 52,
    "file-damaged": 53,
    "data-damaged": 54,
    "chain-broken": 55,
    "passphrase-wrong": 56,
    "encoding-failed": 57,
    "proof-invalid": 58,
    "proof-contradicted": 59,
    "limit-exceeded": 60,
    "server-unavailable": 61,
    "proxy-unavailable": 67,
    "catalog-unavailable": 62,
    "tool-missing": 63,
    "cancelled": 64,
    "interrupted": 65,
    "session-failed": 66,
    "machine-inaccessible": 68,
    "internal": 70,
    "link-failed": 80,
    "protocol-violated": 81,
    "link-refused": 82,
    "link-lost": 83,
}

DRAWN = re.compile(r"^ +[│ ]*[├└]── (\w+)", re.MULTILINE)

every_error = pytest.mark.parametrize("error", error_classes(), ids=lambda error: error.code)


def test_codes_and_exit_statuses_are_the_published_ones() -> None:
    assert {error.code: error.exit_status for error in error_classes()} == PUBLISHED


def test_no_two_errors_share_a_code_or_an_exit_status() -> None:
    assert len({error.code for error in error_classes()}) == len(error_classes())
    assert len({error.exit_status for error in error_classes()}) == len(error_classes())


@every_error
def test_an_exit_status_is_free_of_other_meanings(error: type[HoldfastError]) -> None:
    # 1 and 2 are Python's and the argument parser's; from 126 on the shell's.
    assert 3 <= error.exit_status <= 125


@every_error
def test_a_code_is_words_with_hyphens(error: type[HoldfastError]) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", error.code)


@every_error
def test_meaning_and_hint_are_sentences(error: type[HoldfastError]) -> None:
    for sentence in (error.__doc__ or "", error.default_hint):
        assert re.fullmatch(r"([A-Z]|docs/).*\.", sentence)


@every_error
def test_every_error_states_its_own_code_and_exit_status(error: type[HoldfastError]) -> None:
    assert {"code", "exit_status"} <= set(vars(error))


@every_error
def test_an_error_is_found_by_its_code(error: type[HoldfastError]) -> None:
    assert error_class(error.code) is error


def test_an_unknown_code_finds_nothing() -> None:
    assert error_class("levitation-failed") is None


def test_the_drawing_shows_the_tree() -> None:
    drawn = DRAWN.findall(errors.__doc__ or "")
    assert len(drawn) == len(set(drawn))
    assert set(drawn) == {error.__name__ for error in error_classes()} - {"HoldfastError"}


def test_an_error_carries_message_and_hint() -> None:
    error = RepositoryFull("repository cellar is full")
    assert str(error) == error.message == "repository cellar is full"
    assert error.hint == RepositoryFull.default_hint


def test_a_hint_of_its_own_replaces_the_default() -> None:
    assert WriterFenced("chain c is taken", hint="Wait.").hint == "Wait."


def test_a_move_is_not_the_last_unless_stated() -> None:
    assert not DiskMoved("disk d0 moved").is_last
    last = DiskMoved("disk d0 moved", hint="Wait.", is_last=True)
    assert (last.is_last, last.message, last.hint) == (True, "disk d0 moved", "Wait.")


@pytest.mark.parametrize("is_passing", [True, False])
def test_a_snapshot_that_failed_says_whether_something_else_was_in_the_way(is_passing: bool) -> None:
    assert SnapshotFailed("the machine is moving", is_passing=is_passing).is_passing is is_passing
    assert not SnapshotFailed("the machine is moving").is_passing


def test_whether_a_retry_can_help_follows_the_family_unless_stated() -> None:
    assert RepositoryFull.retryable
    assert not WriterFenced.retryable
    assert not DataError.retryable
    assert EncodingFailed.retryable


def test_the_reference_page_is_the_generated_one() -> None:
    assert errors_table.PAGE.read_text() == errors_table.page()
