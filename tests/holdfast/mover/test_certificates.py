"""Certificates that were made here are what real movers accept, and no others."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store

from holdfast.clock import SystemClock
from holdfast.errors import ConfigurationInvalid, LinkError, RequestInvalid
from holdfast.formats.mover.greeting import Hello, Listener, Refusal
from holdfast.formats.mover.states import Greeting
from holdfast.mover.certificates import (
    AUTHORITY_LASTS,
    CERTIFICATE_LASTS,
    SKEW,
    Authority,
    Pair,
    checked_address,
    facts_of,
)
from holdfast.mover.sockets import Address, Identity, dial, greet, listen, new_nonce

NOW = datetime(2030, 5, 6, 7, 8, 9, tzinfo=UTC)
SESSION = b"s" * 16
TOKEN = b"t" * 32


def read(pair: Pair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.certificate)


def test_an_authority_signs_certificates_and_no_authorities() -> None:
    certificate = read(Authority.new(NOW).pair)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value) == (True, x509.BasicConstraints(ca=True, path_length=0))
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert (usage.critical, usage.value.key_cert_sign, usage.value.digital_signature) == (True, True, False)
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    assert certificate.not_valid_before_utc == NOW - SKEW
    assert certificate.not_valid_after_utc == NOW + AUTHORITY_LASTS


def test_two_authorities_have_different_names() -> None:
    assert Authority.new(NOW).facts.name != Authority.new(NOW).facts.name


def test_a_certificate_is_for_both_sides_of_its_addresses_for_two_years() -> None:
    pair = Authority.new(NOW).issue("proxy-a", ["10.0.0.5", "Proxy-A.example", "::0001", "10.0.0.5"], NOW)
    certificate = read(pair)
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usages) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    facts = facts_of(pair.certificate)
    assert (facts.name, facts.addresses) == ("proxy-a", ("10.0.0.5", "proxy-a.example", "::1"))
    assert (facts.begins_at, facts.ends_at) == (NOW - SKEW, NOW + CERTIFICATE_LASTS)
    assert load_pem_private_key(pair.key, None).public_key() == certificate.public_key()


def test_a_strict_verifier_accepts_it_on_both_sides() -> None:
    authority = Authority.new(NOW)
    certificate = read(authority.issue("a", ["a.example"], NOW))
    policy = PolicyBuilder().store(Store([read(authority.pair)])).time(NOW)
    assert policy.build_server_verifier(x509.DNSName("a.example")).verify(certificate, [])
    assert policy.build_client_verifier().verify(certificate, []).chain[0] == certificate


def test_a_certificate_never_outlives_its_authority() -> None:
    authority = Authority.new(NOW)
    late = NOW + AUTHORITY_LASTS - timedelta(days=1)
    assert facts_of(authority.issue("a", ["a"], late).certificate).ends_at == authority.facts.ends_at
    with pytest.raises(ConfigurationInvalid, match="the authority ended on 2040-05-05"):
        authority.issue("a", ["a"], NOW + AUTHORITY_LASTS)


def test_an_authority_is_what_it_was_when_loaded_again() -> None:
    authority = Authority.new(NOW)
    again = Authority.load(authority.pair)
    assert again.pair == authority.pair
    assert again.facts.fingerprint == read(authority.pair).fingerprint(SHA256()).hex()


def locked(key: bytes) -> bytes:
    opened = load_pem_private_key(key, None)
    return opened.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))


def test_what_is_no_authority_is_refused() -> None:
    authority, other = Authority.new(NOW), Authority.new(NOW)
    good, leaf = authority.pair, authority.issue("a", ["a"], NOW)
    another_kind = ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for certificate, key, told in (
        (b"", good.key, "no certificate in PEM"),
        (good.certificate[:300], good.key, "no certificate in PEM"),
        (good.certificate, b"", "no private key in PEM"),
        (good.certificate, good.certificate, "no private key in PEM"),
        (good.certificate, locked(good.key), "locked by a passphrase"),
        (good.certificate, another_kind, "none on an elliptic curve"),
        (good.certificate, other.pair.key, "does not belong to its certificate"),
        (leaf.certificate, leaf.key, "may not sign others"),
    ):
        with pytest.raises(ConfigurationInvalid, match=told):
            Authority.load(Pair(certificate=certificate, key=key))


@pytest.mark.parametrize(
    "text, written",
    [
        ("10.0.0.5", "10.0.0.5"),
        ("FD00::1", "fd00::1"),
        ("A.Example", "a.example"),
        ("repo_1", "repo_1"),
        ("x-1", "x-1"),
    ],
)
def test_addresses_are_host_names_and_ip_addresses(text: str, written: str) -> None:
    assert checked_address(text) == written


@pytest.mark.parametrize(
    "text",
    [
        *("", "10.0.0.256", "host:9000", "[::1]", "fe80::1%eth0", "a..b", "a.", "*.example", "-a", "a b", "zürich"),
        "a" * 64,
        ".".join(["a" * 60] * 5),
    ],
)
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(RequestInvalid, match="is no host name and no IP address"):
        checked_address(text)


@pytest.mark.parametrize("count", [0, 65])
def test_the_number_of_addresses_is_bounded(count: int) -> None:
    with pytest.raises(RequestInvalid, match="for 1 to 64 addresses"):
        Authority.new(NOW).issue("a", [f"a{index}" for index in range(count)], NOW)


def identity(folder: Path, trusted: Authority, pair: Pair) -> Identity:
    folder.mkdir()
    found = Identity(ca_file=folder / "ca.pem", certificate=folder / "own.pem", key=folder / "own.key")
    found.ca_file.write_bytes(trusted.pair.certificate)
    found.certificate.write_bytes(pair.certificate)
    found.key.write_bytes(pair.key)
    return found


@contextmanager
def listening(own: Identity, heard: list[object]) -> Iterator[int]:
    """Greet one connection by TLS at a port of this host, and note how that ended."""
    tls = own.context(ssl.PROTOCOL_TLS_SERVER)

    def serve() -> None:
        accepted, _ = server.accept()
        greeting = Listener(new_nonce(), {SESSION: TOKEN}.get, lambda _: Refusal.NONE)
        with closing(accepted):
            try:
                connection = greet(accepted, tls, greeting)
            except (OSError, LinkError) as error:
                heard.append(error)
                return
            heard.append(greeting.state)
            connection.close()

    with listen(Address("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            thread.join()


def reach(own: Identity, address: Address) -> str | None:
    """Dial, and return the version of TLS that was agreed on."""
    hello = Hello(session=SESSION, attempt=1, connection=0, connections=1, nonce=new_nonce())
    with dial(address, own.context(ssl.PROTOCOL_TLS_CLIENT), hello, TOKEN) as connection:
        assert isinstance(connection, ssl.SSLSocket)
        return connection.version()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_movers_with_certificates_of_one_authority_greet_each_other_by_tls_1_3(tmp_path: Path, host: str) -> None:
    now, authority = SystemClock().now(), Authority.new(SystemClock().now())
    listener = identity(tmp_path / "listener", authority, authority.issue("repo-a", ["127.0.0.1", "localhost"], now))
    dialler = identity(tmp_path / "dialler", authority, authority.issue("proxy-a", ["proxy-a"], now))
    heard: list[object] = []
    with listening(listener, heard) as port:
        assert reach(dialler, Address(host, port)) == "TLSv1.3"
    assert heard == [Greeting.OPEN]


def test_a_listener_of_another_authority_is_refused(tmp_path: Path) -> None:
    now = SystemClock().now()
    authority, other = Authority.new(now), Authority.new(now)
    listener = identity(tmp_path / "listener", authority, other.issue("repo-a", ["127.0.0.1"], now))
    dialler = identity(tmp_path / "dialler", authority, authority.issue("proxy-a", ["proxy-a"], now))
    heard: list[object] = []
    with listening(listener, heard) as port, pytest.raises((ssl.SSLError, LinkError)):
        reach(dialler, Address("127.0.0.1", port))
    assert isinstance(heard[0], OSError | LinkError)


def test_a_dialler_of_another_authority_is_refused(tmp_path: Path) -> None:
    now = SystemClock().now()
    authority, other = Authority.new(now), Authority.new(now)
    listener = identity(tmp_path / "listener", authority, authority.issue("repo-a", ["127.0.0.1"], now))
    dialler = identity(tmp_path / "dialler", authority, other.issue("proxy-a", ["proxy-a"], now))
    heard: list[object] = []
    # The dialler hears of it with its first bytes; the connection may be gone before the reason arrives.
    with listening(listener, heard) as port, pytest.raises((OSError, LinkError)):
        reach(dialler, Address("127.0.0.1", port))
    assert isinstance(heard[0], ssl.SSLCertVerificationError)


def test_a_listener_at_an_address_its_certificate_does_not_name_is_refused(tmp_path: Path) -> None:
    now, authority = SystemClock().now(), Authority.new(SystemClock().now())
    listener = identity(tmp_path / "listener", authority, authority.issue("repo-a", ["10.0.0.5"], now))
    heard: list[object] = []
    with listening(listener, heard) as port, pytest.raises((ssl.SSLError, LinkError), match="mismatch"):
        reach(listener, Address("127.0.0.1", port))
    assert isinstance(heard[0], OSError | LinkError)


def test_a_key_that_is_locked_is_an_error_and_asks_nobody(tmp_path: Path) -> None:
    authority = Authority.new(NOW)
    pair = authority.issue("a", ["a"], NOW)
    found = identity(tmp_path / "a", authority, Pair(certificate=pair.certificate, key=locked(pair.key)))
    with pytest.raises(ConfigurationInvalid, match="cannot be used"):
        found.context(ssl.PROTOCOL_TLS_CLIENT)
