"""What waits at a repository for units that were wanted is bounded, and no proxy that means it ever notices."""

import random
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import pytest

from holdfast.clock import SystemClock
from holdfast.errors import HoldfastError, ProtocolError
from holdfast.formats.magic import Codec
from holdfast.formats.mover import messages as m
from holdfast.model.plan import Action, PlanStep
from holdfast.model.spans import Span
from holdfast.mover.line import Line
from holdfast.mover.opening import expect
from holdfast.pipeline.ahead import Ahead
from holdfast.pipeline.backup import DiskCopy
from holdfast.pipeline.sink import PackedUnit
from tests.holdfast.mover.movers import PIECE, Site, until
from tests.holdfast.mover.test_rogues import sessions_of

PIECES = 800


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "repository", {"a": PIECES * PIECE})


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let much less be ahead than on any real disk."""
    monkeypatch.setattr("holdfast.pipeline.backup.ZEROS_MAX", 4)
    monkeypatch.setattr("holdfast.pipeline.backup.Ahead", partial(Ahead, 48))
    monkeypatch.setattr("holdfast.storage.intake.disk_intake.UNIT_OPEN_MAX", 8)
    monkeypatch.setattr("holdfast.storage.intake.disk_intake.AHEAD_MAX", 96)
    monkeypatch.setattr("holdfast.mover.service.UNIT_OPEN_MAX", 8)
    monkeypatch.setattr("holdfast.mover.service._LOOK_S", 0.01)
    monkeypatch.setattr("holdfast.mover.remote_sink._CATCH_UP_S", 0.05)


def scattered(site: Site, rng: random.Random) -> Iterator[PlanStep]:
    """Write few pieces, far apart, or many; zero others, and yield the steps that say so."""
    chances = rng.choice([(0.02, 0.02), (0.2, 0.3), (0.01, 0.9), (0.9, 0.05)])
    disk = site.machine.disks["a"]
    for piece in range(PIECES):
        span, drawn = Span(piece * PIECE, PIECE), rng.random()
        if drawn < chances[0]:
            disk.write(span)
            yield PlanStep(span, Action.READ)
        elif drawn < sum(chances):
            disk.zero(span)
            yield PlanStep(span, Action.ZERO if piece % 3 else Action.READ)


@pytest.mark.usefixtures("narrow")
def test_a_backup_that_runs_far_ahead_of_its_units_waits_and_is_whole(site: Site, seed: int) -> None:
    rng, site.machine.sessions = random.Random(seed), 0
    with site.server() as server:
        for _ in range(3):
            steps = list(scattered(site, rng))
            site.machine.sessions += 1
            opened = site.machine.begin()
            disk = site.sink(server.address, site.access(opened))
            DiskCopy(site.reader(), disk.sink, SystemClock(), site.setting.pipe).run(steps, lambda _: None)
            site.finish(opened)


# -- a proxy that never sends what was wanted --------------------------------------------------------------------------


def offers(first: int) -> tuple[m.AnyHead, bytes]:
    return m.Offer(first=first, count=16), b"".join(piece.to_bytes(16, "big") for piece in range(first, first + 16))


def known(first: int) -> tuple[m.AnyHead, bytes]:
    return m.Offer(first=first, count=16), bytes(256)


def zeros(first: int) -> tuple[m.AnyHead, bytes]:
    return m.Zero(first=first, until=first + 1), b""


def keeps(first: int) -> tuple[m.AnyHead, bytes]:
    return m.Keep(until=first + 1), b""


Said = Callable[[int], tuple[m.AnyHead, bytes]]


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("say, step", [(offers, 16), (known, 16), (zeros, 1), (keeps, 1)])
def test_a_proxy_that_never_sends_what_was_wanted_is_refused(site: Site, say: Said, step: int) -> None:
    opened = site.begin()
    with site.server() as server:
        access = site.access(opened)
        with closing(site.line(server.address, access)) as line:
            line.send(m.encode_message(m.OpenDisk(grant=access.grant)))
            expect(line, m.DiskOpened)
            with suppress(HoldfastError):
                for head, body in (offers(0), *map(say, range(16, PIECES - 16, step))):
                    line.send([bytes(part) for part in m.encode_message(head, *([body] if body else []))], 10.0)
            failure = last_words(line)
        assert failure.code == ProtocolError.code
        assert failure.message == "more than 96 pieces wait for unit 0, which did not come"
        until(lambda: not sessions_of(server), "the session is over")
        site.transfer(server.address, site.access(opened))
        site.finish(opened)


def last_words(line: Line) -> m.Failure:
    """Return what the other side failed with; it answers what came before."""
    while (message := line.receive(10.0)) is not None:
        head, _ = m.decode_message(message.payload)
        line.release(message)
        if isinstance(head, m.Failure):
            line.wait_until_over(10.0)
            return head
    raise AssertionError("the session went on")


@pytest.mark.usefixtures("narrow")
def test_a_proxy_that_sends_other_pieces_than_were_wanted_is_refused(site: Site) -> None:
    opened = site.begin()
    with site.server() as server:
        disk = site.sink(server.address, site.access(opened))
        with closing(disk.sink):
            head, body = offers(0)
            assert isinstance(head, m.Offer)
            disk.sink.offer(0, [body[at : at + 16] for at in range(0, 64, 16)]).result()
            unit = PackedUnit(
                number=0, pieces=range(4), digests=[bytes(15) + b"x"] * 4, codec=Codec.NONE, packed=bytes(4), body_crc=0
            )
            disk.sink.put(unit)
            with pytest.raises(ProtocolError, match="unit 0 brings 4 pieces that were not wanted so"):
                disk.sink.finish()
        site.transfer(server.address, site.access(opened))
        site.finish(opened)
