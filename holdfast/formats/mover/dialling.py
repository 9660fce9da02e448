"""When a dialler dials: every stream that is missing, again and again, until the peer was away for too long."""

_PAUSE_FIRST_S = 1.0


class Dialling:
    """The missing streams of a dialler. Connection numbers count up and are never used twice.

    One stream is dialled at once and the others ``others_after_s`` later: a session works over one, and of many that
    begin together none has to wait behind all the connections of another. A stream that does not come about, or is lost
    soon, is dialled again after a pause that doubles up to ``redial_s``.
    """

    def __init__(self, streams: int, redial_s: float, now_s: float, others_after_s: float = 0.0) -> None:
        self._redial_s = redial_s
        self._first_s = min(_PAUSE_FIRST_S, redial_s)
        self._waiting: list[tuple[float, float]] = []  # when a stream is due, and its pause should it be lost soon
        self.more = 0
        """How many more are wanted on a long line."""
        self._numbers = 0
        self._dialled: dict[int, tuple[float, float]] = {}
        self.add(min(streams, 1), now_s)
        self._others = max(0, streams - 1)
        self._others_s = now_s + others_after_s

    def add(self, streams: int, now_s: float) -> None:
        """Keep so many more streams from now on."""
        self._waiting += [(now_s, self._first_s)] * streams

    def add_more(self, now_s: float) -> None:
        """Keep all streams of the beginning and `more` from now on."""
        self._add_others(now_s)
        self.add(self.more, now_s)
        self.more = 0

    def _add_others(self, now_s: float) -> None:
        self.add(self._others, now_s)
        self._others = 0

    def deadlines_s(self) -> list[float]:
        """Return when streams are to be dialled, none while all are."""
        return [due_s for due_s, _ in self._waiting] + [self._others_s] * bool(self._others)

    def due(self, now_s: float) -> list[int]:
        """Return the numbers of connections to be dialled now."""
        if self._others_s <= now_s:
            self._add_others(now_s)
        first = self._numbers
        for due_s, pause_s in self._waiting:
            if due_s <= now_s:
                self._dialled[self._numbers] = now_s, pause_s
                self._numbers += 1
        self._waiting = [stream for stream in self._waiting if stream[0] > now_s]
        return list(range(first, self._numbers))

    def lost(self, connection: int, now_s: float) -> None:
        """Dial again for a connection that failed or was cut: at once if it lived for ``redial_s``."""
        dialled = self._dialled.pop(connection, None)
        if dialled is None:
            return
        dialled_s, pause_s = dialled
        if now_s - dialled_s >= self._redial_s:
            self.add(1, now_s)
        else:
            self._waiting.append((dialled_s + pause_s, min(2 * pause_s, self._redial_s)))
