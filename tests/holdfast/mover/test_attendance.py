"""Whoever waits for the other side hears that the transfer shall stop, whether a line is there or not."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import msgspec
import pytest

from holdfast.errors import HoldfastError, OperationCancelled
from holdfast.formats.mover import messages as m
from holdfast.formats.mover.wire import window_min
from holdfast.mover.attendance import Attendance, Attended
from holdfast.mover.line import Line
from holdfast.mover.opening import expect
from holdfast.mover.remote_sink import RemoteSink
from holdfast.mover.remote_source import RemoteSource
from holdfast.mover.server import MoverServer
from holdfast.pipeline.pace import Pace
from tests.holdfast.mover.movers import CLOCK, SWIFT, Site, until
from tests.holdfast.mover.test_opening import lines
from tests.holdfast.mover.test_remote_sink import OPENED, STANDING, say, unit
from tests.holdfast.mover.test_remote_source import OPENED as STORED

LONGEST = 96 << 10
NARROW = msgspec.structs.replace(
    SWIFT,
    message_max=LONGEST,
    receive_window=window_min(LONGEST),
    send_window=window_min(LONGEST),
    window_max=0,
)
"""A link of which little can be on its way."""


class Stop:
    """Stops what it is called by, once it shall."""

    def __init__(self) -> None:
        self.is_wanted = False

    def __call__(self) -> None:
        if self.is_wanted:
            raise OperationCancelled("asked to stop")


class Mover:
    """Opens whatever is wanted, and from then on hears all and says nothing, or hears nothing either."""

    def __init__(self, site: Site, *opening: m.AnyHead, is_deaf: bool = False) -> None:
        self._opening, self._is_deaf = opening, is_deaf
        self._last = m.Finish if STORED in opening else m.Cancel
        self.heard: list[m.AnyHead] = []
        self._server = MoverServer(site.setting.options, None, site.issuer.token, self._serve, CLOCK)
        self._stack = ExitStack()

    def _serve(self, _: bytes, line: Line) -> None:
        with suppress(HoldfastError):
            self._hear(line)
            for head in self._opening:
                say(line, head)
            if self._is_deaf:
                until(lambda: line.has_ended, "the proxy goes")
            while not isinstance(self._hear(line), self._last | None):
                pass

    def _hear(self, line: Line) -> m.AnyHead | None:
        message = line.receive()
        if message is None:
            return None
        self.heard.append(m.decode_message(message.payload)[0])
        line.release(message)
        return self.heard[-1]

    @contextmanager
    def sink(self, site: Site, pace: Pace) -> Iterator[RemoteSink]:
        address = self._stack.enter_context(self._server).address
        with self._stack:
            sink = site.sink(address, site.access(site.begin()), pace=pace).sink
            assert isinstance(sink, RemoteSink)
            try:
                yield sink
            finally:
                sink.close()

    @contextmanager
    def source(self, site: Site, pace: Pace) -> Iterator[RemoteSource]:
        address = self._stack.enter_context(self._server).address
        with self._stack:
            source = site.source(address, site.reading("c", 1), pace=pace)
            try:
                yield source
            finally:
                source.close()

    def leave(self) -> None:
        """Go away, so that the proxy dials in vain."""
        self._stack.close()


def fill(sink: RemoteSink) -> None:
    for number in range(1000):
        sink.put(unit(number))


SINK_WAITS: dict[str, Callable[[RemoteSink], object]] = {
    "an answer": lambda sink: sink.offer(0, [bytes(16)]).result(),
    "digests": lambda sink: sink.parent_digests(0, 1),
    "room": fill,
    "news": lambda sink: sink.catch_up(),
    "the end": lambda sink: sink.finish(),
}


@pytest.mark.parametrize("what", SINK_WAITS)
def test_a_backup_whose_mover_is_away_hears_that_it_shall_stop(site: Site, what: str) -> None:
    stop, mover = Stop(), Mover(site, OPENED, STANDING)
    site.setting.link = NARROW
    with mover.sink(site, Pace(CLOCK, stop)) as sink:
        mover.leave()
        stop.is_wanted = True
        with pytest.raises(OperationCancelled, match="asked to stop"):
            SINK_WAITS[what](sink)
        started_s = CLOCK.monotonic_s()
    assert CLOCK.monotonic_s() - started_s < 4  # nobody waits for somebody to take leave of


@pytest.mark.parametrize("what", SINK_WAITS)
def test_a_backup_whose_mover_is_there_and_does_nothing_hears_that_it_shall_stop(
    site: Site, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.mover.parting._FAREWELL_S", 0.5)
    stop, mover = Stop(), Mover(site, OPENED, STANDING, is_deaf=what == "room")
    site.setting.link = NARROW
    with mover.sink(site, Pace(CLOCK, stop, heed=stop)) as sink:
        stop.is_wanted = True
        with pytest.raises(OperationCancelled, match="asked to stop"):
            SINK_WAITS[what](sink)


def test_the_other_side_is_told_that_a_backup_was_stopped(site: Site) -> None:
    stop, mover = Stop(), Mover(site, OPENED, STANDING)
    with mover.sink(site, Pace(CLOCK, heed=stop)) as sink:
        stop.is_wanted = True
        with pytest.raises(OperationCancelled):
            sink.finish()
    assert mover.heard[-1] == m.Cancel(reason="the transfer was stopped")


def ask_without_end(source: RemoteSource) -> None:
    with ThreadPoolExecutor(1) as pool:
        for number in range(10_000):
            source.fetch(0, number, pool, bytes(32))


def fetch(source: RemoteSource) -> object:
    with ThreadPoolExecutor(1) as pool:
        return source.fetch(0, 0, pool, bytes(32)).result()


SOURCE_WAITS: dict[str, Callable[[RemoteSource], object]] = {
    "runs": lambda source: next(source.runs(0, 64)),
    "digests": lambda source: source.piece_digests(0, 64),
    "a unit": fetch,
    "room": ask_without_end,
}


@pytest.mark.parametrize("what", SOURCE_WAITS)
def test_a_restore_whose_mover_is_away_hears_that_it_shall_stop(site: Site, what: str) -> None:
    stop, mover = Stop(), Mover(site, STORED)
    site.setting.link = NARROW
    with mover.source(site, Pace(CLOCK, stop)) as source:
        mover.leave()
        stop.is_wanted = True
        with pytest.raises(OperationCancelled, match="asked to stop"):
            SOURCE_WAITS[what](source)
        started_s = CLOCK.monotonic_s()
    assert CLOCK.monotonic_s() - started_s < 4


def test_nothing_more_is_asked_once_a_question_was_not_said(site: Site) -> None:
    stop, mover = Stop(), Mover(site, STORED)
    site.setting.link = NARROW
    with mover.source(site, Pace(CLOCK, stop)) as source:
        mover.leave()
        stop.is_wanted = True
        with pytest.raises(OperationCancelled):
            ask_without_end(source)
        stop.is_wanted = False
        with pytest.raises(OperationCancelled):
            source.piece_digests(0, 64)


def test_waiting_for_a_mover_that_is_dialled_is_no_standstill_and_for_one_that_is_there_it_is() -> None:
    calls: list[str] = []
    pace = Pace(CLOCK, lambda: calls.append("attend"), heed=lambda: calls.append("heed"))
    alone = Line(SWIFT, CLOCK)
    Attendance(alone, pace).look()
    alone.close()
    Attendance(alone, pace).look()
    with lines() as (near, _):
        Attendance(near, pace).look()
    assert calls == ["attend", "heed", "heed"]


def test_the_first_words_are_not_waited_for_by_who_shall_stop() -> None:
    stop = Stop()
    stop.is_wanted = True
    with lines() as (near, _), pytest.raises(OperationCancelled):
        expect(near, m.Keep, stop)


def test_an_answer_is_returned_when_it_comes_and_a_limit_is_kept() -> None:
    looked = threading.Event()
    answer = Attended[int](looked.set)
    with pytest.raises(TimeoutError):
        answer.result(0.01)
    assert not looked.is_set()
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(answer.result)
        assert looked.wait(30)
        answer.set_result(3)
        assert found.result(30) == 3
    assert answer.result() == 3
