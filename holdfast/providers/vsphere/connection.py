"""A session of a vCenter or of a single host, shared by threads, which outlives its own expiry."""

import hashlib
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import msgspec
from pyVim.connect import SmartStubAdapter
from pyVmomi import vim, vmodl
from pyVmomi.SoapAdapter import SoapStubAdapter

from holdfast.errors import AccessDenied, ConfigurationInvalid, HoldfastError, ProviderUnavailable
from holdfast.providers.vsphere.faults import SessionLost, translated
from holdfast.providers.vsphere.lean_answers import LeanConnection

KEEP_ALIVE_S: Final = 300.0
"""A vCenter forgets a session after 30 idle minutes; tickets of open disks die with it."""
_TIMEOUT_S: Final = 120
_THUMBPRINT_DIGITS: Final = 64
_SHA1_DIGITS: Final = 40
_R = TypeVar("_R")


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where a vCenter is and who speaks to it."""

    host: str
    port: int = 443
    user: str
    password: Callable[[], str]
    """Asked at every login, so that a changed password needs no restart."""
    thumbprint: str | None = None
    """SHA-256 of the server's certificate in hexadecimal digits, with or without colons. When it is there, nothing
    else about the certificate is asked."""
    ca_file: Path | None = None
    """Certificates that are trusted instead of the host's own."""
    connections: int = 4
    """Connections kept open to the API at once."""

    @property
    def label(self) -> str:
        """Return how messages name it."""
        return self.host if self.port == 443 else f"{self.host}:{self.port}"  # noqa: PLR2004 - the port of HTTPS


class Connection:
    """A logged-in session. Every call may come from any thread.

    A call that finds the session gone logs in once and is repeated: the calls that go through here either change
    nothing or fail as a whole when they are not authenticated.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        with translated(f"{endpoint.label}: preparing TLS"):
            self.tls = _tls(endpoint)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._logins = 0
        self._stub = self._connect()
        self._lean_stub = self._connect_lean()
        self._instance: Any = vim.ServiceInstance("ServiceInstance", self._stub)
        try:
            with self._said("reading the service content"):
                self.content: Any = self._instance.RetrieveContent()
            self._login(0)
        except BaseException:
            self._drop()  # nobody gets to close what was not made
            raise
        self._keeper = threading.Thread(target=self._keep_alive, name="vsphere-keep-alive", daemon=True)
        self._keeper.start()

    @property
    def instance_uuid(self) -> str:
        """Return the identity of the vCenter."""
        return str(self.content.about.instanceUuid)

    @property
    def cookie(self) -> str:
        """Return the session's cookie, which HTTPS reads of datastores present."""
        return str(self._stub.cookie).partition(";")[0]

    @property
    def thumbprint_sha1(self) -> str:
        """Return the SHA-1 of the server's certificate, by which VMware's disk library knows a server.

        It is that of a connection whose certificate was checked as every other's.
        """
        endpoint = self.endpoint
        with (
            self._said("asking for the certificate"),
            socket.create_connection((endpoint.host, endpoint.port), timeout=_TIMEOUT_S) as plain,
            self.tls.wrap_socket(plain, server_hostname=endpoint.host) as encrypted,
        ):
            certificate = encrypted.getpeercert(binary_form=True)
        assert certificate is not None, "the handshake has checked one"
        return hashlib.sha1(certificate, usedforsecurity=False).hexdigest()

    def tls_to(self, host: str, port: int, thumbprint: str) -> ssl.SSLContext:
        """Return how the certificate of a host is checked that the server names, perhaps with its thumbprint.

        The server's word is as good as its own certificate. Without a word a host is checked as the server is, and
        where that one's certificate is pinned there is nothing to check another's by: `AccessDenied`.
        """
        endpoint = self.endpoint
        if (host, port) == (endpoint.host, endpoint.port):
            return self.tls
        if thumbprint:
            return _pinned(host, port, thumbprint.replace(":", "").lower())
        if endpoint.thumbprint is None:
            return self.tls
        raise AccessDenied(
            f"{endpoint.label} sends to {host} and does not tell its certificate",
            hint="Name the CA of the hosts' certificates in `ca_file` instead of a thumbprint.",
        )

    def ensure_session(self) -> None:
        """Log in again if the session has ended. Raises what a login raises."""
        self.call("asking for the session", self._instance.CurrentTime)

    @property
    def logins(self) -> int:
        """Return the number of the session: how often a login was needed."""
        return self._logins

    def call(self, what: str, call: Callable[[], _R], *, of_login: int | None = None) -> _R:
        """Return what ``call`` returns; faults come out as errors of `holdfast.errors`, naming ``what`` was done.

        A call whose subject belongs to a session, such as a view, names that session's `logins`. Once there is another
        session it is `ProviderUnavailable`, and whoever repeats the whole begins anew.
        """
        logins = self._logins
        try:
            if of_login in {None, logins}:
                with self._said(what):
                    return call()
        except SessionLost:
            self._login(logins)
        if of_login is not None:
            raise ProviderUnavailable(f"{self.endpoint.label}: {what}: the session had ended")
        try:
            with self._said(what):
                return call()
        except SessionLost as lost:
            raise ProviderUnavailable(f"{lost}: the session was lost again at once") from lost

    def reference(self, kind: Any, identity: str) -> Any:
        """Return the managed object of a kind with this id, which may or may not exist."""
        return kind(identity, self._stub)

    def lean_collector(self) -> Any:
        """Return the property collector as one whose answers list disks and their controllers but no other device."""
        self._lean_stub.cookie = self._stub.cookie
        return vmodl.query.PropertyCollector(self.content.propertyCollector._moId, self._lean_stub)

    def close(self) -> None:
        """Log out. Idempotent; a vCenter that is away does not matter."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._keeper.join()
        try:
            with self._said("logging out"):
                self.content.sessionManager.Logout()
        except (SessionLost, ProviderUnavailable):
            pass  # gone already, which is what was wanted
        finally:
            self._drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _said(self, what: str) -> Any:
        return translated(f"{self.endpoint.label}: {what}")

    def _connect(self) -> Any:
        endpoint = self.endpoint
        with self._said("connecting"):
            return SmartStubAdapter(
                host=endpoint.host,
                port=endpoint.port,
                sslContext=self.tls,
                poolSize=endpoint.connections,
                connectionPoolTimeout=int(KEEP_ALIVE_S),
                httpConnectionTimeout=_TIMEOUT_S,
            )

    def _connect_lean(self) -> Any:
        endpoint = self.endpoint
        stub: Any = SoapStubAdapter(
            host=endpoint.host,
            port=endpoint.port,
            sslContext=self.tls,
            version=self._stub.version,
            poolSize=endpoint.connections,
            connectionPoolTimeout=int(KEEP_ALIVE_S),
            httpConnectionTimeout=_TIMEOUT_S,
        )
        stub.scheme = LeanConnection
        return stub

    def _drop(self) -> None:
        self._stub.DropConnections()
        self._lean_stub.DropConnections()

    def _login(self, seen: int) -> None:
        """Log in, unless another thread did since this one saw ``seen`` logins."""
        with self._lock:
            if self._logins != seen:
                return
            endpoint = self.endpoint
            try:
                with self._said(f"logging in as {endpoint.user}"):
                    self.content.sessionManager.Login(endpoint.user, endpoint.password())
            except SessionLost as lost:
                raise AccessDenied(f"{lost}: the login was refused") from lost
            self._logins += 1

    def _keep_alive(self) -> None:
        while not self._closed.wait(KEEP_ALIVE_S):
            with suppress(HoldfastError):  # whoever needs the session next says what is wrong
                self.ensure_session()


def _tls(endpoint: Endpoint) -> ssl.SSLContext:
    """Return how certificates are checked: by a chain and the name, or against the one that is pinned.

    pyVmomi's own pinning is not used: it is silent when the chain is not checked, and of several connections it looks
    at the first only.
    """
    if endpoint.thumbprint is not None:
        return _pinned(endpoint.host, endpoint.port, _digits(endpoint.label, endpoint.thumbprint))
    try:
        return ssl.create_default_context(cafile=None if endpoint.ca_file is None else str(endpoint.ca_file))
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationInvalid(f"{endpoint.label}: cannot read the CA file {endpoint.ca_file}: {error}") from error


def _pinned(host: str, port: int, digits: str) -> ssl.SSLContext:
    """Return a context that trusts a host's certificate alone, once it is found to be the right one.

    ``digits`` are its SHA-256, or its SHA-1 as a vCenter tells it of hosts.
    """
    label = host if port == 443 else f"{host}:{port}"  # noqa: PLR2004 - the port of HTTPS
    with translated(f"{label}: asking for the certificate"):
        certificate = ssl.get_server_certificate((host, port), timeout=_TIMEOUT_S)
    content = ssl.PEM_cert_to_DER_cert(certificate)
    is_short = len(digits) == _SHA1_DIGITS
    found = (hashlib.sha1(content, usedforsecurity=False) if is_short else hashlib.sha256(content)).hexdigest()
    if found != digits:
        raise AccessDenied(
            f"{label} shows the certificate {found}, pinned is {digits}",
            hint="If the certificate was renewed, pin the new one; if not, somebody stands between.",
        )
    context = ssl.create_default_context(cadata=certificate)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.check_hostname = False
    return context


def _digits(label: str, thumbprint: str) -> str:
    digits = thumbprint.replace(":", "").lower()
    if len(digits) != _THUMBPRINT_DIGITS or not set(digits) <= set("0123456789abcdef"):
        raise ConfigurationInvalid(
            f"{label}: thumbprint {thumbprint!r} is no SHA-256 of a certificate",
            hint="Print it with `openssl x509 -noout -fingerprint -sha256` from the server's certificate.",
        )
    return digits
