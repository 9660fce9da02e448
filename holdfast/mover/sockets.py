"""Connections between movers: dialling, listening, TLS, greeting.

Between hosts both sides show a certificate of one authority and check that of the other, by TLS 1.3. On one host, over
its loopback addresses, plain connections are allowed; the token of the session is proved in any case, and the proof is
bound to the certificates of both ends.
"""

import ipaddress
import secrets
import socket
import ssl
import sys
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import msgspec
from typing_extensions import override

from holdfast.clock import Clock, SystemClock
from holdfast.errors import ConfigurationInvalid, LinkError, LinkRefused
from holdfast.formats.mover.greeting import NONCE_SIZE, UNBOUND, Dialler, Hello, Listener, binding_of
from holdfast.mover.certificates import facts_of

GREETING_S = 15.0
"""How long a connection may take until it is greeted, however many bytes come meanwhile."""
_BACKLOG = 512
_LINGER_S = 2.0
_CONGESTION_CONTROL = b"bbr"
_LONG_S = 0.03
_UNSENT = 256 << 10
_SEND_BUFFER = 4 << 20
"""The kernel takes twice as much, and most that it gives by itself is half of that."""
_GRANTED = Path("/proc/sys/net/core/wmem_max")
_ROUND_TRIP_AT = 68  # in the kernel's tcp_info, in microseconds
_TLS_HINT = "See whether both movers are set up for TLS, and what the other one says."
_CERTIFICATE_HINT = "Both movers need valid certificates of one authority; `holdfast certs` makes them."


class Address(msgspec.Struct, frozen=True):
    """Where a mover listens."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Return the address in ``host:port``. Raises `ConfigurationInvalid`."""
        host, colon, port = text.rpartition(":")
        if not colon or not host or not port.isascii() or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004
            raise ConfigurationInvalid(f"{text!r} is no address of a mover", hint="Write it as host:port.")
        return cls(host.removeprefix("[").removesuffix("]"), int(port))

    @property
    def is_loopback(self) -> bool:
        """Return whether nothing outside this host reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @override
    def __str__(self) -> str:
        """Return the address as it is written."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class MoverTls(ssl.SSLContext):
    """A context that knows which certificate its side shows."""

    shown: bytes
    """SHA-256 of that certificate."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """The certificates by which movers know each other."""

    ca_file: Path
    certificate: Path
    key: Path

    def context(self, side: ssl._SSLMethod) -> MoverTls:
        """Return a context for ``ssl.PROTOCOL_TLS_CLIENT`` or ``_SERVER``. Raises `ConfigurationInvalid`."""
        found = MoverTls(side)
        found.minimum_version = ssl.TLSVersion.TLSv1_3
        found.verify_mode = ssl.CERT_REQUIRED
        if side is ssl.PROTOCOL_TLS_SERVER:
            found.num_tickets = 0  # whoever comes again shows its certificate again
        try:
            found.load_verify_locations(self.ca_file)
            # An empty passphrase: a key that needs one is an error, and nobody is asked on a terminal.
            found.load_cert_chain(self.certificate, self.key, password="")
            found.shown = bytes.fromhex(facts_of(self.certificate.read_bytes()).fingerprint)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationInvalid(
                f"the mover's certificate {self.certificate}, its key or {self.ca_file} cannot be used: {error}",
                hint="`holdfast certs` makes them.",
            ) from error
        return found


class _Patience:
    """The time that is left for something."""

    def __init__(self, clock: Clock | None, lasts_s: float) -> None:
        self._clock = clock if clock is not None else SystemClock()
        self._ends_s = self._clock.monotonic_s() + lasts_s

    def limit(self, connection: socket.socket) -> socket.socket:
        """Let the next call of a connection take what is left. Raises `TimeoutError` when nothing is."""
        left_s = self._ends_s - self._clock.monotonic_s()
        if left_s <= 0:
            raise TimeoutError("timed out")
        connection.settimeout(left_s)
        return connection


def dial(
    address: Address, tls: MoverTls | None, hello: Hello, token: bytes, clock: Clock | None = None
) -> socket.socket:
    """Return a greeted connection. Raises `OSError`, or a `LinkError`, retryable or not."""
    patience = _Patience(clock, GREETING_S)
    connection = socket.create_connection((address.host, address.port), GREETING_S)
    try:
        connection, binding = _prepared(patience.limit(connection)), UNBOUND
        if tls is not None:
            connection = tls.wrap_socket(_still_there(connection), server_hostname=address.host)
            binding = binding_of(_shown_by_peer(connection), tls.shown)
        greeting = Dialler(hello, token, binding)
        patience.limit(connection).sendall(greeting.hello)
        while greeting.wanted:
            connection.sendall(greeting.receive(_exactly(connection, greeting.wanted, patience)))
        widen(connection)
    except ssl.SSLError as error:
        connection.close()
        raise _tls_error(address, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _tls_error(address: Address, error: ssl.SSLError) -> LinkError:
    """Return what to make of a failure of TLS; who is not let in will not be let in later."""
    reason = error.reason or str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        text = f"the certificate of the mover at {address} is not accepted: {error.verify_message}"
        return LinkRefused(text, hint=_CERTIFICATE_HINT)
    if "CERTIFICATE" in reason or "UNKNOWN_CA" in reason:
        text = f"the mover at {address} does not accept this side's certificate: {reason}"
        return LinkRefused(text, hint=_CERTIFICATE_HINT)
    return LinkError(f"TLS with the mover at {address} failed: {reason}", hint=_TLS_HINT)


def greet(
    connection: socket.socket, tls: MoverTls | None, greeting: Listener, clock: Clock | None = None
) -> socket.socket:
    """Greet a connection that was accepted; look at the state of ``greeting``.

    Raises `OSError` or `LinkError`, and the connection is closed then.
    """
    try:
        patience = _Patience(clock, GREETING_S)
        connection = _prepared(patience.limit(connection))
        if tls is not None:
            connection = tls.wrap_socket(_still_there(connection), server_side=True, do_handshake_on_connect=False)
            connection.do_handshake()
            greeting.binding = binding_of(tls.shown, _shown_by_peer(connection))
        while greeting.wanted:
            connection.sendall(greeting.receive(_exactly(connection, greeting.wanted, patience)))
        widen(connection)
    except ssl.SSLError:
        _let_alert_arrive(connection, _Patience(clock, _LINGER_S))
        connection.close()
        raise
    except BaseException:
        connection.close()
        raise
    return connection


def _shown_by_peer(connection: ssl.SSLSocket) -> bytes:
    """Return the SHA-256 of the certificate that the peer has shown."""
    certificate = connection.getpeercert(binary_form=True)
    assert certificate is not None, "a peer without a certificate is refused by TLS"
    return sha256(certificate).digest()


def _let_alert_arrive(connection: socket.socket, patience: _Patience) -> None:
    """Read what is on its way: closing before would take the alert away that says what is wrong."""
    if connection.fileno() < 0:
        return  # the peer had reset it, and TLS has closed it
    with suppress(OSError):
        plain = socket.socket(fileno=connection.detach())
        with plain:
            plain.shutdown(socket.SHUT_WR)
            while patience.limit(plain).recv(1 << 16):
                pass


def listen(address: Address) -> socket.socket:
    """Return a socket that listens; port 0 takes a free one. Raises `ConfigurationInvalid`."""
    try:
        family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((address.host, address.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigurationInvalid(f"the mover cannot listen at {address}: {error.strerror or error}") from error


def ends_of(connection: socket.socket) -> tuple[str, str] | None:
    """Return the addresses of this host and of the peer, None when there are none or the peer is gone already."""
    if connection.family not in {socket.AF_INET, socket.AF_INET6}:
        return None
    try:
        return connection.getsockname()[0], connection.getpeername()[0]
    except OSError:
        return None


def new_nonce() -> bytes:
    """Return the nonce of one connection."""
    return secrets.token_bytes(NONCE_SIZE)


def _prepared(connection: socket.socket) -> socket.socket:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with suppress(OSError):  # the kernel has it not, or does not let everybody have it
        # On long lines a lost packet in a thousand halves what others bring over, and does little to this one.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, _CONGESTION_CONTROL)
    # Sizes of buffers are left to the kernel, which lets them grow with the length of the line.
    return connection


def widen(connection: socket.socket, long_s: float = _LONG_S) -> None:
    """Let more be on its way where answers take longer than ``long_s``.

    There what was lost holds a buffer for two round trips. What waits is better off with the link, which gives it to
    whichever connection is free. The buffer is left alone where the kernel grants no more than it gives by itself: one
    that was set does not grow any more.
    """
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ROUND_TRIP_AT + 4)
        is_long = int.from_bytes(info[_ROUND_TRIP_AT:], sys.byteorder) > long_s * 1e6
        if is_long:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
            if int(_GRANTED.read_text(encoding="ascii")) >= _SEND_BUFFER:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    except OSError:
        pass  # not TCP, or another kernel


def _still_there(connection: socket.socket) -> socket.socket:
    """Return a connection whose peer is there. Raises `OSError`; TLS would lose the socket of one that is gone."""
    connection.getpeername()
    return connection


def _exactly(connection: socket.socket, size: int, patience: _Patience) -> bytes:
    found = bytearray()
    while len(found) < size:
        part = patience.limit(connection).recv(size - len(found))
        if not part:
            raise LinkError("the peer closed a connection before it was greeted", hint=_TLS_HINT)
        found += part
    return bytes(found)
