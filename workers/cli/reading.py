"""Reads the points of a repository chain by chain, so that one chain that cannot be opened hides no other."""

from collections.abc import Sequence

import msgspec

from holdfast.errors import HoldfastError, PassphraseWrong, PointNotFound, RequestInvalid
from holdfast.formats.contents import Point
from holdfast.model.ids import CredentialName
from holdfast.planning.change_trust import doubtful_points
from holdfast.storage.chain import Chain, chain_file_names
from holdfast.storage.repository import Repository
from workers.cli.invocation import Invocation
from workers.config import RepositorySettings

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

    @property
    def reference(self) -> str:
        """Return the short name by which a person picks the point."""
        return self.point.id[:_REFERENCE_DIGITS]


class Unreadable(msgspec.Struct, frozen=True, kw_only=True):
    """A chain whose points could not be read, and why."""

    repository: str
    chain: str
    error: HoldfastError


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
                found += _points_of(chain, settings.name, name)
        except HoldfastError as error:
            unreadable.append(Unreadable(repository=settings.name, chain=name, error=error))
    wanted = [p for p in found if machine in {None, p.point.machine.machine_id, p.point.machine.name}]
    return sorted(wanted, key=lambda listed: (listed.point.created, listed.point.number)), unreadable


def find_listed(points: Sequence[ListedPoint], reference: str) -> ListedPoint:
    """Return the complete point whose id begins with ``reference``, or the newest for ``latest``.

    Raises `PointNotFound`, or `RequestInvalid` when several match.
    """
    complete = [listed for listed in points if listed.point.complete]
    if reference == "latest":
        machines = sorted({listed.point.machine.name for listed in complete})
        if len(machines) > 1:
            hint = "Add `--machine NAME`."
            raise RequestInvalid(f"latest could be a point of any of {', '.join(machines)}", hint=hint)
        # By number, as the repository does it: clocks may have been wrong.
        matching = sorted(complete, key=lambda listed: (listed.chain, listed.point.number))[-1:]
    else:
        matching = [listed for listed in complete if listed.point.id.startswith(reference.lower())]
    if not matching:
        raise PointNotFound(f"no complete point {reference}")
    if len(matching) > 1:
        raise RequestInvalid(f"{reference} begins the ids of {len(matching)} points", hint="Give more digits.")
    return matching[0]


def passphrases_for(run: Invocation, settings: RepositorySettings, credential: str | None) -> list[str]:
    """Return what may open encrypted chains: the credential named, else those the repository's jobs use."""
    if credential is not None:
        named = run.settings.credentials.passphrase(CredentialName(credential))
        return [] if named is None else [named]
    names = {job.credential for job in run.settings.jobs if job.repository == settings.name and job.credential}
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


def _points_of(chain: Chain, repository: str, name: str) -> list[ListedPoint]:
    held = list(chain.points())
    doubts = doubtful_points([(point.number, {disk.key: disk.detail for disk in point.disks}) for _, point in held])
    return [
        ListedPoint(
            repository=repository,
            chain=name,
            file=file.path.name,
            kind=file.contents.kind,
            is_encrypted=bool(file.keys.cipher),
            stored_bytes=file.superblock.end,
            point=point,
            doubt=doubts.get(point.number, ""),
        )
        for file, point in held
    ]
