"""Notes of a point that are written when it is begun, so that no point of its kind is ever complete without them."""

from holdfast.model.points import OpenPoint
from holdfast.model.retention import PointNote
from holdfast.storage.chains.keeping import change_notes
from holdfast.storage.chains.repository import Repository


def note_begun(repository: Repository, opened: OpenPoint, passphrase: str | None, note: PointNote) -> None:
    """Note a point that has been begun, unless it is noted. Raises `ChainBusy`."""
    folder = repository.chain_folder(opened.chain)
    with repository.open_chain(opened.chain, passphrase) as chain:
        keys = chain.files[0].keys

    def noted(known: tuple[PointNote, ...]) -> tuple[PointNote, ...]:
        return known if any(there.point_id == note.point_id for there in known) else (*known, note)

    change_notes(repository.files, folder, keys, noted)
