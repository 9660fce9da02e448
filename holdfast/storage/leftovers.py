"""What sessions that ended early left in a chain folder, and its removal.

Only what says of itself that it is unfinished is removed, and only when nothing else says that it was complete: a file
that was rolled back to an older state must not be taken for a leftover.
"""

from pathlib import Path

from holdfast.errors import ChainBroken
from holdfast.model.ids import SessionId
from holdfast.storage.atomic import Files
from holdfast.storage.chain import Chain
from holdfast.storage.chain_file import FILE_SUFFIX, SUSPECT_SUFFIX, ChainFile
from holdfast.storage.chain_lock import acquire_chain_lock
from holdfast.storage.metadata import METADATA_NAME, keys_of, read_metadata


def remove_leftovers(
    files: Files, folder: Path, passphrase: str | None, session: SessionId | None = None
) -> tuple[str, ...]:
    """Remove the unfinished files of a chain, those of one session if given, and return their names.

    Files that hold nothing and files that were set aside go with them. Raises `ChainBusy` while somebody writes, and
    `ChainBroken` when a file should be complete and is not.
    """
    if not _leftovers(files, folder, passphrase, session):
        return ()
    # Looked at again under the lock: a transfer may have finished its file in the meantime.
    lock = acquire_chain_lock(files, folder)
    try:
        paths = _leftovers(files, folder, passphrase, session)
        for path in paths:
            files.remove(path)
    finally:
        lock.close()
    return tuple(path.name for path in paths)


def _leftovers(files: Files, folder: Path, passphrase: str | None, session: SessionId | None) -> list[Path]:
    aside = [folder / name for name in files.names(folder) if name.endswith(FILE_SUFFIX + SUSPECT_SUFFIX)]
    with Chain.open(files, folder, passphrase) as chain:
        unfinished = [file for file in chain.files if not file.is_complete and _is_of(file, session)]
        if (unfinished or chain.empty) and (chain.files or files.exists(folder / METADATA_NAME)):
            _check_unneeded(files, chain, unfinished, passphrase)
        return [*(file.path for file in unfinished), *chain.empty, *aside]


def _is_of(file: ChainFile, session: SessionId | None) -> bool:
    return session is None or any(point.session == session for point in file.contents.points)


def _check_unneeded(files: Files, chain: Chain, unfinished: list[ChainFile], passphrase: str | None) -> None:
    chain.check_whole()
    metadata = read_metadata(files, chain.folder, keys_of(files, chain, passphrase))
    complete = [listed for listed in (metadata.files if metadata else ()) if listed.complete]
    needed = {listed.file for listed in complete}
    needed |= {file.contents.parent.file for file in chain.files if file.contents.parent is not None}
    suspicious = [file.path.name for file in unfinished if file.contents.file in needed]
    suspicious += sorted({path.name for path in chain.empty} & {listed.name for listed in complete})
    if suspicious:
        raise ChainBroken(
            f"file {suspicious[0]} of chain {chain.folder.name} was complete and is not any more: it was rolled back"
        )
