"""A disk of a finished point at another mover, read to be restored."""

import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from functools import partial
from typing import TypeAlias

import msgspec

from holdfast.clock import SystemClock
from holdfast.errors import DataDamaged, HoldfastError, LinkLost, ProtocolError
from holdfast.formats.codec import decompress
from holdfast.formats.digests import piece_digests
from holdfast.formats.magic import DIGEST_SIZE, PIECE_SIZE
from holdfast.formats.mover import messages as m
from holdfast.formats.mover.bodies import unpack_runs, unpack_stored_unit
from holdfast.formats.mover.inbox import Message
from holdfast.mover.attendance import Attendance, Attended
from holdfast.mover.line import Line
from holdfast.mover.opening import expect
from holdfast.mover.parting import part
from holdfast.mover.tracing import traceparent
from holdfast.pipeline.busy import PipeClocks
from holdfast.pipeline.pace import Pace

_DIGESTS_PAGE = 4096
"""Digests asked for at once; those of 256 MiB."""
_PAGES_KEPT = 4

Body: TypeAlias = bytes | memoryview


class RemoteFile:
    """A chain file at the other mover."""

    def __init__(self, source: "RemoteSource", index: int, pieces_per_unit: int) -> None:
        self.pieces_per_unit = pieces_per_unit
        self._source = source
        self._index = index

    def fetch(self, number: int, pool: Executor, key: bytes) -> "Future[Body]":
        """Return the body of a unit, compared with its digests."""
        return self._source.fetch(self._index, number, pool, key)


class RemoteRun(msgspec.Struct, frozen=True):
    """Consecutive pieces at consecutive places; zeros when ``file`` is None."""

    piece: int
    count: int
    file: RemoteFile | None
    place: int


class _Wish(msgspec.Struct, frozen=True):
    """A unit that was asked for."""

    pool: Executor
    key: bytes
    body: "Future[Body]"


class RemoteSource:
    """Reads one disk over a line; see `holdfast.pipeline.restore.StoredSource`."""

    def __init__(self, line: Line, opened: m.StoredOpened, pace: Pace) -> None:
        self._line = line
        self._pace = pace
        self._attendance = Attendance(line, pace)
        self.size_bytes = opened.size_bytes
        self.pieces = -(-opened.size_bytes // PIECE_SIZE)
        self.machine_name = opened.machine
        self.digest_key = opened.digest_key
        self.change_id = opened.change_id
        self.left_out = opened.left_out
        self.is_doubted = opened.is_doubted
        self._files = [RemoteFile(self, index, count) for index, count in enumerate(opened.pieces_per_unit)]
        self._lock = threading.Lock()
        self._units: dict[tuple[int, int], _Wish] = {}
        self._runs: deque[Future[tuple[m.Runs, bytes]]] = deque()
        self._digests: deque[tuple[m.DigestsOf, Future[bytes]]] = deque()
        self._busy: PipeClocks | None = None
        self._is_told = False
        self._pages: dict[int, Future[bytes]] = {}
        self._error: HoldfastError | None = None
        self._is_closed = False
        self._thread = threading.Thread(target=self._listen, name="mover-answers", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, line: Line, grant: str, pace: Pace | None = None) -> "RemoteSource":
        """Begin the session of a line; the source closes the line. Raises what the other side failed with.

        The other side keeps to its limits by itself, and tells ``pace`` how long that took.
        """
        pace = pace if pace is not None else Pace(SystemClock())
        try:
            line.send(m.encode_message(m.OpenDisk(grant=grant, trace=traceparent())))
            return cls(line, expect(line, m.StoredOpened, Attendance(line, pace).look), pace)
        except BaseException:
            line.close()
            raise

    def watch(self, busy: PipeClocks) -> None:
        """Count in these clocks what the other side says of its reading."""
        busy.has_line = True
        self._busy = busy

    @property
    def round_trip_s(self) -> float:
        """Return how long an answer takes at least."""
        return self._line.round_trip_s

    def runs(self, start: int, end: int) -> Iterator[RemoteRun]:
        """Yield where pieces are, in order and without gaps."""
        while start < end:
            answer: Future[tuple[m.Runs, bytes]] = Attended(self._attendance.look)
            with self._asking():
                self._runs.append(answer)
                self._attendance.send(m.RunsOf(first=start, count=end - start))
            head, body = answer.result()
            if head.first != start or not head.count:
                raise ProtocolError(f"{head.count} runs from piece {head.first} came instead of those from {start}")
            for run in unpack_runs(head, memoryview(body)):
                yield RemoteRun(start, run.count, None if run.file is None else self._file(run.file), run.place)
                start += run.count
            if start > end:
                raise ProtocolError(f"runs came up to piece {start}, those up to {end} were asked for")

    def _file(self, index: int) -> RemoteFile:
        if index >= len(self._files):
            raise ProtocolError(f"a run lies in file {index} of {len(self._files)}")
        return self._files[index]

    def piece_digests(self, start: int, end: int) -> bytearray:
        """Return the joined digests of pieces. They are asked for a page at a time, and one ahead."""
        found = bytearray()
        while start < end:
            index, at = divmod(start, _DIGESTS_PAGE)
            count = min(end - start, _DIGESTS_PAGE - at)
            page = self._page(index)
            self._page(index + 1)
            found += page.result()[at * DIGEST_SIZE : (at + count) * DIGEST_SIZE]
            start += count
        return found

    def _page(self, index: int) -> Future[bytes]:
        page: Future[bytes] = Attended(self._attendance.look)
        first = index * _DIGESTS_PAGE
        if first >= self.pieces:
            page.set_result(b"")
            return page
        head = m.DigestsOf(first=first, count=min(_DIGESTS_PAGE, self.pieces - first))
        with self._asking():
            known = self._pages.setdefault(index, page)
            if known is page:
                # Known and asked for at once: another thread that finds it waits for its answer.
                self._digests.append((head, page))
                self._attendance.send(head)
                self._forget_pages_before(index)
        return known

    def _forget_pages_before(self, index: int) -> None:
        for old in sorted(self._pages)[: len(self._pages) - _PAGES_KEPT]:
            if old < index:
                del self._pages[old]

    def fetch(self, file: int, number: int, pool: Executor, key: bytes) -> "Future[Body]":
        """Return the body of a unit, decoded by ``pool`` when it has come and compared with its digests."""
        wish = _Wish(pool, key, Attended(self._attendance.look))
        with self._asking():
            known = self._units.setdefault((file, number), wish)
            if known is wish:
                self._attendance.send(m.GetUnit(file=file, number=number))
        return known.body

    def close(self) -> None:
        """End the session. Idempotent."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            is_told = self._is_told
        part(self._line, None if is_told else m.Finish())
        self._thread.join()

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Hold the lock, for answers come in the order of the questions; raise what the other side failed with."""
        with self._lock:
            self._raise()
            try:
                yield
                return
            except HoldfastError as found:
                error = found
                if not self._line.has_ended:
                    self._error = error  # entered and not said: answers would not fit the questions any more
                    raise
        self._thread.join()  # it hears the same, after everything that came before
        self._raise()  # what the other side said of it says more
        raise error

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    # -- what comes back -----------------------------------------------------------------------------------------

    def _listen(self) -> None:
        error: HoldfastError = LinkLost("the repository's mover ended the session")
        try:
            while (message := self._line.receive()) is not None:
                head, body = m.decode_message(message.payload)
                match head:
                    case m.StoredUnit():
                        self._take_unit(head, body, message)
                        continue
                    case m.Paced():
                        self._pace.note_wait(head.waited_s, head.because)
                    case _:
                        self._take(head, body)
                self._line.release(message)
        except HoldfastError as found:
            error = found
        finally:
            self._end(error)

    def _take(self, head: m.AnyHead, body: memoryview) -> None:
        with self._lock:
            match head:
                case m.Runs() if self._runs:
                    self._runs.popleft().set_result((head, bytes(body)))
                case m.Digests():
                    self._take_digests(head, body)
                case m.Failure():
                    self._is_told = True
                    raise m.failed(head)
                case _:
                    raise ProtocolError(f"{type(head).__name__} came while a disk was read")

    def _take_digests(self, head: m.Digests, body: memoryview) -> None:
        if not self._digests or self._digests[0][0] != m.DigestsOf(first=head.first, count=head.count):
            raise ProtocolError(f"{head.count} digests from piece {head.first} came and were not asked for")
        self._digests.popleft()[1].set_result(bytes(body))

    def _take_unit(self, head: m.StoredUnit, body: memoryview, message: Message) -> None:
        """Have a unit decoded out of its message, which is released then."""
        with self._lock:
            wish = self._units.pop((head.file, head.number), None)
            if self._busy is not None:
                self._busy.source.tell(head.busy_s)
                self._busy.throttled.tell(head.throttled_s)
        if wish is None:
            raise ProtocolError(f"unit {head.number} of file {head.file} came and was not asked for")
        try:
            decoding = wish.pool.submit(_decoded, head, body, wish.key)
        except RuntimeError:  # the restore has ended, and its pool with it
            self._line.release(message)
            return
        decoding.add_done_callback(lambda _: self._line.release(message))
        decoding.add_done_callback(partial(_pass_on, wish.body))

    def _end(self, error: HoldfastError) -> None:
        with self._lock:
            self._error = error = self._error or error  # what a transfer was stopped with comes first
            wishes, self._units = list(self._units.values()), {}
        for runs in self._runs:
            runs.set_exception(error)
        for _, digests in self._digests:
            digests.set_exception(error)
        for wish in wishes:
            wish.body.set_exception(error)


def _decoded(head: m.StoredUnit, body: memoryview, key: bytes) -> bytes:
    digests, packed = unpack_stored_unit(head, body)
    decoded = bytes(decompress(head.codec, packed, head.count * PIECE_SIZE))  # copied when it was not compressed
    if piece_digests(decoded, key) != digests:
        raise DataDamaged(f"unit {head.number} of file {head.file}: its pieces do not match their digests")
    return decoded


def _pass_on(answer: "Future[Body]", decoding: Future[bytes]) -> None:
    if decoding.cancelled():
        answer.cancel()
        return
    error = decoding.exception()
    if error is None:
        answer.set_result(decoding.result())
    else:
        answer.set_exception(error)
