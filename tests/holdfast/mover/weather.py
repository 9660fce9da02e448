"""Bad weather between two movers: a proxy that does to frames what its script says."""

import contextlib
import random
import socket
import threading
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Self

import msgspec

from holdfast.formats.mover.wire import HEADER_SIZE, FrameHeader, FrameKind, unpack_header
from holdfast.mover.sockets import Address

GREETING = ((80, 44), (84, 16))
"""Sizes of what is said by dialler and listener before the first frame."""


class Fault(StrEnum):
    """What becomes of a frame."""

    CUT = "cut"
    """Half of it arrives, then the connection is closed in both directions."""
    STALL = "stall"
    """Neither it nor anything behind it arrives, and nobody is told."""
    FLIP = "flip"
    """One bit of a message arrives changed."""
    FLIP_HEADER = "flip header"
    TWICE = "twice"
    SWAP = "swap"
    """It arrives behind the next one."""
    LATE = "late"


END = -1
"""The frame that ends a link, wherever it comes."""


class Spot(msgspec.Struct, frozen=True):
    """A frame: the connection, counted as they come; 0 for what the dialler says and 1 for the listener; its number."""

    connection: int
    side: int
    frame: int
    """Its number, or `END`."""


Script = Mapping[Spot, Fault]


class Harm(msgspec.Struct):
    """What was done to messages."""

    doubled: int = 0
    swapped: int = 0
    flipped_frames: int = 0
    flipped_bytes: int = 0
    broken: int = 0
    """Connections that were cut, that fell silent, or that became unreadable."""
    connections: int = 0
    sent: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    """Bytes of frames that came from the dialler and from the listener."""


class Weather:
    """Forwards connections to a mover from `__enter__` to `__exit__`."""

    def __init__(self, target: Address, script: Script, refuses: int = 0, port: int = 0) -> None:
        self.harm = Harm()
        self._target = target
        self._script = script
        self._refuses = refuses
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._server = socket.create_server(("127.0.0.1", port))

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", self._server.getsockname()[1])

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown(socket.SHUT_RDWR)
        self.drop_everything()
        for thread in self._threads:
            thread.join()
        self._server.close()

    def drop_everything(self) -> None:
        """Close all connections."""
        with self._lock:
            sockets, self._sockets = self._sockets, []
        for each in sockets:
            hang_up(each)

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type] # any work
        with self._lock:
            self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            number = self.harm.connections
            self.harm.connections += 1
            if number < self._refuses:
                near.close()
                continue
            far = socket.create_connection((self._target.host, self._target.port))
            with self._lock:
                self._sockets += [near, far]
            self._start(self._pump, number, 0, near, far)
            self._start(self._pump, number, 1, far, near)

    def _pump(self, number: int, side: int, source: socket.socket, target: socket.socket) -> None:
        try:
            for size in GREETING[side]:
                target.sendall(exactly(source, size))
            for part in self._changed(number, side, source):
                target.sendall(part)
        except (OSError, EOFError):
            pass  # the end of one side is the end of the other
        hang_up(source)
        hang_up(target)

    def _changed(self, number: int, side: int, source: socket.socket) -> Iterator[bytes]:
        """Yield frames as they arrive in this weather; the end is the end of the connection."""
        held, frame = b"", 0
        while True:
            header, payload = next_frame(source)
            whole = header[1] + payload
            with self._lock:
                self.harm.sent[side] += len(whole)
            is_end = header[0].kind == FrameKind.END
            fault = self._script.get(Spot(number, side, END if is_end else frame))
            frame += 1
            if fault is Fault.CUT:
                self.harm.broken += 1
                yield whole[: len(whole) // 2]
                return
            if fault is Fault.STALL:
                self.harm.broken += 1
                self._over.wait()
                return
            if fault is Fault.SWAP and header[0].kind in {FrameKind.DATA, FrameKind.ACK} and not held:
                held = whole
                self.harm.swapped += 1
                continue
            yield self._with_fault(fault, header[0], whole) + held
            held = b""

    def _with_fault(self, fault: Fault | None, header: FrameHeader, whole: bytes) -> bytes:
        if fault is Fault.LATE:
            self._over.wait(0.3)
        if fault is Fault.TWICE and header.kind == FrameKind.DATA:
            self.harm.doubled += 1
            return whole + whole
        if fault is Fault.FLIP_HEADER:
            self.harm.broken += 1
            return flipped(whole, 9)
        if fault is Fault.FLIP and header.kind == FrameKind.DATA:
            self.harm.flipped_frames += 1
            self.harm.flipped_bytes += header.length
            return flipped(whole, len(whole) - 1)
        return whole


def hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


def exactly(connection: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        part = connection.recv(size - len(found))
        if not part:
            raise EOFError
        found += part
    return bytes(found)


def next_frame(connection: socket.socket) -> tuple[tuple[FrameHeader, bytes], bytes]:
    raw = exactly(connection, HEADER_SIZE)
    header = unpack_header(raw)
    return (header, raw), exactly(connection, header.length)


def random_script(rng: random.Random, connections: int, faults: int, kinds: list[Fault]) -> dict[Spot, Fault]:
    """Return faults for the first frames of some connections, the dialler's more often."""
    spots = (
        Spot(rng.randrange(connections), int(rng.random() < 0.3), int(rng.expovariate(0.08))) for _ in range(faults)
    )
    return {spot: rng.choice(kinds) for spot in spots}
