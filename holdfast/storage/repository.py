"""A repository: a folder with a marker, and the chains of machines below it.

::

    <root>/repository.json                       what makes the folder a repository
    <root>/machines/<machine folder>/<chain>/    one chain: chain files, chain.hfm, chain.lock, chain.readers

A folder without its marker is never taken for an empty repository: a mount that is gone must not look like "no points".
"""

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

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
from holdfast.model.ids import MachineId, folder_name
from holdfast.storage.atomic import Files
from holdfast.storage.chain import Chain, chain_file_names, is_chain_file_name
from holdfast.storage.chain_file import ChainFile

MARKER_NAME = "repository.json"
_MACHINES = "machines"
# What an interrupted creation leaves behind, and what a file system puts into its root.
_EXPECTED_IN_NEW = (f"{MARKER_NAME}.new", "lost+found")
_MACHINE_FOLDER = re.compile(r"^[a-z0-9-]+-[0-9a-f]{8}$")
_CHAIN_FOLDER = re.compile(r"^\d{6}-[0-9a-f]{8}$")


class RepositoryMarker(msgspec.Struct, frozen=True, kw_only=True):
    """Content of the marker file."""

    format: int = 1
    id: str
    created: datetime


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
            marker = msgspec.json.decode(files.read(path), type=RepositoryMarker)
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
        """Return the folder of a chain from its name relative to the repository. Raises `RequestInvalid`."""
        path = Path(chain)
        if path.is_absolute() or ".." in path.parts or len(path.parts) != 3:  # noqa: PLR2004 - machines/machine/chain
            raise RequestInvalid(f"chain {chain!r} is not a folder of the repository")
        return self.root / path

    def chain_file(self, chain: str, name: str) -> Path:
        """Return where a chain file is. Raises `RequestInvalid` for a name that no chain file has."""
        if not is_chain_file_name(name):
            raise RequestInvalid(f"{name!r} is not the name of a chain file")
        return self.chain_folder(chain) / name

    def relative(self, folder: Path) -> str:
        """Return the name of a chain relative to the repository."""
        return folder.relative_to(self.root).as_posix()

    def machine_folder(self, machine_id: MachineId, name: str) -> Path:
        """Return the folder of a machine; the one it has, also after the machine was renamed."""
        wanted = folder_name(name, machine_id)
        tail = wanted[-9:]
        known = [found for found in self._machine_folders() if found.name.endswith(tail)]
        return known[0] if known else self.root / _MACHINES / wanted

    def chain_folders(self, machine_folder: Path | None = None) -> list[Path]:
        """Return the folders of all chains, or of one machine's, oldest first; what is not ours is passed over.

        Raises `RepositoryUnavailable` when the repository is gone, and so never takes it for an empty one.
        """
        machines = self._machine_folders() if machine_folder is None else [machine_folder]
        return [
            machine / name
            for machine in machines
            if self.files.exists(machine)
            for name in self.files.names(machine)
            if _CHAIN_FOLDER.match(name)
        ]

    def new_chain_folder(self, machine_folder: Path, chain_id: bytes) -> Path:
        """Return where a new chain of a machine goes: behind all that are there, also when older ones were removed."""
        numbers = [int(folder.name[:6]) for folder in self.chain_folders(machine_folder)]
        return machine_folder / f"{max(numbers, default=0) + 1:06d}-{chain_id.hex()[:8]}"

    def open_chain(self, chain: str, passphrase: str | None) -> Chain:
        """Open a chain. Raises `ChainBroken` when it is gone, and the errors of its files."""
        folder = self.chain_folder(chain)
        if not self.files.exists(folder):
            raise ChainBroken(f"chain {chain} is gone from repository {self.root}")
        return Chain.open(self.files, folder, passphrase)

    def survey(self, passphrase: str | None = None) -> Iterator[ChainSurvey]:
        """Yield every chain with its points, oldest first; one that cannot be read says why and hides no other.

        A chain without encryption is listed whatever ``passphrase`` is.
        """
        for folder in self.chain_folders():
            if not chain_file_names(self.files, folder):
                continue
            name = self.relative(folder)
            try:
                with self._open_to_list(folder, passphrase) as chain:
                    points = tuple(_stored(name, file, point) for file, point in chain.points())
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

    def find_point(self, reference: str, passphrase: str | None = None, machine: str | None = None) -> StoredPoint:
        """Return the complete point whose id begins with ``reference``, or the newest for ``latest``.

        A chain that cannot be read is an error when it might hold the point: an older point is never taken silently.
        Raises `PointNotFound`, or `RequestInvalid` when several points or machines match.
        """
        surveyed = list(self.survey(passphrase))
        complete = [f for chain in surveyed for f in chain.points if f.point.complete and f.is_of(machine)]
        if reference == "latest":
            matching = _latest(surveyed, complete)
        else:
            matching = [found for found in complete if found.point.id.startswith(reference.lower())]
        if len(matching) > 1:
            raise RequestInvalid(f"{reference} matches {len(matching)} points; give more digits")
        if matching:
            return matching[0]
        for chain in surveyed:
            if chain.problem is not None:
                raise chain.problem
        of_machine = "" if machine is None else f" of machine {machine}"
        raise PointNotFound(f"repository {self.root} has no complete point {reference}{of_machine}")

    def _open_to_list(self, folder: Path, passphrase: str | None) -> Chain:
        try:
            return Chain.open(self.files, folder, passphrase)
        except PassphraseWrong:
            if passphrase is None:
                raise
        try:
            return Chain.open(self.files, folder)
        except PassphraseWrong:
            return Chain.open(self.files, folder, passphrase)  # for its message: the chain is encrypted

    def _machine_folders(self) -> list[Path]:
        machines = self.root / _MACHINES
        return [machines / name for name in self.files.names(machines) if _MACHINE_FOLDER.match(name)]


def _stored(chain: str, file: ChainFile, point: Point) -> StoredPoint:
    return StoredPoint(
        chain=chain,
        file=file.path.name,
        kind=file.contents.kind,
        encrypted=bool(file.keys.cipher),
        point=point,
    )


def _latest(surveyed: list[ChainSurvey], complete: list[StoredPoint]) -> list[StoredPoint]:
    machines = {found.point.machine.machine_id for found in complete}
    if len(machines) > 1:
        raise RequestInvalid(f"latest matches points of {len(machines)} machines; name the machine")
    newest = sorted(complete, key=lambda found: (found.chain, found.point.number))[-1:]
    folders = {found.chain.split("/")[1] for found in newest}
    for chain in surveyed:
        if chain.problem is not None and chain.machine_folder in folders:
            raise chain.problem
    return newest
