"""What a listening mover does for one session: takes a disk into a point that is being written, or reads one out."""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Protocol

from holdfast import measures
from holdfast.clock import Clock
from holdfast.errors import HoldfastError, LinkLost, OperationCancelled, ProtocolError
from holdfast.formats.mover import messages as m
from holdfast.formats.mover.bodies import unpack_digests, unpack_unit
from holdfast.formats.mover.inbox import Message
from holdfast.model.machine_files import MachineFile, MachineFiles, within_limits
from holdfast.mover.attendance import Peer
from holdfast.mover.file_transfer import receive_files, send_files
from holdfast.mover.grants import FILES, Grant, Issuer
from holdfast.mover.line import Line
from holdfast.mover.reading import PackedFile, Reading
from holdfast.mover.tracing import continued
from holdfast.mover.turns import Turn, Turns
from holdfast.mover.unforeseen import told
from holdfast.pipeline.ahead import UNIT_OPEN_MAX
from holdfast.pipeline.busy import PipeClocks
from holdfast.pipeline.pace import Pace
from holdfast.pipeline.restore import StoredSource
from holdfast.pipeline.sink import DiskSink, PackedUnit, WritableDisk
from holdfast.pipeline.throttle import Throttle
from holdfast.planning.throttling import Direction, Ends, Transfer


class PointStore(Protocol):
    """What a mover serves: restore points, as far as grants allow. Methods raise errors of the tree."""

    def open_for_writing(self, grant: Grant, lies_at: str, stack: ExitStack) -> WritableDisk:
        """Open a disk of an unfinished point; ``lies_at`` says where its source lies now."""
        ...

    def open_for_reading(self, grant: Grant, stack: ExitStack) -> tuple[StoredSource, Sequence[PackedFile]]:
        """Open a disk of a finished point; return it, and the files that hold its pieces."""
        ...

    def put_files(self, grant: Grant, files: Sequence[MachineFile]) -> None:
        """Make these the machine files of an unfinished point."""
        ...

    def read_files(self, grant: Grant) -> MachineFiles:
        """Return the machine files of a finished point."""
        ...


_FIRST_MESSAGE_S = 30.0
_TOLD_EVERY_S = 1.0
_LOOK_S = 0.25
"""How soon a proxy that sends nothing, and waits for nothing to be written, hears of another pace."""
_LAST_WORDS_S = 60.0
"""How long a peer that is away may take to come back and hear how its session ended."""


class Service:
    """Serves sessions; one call of `serve` for each, in a thread of its own."""

    def __init__(self, issuer: Issuer, store: PointStore, clock: Clock, throttle: Throttle | None = None) -> None:
        self._issuer = issuer
        self._store = store
        self._clock = clock
        self._turns = Turns()
        self._throttle = throttle if throttle is not None else Throttle(clock)

    def serve(self, session: bytes, line: Line) -> None:
        """Serve one session until it ends. Its files are closed before the peer has heard the last word."""
        error = self._outcome(session, line)
        with suppress(HoldfastError):  # the line's own end; the peer knows as much
            if error is not None:
                line.send(m.encode_message(m.failure(error)), _LAST_WORDS_S)
            line.finish(_LAST_WORDS_S)

    def _outcome(self, session: bytes, line: Line) -> HoldfastError | None:
        """Return what a session failed with, None when it ended well."""
        try:
            with ExitStack() as stack:
                self._serve(session, line, stack)
        except Exception as error:  # noqa: BLE001 - the peer hears of anything
            return told(error)
        return None

    def _serve(self, session: bytes, line: Line, stack: ExitStack) -> None:
        first = line.receive(_FIRST_MESSAGE_S)
        if first is None:
            raise LinkLost("the session began without a word")
        head, _ = m.decode_message(first.payload)
        line.release(first)
        if not isinstance(head, m.OpenDisk):
            raise ProtocolError(f"a session begins with {type(head).__name__}")
        grant = self._issuer.open(session, head.grant, self._clock.now().timestamp())
        direction = _direction(grant)
        where = {"holdfast.repository": str(grant.repository), "holdfast.chain": grant.chain}
        with _counted(grant, line), continued(f"mover.{direction}", head.trace, **where):
            if direction == "files":
                self._serve_files(grant, line)
            elif direction == "read":
                self._serve_reading(grant, head, line, stack)
            else:
                self._serve_writing(grant, head, line, stack)

    def _serve_reading(self, grant: Grant, head: m.OpenDisk, line: Line, stack: ExitStack) -> None:
        opened = self._store.open_for_reading(grant, stack)
        pace = Pace(self._clock, partial(_check_peer, line))
        stack.enter_context(self._throttle.holding(_transfer(grant, Direction.READ, line), pace))
        Reading(line, *opened, pace, self._turns.join()).run()

    def _serve_writing(self, grant: Grant, head: m.OpenDisk, line: Line, stack: ExitStack) -> None:
        disk = self._store.open_for_writing(grant, head.lies_at, stack)
        pace = Pace(self._clock)
        stack.enter_context(self._throttle.holding(_transfer(grant, Direction.WRITE, line), pace))
        Writing(line, disk, self._clock, pace, self._turns.join()).run()

    def _serve_files(self, grant: Grant, line: Line) -> None:
        if grant.writes_file is not None:
            self._store.put_files(grant, within_limits(receive_files(line, m.Finish)).files)
        else:
            send_files(line, self._store.read_files(grant))
        line.send(m.encode_message(m.Finished()), line.idle_s)


def _transfer(grant: Grant, direction: Direction, line: Line) -> Transfer:
    ends = None if line.ends is None else Ends.parse(*line.ends)
    label = f"disk {grant.disk} of {grant.chain}"
    return Transfer(repository=grant.repository, direction=direction, ends=ends, label=label)


def _direction(grant: Grant) -> str:
    if grant.disk == FILES:
        return "files"
    return "read" if grant.writes_file is None else "write"


@contextmanager
def _counted(grant: Grant, line: Line) -> Iterator[None]:
    """Count a session, and what had to be sent again in it."""
    outcome = "failed"
    try:
        yield
        outcome = "success"
    except OperationCancelled:
        outcome = "stopped"
        raise
    finally:
        labels = {"repository": str(grant.repository), "direction": _direction(grant), "outcome": outcome}
        measures.MOVER_SESSIONS.record(1, **labels)
        measures.RESENT.record(line.counters.resent_frames, side="repository")


def _check_peer(line: Line) -> None:
    """Raise `LinkLost` when nobody wants what waits for its share."""
    if line.is_over:
        raise LinkLost("the peer ended the session while units waited for their share")


class Writing:
    """Takes one disk from a line, a unit at each turn, and tells the peer its pace."""

    def __init__(self, line: Line, disk: WritableDisk, clock: Clock, pace: Pace, turn: Turn) -> None:
        self._line = line
        self._peer = Peer(line, clock)
        self._pace = pace
        self._turn = turn
        self._told_pace: tuple[float | None, str] = None, ""
        self._disk = disk
        self._sink: DiskSink = disk.sink
        self._clock = clock
        self._busy = PipeClocks(clock)
        self._sink.watch(self._busy)
        self._units: deque[tuple[int, Message]] = deque()
        self._told_s = clock.monotonic_s()
        self._told_committed = self._told_taken = -1

    def run(self) -> None:
        """Return once the disk is durable. Raises `OperationCancelled` when the peer gives up, and what fails."""
        self._greet()
        while True:
            message = self._peer.receive(0.0 if self._units else _LOOK_S, is_owed=bool(self._units))
            if message is None:
                if self._line.is_over:
                    raise LinkLost("the peer ended the session before its disk was finished")
                self._go_on()
            elif self._take(message):
                break
            self._release()
            self._tell()
            self._tell_pace()
        self._tell(is_due=True)
        self._peer.send(m.Finished())

    def _greet(self) -> None:
        disk, sink, earlier = self._disk, self._sink, self._disk.earlier
        self._peer.send(
            m.DiskOpened(
                machine=disk.machine,
                size_bytes=sink.size_bytes,
                change_id=disk.change_id,
                unit_size=sink.unit_size,
                digest_key=sink.digest_key,
                parent_size_bytes=None if earlier is None else earlier.size_bytes,
                parent_change_id=None if earlier is None else earlier.change_id,
                at_rest=disk.at_rest,
                parent_left_out=None if earlier is None else earlier.left_out,
                moves=disk.moves,
            )
        )
        self._tell(is_due=True)
        self._tell_pace()

    def _go_on(self) -> None:
        """Do what is due while nothing comes: the peer may have no room to send before a unit is written."""
        if self._units:
            self._sink.catch_up()
        else:
            self._sink.tend()

    def _take(self, message: Message) -> bool:
        """Carry out one message; return whether it was the last."""
        head, body = m.decode_message(message.payload)
        if isinstance(head, m.Unit):
            self._take_unit(head, body, message)
            return False
        if isinstance(head, m.Cancel):
            raise OperationCancelled(f"the proxy stopped: {head.reason}")
        self._carry_out(head, body)
        self._line.release(message)
        return isinstance(head, m.Finish)

    def _carry_out(self, head: m.AnyHead, body: memoryview) -> None:
        sink = self._sink
        match head:
            case m.Offer():
                wanted = sink.offer(head.first, unpack_digests(body)).result()
                bitmap = m.pack_bitmap(wanted.slots, head.count)
                self._peer.send(m.Wanted(first=head.first, count=head.count, place=wanted.place), bitmap)
            case m.Keep():
                sink.keep_until(head.until)
            case m.Zero():
                sink.zero(head.first, head.until)
            case m.Describe():
                sink.describe(head.detail, head.left_out)
            case m.DigestsOf():
                self._answer_digests(head)
            case m.Finish():
                sink.finish()
            case _:
                raise ProtocolError(f"{type(head).__name__} while a disk is written")

    def _take_unit(self, head: m.Unit, body: memoryview, message: Message) -> None:
        pieces, digests, packed = unpack_unit(head, body)
        unit = PackedUnit(
            number=head.number,
            pieces=pieces,
            digests=digests,
            codec=head.codec,
            packed=packed,
            body_crc=head.body_crc,
        )
        self._units.append((head.number, message))  # its bytes are used until the unit is written
        with self._turn.of(len(packed)):
            self._sink.put(unit)
        self._pace.count(len(packed))

    def _answer_digests(self, head: m.DigestsOf) -> None:
        earlier = self._disk.earlier
        if earlier is None:
            raise ProtocolError("digests of a parent point were asked for where there is none")
        digests = earlier.piece_digests(head.first, head.first + head.count)
        self._peer.send(m.Digests(first=head.first, count=head.count), digests)

    def _release(self) -> None:
        written = self._sink.standing.written
        while self._units and self._units[0][0] < written:
            self._line.release(self._units.popleft()[1])

    def _tell(self, *, is_due: bool = False) -> None:
        """Say how far the disk is, when that is news."""
        standing, now_s = self._sink.standing, self._clock.monotonic_s()
        is_news = standing.committed != self._told_committed or standing.taken - self._told_taken >= UNIT_OPEN_MAX
        if not is_due and not is_news and now_s - self._told_s < _TOLD_EVERY_S:
            return
        self._told_s, self._told_committed, self._told_taken = now_s, standing.committed, standing.taken
        self._peer.send(
            m.Standing(
                taken=standing.taken,
                committed=standing.committed,
                stored_bytes=standing.stored_bytes,
                transferred_bytes=standing.transferred_bytes,
                read_bytes=standing.read_bytes,
                resent_bytes=standing.resent_bytes,
                seal_s=standing.times.seal_s,
                target_s=standing.times.target_s,
                commit_wait_s=standing.times.commit_wait_s,
                busy_s=self._busy.target.seconds,
                throttled_s=self._busy.throttled.seconds,
            )
        )

    def _tell_pace(self) -> None:
        """Say how fast the peer may send, when that is news."""
        if self._pace.allotted != self._told_pace:
            self._told_pace = rate, because = self._pace.allotted
            self._peer.send(m.Paced(rate_bytes_s=rate, because=because[: m.TEXT_MAX]))
