"""One writer of a chain at a time."""

from collections.abc import Callable
from pathlib import Path

from holdfast.errors import ChainBusy
from holdfast.storage.atomic import FileHandle, Files

LOCK_NAME = "chain.lock"


def acquire_chain_lock(files: Files, folder: Path) -> FileHandle:
    """Become the only writer of a chain. Raises `ChainBusy`."""
    lock = files.open_lock(folder / LOCK_NAME)
    try:
        if lock.lock():
            return lock
    except BaseException:
        lock.close()
        raise
    lock.close()
    raise ChainBusy(f"chain {folder.name} is being written by another session")


def open_locked(files: Files, path: Path, open_file: Callable[[Path], FileHandle]) -> tuple[FileHandle, FileHandle]:
    """Return a chain file and the lock of its chain, both locked. Raises `ChainBusy`.

    The file is locked as well, because a lock file may be removed under a writer, and because a network mount that lost
    a lock refuses writes through the handle that had it.
    """
    lock = acquire_chain_lock(files, path.parent)
    try:
        handle = open_file(path)
    except BaseException:
        lock.close()
        raise
    try:
        if handle.lock():
            return handle, lock
    except BaseException:
        close_both((handle, lock))
        raise
    close_both((handle, lock))
    raise ChainBusy(f"{path.name} of chain {path.parent.name} is being written by another session")


def close_both(handles: tuple[FileHandle, FileHandle]) -> None:
    """Close a file and then its lock, whatever happens to the file."""
    try:
        handles[0].close()
    finally:
        handles[1].close()
