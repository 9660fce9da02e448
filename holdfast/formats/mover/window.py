"""How much may be on its way: as much as the line carries while an answer comes back, within bounds."""

_SHORT_S = 0.005
"""Where an answer comes sooner, no line is fast enough to want more than a window is begun with."""
_LONG_S = 0.03
"""Where it takes longer, half of the most is wanted at once: new connections are slow, and would stay so."""
_MEASURED_S = 0.1
"""A rate is taken over this time at least: much may move in a moment and say nothing."""


class RoundTrip:
    """The shortest time between a message and the word that it arrived; one message at a time is watched."""

    def __init__(self) -> None:
        self.shortest_s: float | None = None
        self._watched: tuple[int, float] | None = None

    def sent(self, sequence: int, now_s: float) -> None:
        """Note that a message goes out."""
        if self._watched is None:
            self._watched = sequence, now_s

    def arrived(self, sequence: int, now_s: float) -> None:
        """Note that the peer has a message."""
        if self._watched is None or self._watched[0] != sequence:
            return
        found_s = now_s - self._watched[1]
        self._watched = None
        self.shortest_s = found_s if self.shortest_s is None else min(self.shortest_s, found_s)


class Window:
    """Grows from ``least`` up to ``most`` on a long line, to what moves in some round trips. It never shrinks.

    Behind what was lost everything waits for two or three round trips.
    """

    def __init__(self, least: int, most: int, round_trips: int = 4) -> None:
        self.size = least
        self._most = most
        self._round_trips = round_trips
        self._moved = 0
        self._since_s: float | None = None

    def moved(self, count: int, now_s: float, round_trip_s: float | None) -> int:
        """Note what moved, in bytes or in whatever is counted; return by how much the window has grown."""
        if round_trip_s is None or round_trip_s < _SHORT_S:
            return 0
        if self._since_s is None:
            self._since_s = now_s
            if round_trip_s >= _LONG_S:
                return self._grow(self._most // 2)
        self._moved += count
        passed_s = now_s - self._since_s
        if passed_s < max(round_trip_s, _MEASURED_S):
            return 0
        wanted = int(self._round_trips * self._moved * round_trip_s / passed_s)
        self._moved, self._since_s = 0, now_s
        return self._grow(wanted)

    def _grow(self, wanted: int) -> int:
        grown = max(0, min(self._most, wanted) - self.size)
        self.size += grown
        return grown
