"""Notes of a point that are written when it is begun, so that no point of its kind is ever complete without them."""

from holdfast.model.points import OpenPoint
from holdfast.model.retention import PointNote
from holdfast.storage.chains.keeping import read_notes, write_notes
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.chain_lock import acquire_chain_lock


def note_begun(repository: Repository, opened: OpenPoint, passphrase: str | None, note: PointNote) -> None:
    """Note a point that has been begun, unless it is noted. Raises `ChainBusy`."""
    folder = repository.chain_folder(opened.chain)
    lock = acquire_chain_lock(repository.files, folder)
    try:
        with repository.open_chain(opened.chain, passphrase) as chain:
            keys = chain.files[0].keys
        known = read_notes(repository.files, folder, keys).points
        if not any(there.point_id == note.point_id for there in known):
            write_notes(repository.files, folder, keys, (*known, note))
    finally:
        lock.close()
