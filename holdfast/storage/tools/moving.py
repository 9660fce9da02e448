"""Moves a chain to another repository: copied verbatim, flushed, read back, and only then let go where it was.

The copy grows in a folder that no reader takes for a chain and gets its name by one rename, so that a crash leaves the
chain in its old place, or in both and never in none; the same again goes on from there. The source goes the way of all
that is removed and can be taken back. A chain with a locked point is copied, and stays until its lock ends.
"""

from datetime import datetime
from pathlib import Path

import msgspec

from holdfast.errors import ChainBroken, ChainBusy, RequestInvalid
from holdfast.faults import reach
from holdfast.model.archives import is_archive
from holdfast.model.ids import ChainId, MachineId
from holdfast.storage.chains.chain import Chain, chain_file_names
from holdfast.storage.chains.keeping import KEEP_NAME, note_moved, read_notes, write_owner
from holdfast.storage.chains.leftovers import remove_leftovers
from holdfast.storage.chains.metadata import check_chain, refresh_metadata
from holdfast.storage.chains.opening import open_with
from holdfast.storage.chains.owning import check_own_chain, owner_of, seen_by
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.chain_lock import acquire_chain_lock, make_readers_file
from holdfast.storage.files.immutable import set_immutable
from holdfast.storage.health.health_file import HEALTH_NAME
from holdfast.storage.methods.upkeep import ChainUpkeep
from holdfast.storage.retention.emptying import remove_empty_chain
from holdfast.storage.tools.mapping import Keys
from holdfast.storage.tools.verbatim import COMMIT_BYTES, JOURNAL_NAME, Report, VerbatimCopy

_STAGING = "move-"


class MovedChain(msgspec.Struct, frozen=True, kw_only=True):
    """A chain in its new place."""

    chain: str
    chain_id: ChainId
    machine_id: MachineId
    machine_name: str
    points: int
    size_bytes: int
    copied_bytes: int = 0
    """By this attempt."""
    stays_until: datetime | None = None
    """Until when the original stays, because a point of it is locked; None when it is let go."""


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """What is moved where."""

    chain: str
    to: str
    """Name of the other repository."""
    now: datetime
    commit_bytes: int = COMMIT_BYTES


def move_chain(source: Repository, target: Repository, move: Move, keys: Keys, report: Report) -> MovedChain:
    """Move a chain; goes on where an earlier attempt stopped.

    What ``report`` raises stops it at a commit. Raises `RequestInvalid` when the chain would not be the newest of its
    machine there, `RepositoryFull` before anything is copied, `ChainBusy`, `DataDamaged`, and errors of a broken chain.
    """
    source.check_present()
    target.check_present()
    if source.marker.id == target.marker.id:
        raise RequestInvalid(f"{source.root} and {target.root} are the same repository")
    folder = source.chain_folder(move.chain)
    if not source.files.exists(folder) or not chain_file_names(source.files, folder):
        return _let_go_before(target, move, keys)
    passphrase = _prepare(source, folder, keys)
    lock = acquire_chain_lock(source.files, folder)
    try:
        with Chain.open(source.files, folder, passphrase) as chain:
            check_chain(source.files, chain)
            if any(not file.is_complete for file in chain.files):
                raise ChainBusy(f"chain {folder.name} has a point that is not finished")
            moving = _Moving(source, target, chain, passphrase, move)
            moved = moving.copy(report)
            names = [file.path.name for file in chain.files]
        if moved.stays_until is None:
            note_moved(source.files, folder.parent, move.to, move.now)
            for name in names:
                set_immutable(folder / name, wanted=False)
            # The newest first, so that what is left can be read should the process die here.
            ChainUpkeep(source.files, folder, passphrase).remove_held(names[::-1], move.now)
    finally:
        lock.close()
    return moved


def chains_to_move(repository: Repository, folder: str) -> tuple[str, ...]:
    """Return the names of the chains in a machine's folder that hold files, oldest first."""
    found = repository.chain_folders(repository.machine_at(folder))
    return tuple(repository.relative(one) for one in found if chain_file_names(repository.files, one))


def discard_move(target: Repository, chain: str) -> None:
    """Remove what a move that will not go on has copied; nothing happens when it was finished."""
    target.check_present()
    name = chain.rpartition("/")[2]
    for machine in target.machine_folders():
        staging = machine / (_STAGING + name)
        if target.files.exists(staging):
            lock = acquire_chain_lock(target.files, staging)
            try:
                for left in target.files.names(staging):
                    target.files.remove(staging / left)
                target.files.remove_folder(staging)
            finally:
                lock.close()
            if not target.files.names(machine):
                target.files.remove_folder(machine)


class _Moving:
    """One move, under the lock of the chain."""

    def __init__(
        self, source: Repository, target: Repository, chain: Chain, passphrase: str | None, move: Move
    ) -> None:
        newest = chain.newest()
        if newest is None:
            raise ChainBroken(f"chain {chain.folder.name} has no finished point")
        self._source, self._target, self._chain, self._passphrase, self._move = source, target, chain, passphrase, move
        self._keys = newest[0].keys
        self._owner = owner_of(source.files, chain.folder, self._keys)
        check_own_chain(chain, self._owner)
        self._machine = seen_by(newest[1], self._owner).machine
        machine = target.machine_folder(MachineId(self._machine.machine_id), self._machine.name)
        self._folder = machine / chain.folder.name
        self._staging = machine / (_STAGING + chain.folder.name)

    def copy(self, report: Report) -> MovedChain:
        """Bring the chain to its place; return what it is there, and whether the original stays."""
        files, copied = self._target.files, 0
        if not self._is_there():
            self._check_place()
            files.make_folder(self._staging)
            lock = acquire_chain_lock(files, self._staging)
            try:
                copied = self._fill(report)
                files.rename(self._staging, self._folder)
                reach("move.switched")
            finally:
                lock.close()
        told = _told(self._target, self._folder, self._passphrase)
        return msgspec.structs.replace(told, copied_bytes=copied, stays_until=self._locked_until())

    def _fill(self, report: Report) -> int:
        files, staging = self._target.files, self._staging
        copied = VerbatimCopy(files, staging, self._move.commit_bytes).run(self._chain.files, report)
        for name in (KEEP_NAME, HEALTH_NAME):
            if self._source.files.exists(self._chain.folder / name):
                files.replace(staging / name, self._source.files.read(self._chain.folder / name))
        if self._owner is not None:
            owner = msgspec.structs.replace(self._owner, folder=self._folder.parent.name)
            write_owner(files, staging, self._keys, owner)
        refresh_metadata(files, staging, self._passphrase)
        make_readers_file(files, staging)
        self._compare(staging)
        reach("move.read_back")
        files.remove(staging / JOURNAL_NAME)
        return copied

    def _compare(self, folder: Path) -> None:
        """Raise unless a copy holds the same files and points, and fits together."""
        with Chain.open(self._target.files, folder, self._passphrase) as copy:
            check_chain(self._target.files, copy)
            # Of a chain that an earlier attempt was letting go a part is left.
            if not _state(self._chain) <= _state(copy):
                raise ChainBroken(f"{folder} is not the chain that {self._chain.folder} is")

    def _is_there(self) -> bool:
        """Return whether an earlier attempt brought it to its place. Raises `RequestInvalid` when another is there."""
        files, folder = self._target.files, self._folder
        if not files.exists(folder):
            return False
        if chain_file_names(files, folder):
            self._compare(folder)
            return True
        if not remove_empty_chain(files, folder):
            raise RequestInvalid(
                f"{self._target.relative(folder)} keeps what was removed of this chain",
                hint="`holdfast retention purge` makes room for it, `holdfast retention undelete` brings that back.",
            )
        return False

    def _check_place(self) -> None:
        """Raise `RequestInvalid` when the machine has points there that are not older than those that come.

        An archive stands beside all others, wherever it comes from.
        """
        if is_archive(self._folder.name):
            return
        first = min(point.created for _, point in self._chain.points())
        for survey in self._target.survey(self._passphrase):
            if survey.machine_folder != self._folder.parent.name or is_archive(survey.chain):
                continue
            is_before = survey.chain.rpartition("/")[2] < self._folder.name
            if survey.problem is not None or not is_before or any(p.point.created >= first for p in survey.points):
                raise RequestInvalid(
                    f"machine {self._machine.name} has a chain of its own there: {survey.chain}",
                    hint="Only a chain that continues what is there can be moved; `holdfast chain import` takes any.",
                )

    def _locked_until(self) -> datetime | None:
        notes = read_notes(self._source.files, self._chain.folder, self._keys).points
        here = {point.id for _, point in self._chain.points()}
        locks = [note.locked_until for note in notes if note.locked_until is not None and note.point_id in here]
        return max((until for until in locks if until > self._move.now), default=None)


def _prepare(source: Repository, folder: Path, keys: Keys) -> str | None:
    """Remove what dead sessions left in the chain, and return its passphrase."""
    chain, passphrase = open_with(source.files, folder, (None, *keys))
    chain.close()
    remove_leftovers(source.files, folder, passphrase)
    return passphrase


def _let_go_before(target: Repository, move: Move, keys: Keys) -> MovedChain:
    """Return where the chain is that an earlier attempt moved. Raises `ChainBroken` when it is nowhere."""
    folder = target.chain_folder(move.chain)
    if not target.files.exists(folder) or not chain_file_names(target.files, folder):
        raise ChainBroken(f"chain {move.chain} holds no chain file")
    chain, passphrase = open_with(target.files, folder, (None, *keys))
    chain.close()
    return _told(target, folder, passphrase)


def _told(target: Repository, folder: Path, passphrase: str | None) -> MovedChain:
    with Chain.open(target.files, folder, passphrase) as chain:
        newest = chain.newest()
        if newest is None:
            raise ChainBroken(f"chain {folder.name} has no finished point")
        keys = newest[0].keys
        machine = seen_by(newest[1], owner_of(target.files, folder, keys)).machine
        return MovedChain(
            chain=target.relative(folder),
            chain_id=ChainId(keys.chain_id.hex()),
            machine_id=MachineId(machine.machine_id),
            machine_name=machine.name,
            points=len(chain.points()),
            size_bytes=sum(file.handle.size() for file in chain.files),
        )


def _state(chain: Chain) -> set[tuple[str, str, int, tuple[str | None, ...]]]:
    """Return what two copies of a chain have in common: files, their commits, and the roots of points."""
    return {
        (
            file.path.name,
            file.contents.file,
            file.superblock.generation,
            tuple(point.root for point in file.contents.points),
        )
        for file in chain.files
    }
