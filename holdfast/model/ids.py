"""Typed ids, and the pure functions that derive one name from another."""

import hashlib
import re
from typing import NewType

JobName = NewType("JobName", str)
ProviderName = NewType("ProviderName", str)
RepositoryName = NewType("RepositoryName", str)
CredentialName = NewType("CredentialName", str)
MachineId = NewType("MachineId", str)
"""Stable identity of a machine inside its provider; never its display name."""
DiskKey = NewType("DiskKey", str)
"""Stable identity of a disk inside its machine."""
SnapshotId = NewType("SnapshotId", str)
ChangeId = NewType("ChangeId", str)
"""Opaque position in a provider's change tracking; only ever handed back to that provider."""
SessionId = NewType("SessionId", str)
TargetId = NewType("TargetId", str)
ChainId = NewType("ChainId", str)
"""32 hexadecimal digits."""
FileId = NewType("FileId", str)
"""32 hexadecimal digits."""
PointId = NewType("PointId", str)
"""32 hexadecimal digits."""

_UNSAFE = re.compile(r"[^a-z0-9]+")
_SLUG_LENGTH_MAX = 40
_TAIL_LENGTH = len("-01234567")
_MACHINE_FOLDER = re.compile(r"[a-z0-9-]+-[0-9a-f]{8}")


def folder_name(display_name: str, identity: str) -> str:
    """Return a folder name any file system accepts for a thing called ``display_name`` with a stable ``identity``.

    The readable part keeps lower-case ASCII letters and digits; the hash of the identity keeps two things of one name
    apart. At most 49 characters.
    """
    slug = _UNSAFE.sub("-", display_name.lower()).strip("-")[:_SLUG_LENGTH_MAX].strip("-")
    tail = hashlib.sha256(identity.encode()).hexdigest()[:8]
    return f"{slug or 'machine'}-{tail}"


def is_machine_folder(name: str) -> bool:
    """Return whether a folder has a name that `folder_name` may give."""
    return _MACHINE_FOLDER.fullmatch(name) is not None


def is_folder_of(folder: str, machine: str) -> bool:
    """Return whether a folder was named for the machine with this id, or for one of this name.

    Names alike make folders alike, and a machine that was renamed may be in a folder with its old name.
    """
    return is_folder_of_id(folder, machine) or folder[:-_TAIL_LENGTH] == folder_name(machine, "")[:-_TAIL_LENGTH]


def is_folder_of_id(folder: str, identity: str) -> bool:
    """Return whether a folder was named for the thing with this identity, whatever it was called."""
    return folder[-_TAIL_LENGTH:] == folder_name("", identity)[-_TAIL_LENGTH:]
