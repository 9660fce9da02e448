"""Disks of one restore point that are written at the same time, and the commits that cover them all.

A chain file has one writer. Several disks share it: each brings its units and its maps under the one lock, and a commit
takes in what every one of them has brought so far. So whatever dies, each disk goes on at the same last commit.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Protocol, TypeVar

from holdfast import measures
from holdfast.clock import Clock
from holdfast.errors import ChainBusy
from holdfast.pipeline.stages import PipeOptions
from holdfast.storage.chain_files.abandoned import abandoned_bytes
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.chain_files.known_pieces import KnownPieces

_Result = TypeVar("_Result")


class Member(Protocol):
    """One of the disks. Everything here is called under the lock of the group."""

    @property
    def key(self) -> str:
        """Return the key of the disk."""
        ...

    @property
    def unwritten_bytes(self) -> int:
        """Return what is on its way into the file."""
        ...

    def bring(self) -> None:
        """Write what is on its way, and enter it in the contents: a commit is about to start."""
        ...

    def commit_started(self, flight: Future[None], *, is_late: bool) -> None:
        """Remember how far a commit goes that is on its way; a late one holds up nothing that waits to be filled."""
        ...

    def commit_finished(self) -> None:
        """Take note that everything up to the commit is durable."""
        ...

    @property
    def is_ahead(self) -> bool:
        """Return whether it has entered more than is known to be durable."""
        ...

    def leave(self) -> None:
        """Enter what it has in the contents, so that the disk can be opened again."""
        ...

    def set_growth_aside(self, size: int) -> None:
        """Take note that the file grew by so much for other disks."""
        ...


class CommitGroup:
    """The disks that one writer serves. `lock` is held wherever the writer or a disk of it is changed."""

    def __init__(self, writer: ChainWriter, clock: Clock, options: PipeOptions) -> None:
        self.writer = writer
        self.lock = threading.RLock()
        self.known = KnownPieces(writer)
        self.repository = ""
        """Name under which commits and pieces are counted."""
        self._clock = clock
        self._options = options
        self._members: list[Member] = []
        self._failure: BaseException | None = None
        self._flight: Future[None] | None = None
        self._new_bytes = self._committing_bytes = 0
        self._commit_s = clock.monotonic_s()
        self._is_counted = False
        self._opened_end = self._accounted_end = writer.end
        self._left_at: dict[str, int] = {}
        self._is_behind = False

    # -- who is in it --------------------------------------------------------------------------------------------

    def check_free(self, disk: str) -> None:
        """Raise `ChainBusy` when the disk is being written, or the writer is of no use any more."""
        if self._failure is not None:
            raise ChainBusy(f"{self._name} is let go of after a failure: {self._failure}")
        if any(member.key == disk for member in self._members):
            raise ChainBusy(f"disk {disk} in {self._name} is being written by another session")

    def make_even(self) -> None:
        """Commit what disks that left had brought, so that what is opened now begins at a commit."""
        if self._is_behind:
            self.commit()
            self._is_behind = False

    def bring_all(self) -> None:
        """Let every disk bring what it has: somebody is about to commit by hand."""
        for member in self._members:
            member.bring()

    def take_abandoned(self) -> int:
        """Return what a dead writer left behind its last commit; it is counted once, with the disk opened first."""
        if self._is_counted:
            return 0
        self._is_counted = True
        return abandoned_bytes(self.writer.handle, self.writer.committed.end)

    def grown_without(self, disk: str) -> int:
        """Return by how much the file grew for others since the disk was last written to."""
        return self.writer.end - self._left_at.get(disk, self._opened_end)

    def join(self, member: Member) -> None:
        """Let commits cover a disk. What the file has grown by until now does not count as the disk's."""
        with self.lock:
            self.account(member)
            self._members.append(member)

    def leave(self, member: Member) -> None:
        """Go on without a disk; what it had entered stays, and counts with the next commit. Idempotent."""
        with self.lock:
            if member not in self._members:
                return
            self._members.remove(member)
            self._left_at[member.key] = self.writer.end
            if member.is_ahead and self._failure is None:
                self._is_behind = True
                self._guarded(member.leave)

    # -- what is written -----------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise what made the writer useless, if something did."""
        if self._failure is not None:
            raise self._failure

    def fail(self, error: BaseException) -> None:
        """Commit nothing of this opening any more: maps are half changed."""
        self._failure = self._failure or error

    def stored(self, member: Member, size: int) -> None:
        """Count pieces that were stored for a disk, and what the file grew by."""
        self._new_bytes += size
        self.account(member)

    def account(self, member: Member) -> None:
        """Say whose growth the file's was since the last call."""
        growth, self._accounted_end = self.writer.end - self._accounted_end, self.writer.end
        if growth:
            for other in self._members:
                if other is not member:
                    other.set_growth_aside(growth)

    # -- commits -------------------------------------------------------------------------------------------------

    def commit_if_due(self, member: Member) -> float:
        """Start a commit when it is time, and wait when too much is not durable; return the seconds waited."""
        waited_s = 0.0
        while (flight := self._start_if_due(member)) is not None:
            asked_s = self._clock.monotonic_s()
            wait([flight])
            waited_s += self._clock.monotonic_s() - asked_s
        return waited_s

    def _start_if_due(self, member: Member) -> Future[None] | None:
        """Return the commit on its way that has to be waited for first."""
        with self.lock:
            self.check()
            waiting = self._waiting_bytes()
            if self._is_on_its_way():
                is_full = self._committing_bytes + waiting >= self._options.uncommitted_bytes_max
                return self._flight if is_full else None
            is_late = self._clock.monotonic_s() - self._commit_s >= self._options.commit_interval_s
            if waiting >= self._options.commit_new_bytes or is_late:
                self._start(member, is_late=is_late)
            return None

    def commit(self, member: Member | None = None) -> None:
        """Make everything brought so far durable, and count the tables as written for ``member``."""
        self.finish()
        with self.lock:
            self.check()
            if not self._is_on_its_way():
                self._start(member)
        self.finish()

    def finish(self) -> None:
        """Wait for the commit that is on its way. Raises what went wrong with it."""
        flight = self._flight
        if flight is not None:
            wait([flight])
        with self.lock:
            self.check()
            self._is_on_its_way()

    def _is_on_its_way(self) -> bool:
        """Return whether a commit is on its way; take note of one that has ended. Raises what went wrong with it."""
        if self.writer.is_committing:
            return True
        self._guarded(self.writer.finish_commit)
        if self._flight is not None:
            self._flight, self._committing_bytes = None, 0
            for member in self._members:
                member.commit_finished()
        return False

    def _waiting_bytes(self) -> int:
        return self._new_bytes + sum(member.unwritten_bytes for member in self._members)

    def _start(self, member: Member | None, *, is_late: bool = False) -> None:
        self._guarded(self.bring_all)  # units carry the number of this commit
        started_s = self._clock.monotonic_s()
        flight = self._flight = self._guarded(self.writer.start_commit)
        flight.add_done_callback(lambda _: self._measure(started_s))
        self._commit_s = self._clock.monotonic_s()
        self._committing_bytes, self._new_bytes = self._new_bytes, 0
        for other in self._members:
            other.commit_started(flight, is_late=is_late)
        if member is not None:
            self.account(member)

    def _measure(self, started_s: float) -> None:
        measures.COMMITS.record(self._clock.monotonic_s() - started_s, repository=self.repository)

    def _guarded(self, step: Callable[[], _Result]) -> _Result:
        try:
            return step()
        except BaseException as error:
            self.fail(error)
            raise

    @property
    def _name(self) -> str:
        return f"{self.writer.handle.path.name} of chain {self.writer.handle.path.parent.name}"
