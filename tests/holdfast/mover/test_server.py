"""Sessions come and go; attempts supersede each other; strangers get nowhere and hold nothing up."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from holdfast.errors import LinkLost, LinkRefused, WriterFenced
from holdfast.mover.grants import Issuer, session_of
from holdfast.mover.server import MoverServer
from holdfast.mover.sockets import Address
from holdfast.storage.chain_files.chain_file import ChainFile
from tests.holdfast.mover.movers import CLOCK, MIB, PIECE, Site, mover_threads, until


@contextlib.contextmanager
def stranger(address: Address, said: bytes = b"") -> Iterator[socket.socket]:
    with socket.create_connection((address.host, address.port)) as connection:
        connection.sendall(said)
        yield connection


@pytest.mark.parametrize("said", [b"", b"H", b"GET / HTTP/1.1\r\n\r\n" + bytes(200), os.urandom(4096)])
def test_strangers_hold_up_neither_a_session_nor_the_end(site: Site, said: bytes) -> None:
    opened = site.begin()
    with contextlib.ExitStack() as stack:
        with site.server() as server:
            for _ in range(20):
                stack.enter_context(stranger(server.address, said))
            site.transfer(server.address, site.access(opened))
            started_s = CLOCK.monotonic_s()
        assert CLOCK.monotonic_s() - started_s < 3
        assert not mover_threads()
    site.finish(opened)


def test_a_wrong_token_is_refused_at_once(site: Site) -> None:
    opened = site.begin()
    forged = Issuer(b"f" * 32).issue(site.grant(opened))
    with site.server() as server:
        with pytest.raises(LinkRefused, match="does not know the token"):
            site.sink(server.address, forged)
        assert site.is_free(opened)


def test_a_later_attempt_takes_over_and_the_earlier_one_is_fenced(site: Site) -> None:
    opened = site.begin()
    access = site.access(opened)
    with site.server() as server:
        earlier = site.sink(server.address, access, 1)
        earlier.sink.zero(0, 1)
        later = site.sink(server.address, access, 2)
        with pytest.raises(WriterFenced, match="a later attempt than 1"):
            earlier.sink.finish()
        earlier.sink.close()
        with pytest.raises(WriterFenced):
            site.sink(server.address, access, 1)
        site.copy(later, site.reader())
        with pytest.raises(WriterFenced):
            site.sink(server.address, access, 1)
        with pytest.raises(LinkRefused, match="refused session"):
            site.sink(server.address, access, 2)  # is over
    site.finish(opened)


def test_a_source_that_goes_away_without_a_word_holds_the_file_until_its_next_attempt(site: Site) -> None:
    opened = site.begin()
    access = site.access(opened)
    with site.server() as server:
        line = site.line(server.address, access)
        line.send(first_words(access.grant))
        assert line.receive(20) is not None
        line.close()  # as if the process was gone: nothing is said
        site.transfer(server.address, access, 2)
    site.finish(opened)


def first_words(grant: str) -> list[bytes]:
    from holdfast.formats.mover import messages as m

    return [bytes(part) for part in m.encode_message(m.OpenDisk(grant=grant))]


def test_the_end_of_a_server_ends_its_sessions_and_what_was_committed_stays(site: Site) -> None:
    opened = site.begin()
    access = site.access(opened)
    site.setting.link = msgspec.structs.replace(site.setting.link, give_up_s=1.0)
    site.setting.pipe = msgspec.structs.replace(site.setting.pipe, commit_new_bytes=MIB // 2)
    with site.server() as server:
        writable = site.sink(server.address, access)
        writable.sink.zero(0, 24)
        writable.sink.tend()
        until(lambda: writable.sink.standing.taken == 24, "the disk is written")
    with pytest.raises(LinkLost, match=r"no connection for 1 s; the last try: .*refused"):
        writable.sink.finish()
    writable.sink.close()
    assert site.is_free(opened)
    with site.server() as server:
        site.transfer(server.address, access, 2)
    site.finish(opened)


def test_a_server_that_was_started_anew_loses_the_session_and_another_attempt_goes_on(
    site: Site, tmp_path: Path
) -> None:
    opened = site.begin()
    access = site.access(opened)
    site.setting.link = msgspec.structs.replace(site.setting.link, streams=3)
    with site.server() as server:
        address = server.address
        writable = site.sink(address, access)
    site.setting.options = msgspec.structs.replace(site.setting.options, address=address)
    with site.server():
        with pytest.raises(LinkLost, match="does not know the session any more") as caught:
            writable.sink.finish()
        assert caught.value.retryable
        writable.sink.close()
        until(lambda: site.is_free(opened), "the file is free")
        site.transfer(address, access, 2)
    site.finish(opened)


def test_the_session_of_an_attempt_is_begun_once_however_many_connections_come(site: Site) -> None:
    site.setting.link = msgspec.structs.replace(site.setting.link, streams=40)
    opened = site.begin()
    with site.server() as server:
        writable = site.sink(server.address, site.access(opened))
        until(lambda: mover_threads().count("mover-carry") == 80, "all connections are there")
        assert mover_threads().count("mover-session") == 1
        site.copy(writable, site.reader())
    with ChainFile.open(site.files, site.repository.chain_file(opened.chain, opened.file)) as file:
        assert file.contents.points[0].disks[0].done == 4 * MIB // PIECE
    site.finish(opened)


def test_windows_are_shared_and_never_too_small_for_a_message(site: Site) -> None:
    windows: list[int] = []
    done = threading.Event()

    def serve(_: bytes, line: object) -> None:
        windows.append(vars(line)["_link"]._options.window_max)  # what the peer is granted sooner or later
        done.wait(30)

    options = msgspec.structs.replace(site.setting.options, memory_max=100 * MIB)
    with MoverServer(options, None, site.issuer.token, serve, CLOCK) as server:
        opened = site.begin()
        lines = [site.line(server.address, site.access(opened)) for _ in range(12)]
        until(lambda: len(windows) == 12, "all sessions have begun")
        done.set()
        for line in lines:
            line.close()
    assert min(windows) > 2 * 4 * MIB
    assert max(windows) < 100 * MIB / 8 + 1


def test_a_session_is_ended_by_its_name_and_has_let_go_of_its_file_then(site: Site) -> None:
    opened = site.begin()
    access = site.access(opened)
    with site.server() as server:
        server.end(session_of(access), "nobody writes")
        earlier = site.sink(server.address, access, 1)
        server.end(session_of(access), "it is abandoned")
        assert site.is_free(opened)
        with pytest.raises(LinkLost, match="does not know the session any more"):
            earlier.sink.finish()
        earlier.sink.close()
        site.transfer(server.address, access, 2)
    site.finish(opened)
