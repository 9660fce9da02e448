"""Removes the folder of a chain of which nothing is left: no file with points, none that could be taken back."""

from pathlib import Path
from typing import Final

from holdfast.storage.chains.keeping import KEEP_NAME, MOVED_NAME, RULES_NAME
from holdfast.storage.chains.metadata import METADATA_NAME
from holdfast.storage.files.atomic import Files
from holdfast.storage.files.chain_lock import LOCK_NAME, READERS_NAME, acquire_chain_lock
from holdfast.storage.health.health_file import HEALTH_NAME
from holdfast.storage.retention.promises import PROMISES_NAME

_HEALTH_LOCK: Final = HEALTH_NAME + ".lock"
_BESIDE: Final = (METADATA_NAME, KEEP_NAME, PROMISES_NAME, HEALTH_NAME, _HEALTH_LOCK, READERS_NAME, LOCK_NAME)
"""What says something about files of a chain, and nothing without them."""
_HALF_WRITTEN: Final = ".new"


def remove_empty_chain(files: Files, folder: Path) -> bool:
    """Remove a chain folder in which is nothing but what goes with chain files; return whether it is gone.

    Raises `ChainBusy` while somebody writes there.
    """
    if not files.exists(folder):
        return True
    if not _is_empty(files, folder):
        return False
    lock = acquire_chain_lock(files, folder)
    try:
        if not _is_empty(files, folder):
            return False
        # The lock goes last: whoever finds it was there before the folder is gone.
        for name in sorted(files.names(folder), key=LOCK_NAME.__eq__):
            files.remove(folder / name)
        files.remove_folder(folder)
    finally:
        lock.close()
    return True


def remove_empty_machine(files: Files, folder: Path) -> bool:
    """Remove a machine's folder when no chain is in it, with the rules that were kept there; return whether it is gone.

    Raises `ChainBusy`.
    """
    for name in files.names(folder):
        if name.removesuffix(_HALF_WRITTEN) not in {RULES_NAME, MOVED_NAME} and not remove_empty_chain(
            files, folder / name
        ):
            return False
    for name in files.names(folder):
        files.remove(folder / name)
    files.remove_folder(folder)
    return True


def _is_empty(files: Files, folder: Path) -> bool:
    return all(name.removesuffix(_HALF_WRITTEN) in _BESIDE for name in files.names(folder))
