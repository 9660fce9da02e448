"""Reading ahead of readers that go through a disk in order: few long requests to a server far away."""

import threading
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

REQUEST_MAX: Final = 256 << 20
"""Bytes asked for at once. What nobody takes stays with the server, so a long request costs little."""
GAP_MAX: Final = 4 << 20
"""A read this far ahead of a request waits for it. What is received meanwhile is kept for those who come late."""
SKIPPED_MAX: Final = 2 * GAP_MAX
_PIECE: Final = 1 << 20
_PIECES_MAX: Final = 64
_REQUESTS_MAX: Final = 4
_RUNS_MAX: Final = 16


class Answer(Protocol):
    """The bytes of one request, which come in order. Both methods raise errors of ours."""

    def read_into(self, buffer: memoryview) -> None:
        """Fill ``buffer`` with the bytes that come next."""
        ...

    def close(self) -> None:
        """Let go of what was not read."""
        ...


class _Request(msgspec.Struct, eq=False):
    """Bytes that were asked for; one thread at a time receives them."""

    position: int
    """Offset on the disk of the byte that comes next."""
    end: int
    run: int
    """Bytes that will have been read in order up to its end."""
    answer: Answer | None = None
    is_busy: bool = True

    def reaches(self, offset: int) -> bool:
        """Return whether a read from an offset should wait for this."""
        return self.position <= offset < self.end and offset - self.position <= GAP_MAX


class _Waiting(msgspec.Struct, eq=False):
    """A read that waits for its turn."""

    offset: int
    turn: threading.Condition


class ReadAhead:
    """Reads through ``ask``, which asks for a count of bytes from an offset. Any thread may read.

    A read that begins where an earlier one ended, or soon after, makes a request that is twice as long as what was read
    in order so far; the reads that follow take from it, straight into their buffers. A read anywhere else asks for what
    it needs.
    """

    def __init__(self, ask: Callable[[int, int], Answer], size_bytes: int) -> None:
        self._ask = ask
        self._size_bytes = size_bytes
        self._lock = threading.RLock()
        """Held for moments only, never while the server is waited for."""
        self._requests: list[_Request] = []
        self._waiting: list[_Waiting] = []
        self._runs: dict[int, int] = {}
        """Bytes read in order by the offset where they end."""
        self._skipped: dict[int, memoryview] = {}

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` from ``offset``. Raises what ``ask`` and its answers raise."""
        while buffer:
            count = self._take_skipped(offset, buffer)
            if not count and (request := self._claim(offset, len(buffer))) is not None:
                count = self._receive(request, offset, buffer)
            offset, buffer = offset + count, buffer[count:]

    def clear(self) -> None:
        """Forget everything. No other call may be under way."""
        while self._requests:
            self._drop(self._requests[0])
        self._runs.clear()
        self._skipped.clear()

    # -- whose turn it is ----------------------------------------------------------------------------------------

    def _claim(self, offset: int, length: int) -> _Request | None:
        """Return the request to receive from, once it is the caller's turn; None when the bytes have come meanwhile."""
        with self._lock:
            this = _Waiting(offset=offset, turn=threading.Condition(self._lock))
            self._waiting.append(this)
            try:
                while True:
                    if self._find_skipped(offset) is not None:
                        return None
                    request = next((one for one in self._requests if one.reaches(offset)), None)
                    if request is None:
                        return self._begin(offset, length)
                    if not request.is_busy and self._next_of(request) is this:
                        request.is_busy = True
                        return request
                    this.turn.wait()
            finally:
                self._waiting.remove(this)
                for idle in self._requests:
                    if not idle.is_busy:
                        self._pass_on(idle)

    def _next_of(self, request: _Request) -> _Waiting | None:
        """Return the read that is furthest behind of those that wait for a request."""
        reached = (one for one in self._waiting if request.reaches(one.offset))
        return min(reached, key=lambda one: one.offset, default=None)

    def _pass_on(self, request: _Request) -> None:
        """Wake whose turn it is, and who waits for something else or in vain; the others would only be in the way."""
        following = self._next_of(request)
        for one in self._waiting:
            if one is following or not request.reaches(one.offset):
                one.turn.notify()

    def _begin(self, offset: int, length: int) -> _Request:
        start = max((end for end, run in self._runs.items() if self._joins(offset, end, run)), default=None)
        if start is None:
            request = _Request(position=offset, end=offset + length, run=length)
        else:
            run = self._runs[start]
            end = max(offset + length, self._reach(start, run))
            request = _Request(position=start, end=end, run=run + end - start)
        self._runs = {one: run for one, run in self._runs.items() if not request.position <= one <= request.end}
        self._runs[request.end] = request.run
        while len(self._runs) > _RUNS_MAX:
            del self._runs[next(iter(self._runs))]
        self._requests.append(request)
        return request

    def _joins(self, offset: int, end: int, run: int) -> bool:
        """Return whether a read carries on a run, with blocks left out that other readers are about to read."""
        return end <= offset < self._reach(end, run) and offset - end <= GAP_MAX

    def _reach(self, start: int, run: int) -> int:
        return min(start + min(2 * run, REQUEST_MAX), self._size_bytes)

    # -- what comes ----------------------------------------------------------------------------------------------

    def _receive(self, request: _Request, offset: int, buffer: memoryview) -> int:
        """Receive up to a read, and fill its buffer as far as the request goes; return the count of bytes."""
        try:
            if request.answer is None:
                self._make_room()
                request.answer = self._ask(request.position, request.end - request.position)
            while request.position < offset:
                piece = memoryview(bytearray(min(offset - request.position, _PIECE)))
                request.answer.read_into(piece)
                self._keep(request, piece)
            wanted = buffer[: request.end - offset]
            request.answer.read_into(wanted)
        except BaseException:
            self._drop(request)
            raise
        with self._lock:
            request.position = offset + len(wanted)
            request.is_busy = False
            self._pass_on(request)
        if request.position == request.end:
            self._drop(request)
        return len(wanted)

    def _make_room(self) -> None:
        """Let go of the request that was begun first of those that nobody receives, when there are many."""
        with self._lock:
            idle = [one for one in self._requests if not one.is_busy]
            oldest = idle[0] if idle and len(self._requests) > _REQUESTS_MAX else None
            if oldest is not None:
                oldest.is_busy = True
        if oldest is not None:
            self._drop(oldest)

    def _drop(self, request: _Request) -> None:
        with self._lock:
            if request in self._requests:
                self._requests.remove(request)
            for one in self._waiting:
                one.turn.notify()
        if request.answer is not None:
            request.answer.close()

    # -- what was skipped ----------------------------------------------------------------------------------------

    def _keep(self, request: _Request, piece: memoryview) -> None:
        with self._lock:
            self._skipped[request.position] = piece
            request.position += len(piece)
            while len(self._skipped) > _PIECES_MAX or sum(map(len, self._skipped.values())) > SKIPPED_MAX:
                del self._skipped[next(iter(self._skipped))]

    def _find_skipped(self, offset: int) -> int | None:
        found = (start for start, piece in self._skipped.items() if start <= offset < start + len(piece))
        return next(found, None)

    def _take_skipped(self, offset: int, buffer: memoryview) -> int:
        """Copy what was kept for a read; return the count of bytes. A piece that was read to its end is let go of."""
        with self._lock:
            start = self._find_skipped(offset)
            if start is None:
                return 0
            content = self._skipped[start][offset - start :][: len(buffer)]
            if offset + len(content) == start + len(self._skipped[start]):
                del self._skipped[start]
        buffer[: len(content)] = content
        return len(content)
