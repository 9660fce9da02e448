"""What sessions that ended early left in a chain folder, and its removal.

Only what says of itself that it is unfinished is removed, and only when nothing else says that it was complete: a file
that was rolled back to an older state must not be taken for a leftover.
"""

from pathlib import Path
from typing import TypeAlias

from holdfast.errors import ChainBroken
from holdfast.formats.keys import ChainKeys
from holdfast.model.ids import MachineId, SessionId
from holdfast.storage.chain_files.chain_file import FILE_SUFFIX, SUSPECT_SUFFIX, ChainFile
from holdfast.storage.chains.chain import Chain
from holdfast.storage.chains.metadata import METADATA_NAME, check_chain, keys_of, read_metadata
from holdfast.storage.chains.session_file import drop_unfinished, has_finished, is_of_session, unfinished_of
from holdfast.storage.files.atomic import Files
from holdfast.storage.files.chain_lock import acquire_chain_lock

_Whose: TypeAlias = tuple[SessionId | None, MachineId | None]


def remove_leftovers(
    files: Files,
    folder: Path,
    passphrase: str | None,
    session: SessionId | None = None,
    machine_id: MachineId | None = None,
) -> tuple[str, ...]:
    """Remove the unfinished files of a chain, those of one session and machine if given, and return their names.

    Files that hold nothing and files that were set aside go with them; one that has finished points of other machines
    stays, without what is unfinished in it. Raises `ChainBusy` while somebody writes, and `ChainBroken` when a file
    should be complete and is not.
    """
    of = (session, machine_id)
    for path, keys in _shared(files, folder, passphrase, of):
        drop_unfinished(files, path, keys, machine_id)
    if not _leftovers(files, folder, passphrase, of):
        return ()
    # Looked at again under the lock: a transfer may have finished its file in the meantime.
    lock = acquire_chain_lock(files, folder)
    try:
        paths = _leftovers(files, folder, passphrase, of)
        for path in paths:
            files.remove(path)
    finally:
        lock.close()
    return tuple(path.name for path in paths)


def has_leftovers(files: Files, chain: Chain, passphrase: str | None) -> bool:
    """Return whether `remove_leftovers` would change anything of an open chain. Raises `ChainBroken` as it does."""
    anyone = (None, None)
    return bool(_shared_of(files, chain, anyone) or _leftovers_of(files, chain, passphrase, anyone))


def _leftovers(files: Files, folder: Path, passphrase: str | None, of: _Whose) -> list[Path]:
    with Chain.open(files, folder, passphrase) as chain:
        return _leftovers_of(files, chain, passphrase, of)


def _leftovers_of(files: Files, chain: Chain, passphrase: str | None, of: _Whose) -> list[Path]:
    folder = chain.folder
    aside = [folder / name for name in files.names(folder) if name.endswith(FILE_SUFFIX + SUSPECT_SUFFIX)]
    unfinished = [file for file in chain.files if not has_finished(file) and _is_of(file, *of)]
    if (unfinished or chain.empty) and (chain.files or files.exists(folder / METADATA_NAME)):
        _check_unneeded(files, chain, unfinished, passphrase)
    return [*(file.path for file in unfinished), *chain.empty, *aside]


def _shared(files: Files, folder: Path, passphrase: str | None, of: _Whose) -> list[tuple[Path, ChainKeys]]:
    with Chain.open(files, folder, passphrase) as chain:
        return _shared_of(files, chain, of)


def _shared_of(files: Files, chain: Chain, of: _Whose) -> list[tuple[Path, ChainKeys]]:
    """Return the files in which something was begun beside points that are finished. Raises `ChainBroken`."""
    shared = [file for file in chain.files if not file.is_complete and has_finished(file) and _is_of(file, *of)]
    if shared:
        check_chain(files, chain)
    return [(file.path, file.keys) for file in shared]


def _is_of(file: ChainFile, session: SessionId | None, machine_id: MachineId | None) -> bool:
    is_begun = not file.is_complete and (machine_id is None or unfinished_of(file, machine_id) != [])
    return is_begun and (session is None or is_of_session(file, session))


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
