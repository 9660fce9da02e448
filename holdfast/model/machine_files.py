"""The small files that describe a machine to its hypervisor, as a provider reads them and a restore point keeps them.

Their bytes never travel in a request or a reply of an activity: they may hold secrets, and they may be large.
"""

import re
from collections.abc import Sequence

import msgspec

FILES_PER_POINT_MAX = 16
FILE_SIZE_MAX = 1 << 20
"""Largest machine file in bytes; an nvram has a few hundred KiB at most."""
FILES_SIZE_MAX = 4 << 20
"""Most bytes that the files of one point have together."""
FILE_NAME_BYTES_MAX = 255

FILE_NAME_PATTERN = r"\A[^/\x00-\x1f\x7f]+\Z"
"""What a file may be called, besides ``.`` and ``..``, which it may not."""
_FILE_NAME = re.compile(FILE_NAME_PATTERN)


class MachineFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a machine."""

    name: str
    """Name inside the machine's folder, such as ``web.nvram``."""
    content: bytes


class FileLeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was not read, or not written, and why."""

    name: str
    reason: str


class MachineFiles(msgspec.Struct, frozen=True, kw_only=True):
    """The files of a machine that could be read, and those that could not."""

    files: tuple[MachineFile, ...] = ()
    left_out: tuple[FileLeftOut, ...] = ()


class PlacedFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Which files of a restore point a restored machine got. Files that are of no use there stand in neither."""

    placed: tuple[str, ...] = ()
    left_out: tuple[FileLeftOut, ...] = ()


def is_file_name(name: str) -> bool:
    """Return whether a restore point can keep a file of this name."""
    try:
        is_short = len(name.encode()) <= FILE_NAME_BYTES_MAX
    except UnicodeEncodeError:  # half a character
        return False
    return is_short and name not in {".", ".."} and _FILE_NAME.fullmatch(name) is not None


def within_limits(found: MachineFiles) -> MachineFiles:
    """Return the files that a restore point can keep, in their order; the others are left out with the reason."""
    kept: list[MachineFile] = []
    left_out = list(found.left_out)
    for file in found.files:
        reason = _obstacle(file, kept)
        if reason:
            left_out.append(FileLeftOut(name=file.name, reason=reason))
        else:
            kept.append(file)
    return MachineFiles(files=tuple(kept), left_out=tuple(left_out))


def _obstacle(file: MachineFile, kept: Sequence[MachineFile]) -> str:
    """Return why a file cannot be kept beside others, or an empty string."""
    size = len(file.content)
    if not is_file_name(file.name):
        return "its name cannot be kept"
    if any(other.name == file.name for other in kept):
        return "another file has the same name"
    if size > FILE_SIZE_MAX:
        return f"it has {size} bytes, the most is {FILE_SIZE_MAX}"
    if len(kept) >= FILES_PER_POINT_MAX:
        return f"a restore point keeps {FILES_PER_POINT_MAX} files"
    if size + sum(len(other.content) for other in kept) > FILES_SIZE_MAX:
        return f"the files of a restore point have {FILES_SIZE_MAX} bytes at most"
    return ""
