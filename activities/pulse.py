"""Keeps an activity alive while its thread is busy in a call that cannot report.

The heartbeat timeout says how soon a dead process is noticed; it shall be short, also where one flush of slow storage
takes longer. So a second thread repeats the last report. A thread that hangs must not live for ever, though: without
progress for ``stall_s`` the reports end, and the server gives the work to another attempt.
"""

import contextvars
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

from temporalio import activity

from activities.boundary import Heartbeat
from holdfast.clock import Clock
from holdfast.errors import OperationCancelled, OperationInterrupted
from holdfast.providers.ports import StreamedDisk

_INTERVAL_S = 2.0
STALL_S = 600.0
"""Longest time a transfer may stand still; a disk that spins up or a flush of slow storage takes far less."""


class Pulse:
    """The heartbeat of one blocking activity; use as a context manager around its work.

    ``cursor`` is what the previous attempt reported last: it is repeated until there is a newer one, so that a process
    that dies early does not lose it. ``stall_s`` None: the activity reports no progress and is kept alive until its
    own timeout.
    """

    def __init__(self, clock: Clock, *, cursor: object = None, stall_s: float | None = None) -> None:
        self._clock = clock
        self._heartbeat = Heartbeat(clock)
        self._cursor = cursor
        self._stall_s = stall_s
        self._progress_s = clock.monotonic_s()
        self._context = contextvars.copy_context()
        self._ended = threading.Event()
        self._stream: StreamedDisk | None = None
        self._pieces = 0
        self._thread = threading.Thread(target=self._repeat, name="pulse", daemon=True)

    def beat(self, cursor: object) -> None:
        """Report progress. Raises `OperationCancelled` or `OperationInterrupted` when the activity shall stop."""
        self._cursor = cursor
        self._progress_s = self._clock.monotonic_s()
        self._heartbeat.beat(cursor)

    def waiting(self) -> None:
        """Say that the work waits on purpose, which is no standstill; from any thread. Raises as `beat` does."""
        self._progress_s = self._clock.monotonic_s()
        self._heartbeat.check()

    def heed(self) -> None:
        """Raise as `beat` does, from any thread, and say nothing of how the work goes on."""
        self._heartbeat.check()

    @contextmanager
    def unhurried(self) -> Iterator[None]:
        """Let the block take as long as it needs: it is one call that cannot report, and no standstill."""
        stall_s, self._stall_s = self._stall_s, None
        try:
            yield
        finally:
            self._progress_s = self._clock.monotonic_s()
            self._stall_s = stall_s

    def watch(self, disk: object) -> None:
        """Count what comes as progress when a disk is a stream, and tell its waiting readers when they shall stop."""
        self._stream = disk if isinstance(disk, StreamedDisk) else None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._heartbeat.__exit__(kind, error, traceback)

    def _repeat(self) -> None:
        while not self._ended.wait(_INTERVAL_S):
            if self._stream is not None:
                self._look_at(self._stream)
            stall_s = self._stall_s
            if stall_s is not None and self._clock.monotonic_s() - self._progress_s > stall_s:
                return
            if self._cursor is None:
                self._context.run(activity.heartbeat)
                continue
            # The activity's own thread learns at its next report that it shall stop.
            with suppress(OperationCancelled, OperationInterrupted):
                self._heartbeat.beat(self._cursor)

    def _look_at(self, stream: StreamedDisk) -> None:
        pieces = stream.pieces_received
        if pieces != self._pieces:
            self._pieces, self._progress_s = pieces, self._clock.monotonic_s()
        try:
            self._heartbeat.check()
        except (OperationCancelled, OperationInterrupted) as error:
            # A reader may wait for hours until the place comes that it wants, and reports nothing meanwhile.
            stream.stop_waiting(error)
