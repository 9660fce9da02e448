"""Locks keep threads and processes apart, and end with their holder."""

import threading
from pathlib import Path

import pytest

from holdfast.clock import SystemClock
from holdfast.errors import SourceError
from holdfast.providers.local.locks import Locks
from tests.holdfast.providers.local.bench import SteppingClock


def test_a_held_lock_is_refused_after_the_wait(tmp_path: Path) -> None:
    locks = Locks(tmp_path, SteppingClock(), wait_s=3.0)
    with (
        locks.hold("a", "machine a"),
        pytest.raises(SourceError, match=r"machine a has been busy .* for 3 s"),
        locks.hold("a", "machine a"),
    ):
        pass
    with locks.hold("a", "machine a"):
        pass


def test_locks_of_different_names_do_not_meet(tmp_path: Path) -> None:
    locks = Locks(tmp_path, SteppingClock(), wait_s=0.0)
    with locks.hold("a", "a"), locks.hold("b", "b"), locks.try_hold("c") as is_free:
        assert is_free
        with locks.try_hold("a") as is_free_too:
            assert not is_free_too


def test_a_waiting_thread_gets_the_lock(tmp_path: Path) -> None:
    locks = Locks(tmp_path, SystemClock())
    got = threading.Event()

    def wait() -> None:
        with locks.hold("a", "a"):
            got.set()

    thread = threading.Thread(target=wait)
    with locks.hold("a", "a"):
        thread.start()
        assert not got.is_set()
    assert got.wait(30)
    thread.join()


def test_a_lock_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    locks = Locks(tmp_path / "none", SteppingClock())
    with pytest.raises(SourceError, match="cannot be opened"), locks.hold("a", "a"):
        pass
