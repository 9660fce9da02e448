"""Reading ahead of readers that go through a disk in order: fewer and larger requests to a server far away."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

import msgspec

STRETCH_MAX: Final = 8 << 20
"""Bytes asked for at once."""
_LARGE: Final = 2 << 20
"""Reads of so many bytes gain nothing."""
_KEPT_MAX: Final = 6
_COMING_MAX: Final = 2
_RUNS_MAX: Final = 16


class _Stretch(msgspec.Struct, eq=False):
    """Bytes that are being fetched, or have been."""

    start: int
    end: int
    run: int
    """Bytes that were read in order up to its end."""
    content: Future[memoryview]
    left: int
    """Bytes that nobody has asked for yet."""
    readers: int = 0
    """Threads that are about to copy from it."""


class ReadAhead:
    """Reads through ``fetch``, which fills a buffer from an offset or raises. Any thread may read.

    A read that begins where an earlier one ended, or soon after, makes the next request larger, up to `STRETCH_MAX`;
    one that does not fetches what it needs. A thread that would wait for a request of another meanwhile makes the one
    after it. No more than six stretches are held.
    """

    def __init__(self, fetch: Callable[[int, memoryview], None], size_bytes: int) -> None:
        self._fetch = fetch
        self._size_bytes = size_bytes
        self._lock = threading.Lock()
        self._stretches: list[_Stretch] = []
        self._runs: dict[int, int] = {}
        self._spare: list[bytearray] = []

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` from ``offset``. Raises what ``fetch`` raises."""
        while buffer:
            found, is_ours = self._find(offset, len(buffer))
            if found is None:
                self._fetch(offset, buffer)
                return
            if is_ours:
                self._fill(found)
            elif not found.content.done():
                self._help(found)
            count = self._take(found, offset, buffer)
            offset, buffer = offset + count, buffer[count:]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._stretches.clear()
            self._runs.clear()
            self._spare.clear()

    def _find(self, offset: int, length: int) -> tuple[_Stretch | None, bool]:
        """Return the stretch that holds an offset, and whether the caller has to fetch it; None for a read alone."""
        with self._lock:
            for stretch in self._stretches:
                if stretch.start <= offset < stretch.end:
                    stretch.readers += 1
                    return stretch, False
            start = self._near(offset, length)
            if start is None:
                self._note(offset + length, self._runs.pop(offset, 0) + length)
                return None, True
            stretch = self._begin(start, self._runs.pop(start))
            stretch.readers += 1
            return stretch, True

    def _near(self, offset: int, length: int) -> int | None:
        """Return the end of a run from where a stretch would reach behind a read; None when there is none.

        Readers that take turns leave the blocks of the others out.
        """
        if length >= _LARGE:
            return None
        ends = [end for end, run in self._runs.items() if end <= offset and offset + length < self._reach(end, run)]
        return max(ends, default=None)

    def _reach(self, start: int, run: int) -> int:
        return min(start + min(2 * run, STRETCH_MAX), self._size_bytes)

    def _begin(self, start: int, run: int) -> _Stretch:
        end = self._reach(start, run)
        self._runs = {one: length for one, length in self._runs.items() if not start <= one <= end}
        stretch = _Stretch(start=start, end=end, run=run + end - start, content=Future(), left=end - start)
        while len(self._stretches) >= _KEPT_MAX:
            done = (index for index, one in enumerate(self._stretches) if one.content.done())
            self._stretches.pop(next(done, 0))
        self._stretches.append(stretch)
        self._note(end, stretch.run)
        return stretch

    def _note(self, end: int, run: int) -> None:
        self._runs[end] = run
        while len(self._runs) > _RUNS_MAX:
            del self._runs[next(iter(self._runs))]

    def _fill(self, stretch: _Stretch) -> None:
        with self._lock:
            whole = self._spare.pop() if self._spare else None
        buffer = memoryview(whole or bytearray(STRETCH_MAX))[: stretch.end - stretch.start]
        try:
            self._fetch(stretch.start, buffer)
        except BaseException as error:  # noqa: BLE001 - whoever reads from the stretch raises it
            with self._lock:
                self._drop(stretch)
            stretch.content.set_exception(error)
        else:
            stretch.content.set_result(buffer)

    def _help(self, stretch: _Stretch) -> None:
        """Fetch what comes after a stretch that another thread is fetching, unless enough is coming."""
        with self._lock:
            coming = sum(not one.content.done() for one in self._stretches)
            run = self._runs.get(stretch.end, 0)
            if coming >= _COMING_MAX or self._reach(stretch.end, run) <= stretch.end:
                return
            following = self._begin(stretch.end, self._runs.pop(stretch.end))
        self._fill(following)

    def _take(self, stretch: _Stretch, offset: int, buffer: memoryview) -> int:
        """Copy what a stretch has for a reader; return the count of bytes."""
        content = stretch.content.result()
        count = min(len(buffer), stretch.end - offset)
        buffer[:count] = content[offset - stretch.start :][:count]
        with self._lock:
            stretch.left -= count
            stretch.readers -= 1
            if stretch.left <= 0 and stretch.readers == 0 and stretch in self._stretches:
                self._drop(stretch)
                assert isinstance(content.obj, bytearray), "it was made so"
                self._spare.append(content.obj)
        return count

    def _drop(self, stretch: _Stretch) -> None:
        if stretch in self._stretches:
            self._stretches.remove(stretch)
