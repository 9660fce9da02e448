"""Who may do what at a mover: grants that prove themselves, so that a mover remembers none.

A repository's worker issues a *grant* for each disk of a session. Its session id is a digest of the grant, its token an
HMAC of the session id under a secret that never leaves the worker. A proxy shows that it knows the token when it
connects, and the grant with its first message; a mover that was started anew believes both, and nothing else is
possible with either.
"""

import hmac
import os
import secrets
import tempfile
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from holdfast.errors import LinkRefused, StoreFailed
from holdfast.formats.mover.greeting import SESSION_SIZE
from holdfast.model.ids import CredentialName, DiskKey, RepositoryName
from holdfast.model.points import DiskAccess

SECRET_SIZE = 32
FILES = DiskKey("")
"""In place of a disk: the machine files of the point."""
_LABEL = b"holdfast mover token\0"


class Grant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one session may do: write one disk of one unfinished point, or read one disk of a finished one."""

    repository: RepositoryName
    chain: str
    number: int
    point_id: str | msgspec.UnsetType = msgspec.UNSET
    """Of the point to be written; absent to read, and in what an earlier version issued."""
    disk: DiskKey
    credential: CredentialName | None = None
    writes_file: str | None = None
    """Chain file to be written; None to read."""
    parent_number: int | None = None
    expires_s: int
    """Seconds of the Unix epoch after which no session begins with it."""
    salt: str
    """Random, so that no two grants are alike."""


_GRANT_DECODER: Final = msgspec.json.Decoder(Grant)


class Issuer:
    """Issues grants and recognises its own."""

    def __init__(self, secret: bytes) -> None:
        assert len(secret) == SECRET_SIZE
        self._secret = secret

    def issue(self, grant: Grant) -> DiskAccess:
        """Return what a proxy needs to use a grant."""
        encoded = msgspec.json.encode(grant)
        session = _session(encoded)
        return DiskAccess(disk=grant.disk, grant=encoded.decode(), token=self.token(session).hex())

    def token(self, session: bytes) -> bytes:
        """Return the token of a session, whether or not a grant of that id was ever issued."""
        return hmac.new(self._secret, _LABEL + session, sha256).digest()

    def open(self, session: bytes, encoded: str, now_s: float) -> Grant:
        """Return the grant that a peer shows in its session. Raises `LinkRefused`."""
        if not hmac.compare_digest(_session(encoded.encode()), session):
            raise LinkRefused("the grant is not that of the session")
        try:
            grant = _GRANT_DECODER.decode(encoded)
        except msgspec.DecodeError as error:
            raise LinkRefused(f"the grant cannot be read: {error}") from error
        if now_s > grant.expires_s:
            raise LinkRefused(f"the grant for disk {grant.disk} has expired")
        return grant


def session_of(access: DiskAccess) -> bytes:
    """Return the session id of an access."""
    return _session(access.grant.encode())


def new_salt() -> str:
    """Return the random part of a grant."""
    return secrets.token_hex(16)


def load_secret(path: Path) -> bytes:
    """Return the secret in a file that only its owner reads, made at the first call. Raises `StoreFailed`.

    Workers that share the file and start at once have the same secret, and what was returned survives a power cut.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _make_secret(path)
        found = path.read_bytes()
    except OSError as error:
        raise StoreFailed(f"the mover's secret {path} cannot be used: {error.strerror}") from error
    if len(found) != SECRET_SIZE:
        raise StoreFailed(f"the mover's secret {path} has {len(found)} bytes", hint="Remove it; a new one is made.")
    return found


def _make_secret(path: Path) -> None:
    """Put a secret under its name, whole and durable, unless another worker has done so meanwhile."""
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # for its owner alone
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(SECRET_SIZE))
            file.flush()
            os.fsync(handle)
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        Path(draft).unlink()
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _session(encoded: bytes) -> bytes:
    return sha256(encoded).digest()[:SESSION_SIZE]
