"""Passphrases by name: what configuration, workflows and histories carry is the name alone."""

import os
import re
import stat
from pathlib import Path

from holdfast.errors import ConfigurationInvalid, CredentialMissing
from holdfast.model.ids import CredentialName

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""What a provider, repository, proxy, job or credential may be called; names end up in ids, queues and paths."""

_SIZE_MAX = 4096


class Credentials:
    """Files of one line in ``folder`` that only their owner can read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def passphrase(self, name: CredentialName | None) -> str | None:
        """Return the passphrase called ``name``; None gives None.

        Raises `CredentialMissing` when there is none, `ConfigurationInvalid` when others may read it or it is not one
        line of text.
        """
        if name is None:
            return None
        if not NAME.fullmatch(name):
            raise CredentialMissing(f"{name!r} is not the name of a credential")
        path = self.folder / name
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                content = file.read(_SIZE_MAX + 1)
        except OSError as error:
            hint = f"Write the passphrase as one line into {path} and run `chmod 600` on it."
            raise CredentialMissing(f"no credential {name}: {path}: {error.strerror}", hint=hint) from error
        if stat.S_IMODE(mode) & 0o077:
            message = f"credential {name} in {path} may be read by others, its mode is {stat.S_IMODE(mode):03o}"
            raise ConfigurationInvalid(message, hint=f"Run `chmod 600 {path}`, and consider the passphrase known.")
        return _one_line(name, path, content)


def _one_line(name: str, path: Path, content: bytes) -> str:
    try:
        text = content.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise ConfigurationInvalid(f"credential {name} in {path} is not text in UTF-8") from error
    if not text:
        raise CredentialMissing(f"credential {name} in {path} is empty")
    if "\n" in text or len(content) > _SIZE_MAX:
        raise ConfigurationInvalid(f"credential {name} in {path} is not one line of at most {_SIZE_MAX} bytes")
    return text
