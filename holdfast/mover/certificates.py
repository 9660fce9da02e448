"""Certificates of data movers: a small authority, and what it signs. Bytes in, bytes out.

Movers trust one authority and nobody else, so that a certificate says no more than "belongs to this installation, at
these addresses"; what its holder may do is decided by grants. docs/security.md tells who can do what with which file.
Keys are EC P-256. Everything is PEM.
"""

import ipaddress
import re
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from holdfast.errors import ConfigurationInvalid, RequestInvalid

AUTHORITY_LASTS = timedelta(days=3652)
"""Ten years."""
CERTIFICATE_LASTS = timedelta(days=730)
"""Two years, or as long as the authority when that ends earlier."""
SKEW = timedelta(hours=1)
"""How much earlier than now a certificate begins, for hosts whose clocks are behind."""

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_HOST_SIZE_MAX = 253
_ADDRESSES_MAX = 64
_SHOWN_DIGITS = 8


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate and its private key, as PEM."""

    certificate: bytes
    key: bytes


class CertificateFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a certificate says."""

    name: str
    """Common name of its subject; empty when it has none."""
    addresses: tuple[str, ...]
    """Host names and IP addresses it is good for."""
    begins_at: datetime
    ends_at: datetime
    fingerprint: str
    """SHA-256 of the certificate, in hexadecimal digits."""


class Authority:
    """Signs certificates of movers."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def new(cls, now: datetime) -> "Authority":
        """Draw the key of a new authority."""
        key = ec.generate_private_key(ec.SECP256R1())
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        # Two authorities have different names, so that tools which print a certificate's issuer tell them apart.
        name = _name(f"Holdfast movers {identifier.digest.hex()[:_SHOWN_DIGITS]}")
        begun = _begun(name, key.public_key(), now, now + AUTHORITY_LASTS)
        signed = (
            begun.issuer_name(name)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(key, SHA256())
        )
        return cls(signed, key)

    @classmethod
    def load(cls, pair: Pair) -> "Authority":
        """Return the authority of what `pair` gave once. Raises `ConfigurationInvalid`."""
        certificate = _first_certificate(pair.certificate)
        try:
            key = load_pem_private_key(pair.key, None)
        except TypeError as error:
            raise ConfigurationInvalid(
                "the authority's key is locked by a passphrase",
                hint="Unlock it into a file for the time of this call, with `openssl ec`.",
            ) from error
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ConfigurationInvalid("the authority's key is no private key in PEM") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigurationInvalid("the authority's key is none on an elliptic curve")
        if certificate.public_key() != key.public_key():
            raise ConfigurationInvalid("the authority's key does not belong to its certificate")
        if not _is_authority(certificate):
            raise ConfigurationInvalid("the authority's certificate may not sign others")
        return cls(certificate, key)

    @property
    def pair(self) -> Pair:
        """Return the authority's own certificate and key."""
        return _pair(self._certificate, self._key)

    @property
    def facts(self) -> CertificateFacts:
        """Return what the authority's own certificate says."""
        return _facts(self._certificate)

    def issue(self, name: str, addresses: Sequence[str], now: datetime) -> Pair:
        """Return a certificate for a mover that is reached at ``addresses``, good for both sides of a connection.

        Raises `RequestInvalid` for what is no address, `ConfigurationInvalid` when the authority has ended.
        """
        ends_at = self._certificate.not_valid_after_utc
        if now >= ends_at:
            hint = "Make another authority in a new folder, and all certificates with it."
            raise ConfigurationInvalid(f"the authority ended on {ends_at:%Y-%m-%d}", hint=hint)
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        both = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
        begun = _begun(_name(name), key.public_key(), now, min(now + CERTIFICATE_LASTS, ends_at))
        signed = (
            begun.issuer_name(self._certificate.subject)
            .add_extension(x509.SubjectAlternativeName(_alternatives(addresses)), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(both), critical=False)
            .add_extension(issuer, critical=False)
            .sign(self._key, SHA256())
        )
        return _pair(signed, key)


def facts_of(certificate: bytes) -> CertificateFacts:
    """Return what the first certificate in PEM says. Raises `ConfigurationInvalid`."""
    return _facts(_first_certificate(certificate))


def checked_address(text: str) -> str:
    """Return a host name or IP address as it is written in a certificate. Raises `RequestInvalid`."""
    ip = _ip(text)
    if ip is not None:
        return str(ip)
    host = text.lower()
    # A last label of digits alone is a mistyped IP address.
    if not _HOST.fullmatch(host) or len(host) > _HOST_SIZE_MAX or host.rpartition(".")[2].isdecimal():
        raise RequestInvalid(
            f"{text!r} is no host name and no IP address",
            hint="Give what other hosts reach the worker by, without port and brackets: 10.0.0.5 or backup.example.",
        )
    return host


def _alternatives(addresses: Sequence[str]) -> list[x509.GeneralName]:
    unique = list(dict.fromkeys(map(checked_address, addresses)))
    if not 1 <= len(unique) <= _ADDRESSES_MAX:
        raise RequestInvalid(f"a certificate is for 1 to {_ADDRESSES_MAX} addresses, not for {len(unique)}")
    return [_alternative(address) for address in unique]


def _alternative(address: str) -> x509.GeneralName:
    ip = _ip(address)
    return x509.DNSName(address) if ip is None else x509.IPAddress(ip)


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return an IP address; None for what is none, or one whose zone makes sense on one host alone."""
    try:
        return None if "%" in text else ipaddress.ip_address(text)
    except ValueError:
        return None


def _begun(
    subject: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, ends_at: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before((now - SKEW).replace(microsecond=0))
        .not_valid_after(ends_at.replace(microsecond=0))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    return Pair(
        certificate=certificate.public_bytes(Encoding.PEM),
        key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


def _first_certificate(content: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(content)[0]
    except ValueError as error:
        raise ConfigurationInvalid("there is no certificate in PEM") from error


def _facts(certificate: x509.Certificate) -> CertificateFacts:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return CertificateFacts(
        name=str(names[0].value) if names else "",
        addresses=_addresses(certificate),
        begins_at=certificate.not_valid_before_utc,
        ends_at=certificate.not_valid_after_utc,
        fingerprint=certificate.fingerprint(SHA256()).hex(),
    )


def _addresses(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in found if isinstance(name, x509.DNSName | x509.IPAddress))
