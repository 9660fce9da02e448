"""A disk of an unfinished point at another mover: the first half of the backup pipe sends, the second is there."""

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext

import msgspec

from holdfast.clock import SystemClock
from holdfast.errors import HoldfastError, LinkLost, ProtocolError
from holdfast.formats.contents import LeftOut
from holdfast.formats.mover import messages as m
from holdfast.formats.mover.bodies import pack_pieces
from holdfast.mover.attendance import LOOK_S, Attendance, Attended
from holdfast.mover.line import Line
from holdfast.mover.opening import expect
from holdfast.mover.parting import part
from holdfast.mover.tracing import traceparent
from holdfast.pipeline.busy import PipeClocks
from holdfast.pipeline.pace import Pace
from holdfast.pipeline.sink import PackedUnit, Standing, Wanted, WritableDisk
from holdfast.pipeline.stages import StageTimes

_CATCH_UP_S = 1.0


class RemoteDisk:
    """The disk at the parent point, at the other mover."""

    def __init__(self, sink: "RemoteSink", opened: m.DiskOpened, size_bytes: int) -> None:
        self._sink = sink
        self.size_bytes = size_bytes
        self.change_id = opened.parent_change_id
        self.left_out = opened.parent_left_out

    def piece_digests(self, start: int, end: int) -> bytes:
        """Return the joined digests of the pieces ``[start, end)``."""
        found = b""
        while start < end:
            count = min(end - start, m.DIGESTS_MAX)
            found += self._sink.parent_digests(start, count)
            start += count
        return found


class RemoteSink:
    """Sends one disk over a line; see `holdfast.pipeline.sink.DiskSink`."""

    def __init__(self, line: Line, opened: m.DiskOpened, standing: m.Standing, pace: Pace) -> None:
        self._line = line
        self._pace = pace
        self._attendance = Attendance(line, pace)
        self.digest_key = opened.digest_key
        self.size_bytes = opened.size_bytes
        self.unit_size = opened.unit_size
        self._lock = threading.Condition()
        self._standing = _standing(standing)
        self._busy: PipeClocks | None = None
        self._answers: deque[tuple[m.Offer, Future[Wanted]]] = deque()
        self._digests: deque[tuple[m.DigestsOf, Future[bytes]]] = deque()
        self._error: HoldfastError | None = None
        self._is_finishing = self._is_finished = self._is_closed = self._is_told = False
        self._thread = threading.Thread(target=self._listen, name="mover-answers", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, line: Line, grant: str, lies_at: str = "", pace: Pace | None = None) -> WritableDisk:
        """Begin the session of a line; the sink closes the line. Raises what the other side failed with.

        The other side sets the pace, and units wait for it here.
        """
        pace = pace if pace is not None else Pace(SystemClock())
        try:
            asked = m.OpenDisk(grant=grant, lies_at=lies_at[: m.TEXT_MAX], trace=traceparent())
            line.send(m.encode_message(asked))
            look = Attendance(line, pace).look
            opened = expect(line, m.DiskOpened, look)
            sink = cls(line, opened, expect(line, m.Standing, look), pace)
        except BaseException:
            line.close()
            raise
        earlier = None
        if opened.parent_size_bytes is not None:
            earlier = RemoteDisk(sink, opened, opened.parent_size_bytes)
        return WritableDisk(
            machine=opened.machine,
            change_id=opened.change_id,
            at_rest=opened.at_rest,
            moves=opened.moves,
            sink=sink,
            earlier=earlier,
        )

    @property
    def standing(self) -> Standing:
        """Return how far the disk is, as the other side said last."""
        standing = self._standing
        times = msgspec.structs.replace(standing.times, throttled_s=self._pace.waited_s)
        return msgspec.structs.replace(standing, times=times)

    def watch(self, busy: PipeClocks) -> None:
        """Count in these clocks how long the line is waited for, and what the other side says of its storing."""
        busy.has_line = True
        self._busy = busy
        self._pace.waiting = busy.throttled

    @property
    def round_trip_s(self) -> float:
        """Return how long an answer takes at least."""
        return self._line.round_trip_s

    def describe(self, detail: str, left_out: LeftOut | None = None) -> None:
        """Say how the disk is read and why, and what the point lacks; None leaves that as it was said last."""
        self._send(m.Describe(detail=detail[: m.TEXT_MAX], left_out=left_out))

    def offer(self, first: int, digests: Sequence[bytes]) -> Future[Wanted]:
        """Offer pieces; the answer comes when it comes."""
        answer: Future[Wanted] = Attended(self._attendance.look)
        head = m.Offer(first=first, count=len(digests))
        with self._lock:
            self._raise()
            self._answers.append((head, answer))
        self._go_ahead(head, b"".join(digests))
        return answer

    def keep_until(self, piece: int) -> None:
        """Leave the pieces up to ``piece`` as at the parent point."""
        self._go_ahead(m.Keep(until=piece))

    def zero(self, first: int, end: int) -> None:
        """Make the pieces ``[first, end)`` zeros."""
        self._go_ahead(m.Zero(first=first, until=end))

    def put(self, unit: PackedUnit) -> None:
        """Send a unit; waits for its share of the limits, and while the other side has no room."""
        self._pace.take(len(unit.packed), self.tend)
        head = m.Unit(number=unit.number, count=len(unit.pieces), codec=unit.codec, body_crc=unit.body_crc)
        self._send(head, pack_pieces(unit.pieces, unit.digests), unit.packed)

    def tend(self) -> None:
        """Raise what the other side failed with, if it has."""
        with self._lock:
            self._raise()

    def catch_up(self) -> None:
        """Return when the other side has said anew how far it is, or after a second."""
        with self._waiting:
            with self._lock:
                self._raise()
                self._lock.wait(_CATCH_UP_S)
                self._raise()
            self._attendance.look()

    def finish(self) -> None:
        """Return once the whole disk is durable on the other side."""
        with self._lock:
            self._is_finishing = True
        self._send(m.Finish())
        with self._waiting:
            while not self._hears_the_end():
                self._attendance.look()

    def _hears_the_end(self) -> bool:
        with self._lock:
            self._lock.wait_for(lambda: self._is_finished or self._error is not None, LOOK_S)
            self._raise()
            return self._is_finished

    def parent_digests(self, first: int, count: int) -> bytes:
        """Return digests of the parent point."""
        answer: Future[bytes] = Attended(self._attendance.look)
        head = m.DigestsOf(first=first, count=count)
        with self._lock:
            self._raise()
            self._digests.append((head, answer))
        self._send(head)
        with self._waiting:
            return answer.result()

    def close(self) -> None:
        """End the session; one that is not finished is cancelled, so that the other side lets go of the file."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            is_known = self._is_finished or self._is_told
        part(self._line, None if is_known else m.Cancel(reason="the transfer was stopped"))
        self._thread.join()

    def _go_ahead(self, head: m.AnyHead, *body: bytes) -> None:
        """Say what follows before the units that wait: answers come sooner, and less is kept until then."""
        self._send(head, *body, is_urgent=True)

    def _send(self, head: m.AnyHead, *body: bytes | bytearray | memoryview, is_urgent: bool = False) -> None:
        try:
            with self._waiting:
                self._attendance.send(head, *body, is_urgent=is_urgent)
        except HoldfastError:
            if not self._line.has_ended:
                raise  # the transfer shall stop, and the other side is told when it is closed
            self._thread.join()  # it hears the same, after everything that came before
            with self._lock:
                self._raise()  # what the other side said of it says more
            raise

    @property
    def _waiting(self) -> AbstractContextManager[object]:
        return nullcontext() if self._busy is None else self._busy.network

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    # -- what comes back -----------------------------------------------------------------------------------------

    def _listen(self) -> None:
        error: HoldfastError = LinkLost("the repository's mover ended the session before the disk was finished")
        try:
            while (message := self._line.receive()) is not None:
                head, body = m.decode_message(message.payload)
                with self._lock:
                    self._take(head, body)
                self._line.release(message)
        except HoldfastError as found:
            error = found
        finally:
            self._end(error)

    def _take(self, head: m.AnyHead, body: memoryview) -> None:
        match head:
            case m.Wanted():
                self._answered(head, body)
            case m.Standing():
                self._standing = _standing(head)
                self._lock.notify_all()
                if self._busy is not None:
                    _count(head, self._busy)
            case m.Paced():
                self._pace.allot(head.rate_bytes_s, head.because)
            case m.Digests():
                self._take_digests(head, body)
            case m.Finished() if self._is_finishing and not self._answers:
                self._is_finished = True
                self._lock.notify_all()
            case m.Failure():
                self._is_told = True
                raise m.failed(head)
            case _:
                raise ProtocolError(f"{type(head).__name__} came while a disk was written")

    def _answered(self, head: m.Wanted, body: memoryview) -> None:
        if not self._answers or self._answers[0][0] != m.Offer(first=head.first, count=head.count):
            raise ProtocolError(f"an answer for {head.count} pieces from {head.first}, which were not offered")
        self._answers.popleft()[1].set_result(Wanted(m.unpack_bitmap(body, head.count), head.place))

    def _take_digests(self, head: m.Digests, body: memoryview) -> None:
        if not self._digests or self._digests[0][0] != m.DigestsOf(first=head.first, count=head.count):
            raise ProtocolError(f"{head.count} digests from piece {head.first} came and were not asked for")
        self._digests.popleft()[1].set_result(bytes(body))

    def _end(self, error: HoldfastError) -> None:
        """Give everybody who waits an error, unless the disk is finished."""
        with self._lock:
            if self._is_finished:
                return
            self._error = error
            for _, answer in self._answers:
                answer.set_exception(error)
            for _, digests in self._digests:
                digests.set_exception(error)
            self._lock.notify_all()


def _count(told: m.Standing, busy: PipeClocks) -> None:
    """Take over what the other side says of its stages; an earlier version counts only what its own thread did."""
    busy.target.tell(told.target_s + told.commit_wait_s if told.busy_s is None else told.busy_s)
    busy.throttled.tell(told.throttled_s)


def _standing(told: m.Standing) -> Standing:
    return Standing(
        taken=told.taken,
        committed=told.committed,
        written=0,
        stored_bytes=told.stored_bytes,
        transferred_bytes=told.transferred_bytes,
        read_bytes=told.read_bytes,
        resent_bytes=told.resent_bytes,
        times=StageTimes(seal_s=told.seal_s, target_s=told.target_s, commit_wait_s=told.commit_wait_s),
    )
