"""Archives of machines: begun beside the chains of jobs, looked at by themselves, and kept until they expire.

An archive is a chain of one full in a folder of its own. No job continues it, and no job's retention looks at it.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec

from holdfast.errors import CredentialMissing, DataError, HoldfastError, RequestInvalid
from holdfast.model.archives import Archive, is_archive
from holdfast.model.ids import CredentialName, PointId, SessionId
from holdfast.model.machine import Snapshot
from holdfast.model.points import OpenPoint
from holdfast.model.retention import ChainFact, PointNote
from holdfast.planning.archives import ArchiveFact, kept_words, plan_archives
from holdfast.planning.consent import Judgement
from holdfast.planning.retention_steps import plan_digest, steps_of
from holdfast.storage.chains.begun_notes import note_begun
from holdfast.storage.chains.chain import chain_file_names
from holdfast.storage.chains.keeping import change_notes, peek_notes
from holdfast.storage.chains.leftovers import remove_leftovers
from holdfast.storage.chains.opening import open_with
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import Files
from holdfast.storage.intake.lifecycle import StoreOptions, begin_full, begun_by
from holdfast.storage.intake.new_points import check_snapshot
from holdfast.storage.retention.looking import MachinePlan, SeenMachine, file_fact, see_chain
from holdfast.storage.retention.shared_retention import SeenChain

Passphrases = Callable[[CredentialName | None], str | None]
"""Gives the passphrase of a credential. Raises `CredentialMissing`."""


def begin_archive(
    repository: Repository, session: SessionId, snapshot: Snapshot, options: StoreOptions, archive: Archive
) -> OpenPoint:
    """Make the chain of a new archive of a machine, or return the one this session has begun already.

    Until when it is kept is noted before a byte of it is there. Archives that earlier sessions did not finish are
    removed.
    """
    check_snapshot(snapshot)
    repository.check_present()
    machine_folder = repository.machine_folder(snapshot.machine_id, snapshot.machine.name)
    removed: tuple[str, ...] = ()
    for folder in repository.archives(machine_folder):
        # One that is damaged, or has another passphrase, is not of this session.
        with suppress(DataError):
            with repository.open_chain(repository.relative(folder), options.passphrase) as chain:
                ours = begun_by(repository, chain, session, snapshot, options)
            if ours is not None:
                _take_note(repository, ours, snapshot, options, archive)
                return ours
            removed += remove_leftovers(repository.files, folder, options.passphrase)
    decision = (f"an archive, {kept_words(archive)}", removed)
    begun = begin_full(repository, machine_folder, session, snapshot, options, decision, as_archive=True)
    _take_note(repository, begun, snapshot, options, archive)
    return begun


def look_at_archives(repository: Repository, machine_folder: Path, passphrases: Passphrases) -> SeenMachine:
    """Return the archives of a machine. One that cannot be opened is left out, with the reason, and hides no other."""
    seen: list[SeenChain] = []
    left_out: list[str] = []
    errors: list[HoldfastError] = []
    for folder in _with_files(repository, machine_folder):
        try:
            found = see_chain(repository, folder, passphrases(archive_credential(repository.files, folder)))
        except (DataError, CredentialMissing) as error:
            left_out.append(f"archive {repository.relative(folder)} is left alone: {error.message}")
            errors.append(error)
        else:
            seen += [found] if found is not None else []
    return SeenMachine(
        folder=machine_folder, chains=tuple(seen), rules=None, left_out=tuple(left_out), errors=tuple(errors)
    )


def plan_seen_archives(seen: SeenMachine, now: datetime) -> MachinePlan:
    """Return what becomes of the archives of a machine."""
    notes = {
        file.point_id: _note_of(chain, file.point_id, file.created) for chain in seen.chains for file in chain.files
    }
    facts = tuple(
        ArchiveFact(
            chain=ChainFact(chain=chain.name, files=tuple(file_fact(chain, file, notes) for file in chain.files)),
            expires=tuple(_expiry(notes[file.point_id]) for file in chain.files),
        )
        for chain in seen.chains
    )
    plan = plan_archives(facts, now)
    return MachinePlan(
        facts=tuple(fact.chain for fact in facts),
        judgement=Judgement(plan=plan),
        steps=steps_of(plan),
        digest=plan_digest(plan),
        notes=notes,
    )


def archive_credential(files: Files, folder: Path) -> CredentialName | None:
    """Return the name of the passphrase of an archive, as it was noted; None for one without, or without a note.

    The note is read before its seal can be looked at, so that the passphrase still has to fit.
    """
    return next((note.archive.credential for note in peek_notes(files, folder) if note.archive is not None), None)


def archive_credentials(repository: Repository) -> tuple[CredentialName, ...]:
    """Return the names of all passphrases that archives of a repository were made with."""
    named = (archive_credential(repository.files, folder) for folder in _with_files(repository))
    return tuple(dict.fromkeys(name for name in named if name is not None))


def _with_files(repository: Repository, machine_folder: Path | None = None) -> list[Path]:
    """Return the archives of which there is anything: of one that was purged only small files stay."""
    return [folder for folder in repository.archives(machine_folder) if chain_file_names(repository.files, folder)]


def keep_archive(
    repository: Repository, chain: str, passphrase: str | None, expires: datetime | None
) -> tuple[PointId, ...]:
    """Note until when an archive is kept from now on; return its points.

    Raises `RequestInvalid` for a chain that is none, and `ChainBusy`.
    """
    if not is_archive(chain):
        hint = "Points of jobs stay as their job's retention says; `holdfast retention lock` keeps one for longer."
        raise RequestInvalid(f"chain {chain} is no archive", hint=hint)
    folder = repository.chain_folder(chain)
    with open_with(repository.files, folder, (passphrase, None))[0] as opened:
        keys = opened.files[0].keys
        points = tuple((PointId(point.id), point.created) for _, point in opened.points())

    def kept(known: tuple[PointNote, ...]) -> Iterable[PointNote]:
        notes = {note.point_id: note for note in known}
        credential = archive_credential(repository.files, folder)
        for point, created in points:
            note = notes.get(point, PointNote(point_id=point, day=created.date()))
            archive = note.archive if note.archive is not None else Archive(credential=credential)
            notes[point] = msgspec.structs.replace(note, archive=msgspec.structs.replace(archive, expires=expires))
        return notes.values()

    change_notes(repository.files, folder, keys, kept)
    return tuple(point for point, _ in points)


def _take_note(
    repository: Repository, opened: OpenPoint, snapshot: Snapshot, options: StoreOptions, archive: Archive
) -> None:
    note = PointNote(point_id=opened.point_id, day=snapshot.created.date(), archive=archive)
    note_begun(repository, opened, options.passphrase, note)


def _note_of(chain: SeenChain, point: PointId, created: datetime) -> PointNote:
    known = next((note for note in chain.notes if note.point_id == point), None)
    return known if known is not None else PointNote(point_id=point, day=created.date())


def _expiry(note: PointNote) -> datetime | None:
    return None if note.archive is None else note.archive.expires
