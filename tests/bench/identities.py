"""Certificates of the two movers of a run."""

import ssl
from pathlib import Path

from holdfast.clock import SystemClock
from holdfast.mover.certificates import Authority
from holdfast.mover.sockets import Identity, MoverTls

_SIDES = ("proxy", "repository")


def make_identities(folder: Path, hosts: list[str]) -> str:
    """Make an authority, and a certificate for each side; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    now = SystemClock().now()
    authority = Authority.new(now)
    (folder / "ca.pem").write_bytes(authority.pair.certificate)
    for side in _SIDES:
        pair = authority.issue(side, hosts, now)
        (folder / f"{side}.pem").write_bytes(pair.certificate)
        (folder / f"{side}.key").write_bytes(pair.key)
    return str(folder)


def listening_context(folder: Path) -> MoverTls:
    """Return what the repository's mover shows."""
    return _identity(folder, "repository").context(ssl.PROTOCOL_TLS_SERVER)


def dialling_context(folder: Path) -> MoverTls:
    """Return what the proxy's mover shows."""
    return _identity(folder, "proxy").context(ssl.PROTOCOL_TLS_CLIENT)


def _identity(folder: Path, side: str) -> Identity:
    return Identity(ca_file=folder / "ca.pem", certificate=folder / f"{side}.pem", key=folder / f"{side}.key")
