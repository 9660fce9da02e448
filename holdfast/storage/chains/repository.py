"""A repository: a folder with a marker, and the chains of machines below it.

::

    <root>/repository.json                       what makes the folder a repository
    <root>/last-used.json                        when it was last used, which clocks are compared with
    <root>/machines/<machine folder>/            the chains of a machine or a job, and its rules in retention.json
    <root>/machines/<machine folder>/<chain>/    one chain: chain files, chain.hfm, .keep, .lock and .readers
    <root>/machines/<machine folder>/archive-<>/ an archive: a chain of one full that no job continues

A folder without its marker is never taken for an empty repository: a mount that is gone must not look like "no points".
"""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from holdfast.errors import (
    ChainBroken,
    HoldfastError,
    PassphraseWrong,
    PointNotFound,
    RepositoryUnavailable,
    RequestInvalid,
)
from holdfast.formats.contents import Point
from holdfast.model.archives import ARCHIVE_PREFIX, is_archive
from holdfast.model.ids import MachineId, folder_name, is_machine_folder
from holdfast.model.owners import ChainOwner
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chains.chain import Chain, chain_file_names, is_chain_file_name
from holdfast.storage.chains.owning import seen_by, shown_owner
from holdfast.storage.files.atomic import Files

MARKER_NAME = "repository.json"
_MACHINES = "machines"
# What an interrupted creation leaves behind, and what a file system puts into its root.
_EXPECTED_IN_NEW = (f"{MARKER_NAME}.new", "lost+found")
_CHAIN_FOLDER = re.compile(r"^\d{6}-[0-9a-f]{8}$")
_ARCHIVE_FOLDER = re.compile(rf"^{ARCHIVE_PREFIX}[0-9a-f]{{8}}$")


_Found = TypeVar("_Found")


class RepositoryMarker(msgspec.Struct, frozen=True, kw_only=True):
    """Content of the marker file."""

    format: int = 1
    id: str
    created: datetime


_REPOSITORY_MARKER_DECODER: Final = msgspec.json.Decoder(RepositoryMarker)


class StoredPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A restore point and where it is; ``chain`` is the chain's folder relative to the repository."""

    chain: str
    file: str
    kind: str
    encrypted: bool
    point: Point

    @property
    def reference(self) -> str:
        """Return the short name by which a user picks the point."""
        return self.point.id[:12]

    def is_of(self, machine: str | None) -> bool:
        """Return whether the point is of the machine with this id or name; None stands for any."""
        return machine in {None, self.point.machine.machine_id, self.point.machine.name}


class ChainSurvey(msgspec.Struct, frozen=True, kw_only=True):
    """What a look at one chain showed."""

    chain: str
    machine_folder: str
    points: tuple[StoredPoint, ...] = ()
    problem: HoldfastError | None = None


class Repository:
    """An existing repository."""

    def __init__(self, root: Path, files: Files, marker: RepositoryMarker) -> None:
        self.root = root
        self.files = files
        self.marker = marker

    @classmethod
    def open(cls, root: Path, files: Files) -> "Repository":
        """Open a repository. Raises `RepositoryUnavailable` when the folder or its marker is not there."""
        path = root / MARKER_NAME
        if not files.exists(path):
            raise RepositoryUnavailable(f"{root} is not a repository, or is not mounted")
        try:
            marker = _REPOSITORY_MARKER_DECODER.decode(files.read(path))
        except msgspec.DecodeError as error:
            raise RepositoryUnavailable(f"marker {path} cannot be read: {error}") from error
        return cls(root, files, marker)

    @classmethod
    def create(cls, root: Path, files: Files, repository_id: str, created: datetime) -> "Repository":
        """Make a repository in an empty or new folder, or open the one that is there."""
        files.make_folder(root)
        if files.exists(root / MARKER_NAME):
            return cls.open(root, files)
        for name in files.names(root):
            if name not in _EXPECTED_IN_NEW and not (name == _MACHINES and not files.names(root / name)):
                raise RequestInvalid(f"folder {root} is not empty and holds no repository: {name}")
        marker = RepositoryMarker(id=repository_id, created=created)
        files.make_folder(root / _MACHINES)
        files.replace(root / MARKER_NAME, msgspec.json.encode(marker))
        return cls(root, files, marker)

    def check_present(self) -> None:
        """Raise `RepositoryUnavailable` unless the folder still is this repository: its mount may be gone."""
        if Repository.open(self.root, self.files).marker.id != self.marker.id:
            raise RepositoryUnavailable(f"{self.root} holds another repository than before")

    def chain_folder(self, chain: str) -> Path:
        """Return the folder of a chain from its name relative to the repository. Raises `RequestInvalid`.

        Whoever took the name down before the folder of the machine got another name is led to the same chain.
        """
        path = Path(chain)
        if path.is_absolute() or ".." in path.parts or len(path.parts) != 3:  # noqa: PLR2004 - machines/machine/chain
            raise RequestInvalid(f"chain {chain!r} is not a folder of the repository")
        folder = self.root / path
        return folder if self.files.exists(folder) else self._renamed(folder)

    def chain_file(self, chain: str, name: str) -> Path:
        """Return where a chain file is. Raises `RequestInvalid` for a name that no chain file has."""
        if not is_chain_file_name(name):
            raise RequestInvalid(f"{name!r} is not the name of a chain file")
        return self.chain_folder(chain) / name

    def relative(self, folder: Path) -> str:
        """Return the name of a chain relative to the repository."""
        return folder.relative_to(self.root).as_posix()

    def machine_folder(self, machine_id: MachineId, name: str) -> Path:
        """Return the folder of a machine that has chains of its own."""
        return self.owner_folder(ChainOwner.of_machine(machine_id, name))

    def owner_folder(self, owner: ChainOwner) -> Path:
        """Return the folder with the chains of an owner; the one it has, also after it was renamed."""
        wanted = folder_name(owner.name, owner.owner_id)
        tail = wanted[-9:]
        known = [found for found in self._machine_folders() if found.name.endswith(tail)]
        return known[0] if known else self.root / _MACHINES / wanted

    def chain_folders(self, machine_folder: Path | None = None) -> list[Path]:
        """Return the folders of all chains, or of one machine's; what is not ours is passed over.

        Of each machine its archives come first, then the chains of jobs, oldest first, so that what is continued is
        last. Raises `RepositoryUnavailable` when the repository is gone, and so never takes it for an empty one.
        """
        machines = self._machine_folders() if machine_folder is None else [machine_folder]
        return [
            machine / name
            for machine in machines
            if self.files.exists(machine)
            for pattern in (_ARCHIVE_FOLDER, _CHAIN_FOLDER)
            for name in self.files.names(machine)
            if pattern.match(name)
        ]

    def job_chains(self, machine_folder: Path) -> list[Path]:
        """Return the folders of a machine's chains that jobs continue, oldest first."""
        return [folder for folder in self.chain_folders(machine_folder) if not is_archive(folder.name)]

    def archives(self, machine_folder: Path | None = None) -> list[Path]:
        """Return the folders of all archives, or of one machine's."""
        return [folder for folder in self.chain_folders(machine_folder) if is_archive(folder.name)]

    def new_chain_folder(self, machine_folder: Path, chain_id: bytes) -> Path:
        """Return where a new chain of a machine goes: behind all that are there, also when older ones were removed."""
        numbers = [int(folder.name[:6]) for folder in self.job_chains(machine_folder)]
        return machine_folder / f"{max(numbers, default=0) + 1:06d}-{chain_id.hex()[:8]}"

    def new_archive_folder(self, machine_folder: Path, chain_id: bytes) -> Path:
        """Return where a new archive of a machine goes."""
        return machine_folder / f"{ARCHIVE_PREFIX}{chain_id.hex()[:8]}"

    def open_chain(self, chain: str, passphrase: str | None) -> Chain:
        """Open a chain. Raises `ChainBroken` when it is gone, and the errors of its files."""
        folder = self.chain_folder(chain)
        if not self.files.exists(folder):
            raise ChainBroken(f"chain {chain} is gone from repository {self.root}")
        return Chain.open(self.files, folder, passphrase)

    def survey(self, *passphrases: str | None) -> Iterator[ChainSurvey]:
        """Yield every chain with its points, oldest first; one that cannot be read says why and hides no other.

        A chain without encryption is listed whatever ``passphrases`` are.
        """
        for folder in self.chain_folders():
            if not chain_file_names(self.files, folder):
                continue
            name = self.relative(folder)
            try:
                with self._open_to_list(folder, passphrases) as chain:
                    owner = shown_owner(self.files, chain)
                    points = tuple(_stored(name, file, seen_by(point, owner)) for file, point in chain.points())
                    problem = chain.unreadable[0].error if chain.unreadable else None
            except HoldfastError as error:
                yield ChainSurvey(chain=name, machine_folder=folder.parent.name, problem=error)
            else:
                yield ChainSurvey(chain=name, machine_folder=folder.parent.name, points=points, problem=problem)

    def points(self, passphrase: str | None = None, machine: str | None = None) -> Iterator[StoredPoint]:
        """Yield the points of all chains, complete or not, chain by chain and oldest first.

        ``machine`` is an id or a name. Raises the error of the first chain that cannot be read.
        """
        for chain in self.survey(passphrase):
            if chain.problem is not None:
                raise chain.problem
            yield from (found for found in chain.points if found.is_of(machine))

    def find_point(
        self, reference: str, passphrase: str | None = None, machine: str | None = None, *, others: Sequence[str] = ()
    ) -> StoredPoint:
        """Return the complete point whose id begins with ``reference``, or the newest for ``latest``.

        ``others`` are passphrases of chains that ``passphrase`` does not open. A chain that cannot be read is an error
        when it might hold the point: an older point is never taken silently.
        Raises `PointNotFound`, or `RequestInvalid` when several points or machines match.
        """
        surveyed = list(self.survey(passphrase, *others))
        complete = [f for chain in surveyed for f in chain.points if f.point.complete and f.is_of(machine)]
        if reference == "latest":
            matching = _latest(surveyed, complete)
        else:
            # A point that is moving to a chain of its own stands in both for a moment; the later one counts.
            found_by_id = {f.point.id: f for f in complete if f.point.id.startswith(reference.lower())}
            matching = list(found_by_id.values())
        if len(matching) > 1:
            raise RequestInvalid(f"{reference} matches {len(matching)} points; give more digits")
        if matching:
            return matching[0]
        for chain in surveyed:
            if chain.problem is not None:
                raise chain.problem
        of_machine = "" if machine is None else f" of machine {machine}"
        raise PointNotFound(f"repository {self.root} has no complete point {reference}{of_machine}")

    def _open_to_list(self, folder: Path, passphrases: Sequence[str | None]) -> Chain:
        problem: PassphraseWrong | None = None
        for passphrase in (None, *(known for known in passphrases if known is not None)):
            try:
                return Chain.open(self.files, folder, passphrase)
            except PassphraseWrong as error:
                problem = error
        assert problem is not None, "there is always one to try"
        raise problem

    def _renamed(self, folder: Path) -> Path:
        """Return where a chain is whose machine's folder has another name by now; the one asked for when nowhere."""
        machines = [machine for machine in self._machine_folders() if self.files.exists(machine / folder.name)]
        return machines[0] / folder.name if len(machines) == 1 and _CHAIN_FOLDER.match(folder.name) else folder

    def machine_at(self, name: str) -> Path:
        """Return where the folder of a machine with this name is or would be. Raises `RequestInvalid`."""
        if not is_machine_folder(name):
            raise RequestInvalid(f"{name!r} is not the name of a machine's folder")
        return self.root / _MACHINES / name

    def machine_folders(self) -> list[Path]:
        """Return the folders of all machines. Raises `RepositoryUnavailable`."""
        return self._machine_folders()

    def _machine_folders(self) -> list[Path]:
        machines = self.root / _MACHINES
        return [machines / name for name in self.files.names(machines) if is_machine_folder(name)]


def _stored(chain: str, file: ChainFile, point: Point) -> StoredPoint:
    return StoredPoint(
        chain=chain,
        file=file.path.name,
        kind=file.contents.kind,
        encrypted=bool(file.keys.cipher),
        point=point,
    )


def newest_of(found: Sequence[tuple[str, Point, _Found]]) -> list[_Found]:
    """Return the newest of points with their chains, or nothing of none.

    Of one owner the order of chains and numbers counts, since clocks may have been wrong; between a machine's chains
    and its job's they have to do. Archives stand beside them: the newest is meant only where a job has no point.
    """
    of_jobs = [one for one in found if not is_archive(one[0])]
    if not of_jobs:
        return [one[2] for one in sorted(found, key=_created)[-1:]]
    by_owner = {_owner_folder(one[0]): one for one in sorted(of_jobs, key=lambda one: (one[0], one[1].number))}
    return [max(by_owner.values(), key=_created)[2]]


def _created(one: tuple[str, Point, object]) -> datetime:
    return one[1].created


def _owner_folder(chain: str) -> str:
    return chain.split("/")[1]


def _latest(surveyed: list[ChainSurvey], complete: list[StoredPoint]) -> list[StoredPoint]:
    machines = {found.point.machine.machine_id for found in complete}
    if len(machines) > 1:
        raise RequestInvalid(f"latest matches points of {len(machines)} machines; name the machine")
    newest = newest_of([(found.chain, found.point, found) for found in complete])
    folders = {_owner_folder(found.chain) for found in complete}
    is_of_jobs = any(not is_archive(found.chain) for found in newest)
    for chain in surveyed:
        if chain.problem is None or chain.machine_folder not in folders:
            continue
        if not (is_of_jobs and is_archive(chain.chain)):  # which would not be taken in any case
            raise chain.problem
    return newest
