"""Connections lent to threads: how many, which one, and what becomes of broken ones."""

import threading

import pytest

from holdfast.providers.nbd import protocol as nbd
from holdfast.providers.nbd.pool import ConnectionPool
from tests.holdfast.providers.nbd.conftest import Play
from tests.holdfast.providers.nbd.scripted import READER_FLAGS, SIZE, Peer, data

SHARED = READER_FLAGS | nbd.NBD_FLAG_CAN_MULTI_CONN


def obedient(peer: Peer) -> None:
    """Serve reads until the client leaves."""
    peer.greet(flags=SHARED)
    serve_reads(peer)


def serve_reads(peer: Peer) -> None:
    while (request := peer.receive_request()).command == nbd.NBD_CMD_READ:
        peer.send(data(request.cookie, request.offset, bytes(request.length)))


def dies_at_first_request(peer: Peer) -> None:
    peer.greet(flags=SHARED)
    peer.receive_request()


def read(pool: ConnectionPool) -> None:
    with pool.lend() as connection:
        connection.read_into(0, memoryview(bytearray(512)))


def test_a_server_without_coherence_gets_one_connection(play: Play) -> None:
    pool = ConnectionPool(play(Peer.greet).export(), 4, renews=True)
    assert pool.size == 1
    pool.close()


def test_a_reader_opens_connections_when_they_are_needed(play: Play) -> None:
    server = play(obedient)
    pool = ConnectionPool(server.export(), 3, renews=True)
    for _ in range(5):
        read(pool)
    assert server.accepted == 1
    with pool.lend() as first, pool.lend() as second, pool.lend() as third:
        assert len({first, second, third}) == 3
    pool.close()
    assert server.accepted == 3


def test_a_writer_opens_all_connections_at_once(play: Play) -> None:
    server = play(obedient)
    ConnectionPool(server.export(), 3, renews=False).close()
    assert server.accepted == 3


def test_who_comes_when_all_are_lent_waits(play: Play) -> None:
    pool = ConnectionPool(play(obedient).export(), 1, renews=True)
    has_read = threading.Event()

    def wait_and_read() -> None:
        read(pool)
        has_read.set()

    with pool.lend():
        waiting = threading.Thread(target=wait_and_read)
        waiting.start()
        assert not has_read.wait(0.05)
    assert has_read.wait(20)
    waiting.join()
    pool.close()


def test_a_reader_replaces_a_broken_connection(play: Play) -> None:
    server = play(dies_at_first_request)
    pool = ConnectionPool(server.export(), 1, renews=True)
    with pytest.raises(ConnectionError):
        read(pool)
    assert pool.is_broken
    server.script = obedient
    read(pool)
    assert server.accepted == 2
    pool.close()


def test_a_writer_never_replaces_a_broken_connection(play: Play) -> None:
    server = play(dies_at_first_request)
    pool = ConnectionPool(server.export(), 1, renews=False)
    with pytest.raises(ConnectionError):
        read(pool)
    server.script = obedient
    with pytest.raises(ConnectionError, match="broke earlier"):
        read(pool)
    pool.close()
    assert server.accepted == 1


def test_a_failure_of_the_borrower_in_the_middle_of_a_reply_breaks_the_connection(play: Play) -> None:
    server = play(obedient)
    pool = ConnectionPool(server.export(), 1, renews=True)
    with pytest.raises(TypeError), pool.lend() as connection:
        connection.read_into(0, memoryview(bytes(512)))  # cannot be written to
    read(pool)
    assert server.accepted == 2
    pool.close()


def test_another_export_in_the_place_of_the_first_is_refused(play: Play) -> None:
    server = play(obedient)
    pool = ConnectionPool(server.export(), 2, renews=True)
    server.script = lambda peer: peer.greet(size=2 * SIZE, flags=SHARED)
    with pool.lend(), pytest.raises(nbd.ProtocolViolated, match="the export was"), pool.lend():
        pass
    pool.close()


def test_a_writer_that_cannot_get_all_connections_leaves_none_open(play: Play) -> None:
    def script(peer: Peer) -> None:
        if server.accepted == 1:
            obedient(peer)

    server = play(script)
    with pytest.raises(ConnectionError):
        ConnectionPool(server.export(), 3, renews=False)


def test_closing_ends_requests_under_way_and_those_that_wait(play: Play) -> None:
    is_asked = threading.Event()

    def script(peer: Peer) -> None:
        peer.greet(flags=READER_FLAGS)
        peer.receive_request()
        is_asked.set()
        peer.wait_until_client_leaves()

    pool = ConnectionPool(play(script).export(), 1, renews=True)
    failures: list[str] = []

    def fail() -> None:
        try:
            read(pool)
        except ConnectionError as error:
            failures.append(type(error).__name__)

    readers = [threading.Thread(target=fail) for _ in range(3)]
    for reader in readers:
        reader.start()
    assert is_asked.wait(20)
    pool.close()
    pool.close()
    for reader in readers:
        reader.join(20)
    assert sorted(failures) == ["ConnectionAbortedError", "ConnectionAbortedError", "ConnectionResetError"]
    with pytest.raises(ConnectionAbortedError, match="closed"):
        read(pool)


def test_many_threads_share_few_connections(play: Play) -> None:
    server = play(obedient)
    pool = ConnectionPool(server.export(), 3, renews=True)
    reads = threading.Semaphore(0)

    def work() -> None:
        for _ in range(50):
            read(pool)
            reads.release()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(reads.acquire(blocking=False) for _ in range(400))
    pool.close()
    assert server.accepted <= 3
