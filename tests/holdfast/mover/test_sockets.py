"""Who dials whom, and what both sides make of it when it does not work."""

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from holdfast.errors import ConfigurationInvalid, LinkError, LinkRefused
from holdfast.formats.mover.greeting import Hello, Listener, Refusal
from holdfast.formats.mover.states import Greeting
from holdfast.mover.sockets import Address, Identity, MoverTls, dial, greet, listen, new_nonce, widen
from tests.holdfast.mover.movers import CLOCK, HERE, Authority

TOKEN = b"t" * 32


def hello(session: bytes = b"s" * 16) -> Hello:
    return Hello(session=session, attempt=1, connection=0, connections=1, nonce=new_nonce())


@contextlib.contextmanager
def listening(tls: MoverTls | None = None, heard: list[object] | None = None) -> Iterator[Address]:
    """Greet one connection, and note its state or error."""
    found = heard if heard is not None else []

    def serve() -> None:
        connection, _ = server.accept()
        greeting = Listener(new_nonce(), {b"s" * 16: TOKEN}.get, lambda _: Refusal.NONE)
        try:
            greet(connection, tls, greeting).close()
            found.append(greeting.state)
        except (OSError, LinkError) as error:
            found.append(error)

    with listen(HERE) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Address("127.0.0.1", server.getsockname()[1])
        finally:
            thread.join()


def contexts(server: Identity, client: Identity) -> tuple[MoverTls, MoverTls]:
    return server.context(ssl.PROTOCOL_TLS_SERVER), client.context(ssl.PROTOCOL_TLS_CLIENT)


@pytest.mark.parametrize(
    "text, address",
    [("a.example:10", Address("a.example", 10)), ("[::1]:9", Address("::1", 9)), ("127.0.0.1:0", HERE)],
)
def test_an_address_is_read_as_it_is_written(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert str(address) == text


@pytest.mark.parametrize("text", ["", "host", ":10", "host:", "host:x", "host:65536", "host:٣"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationInvalid, match="is no address of a mover"):
        Address.parse(text)


@pytest.mark.parametrize(
    "host, is_loopback",
    [("127.0.0.9", True), ("::1", True), ("localhost", True), ("10.0.0.1", False), ("host", False)],
)
def test_only_addresses_of_this_host_are_loopback(host: str, is_loopback: bool) -> None:
    assert Address(host, 1).is_loopback == is_loopback


def test_plain_movers_greet_each_other() -> None:
    heard: list[object] = []
    with listening(heard=heard) as address:
        dial(address, None, hello(), TOKEN).close()
    assert heard == [Greeting.OPEN]


def test_movers_of_one_authority_greet_each_other_by_tls_1_3(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, client = contexts(authority.identity("server"), authority.identity("client"))
    heard: list[object] = []
    with listening(server, heard) as address:
        connection = dial(address, client, hello(), TOKEN)
        assert isinstance(connection, ssl.SSLSocket)
        assert connection.version() == "TLSv1.3"
        connection.close()
    assert heard == [Greeting.OPEN]


Identities = Callable[[Authority, Authority], tuple[Identity, Identity]]


@pytest.mark.parametrize(
    "identities, words",
    [
        (lambda a, b: (b.identity("s"), a.identity("c")), "the certificate of the mover at .* is not accepted"),
        (lambda a, _: (a.identity("s", days=-1), a.identity("c")), "is not accepted: certificate has expired"),
        (lambda a, b: (a.identity("s"), b.identity("c", trusts=a)), "does not accept this side's certificate"),
        (lambda a, _: (a.identity("s"), a.identity("c", days=-1)), "does not accept this side's certificate.*EXPIRED"),
        (lambda a, _: (a.identity("s", begins=1), a.identity("c")), "is not accepted: certificate is not yet valid"),
        (lambda a, _: (a.identity("s"), a.identity("c", begins=1)), "does not accept this side's certificate"),
    ],
)
def test_a_wrong_certificate_is_refused_for_good_and_both_sides_know(
    tmp_path: Path, identities: Identities, words: str
) -> None:
    server, client = contexts(*identities(Authority(tmp_path), Authority(tmp_path, "other")))
    heard: list[object] = []
    with listening(server, heard) as address, pytest.raises(LinkRefused, match=words) as caught:
        dial(address, client, hello(), TOKEN)
    assert "holdfast certs" in caught.value.hint
    assert len(heard) == 1
    assert isinstance(heard[0], OSError | LinkError)


def test_plain_to_tls_and_tls_to_plain_fail(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, client = contexts(authority.identity("server"), authority.identity("client"))
    with listening(server) as address, pytest.raises((LinkError, OSError)):
        dial(address, None, hello(), TOKEN)
    with listening() as address, pytest.raises((LinkError, OSError)):
        dial(address, client, hello(), TOKEN)


def test_a_wrong_token_and_an_unknown_session_are_refused() -> None:
    with listening() as address, pytest.raises(LinkRefused, match="does not know the token"):
        dial(address, None, hello(), b"w" * 32)
    with listening() as address, pytest.raises(LinkRefused, match="refused session 7575"):
        dial(address, None, hello(b"u" * 16), TOKEN)


@contextlib.contextmanager
def passing_on(target: Address, near: MoverTls, far: MoverTls) -> Iterator[Address]:
    """Stand between two movers: end the TLS of either, and pass on what they say within."""

    def pass_on() -> None:
        accepted, _ = server.accept()
        reached = socket.create_connection((target.host, target.port))
        with (
            near.wrap_socket(accepted, server_side=True) as left,
            far.wrap_socket(reached, server_hostname=target.host) as right,
            contextlib.suppress(OSError),
        ):
            right.sendall(left.recv(80))
            left.sendall(right.recv(84))
            right.sendall(left.recv(44))

    with listen(HERE) as server:
        thread = threading.Thread(target=pass_on)
        thread.start()
        yield Address("127.0.0.1", server.getsockname()[1])
        thread.join()


def test_a_greeting_that_is_passed_on_by_somebody_with_a_good_certificate_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, client = contexts(authority.identity("server"), authority.identity("client"))
    near, far = contexts(middle := authority.identity("middle"), middle)
    heard: list[object] = []
    words = "or is not whom it is reached by"
    with (
        listening(server, heard) as address,
        passing_on(address, near, far) as between,
        pytest.raises(LinkRefused, match=words),
    ):
        dial(between, client, hello(), TOKEN)
    assert isinstance(heard[0], LinkError | OSError)


@pytest.mark.parametrize("keys", [("server", "middle"), ("middle", "client"), ("server", "server")])
def test_who_stands_between_needs_the_keys_of_both_sides(tmp_path: Path, keys: tuple[str, str]) -> None:
    authority = Authority(tmp_path)
    known = {name: authority.identity(name) for name in ("server", "client", "middle")}
    server, client = contexts(known["server"], known["client"])
    near, far = contexts(known[keys[0]], known[keys[1]])
    words = "or is not whom it is reached by"
    with (
        listening(server) as address,
        passing_on(address, near, far) as between,
        pytest.raises(LinkRefused, match=words),
    ):
        dial(between, client, hello(), TOKEN)


def test_a_greeting_takes_its_time_and_no_more_however_many_bytes_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.mover.sockets.GREETING_S", 0.5)
    heard: list[object] = []
    started_s = CLOCK.monotonic_s()
    with (
        listening(heard=heard) as address,
        socket.create_connection((address.host, address.port)) as stranger,
        contextlib.suppress(OSError),
    ):
        for _ in range(79):  # a hello that is never whole
            stranger.sendall(b"H")
            threading.Event().wait(0.05)
    assert isinstance(heard[0], TimeoutError)
    assert 0.4 < CLOCK.monotonic_s() - started_s < 30
    said: list[bytes] = []

    def drip() -> None:
        with server.accept()[0] as connection, contextlib.suppress(OSError):
            said.append(connection.recv(80))
            for _ in range(83):
                connection.sendall(b"H")
                threading.Event().wait(0.05)

    with listen(HERE) as server:
        thread = threading.Thread(target=drip)
        thread.start()
        with pytest.raises(TimeoutError):
            dial(Address("127.0.0.1", server.getsockname()[1]), None, hello(), TOKEN)
        thread.join()
    assert len(said[0]) == 80


def test_a_stranger_that_goes_on_talking_after_a_failed_handshake_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.mover.sockets._LINGER_S", 0.3)
    server, _ = contexts(identity := Authority(tmp_path).identity("server"), identity)
    heard: list[object] = []
    with (
        listening(server, heard) as address,
        socket.create_connection((address.host, address.port)) as stranger,
        contextlib.suppress(OSError),
    ):
        while not heard:
            stranger.sendall(bytes(1000))
            threading.Event().wait(0.02)
    assert isinstance(heard[0], ssl.SSLError)


def test_a_peer_that_is_gone_before_the_handshake_leaves_no_socket(tmp_path: Path) -> None:
    server = Authority(tmp_path).identity("server").context(ssl.PROTOCOL_TLS_SERVER)
    for said in (b"", b"x"):
        with listen(HERE) as listener:
            stranger = socket.create_connection(("127.0.0.1", listener.getsockname()[1]))
            stranger.sendall(said)
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            accepted, _ = listener.accept()
            stranger.close()  # the other side is told that it is gone
            greeting = Listener(new_nonce(), lambda _: TOKEN, lambda _: Refusal.NONE)
            with pytest.raises(OSError, match=r"not connected|reset"):
                greet(accepted, server, greeting)
            assert accepted.fileno() < 0


def test_a_peer_that_hangs_up_and_one_that_speaks_something_else_are_told_apart() -> None:
    with listening() as address, socket.create_connection((address.host, address.port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n" * 20)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            server.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises((LinkError, ConnectionError)):
            dial(Address("127.0.0.1", server.getsockname()[1]), None, hello(), TOKEN)
        thread.join()


def test_certificates_that_cannot_be_used_are_a_matter_of_configuration(tmp_path: Path) -> None:
    nothing = Identity(ca_file=tmp_path / "a", certificate=tmp_path / "b", key=tmp_path / "c")
    with pytest.raises(ConfigurationInvalid, match="cannot be used"):
        nothing.context(ssl.PROTOCOL_TLS_SERVER)


def test_a_port_that_is_taken_is_a_matter_of_configuration() -> None:
    with listen(HERE) as server, pytest.raises(ConfigurationInvalid, match="cannot listen at 127"):
        listen(Address("127.0.0.1", server.getsockname()[1]))


def test_a_short_line_is_left_to_the_kernel_and_what_is_no_line_is_left_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as near:
        before = near.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        widen(near)
        assert near.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == before
    pair = socket.socketpair()
    for each in pair:
        widen(each)
        each.close()


def test_more_is_on_its_way_on_a_long_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as near:
        widen(near, 0.0)
        assert near.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 256 << 10
        granted = int(Path("/proc/sys/net/core/wmem_max").read_text(encoding="ascii"))
        if granted >= 4 << 20:
            assert near.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 8 << 20
