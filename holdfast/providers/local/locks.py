"""Locks between threads and processes of one host; the kernel frees those of the dead."""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from holdfast.clock import Clock
from holdfast.errors import SourceError

WAIT_S = 60.0
"""How long an operation waits for another one before it gives up; a retry may succeed."""
_POLL_S = 0.05

INVENTORY = "inventory"
"""Name of the lock under which machines and restore targets appear and disappear."""


class Locks:
    """Exclusive locks by name: `INVENTORY`, and one per machine id. Not reentrant."""

    def __init__(self, folder: Path, clock: Clock, wait_s: float = WAIT_S) -> None:
        self._folder = folder
        self._clock = clock
        self._wait_s = wait_s

    @contextmanager
    def hold(self, name: str, what: str) -> Iterator[None]:
        """Hold a lock for the block; `SourceError` says that ``what`` is busy."""
        descriptor = self._open(name)
        try:
            self._wait(descriptor, what)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def try_hold(self, name: str) -> Iterator[bool]:
        """Hold a lock for the block if it is free; the value says whether it is held."""
        descriptor = self._open(name)
        try:
            yield _take(descriptor)
        finally:
            os.close(descriptor)

    def _open(self, name: str) -> int:
        try:
            return os.open(self._folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SourceError(f"lock {name} in {self._folder} cannot be opened: {error.strerror}") from error

    def _wait(self, descriptor: int, what: str) -> None:
        deadline_s = self._clock.monotonic_s() + self._wait_s
        pause = threading.Event()
        while not _take(descriptor):
            if self._clock.monotonic_s() >= deadline_s:
                raise SourceError(
                    f"{what} has been busy with another operation for {self._wait_s:.0f} s",
                    hint="Let the other operation end; the session tries again by itself.",
                )
            # Nobody can signal across processes when a lock becomes free, so the wait is cut into
            # short ones.
            pause.wait(_POLL_S)


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
