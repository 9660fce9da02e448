"""A peer that has proved itself may still say anything: the other side ends in time, with an error of ours."""

import random
import socket
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as settled
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from holdfast.errors import HoldfastError
from holdfast.formats.mover import messages as m
from holdfast.formats.mover.greeting import Hello
from holdfast.formats.mover.wire import FrameKind, pack_header
from holdfast.model.machine_files import MachineFile, MachineFiles
from holdfast.model.points import DiskAccess, OpenPoint
from holdfast.model.spans import Span
from holdfast.mover.file_transfer import put_remote_files, read_remote_files
from holdfast.mover.grants import session_of
from holdfast.mover.line import Line
from holdfast.mover.remote_sink import RemoteSink
from holdfast.mover.remote_source import RemoteSource
from holdfast.mover.server import MoverServer, ServerOptions
from holdfast.mover.sockets import dial, new_nonce
from holdfast.pipeline.restore import DiskRestore
from holdfast.testing.memory import MemoryDisk
from tests.holdfast.formats.mover.samples import SAMPLES
from tests.holdfast.formats.mover.test_link_garbage import strange_frame
from tests.holdfast.mover.movers import CLOCK, HERE, MIB, SWIFT, Setting, Site, until
from tests.holdfast.mover.storm import Blow, Hit, Storm
from tests.holdfast.mover.test_remote_sink import OPENED, STANDING
from tests.holdfast.mover.test_remote_source import OPENED as STORED
from tests.holdfast.mover.test_storm import memory

SIZE = MIB
GROWTH_MAX = 48 * MIB
KEPT_MAX = 48 * MIB
"""What the C library keeps beyond that after a thousand sessions: nothing at the end of an arena goes back."""
PATIENT_S = 15.0
"""How long one session of a test may take at most."""
LINK = msgspec.structs.replace(SWIFT, streams=1, silence_s=1.0, heartbeat_s=0.2, give_up_s=1.0)


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.mover.service._LAST_WORDS_S", 0.5)
    monkeypatch.setattr("holdfast.mover.service._FIRST_MESSAGE_S", 0.5)
    monkeypatch.setattr("holdfast.mover.line._IDLE_S", 0.1)
    monkeypatch.setattr("holdfast.mover.line._LAST_WORDS_S", 0.5)
    monkeypatch.setattr("holdfast.mover.parting._FAREWELL_S", 0.5)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with a finished point."""
    hasty = msgspec.structs.replace(LINK, give_up_s=0.2)
    options = ServerOptions(address=HERE, link=hasty)
    made = Site(tmp_path / "repository", {"a": SIZE}, Setting(link=LINK, options=options))
    made.machine.disks["a"].write(Span(0, SIZE))
    made.machine.back_up()
    return made


def random_message(rng: random.Random, *first: tuple[m.AnyHead, bytes]) -> list[bytes]:
    """Return a message that makes sense somewhere, somewhere else, or nowhere."""
    head, body = rng.choice((*SAMPLES, *first, *first))
    if rng.random() < 0.5:
        return [bytes(part) for part in m.encode_message(head, *([body] if body else []))]
    encoded = bytearray(b"".join(m.encode_message(head, *([body] if body else []))))
    for _ in range(rng.randrange(1, 6)):
        encoded[rng.randrange(len(encoded))] ^= 1 << rng.randrange(8)
    return [rng.choice((bytes(encoded), bytes(encoded[: rng.randrange(1, len(encoded))]), rng.randbytes(60)))]


def sessions_of(server: MoverServer) -> int:
    return len(vars(server)["_sessions"])


# -- somebody dials ----------------------------------------------------------------------------------------------------

DIALLED = (
    (m.Offer(first=0, count=4), bytes(range(64))),
    (m.Offer(first=0, count=2), bytes(32)),
    (m.Zero(first=0, until=2), b""),
    (m.DigestsOf(first=0, count=16), b""),
    (m.DigestsOf(first=0, count=60_000), b""),
    (m.RunsOf(first=0, count=16), b""),
    (m.GetUnit(file=0, number=0), b""),
    (m.GetUnit(file=0, number=70_000), b""),
    (m.Finish(), b""),
)


def accesses(site: Site, opened: OpenPoint) -> list[DiskAccess]:
    """Return grants of every kind: to write a disk, to read one, to keep and to read machine files."""
    chain = site.machine.kept[0].summary.chain
    files = site.issuer.issue(site.grant(opened, ""))
    return [site.access(opened), site.reading(chain, 1), files, site.reading(chain, 1, "")]


@pytest.mark.parametrize("run", [pytest.param(16, id="some"), pytest.param(1500, id="many", marks=pytest.mark.soak)])
def test_any_messages_of_a_proxy_end_its_session_and_nothing_else(site: Site, seed: int, run: int) -> None:
    rng, site.machine.sessions = random.Random(seed), 2
    opened = site.machine.begin()
    with site.server() as server:
        before = memory()
        for _ in range(run):
            access = rng.choice(accesses(site, opened))
            started_s = CLOCK.monotonic_s()
            with closing(site.line(server.address, access)) as line, suppress(HoldfastError):
                if rng.random() < 0.9:
                    line.send(m.encode_message(m.OpenDisk(grant=access.grant)))
                for _ in range(rng.randrange(1, 30)):
                    line.send(random_message(rng, *DIALLED), 5.0)
                    drain(line)
            until(lambda: not sessions_of(server), "the session is over")
            assert CLOCK.monotonic_s() - started_s < PATIENT_S
        assert memory() < before + GROWTH_MAX
        carries_on(site, server)


def drain(line: Line) -> None:
    while (message := line.receive(0)) is not None:
        line.release(message)


def carries_on(site: Site, server: MoverServer) -> None:
    """The mover serves those who mean it, and nothing that was complete has changed."""
    assert site.machine.differences() == []
    site.machine.machine_id = type(site.machine.machine_id)("another")
    site.machine.rewind(0)
    opened = site.begin()
    site.transfer(server.address, site.access(opened))
    site.finish(opened)


@contextmanager
def greeted(site: Site, server: MoverServer, access: DiskAccess) -> Iterator[socket.socket]:
    """Dial, greet, and leave the rest to the test."""
    hello = Hello(session=session_of(access), attempt=1, connection=0, connections=1, nonce=new_nonce())
    with dial(server.address, None, hello, bytes.fromhex(access.token)) as connection:
        yield connection


def data_frame(sequence: int, parts: list[bytes], length: int | None = None) -> bytes:
    payload = b"".join(parts)
    header = (FrameKind.DATA, len(payload) if length is None else length, sequence)
    return pack_header(header, (0, 1 << 40), zlib.crc32(payload)) + payload


@pytest.mark.parametrize("run", [pytest.param(12, id="some"), pytest.param(1500, id="many", marks=pytest.mark.soak)])
def test_any_frames_of_a_proxy_end_its_session_and_nothing_else(site: Site, seed: int, run: int) -> None:
    rng, site.machine.sessions = random.Random(seed), 2
    opened = site.machine.begin()
    with site.server() as server:
        before = memory()
        for _ in range(run):
            access = rng.choice(accesses(site, opened))
            opening = data_frame(0, [bytes(part) for part in m.encode_message(m.OpenDisk(grant=access.grant))])
            said = opening * rng.randrange(3)
            for sequence in range(1, rng.randrange(2, 40)):
                said += rng.choice(
                    (
                        strange_frame(rng),
                        data_frame(sequence, random_message(rng, *DIALLED)),
                        data_frame(sequence, [b"short"], 4_000_000),
                        rng.randbytes(rng.randrange(200)),
                        opening,
                    )
                )
            with greeted(site, server, access) as connection, suppress(OSError):
                connection.settimeout(PATIENT_S)
                connection.sendall(said)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):
                    pass
            until(lambda: not sessions_of(server), "the session is over")
        assert memory() < before + GROWTH_MAX
        carries_on(site, server)


def test_a_proxy_that_asks_for_everything_and_reads_nothing_is_given_up(site: Site) -> None:
    access = site.reading(site.machine.kept[0].summary.chain, 1)
    with site.server() as server, greeted(site, server, access) as connection:
        before = memory()
        said = data_frame(0, [bytes(part) for part in m.encode_message(m.OpenDisk(grant=access.grant))])
        for sequence in range(1, 200):
            wish = m.DigestsOf(first=0, count=16) if sequence % 2 else m.GetUnit(file=0, number=sequence % 4)
            said += data_frame(sequence, [bytes(part) for part in m.encode_message(wish)])
        connection.sendall(said)
        started_s = CLOCK.monotonic_s()
        until(lambda: bool(site.lines) and not sessions_of(server), "the session is over")
        assert CLOCK.monotonic_s() - started_s < LINK.silence_s + LINK.give_up_s + 5
        assert memory() < before + GROWTH_MAX
        [line] = site.lines
        assert max(vars(line)["_link"].memory) == 0


# -- somebody listens --------------------------------------------------------------------------------------------------

LISTENED = (
    (STANDING, b""),
    (m.Wanted(first=0, count=4, place=0), b"\x0f"),
    (m.Wanted(first=0, count=4, place=1 << 30), b"\x0f"),
    (m.Digests(first=0, count=16), bytes(256)),
    (m.Runs(first=0, count=1), (16).to_bytes(4, "little") + bytes(8)),
    (m.Runs(first=0, count=1), bytes(12)),
)


def tells_anything(seed: int, opened: m.AnyHead) -> Callable[[bytes, Line], None]:
    """Return what serves a session with a good beginning and anything behind it."""

    def serve(_session: bytes, line: Line) -> None:
        rng = random.Random(seed)
        with suppress(HoldfastError):
            line.receive(5)
            for head in (opened, STANDING) if isinstance(opened, m.DiskOpened) else (opened,):
                line.send(random_message(rng) if rng.random() < 0.05 else m.encode_message(head))
            for _ in range(rng.randrange(20)):
                drain(line)
                line.send(random_message(rng, *LISTENED))
            line.finish(0.5)

    return serve


def write(site: Site, line: Line, grant: str) -> None:
    site.copy(RemoteSink.open(line, grant), MemoryDisk(bytes(range(256)) * (4 * MIB // 256)))


def read(_: Site, line: Line, grant: str) -> None:
    source = RemoteSource.open(line, grant)
    try:
        if source.size_bytes == STORED.size_bytes:  # else a transfer refuses it: its target has another size
            target = MemoryDisk(bytes(source.size_bytes))
            DiskRestore(source, target, source.digest_key, CLOCK).run(0, lambda _: None)
    finally:
        source.close()


def keep_files(_: Site, line: Line, grant: str) -> None:
    put_remote_files(line, grant, MachineFiles(files=(MachineFile(name="a", content=b"x"),)))


def read_files(_: Site, line: Line, grant: str) -> None:
    read_remote_files(line, grant)


TASKS: list[tuple[Callable[[Site, Line, str], None], m.AnyHead]] = [
    (write, OPENED),
    (read, STORED),
    (keep_files, m.LostFile(name="a", reason="b")),
    (read_files, m.KeptFile(name="a")),
]


@pytest.mark.parametrize("run", [pytest.param(16, id="some"), pytest.param(1500, id="many", marks=pytest.mark.soak)])
def test_any_messages_of_a_repository_end_the_proxys_work_in_time(site: Site, seed: int, run: int) -> None:
    rng = random.Random(seed)
    site.machine.sessions = 2
    opened = site.machine.begin()
    before = memory()
    with ThreadPoolExecutor(1, thread_name_prefix="proxy") as pool:
        for number in range(run):
            task, first = TASKS[number % len(TASKS)]
            serve = tells_anything(rng.getrandbits(64), first)
            with MoverServer(site.setting.options, None, site.issuer.token, serve, CLOCK) as server:
                access = site.access(opened)
                line = site.line(server.address, access)
                work = pool.submit(task, site, line, access.grant)
                try:
                    assert settled([work], PATIENT_S).done, f"it goes on: {task.__name__}"
                    assert isinstance(work.exception(), HoldfastError | None)
                finally:
                    line.close()
    assert memory() < before + GROWTH_MAX + (KEPT_MAX if run > 1000 else 0)


@pytest.mark.parametrize("task, first", TASKS)
def test_a_repository_that_falls_silent_is_given_up(
    site: Site, task: Callable[[Site, Line, str], None], first: m.AnyHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.mover.sockets.GREETING_S", 0.3)
    site.setting.link = msgspec.structs.replace(LINK, silence_s=0.5, give_up_s=0.4)
    access = site.reading(site.machine.kept[0].summary.chain, 1)

    def serve(_: bytes, line: Line) -> None:
        with suppress(HoldfastError):
            line.send(m.encode_message(first))
            while line.receive() is not None:
                pass

    with MoverServer(site.setting.options, None, site.issuer.token, serve, CLOCK) as server:
        hits = [Hit(at, 1, 0 if at else 150, Blow.FREEZE) for at in range(60)]
        with Storm(server.address, hits) as storm, pytest.raises(HoldfastError) as caught:
            task(site, site.line(storm.address, access), access.grant)
        assert caught.value.retryable
