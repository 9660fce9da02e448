"""When a dialler dials: every stream that is missing, again and again, until the peer was away for too long."""


class Dialling:
    """The missing streams of a dialler. Connection numbers count up and are never used twice."""

    def __init__(self, streams: int, redial_s: float, now_s: float) -> None:
        self._redial_s = redial_s
        self._due_s = [now_s] * streams
        self._numbers = 0
        self._dialled: dict[int, float] = {}

    def deadline_s(self) -> float | None:
        """Return when the next stream is to be dialled, or None while all are."""
        return min(self._due_s, default=None)

    def due(self, now_s: float) -> list[int]:
        """Return the numbers of connections to be dialled now."""
        waiting = [due_s for due_s in self._due_s if due_s > now_s]
        count = len(self._due_s) - len(waiting)
        self._due_s = waiting
        numbers = list(range(self._numbers, self._numbers + count))
        self._numbers += count
        self._dialled.update(dict.fromkeys(numbers, now_s))
        return numbers

    def lost(self, connection: int) -> None:
        """Dial again for a connection that failed or was cut: at once, but not twice within ``redial_s``."""
        dialled_s = self._dialled.pop(connection, None)
        if dialled_s is not None:
            self._due_s.append(dialled_s + self._redial_s)
