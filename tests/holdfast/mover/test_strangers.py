"""Whoever knocks at a mover, and whatever it says: the mover lives, holds little, and carries disks for its own."""

import random
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from holdfast.errors import LinkError, LinkRefused
from holdfast.formats.mover.greeting import Dialler, Hello, Listener, Refusal
from holdfast.formats.mover.wire import VERSION
from holdfast.model.points import DiskAccess
from holdfast.mover.grants import session_of
from holdfast.mover.server import MoverServer
from holdfast.mover.sockets import Address, dial, listen, new_nonce
from tests.holdfast.mover.movers import CLOCK, HERE, MIB, Authority, Site, mover_threads, until
from tests.holdfast.mover.storm import Blow, Hit, Storm
from tests.holdfast.mover.test_storm import memory

GROWTH_MAX = 24 * MIB
GREETING_S = 1.0


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.mover.sockets.GREETING_S", GREETING_S)
    monkeypatch.setattr("holdfast.mover.sockets._LINGER_S", 0.3)


@pytest.fixture(params=["plain", "tls"])
def guarded(tmp_path: Path, request: pytest.FixtureRequest) -> Site:
    """A site with certificates, or without."""
    site = Site(tmp_path / "repository", {"a": MIB})
    if request.param == "tls":
        authority = Authority(tmp_path)
        site.setting.server_tls = authority.identity("repository").context(ssl.PROTOCOL_TLS_SERVER)
        site.setting.client_tls = authority.identity("proxy").context(ssl.PROTOCOL_TLS_CLIENT)
    return site


def hello(access: DiskAccess, **changes: int) -> Hello:
    fields = {"attempt": 1, "connection": 0, "connections": 1, **changes}
    return Hello(session=session_of(access), nonce=new_nonce(), **fields)


def said_to(address: Address, said: bytes, *, is_last: bool = True) -> float:
    """Say it to a mover and wait until that has closed the connection; return the seconds that this took."""
    started_s = CLOCK.monotonic_s()
    with socket.create_connection((address.host, address.port), 20) as connection, suppress(OSError):
        connection.sendall(said)
        if is_last:
            connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 16):
            pass
    return CLOCK.monotonic_s() - started_s


def first_words(site: Site) -> bytes:
    """Return what a dialler says first: its hello, or the beginning of a handshake."""
    if site.setting.client_tls is None:
        return hello(site.access(site.begin())).pack()
    outgoing = ssl.MemoryBIO()
    dialling = site.setting.client_tls.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="127.0.0.1")
    with suppress(ssl.SSLWantReadError):
        dialling.do_handshake()
    return outgoing.read()


def spoilt(rng: random.Random, good: bytes) -> bytes:
    """Return bytes that are not those: cut off, too many, changed, doubled, or none of them."""
    flipped = bytearray(good)
    for _ in range(rng.randrange(1, 9)):
        flipped[rng.randrange(len(good))] ^= 1 << rng.randrange(8)
    return rng.choice(
        (
            good[: rng.randrange(len(good))],
            good + rng.randbytes(rng.choice((1, 1000, 300_000))),
            bytes(flipped),
            good * rng.randrange(2, 50),
            rng.randbytes(rng.choice((0, 1, 80, 5000))),
            good[:8] + rng.randbytes(len(good) - 8),
        )
    )


def carries_a_disk(site: Site, server: MoverServer) -> None:
    opened = site.begin()
    site.transfer(server.address, site.access(opened))
    site.finish(opened)


def test_any_first_words_cost_a_mover_little_time_and_no_memory(guarded: Site, seed: int) -> None:
    rng, good = random.Random(seed), first_words(guarded)
    with guarded.server() as server:
        carries_a_disk(guarded, server)
        before = memory()
        for at in range(150):
            took_s = said_to(server.address, spoilt(rng, good), is_last=at % 30 > 0)
            assert took_s < GREETING_S + 3
        until(lambda: "mover-greet" not in mover_threads(), "all greetings have ended")
        assert memory() < before + GROWTH_MAX
        carries_a_disk(guarded, server)


@pytest.mark.soak
def test_a_great_many_first_words_cost_a_mover_no_memory(guarded: Site, seed: int) -> None:
    rng, good = random.Random(seed), first_words(guarded)
    with guarded.server() as server:
        before = memory()
        for at in range(5000):
            assert said_to(server.address, spoilt(rng, good), is_last=at % 100 > 0) < GREETING_S + 3
        assert memory() < before + GROWTH_MAX
        carries_a_disk(guarded, server)


@contextmanager
def silent_ones(address: Address, count: int) -> Iterator[list[socket.socket]]:
    """Connect and say nothing."""
    with ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection((address.host, address.port))) for _ in range(count)]


def test_those_who_say_nothing_are_few_and_gone_in_time_and_others_get_in(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.mover.server.GREETINGS_MAX", 12)
    monkeypatch.setattr("holdfast.mover.server._LEAVING_MAX", 4)
    monkeypatch.setattr("holdfast.mover.sockets.GREETING_S", 2.0)
    opened, most = site.begin(), 0
    with site.server() as server, silent_ones(server.address, 12) as early:
        until(lambda: len(vars(server)["_greetings"]) == 12, "there is no room")
        started_s = CLOCK.monotonic_s()
        with silent_ones(server.address, 60):
            most = max(most, mover_threads().count("mover-greet"))
            site.transfer(server.address, site.access(opened))
        assert CLOCK.monotonic_s() - started_s < 2.0  # before any of them was too late
        assert most <= 16
        for each in early:  # the first were sent off for those who came later
            each.settimeout(30)
            assert each.recv(1) == b""
        with silent_ones(server.address, 5) as late:
            for each in late:
                each.settimeout(20)
                assert each.recv(1) == b""
    site.finish(opened)


def test_what_was_said_in_an_earlier_connection_is_no_proof_in_a_later_one(site: Site) -> None:
    opened = site.begin()
    access = site.access(opened)
    with site.server() as server:
        recorded: list[bytes] = []
        with socket.create_connection((server.address.host, server.address.port)) as connection:
            dialler = Dialler(hello(access), bytes.fromhex(access.token))
            for part in (dialler.hello, None):
                said = part if part is not None else dialler.receive(connection.recv(84, socket.MSG_WAITALL))
                recorded.append(said)
                connection.sendall(said)
            assert dialler.receive(connection.recv(16, socket.MSG_WAITALL)) == b""
        until(lambda: len(site.lines) == 1, "the first is served")
        server.end(session_of(access), "the test goes on")
        with socket.create_connection((server.address.host, server.address.port)) as connection:
            connection.sendall(recorded[0])
            assert len(connection.recv(84, socket.MSG_WAITALL)) == 84
            connection.sendall(recorded[1])
            verdict = connection.recv(16, socket.MSG_WAITALL)
            assert int.from_bytes(verdict[8:10], "little") == Refusal.TOKEN
            assert connection.recv(1) == b""
        assert len(site.lines) == 1
        site.transfer(server.address, access, 2)
    site.finish(opened)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"version_min": VERSION + 1, "version_max": VERSION + 3}, "no version that this one speaks"),
        ({"version_min": 0, "version_max": 0}, "no version that this one speaks"),
        ({"flags": 1 << 31}, "does not know a flag"),
        ({"connections": 101}, "accepts 1 to 100 connections"),
    ],
)
def test_a_dialler_of_another_kind_is_refused_in_words(site: Site, changes: dict[str, int], words: str) -> None:
    access = site.access(site.begin())
    with site.server() as server:
        with pytest.raises(LinkRefused, match=words):
            dial(server.address, None, hello(access, **changes), bytes.fromhex(access.token))
        assert site.lines == []


# -- the other way round: somebody else listens ------------------------------------------------------------------------


@contextmanager
def liar(answers: list[bytes]) -> Iterator[Address]:
    """Listen, and answer each connection with the next of these bytes, whatever it says."""

    def answer() -> None:
        for said in answers:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                connection.settimeout(20)
                connection.sendall(said)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):
                    pass

    with listen(HERE) as server:
        thread = threading.Thread(target=answer, name="liar", daemon=True)
        thread.start()
        yield Address(HERE.host, server.getsockname()[1])
        thread.join()


def test_any_answer_ends_a_dialler_in_time_with_an_error_of_ours(seed: int) -> None:
    rng, token = random.Random(seed), bytes(32)
    mine = Hello(session=bytes(16), attempt=1, connection=0, connections=1, nonce=new_nonce())
    listener = Listener(new_nonce(), lambda _: token, lambda _: Refusal.NONE)
    welcome = listener.receive(mine.pack())
    verdict = listener.receive(Dialler(mine, token).receive(welcome))
    answers = [spoilt(rng, rng.choice((welcome, welcome + verdict))) for _ in range(150)]
    with liar(answers) as address:
        for answer in answers:
            started_s = CLOCK.monotonic_s()
            try:
                # Flips behind the greeting are not this one's matter; it is greeted then.
                dial(address, None, mine, token).close()
            except (OSError, LinkError):
                assert answer[: len(welcome + verdict)] != welcome + verdict
            assert CLOCK.monotonic_s() - started_s < GREETING_S + 3


def test_a_mover_that_falls_silent_in_the_greeting_is_dialled_again(site: Site) -> None:
    opened = site.begin()
    hits = [Hit(number, number % 2, 10, Blow.FREEZE) for number in range(2)]
    with site.server() as server, Storm(server.address, hits) as storm:
        started_s = CLOCK.monotonic_s()
        site.transfer(storm.address, site.access(opened))
        assert GREETING_S < CLOCK.monotonic_s() - started_s < GREETING_S + 10
        assert sorted(storm.struck, key=lambda hit: hit.connection) == hits
    site.finish(opened)
