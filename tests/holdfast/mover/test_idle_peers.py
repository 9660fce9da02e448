"""A proxy that is there, and neither says nor takes anything, is given up in time; one that waits for us is not."""

import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from holdfast.errors import LinkLost
from holdfast.formats.mover import messages as m
from holdfast.formats.mover.wire import window_min
from holdfast.model.points import DiskAccess
from holdfast.mover.attendance import Peer
from holdfast.mover.server import MoverServer, ServerOptions
from tests.holdfast.mover.movers import CLOCK, HERE, MIB, SWIFT, Setting, Site, until
from tests.holdfast.mover.test_opening import lines
from tests.holdfast.mover.test_remote_sink import hear, say

IDLE_S = 1.0
LONGEST = 512 << 10
LINK = msgspec.structs.replace(SWIFT, idle_s=IDLE_S, message_max=LONGEST)
NARROW = msgspec.structs.replace(LINK, receive_window=window_min(LONGEST), window_max=0)
"""Of a proxy that has room for one unit."""
UNITS = 16


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site with a finished point."""
    monkeypatch.setattr("holdfast.mover.service._LAST_WORDS_S", 0.5)
    options = ServerOptions(address=HERE, link=LINK)
    made = Site(tmp_path / "repository", {"a": 4 * MIB}, Setting(link=NARROW, options=options))
    made.begin()
    made.machine.back_up()
    return made


def to_write(site: Site) -> DiskAccess:
    site.machine.rewind(0)
    return site.access(site.begin())


def to_read(site: Site) -> DiskAccess:
    return site.reading(site.machine.kept[0].summary.chain, 1)


def sessions_of(server: MoverServer) -> int:
    return len(vars(server)["_sessions"])


@pytest.mark.parametrize("access", [to_write, to_read])
def test_who_says_nothing_is_given_up_and_told_why(site: Site, access: Callable[[Site], DiskAccess]) -> None:
    granted = access(site)
    with site.server() as server, closing(site.line(server.address, granted)) as line:
        started_s = CLOCK.monotonic_s()
        say(line, m.OpenDisk(grant=granted.grant))
        while not isinstance(head := hear(line), m.Failure):
            assert not isinstance(head, m.Finished)
        assert CLOCK.monotonic_s() - started_s >= IDLE_S
        error = m.failed(head)
        assert isinstance(error, LinkLost)
        assert "was there and said nothing for 1 s" in error.message
        assert error.retryable
        until(lambda: not sessions_of(server), "the session is over")


def test_who_asks_and_takes_nothing_is_given_up(site: Site) -> None:
    granted = to_read(site)
    with site.server() as server, closing(site.line(server.address, granted)) as line:
        say(line, m.OpenDisk(grant=granted.grant))
        for number in range(UNITS):
            say(line, m.GetUnit(file=0, number=number))
        until(lambda: bool(site.lines) and not sessions_of(server), "the session is over")


@pytest.mark.parametrize("is_owed", [True, False])
def test_silence_counts_only_while_nothing_is_owed(*, is_owed: bool) -> None:
    with lines() as (near, _):
        near.idle_s = 0.2
        peer = Peer(near, CLOCK)
        until_s = CLOCK.monotonic_s() + 0.6
        while is_owed and CLOCK.monotonic_s() < until_s:
            assert peer.receive(0.05, is_owed=True) is None
        with pytest.raises(LinkLost, match=r"said nothing for 0\.2 s"):
            listen(peer)


def listen(peer: Peer) -> None:
    for _ in range(100):
        assert peer.receive(0.05, is_owed=False) is None


def test_a_word_now_and_then_is_enough() -> None:
    with lines() as (near, far):
        near.idle_s = 0.5
        peer, pause = Peer(near, CLOCK), threading.Event()
        for number in range(10):
            say(far, m.Keep(until=number))
            pause.wait(0.1)
            message = peer.receive(5, is_owed=False)
            assert message is not None
            near.release(message)
