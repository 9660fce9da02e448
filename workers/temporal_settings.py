"""The ``[temporal]`` table of the configuration."""

import msgspec


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PEM files for TLS; an empty table means TLS with the host's own trusted roots."""

    server_ca: str | None = None
    """Roots that may have signed the server's certificate; None: the host's."""
    certificate: str | None = None
    """Our certificate for mutual TLS, with ``key``; None: we do not identify ourselves."""
    key: str | None = None
    server_name: str | None = None
    """Name the server's certificate carries; None: the host of the address."""


class PayloadKeyFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A payload key: 32 random bytes as base64 in a file not readable by others."""

    key_id: str
    """Stands in clear beside every payload the key seals."""
    file: str


class TemporalSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ``[temporal]`` table of the configuration."""

    address: str = "127.0.0.1:7233"
    """``host:port`` of the server's frontend."""
    namespace: str = "holdfast"
    tls: TlsFiles | None = None
    """None: no TLS, which only suits a server on the same host."""
    api_key_file: str | None = None
    """File with a bearer token; None: no token is sent."""
    payload_keys: tuple[PayloadKeyFile, ...] = ()
    """The first encrypts, every one decrypts; empty: payloads travel in clear."""
    connect_timeout_s: float = 10.0
    """How long a server that does not answer is tried."""
