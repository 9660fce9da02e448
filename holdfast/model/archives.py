"""Archives: fulls of single machines that belong to no job, each in a chain of its own."""

from datetime import datetime

import msgspec

from holdfast.model.ids import CredentialName

ARCHIVE_PREFIX = "archive-"
"""Begins the name of an archive's folder. A version that knows no archives takes such a folder for no chain."""


class Archive(msgspec.Struct, frozen=True, kw_only=True):
    """What is noted of an archive, and kept with it in the repository."""

    expires: datetime | None = None
    """From when on it may be removed; None: it stays until somebody says otherwise."""
    credential: CredentialName | None = None
    """Name of the passphrase that it was made with; None: it is not encrypted."""


def is_archive(chain: str) -> bool:
    """Return whether a chain, given by its folder, is an archive."""
    return chain.rpartition("/")[2].startswith(ARCHIVE_PREFIX)
