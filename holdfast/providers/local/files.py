"""How files of the provider's folder come, change and go, so that no crash does harm.

A file is replaced by writing beside it, syncing, renaming and syncing the folder. A folder is
built under a name that starts with a dot, which nobody lists, and appears by one rename; it
disappears by the reverse. What a crash leaves behind therefore always starts with a dot.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

import msgspec

from holdfast.decoding import decoder_of
from holdfast.errors import FormatTooNew, HoldfastError, ProviderUnavailable
from holdfast.providers.raw_disks import describe

MAKING = ".making-"
"""Prefix of a folder that is being built."""
REMOVING = ".removing-"
"""Prefix of a folder that is being removed."""
FORMAT = 1
"""Version of every JSON file the provider writes; a reader refuses a higher one."""

_NEW = ".new"
_JSON_BYTES_MAX = 16 << 20


class StoredFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every JSON file of the provider's folder begins with."""

    format: int = FORMAT


class _Format(msgspec.Struct, frozen=True):
    format: int = FORMAT


_FORMAT_DECODER: Final = msgspec.json.Decoder(_Format)


FileT = TypeVar("FileT", bound=StoredFile)


@contextmanager
def os_errors(kind: type[HoldfastError], what: str) -> Iterator[None]:
    """Raise an `OSError` of the block as ``kind``; ``what`` says what was done, with the ids."""
    try:
        yield
    except OSError as error:
        raise kind(f"{what} failed: {describe(error)}") from error


def is_full(error: OSError) -> bool:
    """Return whether the error says that no space is left."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def read_json(path: Path, kind: type[FileT], damaged: type[HoldfastError], what: str) -> FileT:
    """Return the content of a JSON file of ours; ``what`` names it in the message.

    Raises ``damaged`` when it cannot be understood, `FormatTooNew` when a later version wrote it,
    and `OSError`.
    """
    if path.stat().st_size > _JSON_BYTES_MAX:
        raise damaged(f"{what} {path} is larger than {_JSON_BYTES_MAX} bytes")
    content = path.read_bytes()
    try:
        found = _FORMAT_DECODER.decode(content).format
        if found > FORMAT:
            raise FormatTooNew(f"{what} {path} has format {found}, this version reads up to {FORMAT}")
        return decoder_of(kind).decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise damaged(f"{what} {path} cannot be read: {error}") from error


def write_json(path: Path, value: StoredFile) -> None:
    """Replace a JSON file; after a crash it is the old one or the new one. One writer at a time."""
    with replacing(path) as file:
        file.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of ``path`` when the block ends well. One at a time."""
    new = beside(path)
    try:
        with new.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def beside(path: Path) -> Path:
    """Return the name under which a file is written before it takes the place of ``path``."""
    return path.with_name(f".{path.name}{_NEW}")


def sync_folder(path: Path) -> None:
    """Return once the names in the folder are on stable storage."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def building(path: Path, workshop: Path | None = None) -> Iterator[Path]:
    """Make an empty folder that appears as ``path`` when the block ends well.

    It is made in the folder ``workshop``, or beside ``path``. What a dead attempt left there goes first. The block must
    sync the files that it makes. One at a time.
    """
    making = (path.parent if workshop is None else workshop) / f"{MAKING}{path.name}"
    remove_tree(making)
    # Only one level: where the folder of all has vanished, none may appear in its place.
    path.parent.mkdir(exist_ok=True)
    making.parent.mkdir(exist_ok=True)
    making.mkdir()
    try:
        yield making
        publish_folder(making, path)
        if workshop is not None:
            sync_folder(workshop)
    except BaseException:
        remove_tree(making)
        raise


def publish_folder(made: Path, path: Path) -> None:
    """Let a folder whose files are synced appear as ``path``."""
    sync_folder(made)
    made.rename(path)
    sync_folder(path.parent)


def retire_folder(path: Path) -> None:
    """Let a folder vanish at once, then remove what was in it. Nothing happens when it is gone."""
    removing = path.with_name(REMOVING + path.name)
    remove_tree(removing)
    try:
        path.rename(removing)
    except FileNotFoundError:
        return
    sync_folder(path.parent)
    remove_tree(removing)


def remove_tree(path: Path) -> None:
    """Remove a folder with all in it, following no link; others may be removing it too.

    A file is removed as well.
    """
    for folder, folders, files in os.walk(path, topdown=False):
        place = Path(folder)
        for name in files:
            (place / name).unlink(missing_ok=True)
        for name in folders:
            _remove_folder(place / name)
    _remove_folder(path)


def leftovers(folder: Path, of: Path | None = None) -> list[Path]:
    """Return what interrupted operations left in a folder, or only what they left of one file."""
    with suppress(FileNotFoundError):
        found = sorted(path for path in folder.iterdir() if _is_leftover(path.name))
        return [path for path in found if of is None or path == beside(of)]
    return []


def visible_folders(folder: Path) -> list[Path]:
    """Return the complete folders in a folder, sorted. Raises `ProviderUnavailable`."""
    with os_errors(ProviderUnavailable, f"listing {folder}"):
        return sorted(p for p in folder.iterdir() if not p.name.startswith(".") and p.is_dir())


def _is_leftover(name: str) -> bool:
    return name.startswith((MAKING, REMOVING)) or (name.startswith(".") and name.endswith(_NEW))


def _remove_folder(path: Path) -> None:
    with suppress(FileNotFoundError):
        if path.is_symlink() or path.is_file():
            path.unlink()
        else:
            path.rmdir()
