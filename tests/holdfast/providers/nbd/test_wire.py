"""The socket below: bounded waits, whole pieces, the host's own addresses only."""

import socket
import struct
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from typing_extensions import override

from holdfast.clock import SystemClock
from holdfast.providers.nbd.wire import Export, Wire
from tests.holdfast.providers.nbd.conftest import Play
from tests.holdfast.providers.nbd.scripted import Peer


def test_an_address_is_written_as_tools_take_it() -> None:
    assert Export(address=Path("/run/s")).uri == "nbd+unix:///?socket=/run/s"
    assert Export(address=("127.0.0.1", 10809), name="web").uri == "nbd://127.0.0.1:10809/web"
    assert Export(address=("::1", 1)).uri == "nbd://[::1]:1/"


def test_a_disk_never_leaves_the_host_without_tls() -> None:
    with pytest.raises(OSError, match=r"192\.0\.2\.1 is no loopback address"):
        Wire(Export(address=("192.0.2.1", 10809)), SystemClock())


def test_a_name_instead_of_an_address_is_refused() -> None:
    with pytest.raises(OSError, match="localhost is no numeric address"):
        Wire(Export(address=("localhost", 10809)), SystemClock())


def test_nobody_listening_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Wire(Export(address=tmp_path / "none"), SystemClock())


def test_loopback_tcp_carries_both_ways() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        wire = Wire(Export(address=("127.0.0.1", listener.getsockname()[1])), SystemClock())
        far, _ = listener.accept()
        with far:
            wire.send(b"head", memoryview(b"data"))
            assert far.recv(8, socket.MSG_WAITALL) == b"headdata"
            far.sendall(b"answer")
            assert wire.receive_bytes(6) == b"answer"
            wire.close()
            wire.close()


def wait_for(event: threading.Event) -> None:
    assert event.wait(20)


def test_a_large_piece_is_sent_whole(play: Play) -> None:
    taken: list[bytes] = []
    sent = bytes(range(256)) * (5 << 12)

    def script(peer: Peer) -> None:
        taken.append(peer.receive(4 + len(sent)))
        peer.send(b"k")

    wire = Wire(play(script).export(), SystemClock())
    wire.send(b"head", memoryview(sent))
    assert wire.receive_bytes(1) == b"k"
    wire.close()
    assert taken == [b"head" + sent]


def test_a_silent_server_is_left_in_time(play: Play) -> None:
    wire = Wire(play(Peer.wait_until_client_leaves).export(timeout_s=0.05), SystemClock())
    with pytest.raises(TimeoutError, match=r"within 0\.05 s"):
        wire.receive_bytes(1)
    wire.close()


def test_a_server_that_takes_nothing_is_left_in_time(play: Play) -> None:
    is_over = threading.Event()
    wire = Wire(play(lambda _: wait_for(is_over)).export(timeout_s=0.05), SystemClock())
    try:
        with pytest.raises(TimeoutError):
            wire.send(b"head", memoryview(bytes(8 << 20)))
        with pytest.raises(TimeoutError):
            wire.send(bytes(8 << 20))
    finally:
        is_over.set()
        wire.close()


def test_a_server_that_accepts_nobody_is_left_in_time(tmp_path: Path) -> None:
    export = Export(address=tmp_path / "full", timeout_s=0.05)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener, ExitStack() as stack:
        listener.bind(str(export.address))
        listener.listen(0)
        with pytest.raises(TimeoutError):
            connect_until_full(export, stack)


def connect_until_full(export: Export, stack: ExitStack) -> None:
    for _ in range(10):
        stack.callback(Wire(export, SystemClock()).close)


class LateClock(SystemClock):
    """A clock whose hours pass between two looks."""

    def __init__(self) -> None:
        self.looks = 0

    @override
    def monotonic_s(self) -> float:
        self.looks += 1
        return self.looks * 3600.0


def test_a_server_that_only_trickles_is_left_in_time(play: Play) -> None:
    def script(peer: Peer) -> None:
        peer.send(b"a")
        wait_for(go_on)
        peer.send(b"b")
        peer.wait_until_client_leaves()

    go_on = threading.Event()
    wire = Wire(play(script).export(timeout_s=0.05), LateClock())
    threading.Timer(0.08, go_on.set).start()
    with pytest.raises(TimeoutError):
        wire.receive_bytes(100)
    wire.close()


def test_an_abort_ends_the_wait_of_another_thread(play: Play) -> None:
    wire = Wire(play(Peer.wait_until_client_leaves).export(), SystemClock())
    found: list[BaseException] = []

    def read() -> None:
        try:
            wire.receive_bytes(1)
        except ConnectionError as error:
            found.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    wire.abort()
    reader.join()
    wire.close()
    wire.abort()
    assert [str(error) for error in found] == ["the server closed the connection"]


def test_the_time_limit_of_the_kernel_is_the_one_asked_for(play: Play) -> None:
    wire = Wire(play(Peer.wait_until_client_leaves).export(timeout_s=2.5), SystemClock())
    raw = wire._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16)
    seconds, micros = struct.unpack("@ll", raw)
    wire.close()
    assert seconds == 2
    assert abs(micros - 500_000) < 20_000
