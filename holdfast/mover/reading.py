"""Reading a disk out of a finished point, for a peer that restores it."""

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from queue import SimpleQueue
from typing import Protocol

from holdfast.errors import HoldfastError, LinkLost, OperationCancelled, ProtocolError
from holdfast.formats.magic import DIGEST_SIZE, PIECE_SIZE, Codec
from holdfast.formats.mover import messages as m
from holdfast.formats.mover.bodies import Run, pack_runs
from holdfast.mover.attendance import Peer
from holdfast.mover.line import Line
from holdfast.mover.turns import Turn
from holdfast.mover.unforeseen import told
from holdfast.pipeline.buffers import keep_freed_blocks
from holdfast.pipeline.busy import PipeClocks
from holdfast.pipeline.pace import Pace
from holdfast.pipeline.restore import StoredSource

_UNITS_MAX = 256
"""Units that a peer may have asked for and not got yet."""
_THREADS = 2
_RUNS_AT_ONCE = 4096
_LOOK_S = 0.5
_TOLD_EVERY_S = 1.0


class PackedFile(Protocol):
    """A file whose units can be had as they are stored."""

    pieces_per_unit: int

    def packed_unit(self, number: int) -> tuple[bytes, Codec, memoryview]:
        """Return the joined digests of a unit, its codec and its packed bytes, decrypted."""
        ...


class Reading:
    """Sends what a peer asks for of one disk, at a pace, and tells the peer of waits."""

    def __init__(self, line: Line, disk: StoredSource, files: Sequence[PackedFile], pace: Pace, turn: Turn) -> None:
        keep_freed_blocks()
        self._line = line
        self._peer = Peer(line, pace.clock)
        self._pace = pace
        self._turn = turn
        self._told_s = 0.0
        self._has_ended = threading.Event()
        self._disk = disk
        self._files = files
        self._busy = PipeClocks(pace.clock)
        pace.waiting = self._busy.throttled
        self._indexes = {id(file): index for index, file in enumerate(files)}
        self._slots = threading.Semaphore(_UNITS_MAX)
        self._units: deque[Future[None]] = deque()
        self._errors: SimpleQueue[HoldfastError] = SimpleQueue()

    def run(self) -> None:
        """Return when the peer has what it wanted. Raises what fails."""
        self._greet()
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="mover-read") as pool:
            try:
                while self._answer(pool):
                    pass
            finally:
                self._has_ended.set()
                pool.shutdown(wait=True, cancel_futures=True)

    def _greet(self) -> None:
        disk = self._disk
        self._peer.send(
            m.StoredOpened(
                machine=disk.machine_name,
                size_bytes=disk.size_bytes,
                change_id=disk.change_id,
                is_doubted=disk.is_doubted,
                pieces_per_unit=tuple(file.pieces_per_unit for file in self._files),
                digest_key=disk.digest_key,
                left_out=disk.left_out,
            )
        )

    def _answer(self, pool: ThreadPoolExecutor) -> bool:
        """Answer one message; return whether more is wanted."""
        message = self._peer.receive(_LOOK_S, is_owed=self._owes())
        self._tell_wait()
        if not self._errors.empty():
            raise self._errors.get()
        if message is None:
            if self._line.is_over:
                raise LinkLost("the peer ended the session in the middle of a restore")
            return True
        head, _ = m.decode_message(message.payload)
        self._line.release(message)
        match head:
            case m.GetUnit():
                self._begin_unit(head, pool)
            case m.RunsOf():
                self._say_runs(head)
            case m.DigestsOf():
                self._check_pieces(head.first, head.count)
                digests = self._disk.piece_digests(head.first, head.first + head.count)
                self._peer.send(m.Digests(first=head.first, count=head.count), digests)
            case m.Finish() | m.Cancel():
                return False
            case _:
                raise ProtocolError(f"{type(head).__name__} while a disk is read")
        return True

    def _check_pieces(self, first: int, count: int) -> None:
        if first + count > self._disk.pieces:
            raise ProtocolError(f"pieces {first} to {first + count} of {self._disk.pieces} were asked for")

    def _say_runs(self, head: m.RunsOf) -> None:
        self._check_pieces(head.first, head.count)
        found = islice(self._disk.runs(head.first, head.first + head.count), _RUNS_AT_ONCE)
        runs = [Run(run.count, None if run.file is None else self._indexes[id(run.file)], run.place) for run in found]
        self._peer.send(m.Runs(first=head.first, count=len(runs)), pack_runs(runs))

    def _begin_unit(self, head: m.GetUnit, pool: ThreadPoolExecutor) -> None:
        if head.file >= len(self._files):
            raise ProtocolError(f"unit {head.number} of file {head.file} of {len(self._files)} was asked for")
        if not self._slots.acquire(blocking=False):
            raise ProtocolError(f"more than {_UNITS_MAX} units were asked for at once")
        self._units.append(pool.submit(self._send_unit, head))

    def _owes(self) -> bool:
        """Return whether a unit that was asked for is not on its way yet."""
        while self._units and self._units[0].done():
            self._units.popleft()
        return bool(self._units)

    def _send_unit(self, head: m.GetUnit) -> None:
        try:
            file = self._files[head.file]
            with self._turn.of(file.pieces_per_unit * PIECE_SIZE), self._busy.source:
                digests, codec, packed = file.packed_unit(head.number)
            self._slots.release()
            self._pace.take(len(packed), self._check_wanted)
            self._peer.send(
                m.StoredUnit(
                    file=head.file,
                    number=head.number,
                    count=len(digests) // DIGEST_SIZE,
                    codec=codec,
                    busy_s=self._busy.source.seconds,
                    throttled_s=self._busy.throttled.seconds,
                ),
                digests,
                packed,
            )
        except Exception as error:  # noqa: BLE001 - the peer would wait for this unit for ever
            self._errors.put(told(error))

    def _check_wanted(self) -> None:
        """Raise `OperationCancelled` when the peer has said that it wants no more."""
        if self._has_ended.is_set():
            raise OperationCancelled("the restore ended while units waited for their share")

    def _tell_wait(self) -> None:
        """Say how long units have waited, when they did since it was said last and that is not just now."""
        waited_s = self._pace.waited_s
        if waited_s - self._told_s >= _TOLD_EVERY_S:
            self._told_s = waited_s
            rate, because = self._pace.allotted
            self._peer.send(m.Paced(rate_bytes_s=rate, because=because[: m.TEXT_MAX], waited_s=waited_s))
