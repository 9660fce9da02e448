"""The key with which an installation signs proofs.

::

    <home>/proof.key    the private key, mode 0600: whoever has it can sign as this installation
    <home>/proof.pub    the public key, for everybody who is to check proofs
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from holdfast.errors import ConfigurationInvalid, CredentialMissing, RequestInvalid
from holdfast.formats.proof import SEED_SIZE, load_private, load_public, private_pem, public_pem, signing_key
from holdfast.storage.files.atomic import Files

T = TypeVar("T")

_SIZE_MAX = 4096
_MAKE_HINT = "Make it with `holdfast prove keygen`."


class ProofKeys:
    """The key pair in the home of an installation."""

    def __init__(self, home: Path, files: Files) -> None:
        self.private_path = home / "proof.key"
        self.public_path = home / "proof.pub"
        self._files = files

    def make(self) -> Ed25519PublicKey:
        """Draw a key and write both files. Raises `RequestInvalid` when there is one."""
        self._files.make_folder(self.private_path.parent)
        for path in (self.private_path, self.public_path):
            if self._files.exists(path):
                hint = "Proofs that it signed need it; to begin with another key, move both files away."
                raise RequestInvalid(f"{path} is there already", hint=hint)
        key = signing_key(os.urandom(SEED_SIZE))
        self._files.replace(self.private_path, private_pem(key))
        self._files.replace(self.public_path, public_pem(key.public_key()))
        self.public_path.chmod(0o644)
        return key.public_key()

    def has_public(self) -> bool:
        """Return whether the installation has a key to check proofs with."""
        return self._files.exists(self.public_path)

    def private(self) -> Ed25519PrivateKey:
        """Return the private key. Raises `CredentialMissing`, and `ConfigurationInvalid` when others may read it."""
        try:
            with self.private_path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                content = file.read(_SIZE_MAX)
        except OSError as error:
            raise CredentialMissing(
                f"no key to sign with: {error.strerror}: {error.filename}", hint=_MAKE_HINT
            ) from error
        if mode & 0o077:
            message = f"the key {self.private_path} may be read by others, its mode is {mode:03o}"
            raise ConfigurationInvalid(
                message, hint=f"Run `chmod 600 {self.private_path}`, and consider the key known."
            )
        return _named(self.private_path, load_private, content)

    def public(self) -> Ed25519PublicKey:
        """Return the public key. Raises `CredentialMissing`, `ConfigurationInvalid`."""
        return read_public(self.public_path)


def read_public(path: Path) -> Ed25519PublicKey:
    """Return the public key in a file. Raises `CredentialMissing`, `ConfigurationInvalid`."""
    try:
        with path.open("rb") as file:
            content = file.read(_SIZE_MAX)
    except OSError as error:
        hint = "Ask who made the proof for the file `proof.pub`, over a way you trust."
        raise CredentialMissing(f"no public key: {error.strerror}: {path}", hint=hint) from error
    return _named(path, load_public, content)


def _named(path: Path, load: Callable[[bytes], T], content: bytes) -> T:
    try:
        return load(content)
    except ConfigurationInvalid as error:
        raise ConfigurationInvalid(f"{path}: {error.message}") from error
