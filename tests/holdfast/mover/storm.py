"""A storm between two movers: a proxy that does to bytes what its script says, inside of TLS as before any greeting."""

import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import Self

import msgspec

from holdfast.mover.sockets import Address

_AT_ONCE = 1 << 16
_DRIPPED = 300
_PAUSE_S = 0.3


class Blow(StrEnum):
    """What becomes of a connection at one byte."""

    CUT = "cut"
    """It is closed in both directions."""
    RESET = "reset"
    """It is closed in both directions, and what is on its way is thrown away."""
    HALF = "half"
    """It is closed in this direction alone."""
    STALL = "stall"
    """Nothing more gets through in this direction, and nobody is told."""
    FREEZE = "freeze"
    """Nothing more gets through in either direction, and nobody is told, not even when one side closes."""
    FREEZE_ALL = "freeze all"
    """The same for all connections that are there."""
    FLIP = "flip"
    """One bit of the byte changes."""
    DRIP = "drip"
    """The next bytes come one at a time."""
    PAUSE = "pause"
    """It comes later than what is behind it on other connections."""


ANY = -1
"""Whichever connection first comes to the byte of a hit, and that one alone."""


class Hit(msgspec.Struct, frozen=True):
    """A connection, counted as they come, or `ANY`; 0 for what the dialler says, 1 for the listener; byte and blow."""

    connection: int
    side: int
    at: int
    blow: Blow


class _Pair:
    """A connection's two halves."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.sockets = (near, far)
        self.is_frozen = False

    def close(self, *, is_reset: bool = False) -> None:
        for each in self.sockets:
            with contextlib.suppress(OSError):
                if is_reset:
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                # Whoever waits for bytes in here lets go of the socket, which is not closed before.
                each.shutdown(socket.SHUT_RD if is_reset else socket.SHUT_RDWR)
            each.close()


class Storm:
    """Forwards connections to a mover from `__enter__` to `__exit__`."""

    def __init__(self, target: Address, hits: Sequence[Hit], port: int = 0) -> None:
        self.struck: list[Hit] = []
        """Hits that came about."""
        self.sent = [0, 0]
        """Bytes that came from the dialler and from the listener."""
        self._target = target
        self._hits = sorted(hits, key=lambda hit: hit.at)
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._pairs: list[_Pair] = []
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
        self._threads[0].join()
        self._server.close()
        for pair in self._pairs:
            pair.close()
        for thread in self._threads:
            thread.join()

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, name="storm", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            far = socket.create_connection((self._target.host, self._target.port))
            for each in (near, far):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            number, pair = len(self._pairs), _Pair(near, far)
            self._pairs.append(pair)
            for side in (0, 1):
                self._start(self._pump, number, side, pair)

    def _pump(self, number: int, side: int, pair: _Pair) -> None:
        source, target = pair.sockets if side == 0 else pair.sockets[::-1]
        try:
            for part in self._blown(number, side, source):
                if pair.is_frozen:
                    self._over.wait()
                    return
                target.sendall(part)
            if pair.is_frozen:
                self._over.wait()
                return
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pair.close()  # the end of one side is the end of the other

    def _blown(self, number: int, side: int, source: socket.socket) -> Iterator[bytes]:
        """Yield bytes as they arrive in this storm; the end is the end of this direction."""
        hits = [hit for hit in self._hits if hit.side == side and hit.connection in {number, ANY}]
        passed = 0
        while data := source.recv(_AT_ONCE):
            self._count(side, len(data))
            while hits and hits[0].at < passed + len(data):
                hit = hits.pop(0)
                if not self._comes_about(hit):
                    continue
                before, data = data[: hit.at - passed], data[hit.at - passed :]
                passed += len(before)
                yield before
                for part in self._strike(hit, data, self._pairs[number]):
                    data = part[1]
                    yield part[0]
                if hit.blow is Blow.HALF:
                    return
            passed += len(data)
            yield data

    def _count(self, side: int, count: int) -> None:
        with self._lock:
            self.sent[side] += count

    def _comes_about(self, hit: Hit) -> bool:
        """Return whether a connection that has come to a hit is struck, and remember it."""
        with self._lock:
            is_over = hit.connection == ANY and hit in self.struck
            self.struck += [] if is_over else [hit]
            return not is_over

    def _strike(self, hit: Hit, data: bytes, pair: _Pair) -> Iterator[tuple[bytes, bytes]]:
        """Yield bytes that arrive, each with those behind it. Raises `OSError` when the connection ends."""
        if hit.blow in {Blow.CUT, Blow.RESET}:
            pair.close(is_reset=hit.blow is Blow.RESET)
            raise OSError("the storm has cut it")
        if hit.blow in {Blow.FREEZE, Blow.FREEZE_ALL}:
            for each in [pair] if hit.blow is Blow.FREEZE else list(self._pairs):
                each.is_frozen = True
        if hit.blow in {Blow.STALL, Blow.PAUSE}:
            self._over.wait(None if hit.blow is Blow.STALL else _PAUSE_S)
        if hit.blow is Blow.FLIP:
            yield bytes([data[0] ^ 0x10]), data[1:]
        for at in range(min(_DRIPPED, len(data)) if hit.blow is Blow.DRIP else 0):
            self._over.wait(0.001)
            yield data[at : at + 1], data[at + 1 :]


def random_hit(rng: random.Random, blow: Blow, streams: int) -> Hit:
    """Return a hit in the handshake, the greeting, the first words or the middle of a transfer."""
    at = rng.choice((rng.randrange(84), rng.randrange(2500), rng.randrange(84, 1000), rng.randrange(1000, 400_000)))
    side = int(rng.random() < 0.4)
    return Hit(rng.randrange(streams), side, at if side == 0 else min(at, rng.randrange(1, 6000)), blow)
