"""Units that are fetched before their turn comes: how many, and which are kept."""

from collections import OrderedDict
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Final, Protocol

from holdfast.formats.magic import PIECE_SIZE
from holdfast.formats.mover.window import Window

UNITS_MIN: Final = 16
"""Units that may always be ahead."""
UNITS_MAX: Final = 192
"""Units that are never exceeded by more than a block: the other side refuses who asks for 256 at once."""
BYTES_MIN: Final = 16 << 20
BYTES_MAX: Final = 64 << 20
"""Unpacked; as much is ahead on a long line, and the proxy's memory grows by it."""
_KEPT_MORE = 16
"""Units kept behind those that are ahead: the next blocks often lie in them."""


class UnitFile(Protocol):
    """A file that holds units, here or at another mover."""

    pieces_per_unit: int

    def fetch(self, number: int, pool: Executor, key: bytes) -> "Future[bytes | memoryview]":
        """Return the body of a unit, every piece compared with its digest; ``pool`` does what takes long."""
        ...


class UnitCache:
    """Decodes units ahead and keeps the last few. Use from one thread."""

    def __init__(self, pool: ThreadPoolExecutor, key: bytes) -> None:
        self._pool = pool
        self._key = key
        self._kept = UNITS_MIN + _KEPT_MORE
        self._flights: OrderedDict[tuple[int, int], Future[bytes | memoryview]] = OrderedDict()

    def keep(self, units: int) -> None:
        """Keep at least so many, and some more."""
        self._kept = max(self._kept, units + _KEPT_MORE)

    def request(self, file: UnitFile, number: int) -> Future[bytes | memoryview]:
        """Return the decoding of a unit, started now unless it was before."""
        key = (id(file), number)
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = file.fetch(number, self._pool, self._key)
            if len(self._flights) > self._kept:
                self._flights.popitem(last=False)
        else:
            self._flights.move_to_end(key)
        return flight


class UnitsAhead:
    """Counts units that are ahead; as many are allowed as the line to them brings in some round trips."""

    def __init__(self) -> None:
        self.units = 0
        self._bytes = 0
        self._window = Window(BYTES_MIN, BYTES_MAX)

    def asked(self, file: UnitFile) -> None:
        """Count a unit that was asked for."""
        self.units += 1
        self._bytes += file.pieces_per_unit * PIECE_SIZE

    def used(self, file: UnitFile, now_s: float, round_trip_s: float) -> None:
        """Count a unit that came and was used."""
        size = file.pieces_per_unit * PIECE_SIZE
        self.units -= 1
        self._bytes -= size
        self._window.moved(size, now_s, round_trip_s)

    @property
    def is_full(self) -> bool:
        """Return whether the first one has to be used before another is asked for."""
        if self.units <= UNITS_MIN:
            return False
        return self._bytes > self._window.size or self.units > UNITS_MAX
