"""What was removed from chains and can be taken back: listed, brought back with a lock, deleted for good in time."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec

from holdfast.errors import DataError, PassphraseWrong, PointNotFound
from holdfast.model.archives import is_archive
from holdfast.model.ids import PointId
from holdfast.model.retention import PointNote
from holdfast.planning.grace import PurgeRule, RemovalFact, purged_before
from holdfast.storage.chain_files.chain_file import ChainFile, is_file_encrypted
from holdfast.storage.chains.chain import chain_file_names
from holdfast.storage.chains.keeping import change_notes
from holdfast.storage.chains.opening import open_with
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import Files
from holdfast.storage.methods.upkeep import ChainUpkeep, RemovedFile
from holdfast.storage.retention.emptying import remove_empty_chain
from holdfast.storage.retention.promises import read_promises


class Grave(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was removed."""

    chain: str
    machine_folder: str
    file: RemovedFile
    size_bytes: int
    grace_days: int | None = None
    """For how many days it was promised to stay when it was removed; None where that was not noted."""

    @property
    def fact(self) -> RemovalFact:
        """Return what decides about its end."""
        return RemovalFact(removed=self.file.removed, promised_days=self.grace_days)


class Purged(msgspec.Struct, frozen=True, kw_only=True):
    """What was deleted for good."""

    files: int = 0
    freed_bytes: int = 0


def graves_of(repository: Repository, machine_folder: Path | None = None) -> list[Grave]:
    """Return what was removed from the chains of a machine, or of all, by chain and name."""
    found = []
    for folder in repository.chain_folders(machine_folder):
        removed = ChainUpkeep(repository.files, folder, None).removed()
        promised = read_promises(repository.files, folder) if removed else {}
        for file in removed:
            handle = repository.files.open(folder / file.kept_as)
            try:
                size = handle.size()
            finally:
                handle.close()
            grave = Grave(
                chain=repository.relative(folder),
                machine_folder=folder.parent.name,
                file=file,
                size_bytes=size,
                grace_days=promised.get(file.name),
            )
            found.append(grave)
    return found


def purge_machine(repository: Repository, machine_folder: Path, rule: PurgeRule) -> Purged:
    """Delete for good what a rule lets go of what was removed from a machine's chains of jobs.

    The folder of a chain of which nothing is left goes, too. Raises `ChainBusy`.
    """
    graves = graves_of(repository, machine_folder)
    return _purge(repository, [grave for grave in graves if not is_archive(grave.chain)], rule)


def purge_chain(repository: Repository, chain: str, now: datetime) -> Purged:
    """Delete for good what was removed from one chain, whatever is left of its time: somebody asks for the room.

    Otherwise as `purge_machine`.
    """
    graves = graves_of(repository, repository.chain_folder(chain).parent)
    rule = PurgeRule(now=now, keeps_promises=False)
    return _purge(repository, [grave for grave in graves if grave.chain == chain], rule)


def purge_archives(repository: Repository, rule: PurgeRule) -> Purged:
    """Delete for good what a rule lets go of what was removed from archives of all machines. Raises `ChainBusy`."""
    return _purge(repository, [grave for grave in graves_of(repository) if is_archive(grave.chain)], rule)


def _purge(repository: Repository, graves: list[Grave], rule: PurgeRule) -> Purged:
    files = freed = 0
    for name in dict.fromkeys(grave.chain for grave in graves):
        of_chain = [grave for grave in graves if grave.chain == name]
        before = purged_before([grave.fact for grave in of_chain], rule)
        if before is None:
            continue
        folder = repository.chain_folder(name)
        gone = ChainUpkeep(repository.files, folder, None).purge(before)
        remove_empty_chain(repository.files, folder)
        files += len(gone)
        freed += sum(grave.size_bytes for grave in of_chain if grave.file.removed < before)
    return Purged(files=files, freed_bytes=freed)


def take_back(
    repository: Repository, chain: str, passphrase: str | None, until: datetime, begun: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Bring back what was removed from a chain and lock its points until a moment; return the names of the files.

    Without the lock the next retention would remove it again. ``begun`` are the files of an attempt that died, which
    may be back and are locked all the same. Raises what `ChainUpkeep.take_back` raises.
    """
    folder = repository.chain_folder(chain)
    removed = ChainUpkeep(repository.files, folder, None).removed()
    is_plain = bool(removed) and is_file_encrypted(repository.files, folder / removed[0].kept_as) is False
    back = begun
    if removed or not begun:
        found = ChainUpkeep(repository.files, folder, None if is_plain else passphrase).take_back()
        back = tuple(dict.fromkeys((*begun, *found)))
    opened, _ = open_with(repository.files, folder, (passphrase, None))
    with opened:
        points = [PointId(point.id) for file, point in opened.points() if file.path.name in back]
    lock_points(repository, chain, points, passphrase, until)
    return back


def opening_passphrase(repository: Repository, chain: str, passphrases: Sequence[str | None]) -> str | None:
    """Return the first passphrase that opens what is there or was removed of a chain; nothing is changed.

    Files that are damaged do not tell. Raises `PassphraseWrong` when none does.
    """
    folder = repository.chain_folder(chain)
    gone = [file.kept_as for file in ChainUpkeep(repository.files, folder, None).removed()]
    names = (*chain_file_names(repository.files, folder), *gone)
    *others, last = passphrases
    for passphrase in others:
        with suppress(PassphraseWrong):
            return _opens(repository.files, folder, names, passphrase)
    return _opens(repository.files, folder, names, last)


def _opens(files: Files, folder: Path, names: Sequence[str], passphrase: str | None) -> str | None:
    for name in names:
        try:
            ChainFile.open(files, folder / name, passphrase).close()
        except PassphraseWrong:
            raise
        except DataError:
            continue
        break
    return passphrase


def lock_points(
    repository: Repository, chain: str, points: list[PointId], passphrase: str | None, until: datetime
) -> None:
    """Lock points of a chain until a moment; one that is locked for longer stays so.

    Raises `PointNotFound` when one of them is not there any more, and `ChainBusy`.
    """
    folder = repository.chain_folder(chain)
    with open_with(repository.files, folder, (passphrase, None))[0] as opened:
        keys = opened.files[0].keys

    def locked(known: tuple[PointNote, ...]) -> Iterable[PointNote]:
        with open_with(repository.files, folder, (passphrase, None))[0] as opened:  # nobody removes a point now
            days = {PointId(point.id): point.created.date() for _, point in opened.points()}
        notes = {note.point_id: note for note in known}
        for point in points:
            if point not in days:
                raise PointNotFound(f"chain {chain} has no point {point[:12]} any more")
            note = notes.get(point, PointNote(point_id=point, day=days[point]))
            longest = until if note.locked_until is None else max(until, note.locked_until)
            notes[point] = msgspec.structs.replace(note, locked_until=longest)
        return notes.values()

    change_notes(repository.files, folder, keys, locked)
