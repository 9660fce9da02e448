"""Gives the chains of a machine to another machine, or another name: one rename of its folder makes it true.

Before the rename each chain is told whose it will be, which says nothing as long as the folder has its old name. So a
crash leaves the chains where they were or where they go, and never some of them. Files that somebody has open stay
open, and whoever took a chain's name down before is led to where it is now.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from holdfast.errors import ChainBroken, ChainBusy, MachineNotFound, RequestInvalid
from holdfast.faults import reach
from holdfast.formats.chain_keep import NotedOwner
from holdfast.model.archives import is_archive
from holdfast.model.ids import ChainId, MachineId, folder_name
from holdfast.storage.chains.chain import Chain, chain_file_names
from holdfast.storage.chains.keeping import write_owner
from holdfast.storage.chains.leftovers import remove_leftovers
from holdfast.storage.chains.metadata import check_chain
from holdfast.storage.chains.opening import open_with
from holdfast.storage.chains.owning import check_own_chain, owner_of, seen_by
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.chain_lock import acquire_chain_lock
from holdfast.storage.retention.emptying import remove_empty_machine

Keys = Sequence[str | None]
"""Passphrases to try; None stands for a chain without encryption."""


class JobRules(msgspec.Struct, frozen=True, kw_only=True):
    """How the job writes that shall continue a chain."""

    unit_size: int
    passphrase: str | None = None


class NewOwner(msgspec.Struct, frozen=True, kw_only=True):
    """The folder of a machine, and whose its chains shall be."""

    folder: str
    machine_id: MachineId
    machine_name: str


class OwnedChain(msgspec.Struct, frozen=True, kw_only=True):
    """A chain of a machine."""

    chain: str
    chain_id: ChainId
    points: int


class OwnerChanged(msgspec.Struct, frozen=True, kw_only=True):
    """Where the chains of a machine are now."""

    folder: str
    machine_id: MachineId
    machine_name: str
    chains: tuple[OwnedChain, ...] = ()


def change_owner(repository: Repository, wanted: NewOwner, keys: Keys, job: JobRules | None = None) -> OwnerChanged:
    """Give all chains in a machine's folder to a machine; the same machine under another name is a rename.

    May be repeated. Raises `RequestInvalid` when the machine has chains of its own, or when the job could not continue
    the newest one, `PassphraseWrong`, `ChainBusy` while a session writes, `MachineNotFound` when there is no such
    folder, and errors of damaged chains.
    """
    repository.check_present()
    files = repository.files
    source = repository.machine_at(wanted.folder)
    target = repository.machine_at(folder_name(wanted.machine_name, wanted.machine_id))
    if source != target and files.exists(source):
        folders = _chains(repository, source)
        if not folders:
            raise MachineNotFound(f"{wanted.folder} holds no chain")
        _check_place(repository, wanted, source)
        with _opened(repository, folders, keys) as chains:
            _check_job(repository, chains, job)
            for chain in chains:
                _note_owner(repository, chain, wanted, target)
            reach("mapping.noted")
            _make_way(repository, wanted, source)
            files.rename(source, target)
    if not files.exists(target):
        raise MachineNotFound(f"repository {repository.root} has no folder {wanted.folder}")
    return _told(repository, target, wanted, keys)


@contextmanager
def _opened(repository: Repository, folders: Sequence[Path], keys: Keys) -> Iterator[list[Chain]]:
    """Yield the chains, whole, locked and without points that are not finished."""
    with ExitStack() as stack:
        chains = []
        for folder in folders:
            chain, passphrase = open_with(repository.files, folder, (None, *keys))
            chain.close()
            remove_leftovers(repository.files, folder, passphrase)
            stack.callback(acquire_chain_lock(repository.files, folder).close)
            chain = stack.enter_context(Chain.open(repository.files, folder, passphrase))
            check_chain(repository.files, chain)
            if any(not file.is_complete for file in chain.files):
                raise ChainBusy(f"chain {folder.name} has a point that is not finished")
            chains.append(chain)
        yield chains


def _note_owner(repository: Repository, chain: Chain, wanted: NewOwner, target: Path) -> None:
    newest = chain.newest()
    if newest is None:
        return
    file, point = newest
    before = owner_of(repository.files, chain.folder, file.keys)
    check_own_chain(chain, before)
    is_other = seen_by(point, before).machine.machine_id != wanted.machine_id
    mapped = point.number if is_other else 0 if before is None else before.mapped
    owner = NotedOwner(
        folder=target.name,
        machine_id=wanted.machine_id,
        machine_name=wanted.machine_name,
        named=point.number,
        mapped=mapped,
    )
    write_owner(repository.files, chain.folder, file.keys, owner)


def _check_place(repository: Repository, wanted: NewOwner, source: Path) -> None:
    """Raise `RequestInvalid` when the machine has chains elsewhere."""
    for folder in _others(repository, wanted, source):
        if _chains(repository, folder):
            raise RequestInvalid(
                f"machine {wanted.machine_id} has chains of its own in {folder.name}",
                hint="A machine has one row of chains. Those it has would have to go first, by retention.",
            )


def _make_way(repository: Repository, wanted: NewOwner, source: Path) -> None:
    """Remove folders of the machine in which no chain is left."""
    for folder in _others(repository, wanted, source):
        if not remove_empty_machine(repository.files, folder):
            raise RequestInvalid(
                f"{folder.name} keeps what was removed of chains of machine {wanted.machine_id}",
                hint="`holdfast retention removed` lists it, `holdfast retention purge` makes room.",
            )


def _others(repository: Repository, wanted: NewOwner, source: Path) -> list[Path]:
    tail = folder_name(wanted.machine_name, wanted.machine_id)[-9:]
    return [found for found in repository.machine_folders() if found != source and found.name.endswith(tail)]


def _check_job(repository: Repository, chains: Sequence[Chain], job: JobRules | None) -> None:
    """Raise when the next run of a job would begin a full instead of continuing the newest chain."""
    continued = [chain for chain in chains if not is_archive(chain.folder.name)]
    if job is None or not continued:
        return
    chain = continued[-1]
    is_encrypted = bool(chain.files[0].keys.cipher)
    if is_encrypted != (job.passphrase is not None):
        states = ("encrypted", "not encrypted")
        of_chain, of_job = states if is_encrypted else reversed(states)
        raise RequestInvalid(f"chain {chain.folder.name} is {of_chain}, what the job writes is {of_job}")
    unit_size = chain.files[0].superblock.unit_size
    if unit_size != job.unit_size:
        raise RequestInvalid(f"chain {chain.folder.name} has units of {unit_size} bytes, the job's: {job.unit_size}")
    Chain.open(repository.files, chain.folder, job.passphrase).close()


def _chains(repository: Repository, folder: Path) -> list[Path]:
    return [found for found in repository.chain_folders(folder) if chain_file_names(repository.files, found)]


def _told(repository: Repository, folder: Path, wanted: NewOwner, keys: Keys) -> OwnerChanged:
    chains = []
    for found in _chains(repository, folder):
        chain, _ = open_with(repository.files, found, (None, *keys))
        with chain:
            newest = chain.newest()
            if newest is None:
                continue
            owner = owner_of(repository.files, found, newest[0].keys)
            if seen_by(newest[1], owner).machine.machine_id != wanted.machine_id:
                raise ChainBroken(f"chain {found.name} in {folder.name} is of another machine")
            points = sum(point.complete for _, point in chain.points())
            chain_id = ChainId(newest[0].contents.chain)
            chains.append(OwnedChain(chain=repository.relative(found), chain_id=chain_id, points=points))
    return OwnerChanged(
        folder=folder.name, machine_id=wanted.machine_id, machine_name=wanted.machine_name, chains=tuple(chains)
    )
