"""One writer of a chain at a time, and who reads it.

Readers hold a shared lock. They never wait for a writer nor a writer for them: who changes complete files writes over
nothing that was ever named, as long as there are readers.
"""

from collections.abc import Callable
from pathlib import Path

from holdfast.errors import ChainBusy
from holdfast.storage.files.atomic import FileHandle, Files

LOCK_NAME = "chain.lock"
READERS_NAME = "chain.readers"


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


def open_locked(
    files: Files, path: Path, open_file: Callable[[Path], FileHandle], lock: FileHandle | None = None
) -> tuple[FileHandle, FileHandle]:
    """Return a chain file and the lock of its chain, both locked; ``lock`` if the caller has it. Raises `ChainBusy`.

    The file is locked as well, because a lock file may be removed under a writer, and because a network mount that lost
    a lock refuses writes through the handle that had it.
    """
    lock = lock or acquire_chain_lock(files, path.parent)
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


def make_readers_file(files: Files, folder: Path) -> None:
    """Make the file on which readers of a chain hold their lock."""
    files.open_lock(folder / READERS_NAME).close()


def hold_as_reader(files: Files, folder: Path) -> FileHandle | None:
    """Let writers know that the chain is read, until the handle is closed. Leaves no trace where nobody could know."""
    path = folder / READERS_NAME
    if not files.exists(path):
        return None
    handle = files.open(path)
    try:
        handle.lock(shared=True)  # waits no longer than a writer looks whether there are readers
    except BaseException:
        handle.close()
        raise
    return handle


def has_readers(files: Files, folder: Path) -> bool:
    """Return whether somebody has the chain open; also when nobody can know, because the file of readers is new."""
    if not files.exists(folder / READERS_NAME):
        make_readers_file(files, folder)
        return True
    handle = files.open_lock(folder / READERS_NAME)
    try:
        return not handle.lock()
    finally:
        handle.close()
