"""Reads the points of a repository chain by chain, so that one chain that cannot be opened hides no other."""

from collections.abc import Sequence

import msgspec

from holdfast.errors import DataError, HoldfastError, PassphraseWrong, PointNotFound, RequestInvalid
from holdfast.formats.contents import Point
from holdfast.model.archives import Archive, is_archive
from holdfast.model.ids import CredentialName, is_folder_of, is_folder_of_id
from holdfast.model.points import Health
from holdfast.model.retention import PointNote
from holdfast.planning.change_trust import doubtful_points
from holdfast.storage.chains.chain import Chain, chain_file_names
from holdfast.storage.chains.keeping import read_notes
from holdfast.storage.chains.owning import seen_by, shown_owner
from holdfast.storage.chains.repository import Repository, newest_of
from holdfast.storage.health.health_file import read_health
from holdfast.storage.retention.archiving import archive_credentials
from workers.cli.invocation import Invocation
from workers.repository_settings import RepositorySettings

_REFERENCE_DIGITS = 12


class ListedPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A point as it is shown. ``stored_bytes`` is the size of its file."""

    repository: str
    chain: str
    file: str
    kind: str
    is_encrypted: bool
    stored_bytes: int
    point: Point
    doubt: str = ""
    """Why it may lack changes; empty when there is no reason to think so."""
    damage: str = ""
    """What a check or a scrub found damaged in it; empty when nothing was."""
    archive: Archive | None = None
    """Until when it is kept, of an archive; None for points of jobs."""
    is_quick: bool = False
    """Whether a quick backup made it."""

    @property
    def reference(self) -> str:
        """Return the short name by which a person picks the point."""
        return self.point.id[:_REFERENCE_DIGITS]


class Unreadable(msgspec.Struct, frozen=True, kw_only=True):
    """A chain whose points could not be read, and why."""

    repository: str
    chain: str
    error: HoldfastError
    is_partly: bool = False
    """Whether only some of its files could not; the points of the others are listed."""


def read_points(
    run: Invocation, settings: RepositorySettings, credential: str | None, machine: str | None = None
) -> tuple[list[ListedPoint], list[Unreadable]]:
    """Return the points of a repository, oldest first, and the chains that could not be read.

    ``machine`` is an id or a name. Raises `RepositoryUnavailable`, and `CredentialMissing` for a credential that was
    asked for by name.
    """
    repository = run.repository(settings)
    passphrases = passphrases_for(run, settings, credential)
    found: list[ListedPoint] = []
    unreadable: list[Unreadable] = []
    for folder in repository.chain_folders():
        name = repository.relative(folder)
        if not chain_file_names(repository.files, folder):
            continue
        try:
            with open_chain(repository, name, passphrases) as chain:
                listed = _points_of(repository, chain, settings.name, name)
                found += _with_notes(repository, chain, listed)
                if chain.unreadable:
                    error = chain.unreadable[0].error
                    unreadable.append(Unreadable(repository=settings.name, chain=name, error=error, is_partly=True))
        except HoldfastError as error:
            unreadable.append(Unreadable(repository=settings.name, chain=name, error=error))
    wanted = [p for p in found if machine in {None, p.point.machine.machine_id, p.point.machine.name}]
    return sorted(wanted, key=lambda listed: (listed.point.created, listed.point.number)), unreadable


def find_listed(
    points: Sequence[ListedPoint], reference: str, unreadable: Sequence[Unreadable], machine: str | None = None
) -> ListedPoint:
    """Return the complete point whose id begins with ``reference``, or the newest for ``latest``.

    ``points`` and ``unreadable`` are what `read_points` gave of ``machine``. A chain of the machine that could not be
    read may hold the newest point: then its error is raised, and never an older point taken. Raises `PointNotFound`, or
    `RequestInvalid` when several match.
    """
    complete = [listed for listed in points if listed.point.complete]
    if reference == "latest":
        machines = sorted({listed.point.machine.name for listed in complete})
        if len(machines) > 1:
            hint = "Add `--machine NAME`."
            raise RequestInvalid(f"latest could be a point of any of {', '.join(machines)}", hint=hint)
        # By number, as the repository does it: clocks may have been wrong.
        matching = newest_of([(listed.chain, listed.point, listed) for listed in complete])
        _check_latest(complete, matching, unreadable, machine)
    else:
        # A point that is moving to a chain of its own stands in both for a moment; the later one counts.
        by_id = {listed.point.id: listed for listed in complete if listed.point.id.startswith(reference.lower())}
        matching = list(by_id.values())
    if not matching:
        raise PointNotFound(f"no complete point {reference}")
    if len(matching) > 1:
        raise RequestInvalid(f"{reference} begins the ids of {len(matching)} points", hint="Give more digits.")
    return matching[0]


def _check_latest(
    complete: Sequence[ListedPoint],
    newest: Sequence[ListedPoint],
    unreadable: Sequence[Unreadable],
    machine: str | None,
) -> None:
    """Raise the error of a chain that may hold a point newer than the newest of those that could be read.

    It may in a folder with points of the machine, or in its own; an archive is not meant beside points of jobs.
    """
    folders = {_machine_folder(listed.chain) for listed in complete}
    ids = {listed.point.machine.machine_id for listed in complete}
    is_of_jobs = any(not is_archive(listed.chain) for listed in newest)
    for broken in unreadable:
        folder = _machine_folder(broken.chain)
        if complete:
            is_meant = folder in folders or any(is_folder_of_id(folder, known) for known in ids)
        else:
            is_meant = machine is None or is_folder_of(folder, machine)
        if is_meant and not (is_of_jobs and is_archive(broken.chain)):
            raise broken.error


def _machine_folder(chain: str) -> str:
    return chain.split("/")[1]


def passphrases_for(run: Invocation, settings: RepositorySettings, credential: str | None) -> list[str]:
    """Return what may open encrypted chains: the credential named, else those the repository's jobs use."""
    if credential is not None:
        named = run.settings.credentials.passphrase(CredentialName(credential))
        return [] if named is None else [named]
    names = {job.credential for job in run.settings.jobs if job.repository == settings.name and job.credential}
    names |= set(archive_credentials(run.repository(settings)))
    found: list[str] = []
    for name in sorted(names):
        try:
            passphrase = run.settings.credentials.passphrase(name)
        except HoldfastError as error:
            run.warn(f"{error.message}; chains encrypted with it cannot be read")
            continue
        found += [passphrase] if passphrase is not None else []
    return found


def open_chain(repository: Repository, name: str, passphrases: Sequence[str]) -> Chain:
    """Open a chain, encrypted or not, with the passphrase that fits. Raises the errors of `Chain.open`."""
    try:
        return repository.open_chain(name, None)
    except PassphraseWrong as error:
        refused = error
    for passphrase in passphrases:
        try:
            return repository.open_chain(name, passphrase)
        except PassphraseWrong as error:
            refused = error
    refused.hint = "Name the credential with the passphrase it was created with: `--credential NAME`."
    raise refused


def _with_notes(repository: Repository, chain: Chain, listed: Sequence[ListedPoint]) -> list[ListedPoint]:
    """Return the same with what is noted of the points.

    The notes are not needed to read them: that they are damaged is told of an archive, whose expiry is in them, and by
    `holdfast chain show` of any chain.
    """
    notes: dict[str, PointNote] = {}
    problem = ""
    try:
        if listed:
            known = read_notes(repository.files, chain.folder, chain.files[0].keys)
            notes = {note.point_id: note for note in known.points}
    except DataError as error:
        problem = error.message
    return [_noted(one, notes.get(one.point.id), problem) for one in listed]


def _noted(listed: ListedPoint, note: PointNote | None, problem: str) -> ListedPoint:
    if not is_archive(listed.chain):
        return msgspec.structs.replace(listed, is_quick=note is not None and note.is_quick)
    known = None if note is None else note.archive
    return msgspec.structs.replace(
        listed, archive=known if known is not None else Archive(), damage=listed.damage or problem
    )


def _points_of(opened: Repository, chain: Chain, repository: str, name: str) -> list[ListedPoint]:
    held = list(chain.points())
    known, owner = read_health(opened.files, chain.folder), shown_owner(opened.files, chain)
    damaged = {mark.number: mark.reason for mark in known.points if mark.state is Health.DAMAGED}
    doubts: dict[int, str] = {}
    for machine in {point.machine.machine_id for _, point in held}:
        mine = [point for _, point in held if point.machine.machine_id == machine]
        doubts |= doubtful_points([(point.number, {disk.key: disk.detail for disk in point.disks}) for point in mine])
    return [
        ListedPoint(
            repository=repository,
            chain=name,
            file=file.path.name,
            kind=file.contents.kind,
            is_encrypted=bool(file.keys.cipher),
            stored_bytes=file.superblock.end,
            point=seen_by(point, owner),
            doubt=doubts.get(point.number, ""),
            damage=damaged.get(point.number, ""),
        )
        for file, point in held
    ]
