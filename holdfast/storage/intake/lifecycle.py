"""The life of a restore point in a repository: begun, written by a transfer, abandoned or finished (see `finishing`).

Every step is idempotent, because a workflow may run it again after a crash.
"""

import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec

from holdfast.errors import (
    ChainBroken,
    DataError,
    FormatTooNew,
    PassphraseWrong,
    PointNotFound,
)
from holdfast.formats.contents import Contents, Point
from holdfast.formats.keys import ChainKeys, PassphraseCost, plain_keys
from holdfast.formats.magic import FileKind
from holdfast.model.archives import is_archive
from holdfast.model.fulls import FullPolicy
from holdfast.model.ids import MachineId, PointId, SessionId
from holdfast.model.machine import Machine, Snapshot
from holdfast.model.owners import ChainOwner
from holdfast.model.points import OpenPoint
from holdfast.storage.chain_files.chain_file import ChainFile, is_file_encrypted
from holdfast.storage.chain_files.chain_writer import ChainWriter, FileSpec
from holdfast.storage.chain_files.unlocking import make_encrypted_keys
from holdfast.storage.chains.chain import Chain, chain_file_name, chain_file_names
from holdfast.storage.chains.keeping import why_no_chain
from holdfast.storage.chains.leftovers import has_leftovers, remove_leftovers
from holdfast.storage.chains.metadata import (
    check_against_metadata,
    check_chain,
    check_links,
    read_metadata,
)
from holdfast.storage.chains.owning import newest_of, owner_of, why_compared
from holdfast.storage.chains.repository import Repository
from holdfast.storage.chains.session_file import can_join, file_of_session
from holdfast.storage.files.chain_lock import make_readers_file
from holdfast.storage.health.lost_spans import check_parent, lost_spans
from holdfast.storage.health.setting_aside import highest_lost
from holdfast.storage.intake.fulls import full_that_is_due, why_continued
from holdfast.storage.intake.joining import add_point
from holdfast.storage.intake.new_points import check_snapshot, new_point, parent_of
from holdfast.storage.points.point_writer import with_new_point


class StoreOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a new point is to be kept. ``passphrase`` None means without encryption."""

    unit_size: int
    began: datetime | None = None
    """When the session began; None: when its snapshot was taken."""
    passphrase: str | None = None
    full: bool = False
    """Start a new chain with a full, whatever is there."""
    fulls: FullPolicy | None = None
    """When to do so without being asked."""
    is_full_when_broken: bool = False
    """Start a new chain with a full when the newest one is damaged and cannot be continued."""
    only_increment: bool = False
    """Start no new chain, whatever the reason would be."""
    passphrase_cost: PassphraseCost = PassphraseCost()
    owner: ChainOwner | None = None
    """Whose chains they are; None: each machine has its own."""

    @property
    def is_shared(self) -> bool:
        """Return whether machines share their chains."""
        return self.owner is not None

    def began_of(self, snapshot: Snapshot) -> datetime:
        """Return when the session of a snapshot began: a full counts for that day, also when midnight is over."""
        return self.began or snapshot.created

    def owner_of(self, machine: Machine) -> ChainOwner:
        """Return whose chains the points of a machine go to."""
        return self.owner or ChainOwner.of_machine(machine.machine_id, machine.name)


def begin_point(repository: Repository, session: SessionId, snapshot: Snapshot, options: StoreOptions) -> OpenPoint:
    """Make the chain file for a new point of a machine, or return the one this session has begun already.

    Files that earlier sessions did not finish are removed. A chain that is damaged is not continued: its error is
    raised, unless a full was asked for.
    """
    check_snapshot(snapshot)
    repository.check_present()
    owner_folder = repository.owner_folder(options.owner_of(snapshot.machine))
    removed: tuple[str, ...] = ()
    for folder in reversed(repository.job_chains(owner_folder)):
        found = _look_at(repository, folder, session, snapshot, options)
        removed += found.removed
        if found.ours is not None:
            return found.ours
        if not found.is_empty:
            break
    else:
        found = _ChainFound(is_empty=True, reason=why_no_chain(repository.files, owner_folder))
        folder = owner_folder
    if found.reason and options.only_increment:
        raise PointNotFound(f"{snapshot.machine.name} has no full that a quick backup could continue: {found.reason}")
    if found.reason:
        return begin_full(repository, owner_folder, session, snapshot, options, (found.reason, removed))
    return _begin_increment(repository, folder, session, snapshot, options, removed)


def chain_problem(repository: Repository, owner: ChainOwner, machine_id: MachineId, passphrase: str | None) -> str:
    """Return why the newest chain of an owner cannot be continued for a machine, empty when it can or there is none.

    Raises `PassphraseWrong`, `FormatTooNew`, `RepositoryUnavailable`: those are no damage.
    """
    repository.check_present()
    folders = repository.job_chains(repository.owner_folder(owner))
    for folder in reversed(folders):
        if not chain_file_names(repository.files, folder):
            continue
        try:
            with Chain.open(repository.files, folder, passphrase) as chain:
                check_chain(repository.files, chain)
                found = newest_of(repository.files, chain, machine_id, is_shared=owner.owner_id != machine_id)
                if found is not None:
                    check_parent(repository.files, chain, found[1])
        except (PassphraseWrong, FormatTooNew):
            raise
        except DataError as error:
            return error.message
        return ""
    return ""


class _ChainFound(msgspec.Struct, frozen=True, kw_only=True):
    """What a chain means for a new point."""

    ours: OpenPoint | None = None
    """The point, begun before by the same session."""
    removed: tuple[str, ...] = ()
    is_empty: bool = False
    """Nothing was ever finished in it: the chain before it counts."""
    reason: str = ""
    """Why a new chain is begun."""


def _look_at(
    repository: Repository, folder: Path, session: SessionId, snapshot: Snapshot, options: StoreOptions
) -> _ChainFound:
    switched = _encryption_change(repository, folder, options)
    if switched:
        return _ChainFound(reason=switched)
    try:
        with _open(repository, folder, options) as chain:
            ours = begun_by(repository, chain, session, snapshot, options)
            if ours is not None:
                return _ChainFound(ours=ours)
            if chain.files and not has_leftovers(repository.files, chain, options.passphrase):
                return _ChainFound(reason=_why_new_chain(repository, chain, snapshot, options))
        removed = remove_leftovers(repository.files, folder, options.passphrase)
        if not chain_file_names(repository.files, folder):
            return _ChainFound(removed=removed, is_empty=True)
        with _open(repository, folder, options) as chain:
            return _ChainFound(removed=removed, reason=_why_new_chain(repository, chain, snapshot, options))
    except DataError as error:
        is_allowed = options.is_full_when_broken and not isinstance(error, PassphraseWrong | FormatTooNew)
        if not options.full and not is_allowed:
            raise
        why = "a full was asked for" if options.full else "the job begins anew then"
        return _ChainFound(reason=f"{why}; the chain before it is damaged: {error.message}")


def abandon_session(
    repository: Repository, session: SessionId, machine: Machine, options: StoreOptions
) -> tuple[str, ...]:
    """Remove the files that a session began for a machine and did not finish; return their names.

    A complete file is never removed. Raises `ChainBusy` while a transfer still runs.
    """
    repository.check_present()
    removed: list[str] = []
    for folder in repository.chain_folders(repository.owner_folder(options.owner_of(machine))):
        if _encryption_change(repository, folder, options):
            continue
        # A chain of this session opens with its passphrase, and an archive that is damaged is not of it.
        with suppress(DataError if is_archive(folder.name) else PassphraseWrong):
            removed += remove_leftovers(repository.files, folder, options.passphrase, session, machine.machine_id)
    return tuple(removed)


def begun_by(
    repository: Repository, chain: Chain, session: SessionId, snapshot: Snapshot, options: StoreOptions
) -> OpenPoint | None:
    """Return the point of this session; an unfinished one of another snapshot would mix two states of the disks."""
    file = file_of_session(chain, session)
    if file is None:
        return None
    mine = [p for p in file.contents.points if not options.is_shared or p.machine.machine_id == snapshot.machine_id]
    known = (point for point in mine if point.session == session)
    point = next((point for point in known if point.complete or point.snapshot == snapshot.snapshot_id), None)
    reason = "begun before and continued"
    if point is None and options.is_shared and can_join(chain, file, session):
        before = chain.newest(snapshot.machine_id)
        point = add_point(repository.files, file, session, snapshot, None if before is None else before[1])
        reason = f"it joins the {file.contents.kind} of its session"
    if point is None:
        return None
    before = chain.newest(point.machine.machine_id, point.number)
    opened = OpenPoint(
        chain=repository.relative(chain.folder),
        file=file.path.name,
        number=point.number,
        point_id=PointId(point.id),
        kind=file.contents.kind,
        parent_number=None if before is None else before[1].number,
        reason=reason,
        takes_files=True,
        takes_disks_at_once=True,
    )
    if before is None or point.complete:
        return opened
    compares = why_compared(owner_of(repository.files, chain.folder, file.keys), before[1].number)
    return msgspec.structs.replace(opened, compares=compares, damaged=lost_spans(repository.files, chain, before[1]))


def _open(repository: Repository, folder: Path, options: StoreOptions) -> Chain:
    return Chain.open(repository.files, folder, options.passphrase)


def _encryption_change(repository: Repository, folder: Path, options: StoreOptions) -> str:
    """Return in words how the wanted encryption differs from the chain's, or an empty string."""
    for name in chain_file_names(repository.files, folder):
        is_encrypted = is_file_encrypted(repository.files, folder / name)
        if is_encrypted is not None and is_encrypted != (options.passphrase is not None):
            return "encryption was switched off" if is_encrypted else "encryption was switched on"
    return ""


def _why_new_chain(repository: Repository, chain: Chain, snapshot: Snapshot, options: StoreOptions) -> str:
    """Return why the newest chain cannot be continued, or an empty string."""
    if options.full:
        return "a full was asked for"
    mine = newest_of(repository.files, chain, snapshot.machine_id, is_shared=options.is_shared)
    found = chain.newest() if options.is_shared else mine
    if found is None:
        return "the newest chain has no finished point"
    file, _ = found
    if file.superblock.unit_size != options.unit_size:
        return f"the unit size changed to {options.unit_size} bytes"
    due = full_that_is_due(chain, options.began_of(snapshot), options.fulls)
    if due:
        return due
    metadata = read_metadata(repository.files, chain.folder, file.keys)
    chain.check_whole()
    if metadata is None:
        check_links(chain)
    else:
        check_against_metadata(chain, metadata)
    if mine is not None:
        check_parent(repository.files, chain, mine[1])
    return ""


def begin_full(  # noqa: PLR0913, PLR0917 - the facts of one decision
    repository: Repository,
    owner_folder: Path,
    session: SessionId,
    snapshot: Snapshot,
    options: StoreOptions,
    decision: tuple[str, tuple[str, ...]],
    *,
    as_archive: bool = False,
) -> OpenPoint:
    """Make a new chain with the file of its full, behind the chains of jobs or as an archive beside them."""
    chain_id = os.urandom(16)
    folder = (repository.new_archive_folder if as_archive else repository.new_chain_folder)(owner_folder, chain_id)
    repository.files.make_folder(folder)
    make_readers_file(repository.files, folder)
    if options.passphrase is None:
        keys = plain_keys(chain_id)
    else:
        keys = make_encrypted_keys(chain_id, options.passphrase, options.passphrase_cost)
    return _begin(repository, folder, keys, None, (session, snapshot, options, None), decision)


def _begin_increment(  # noqa: PLR0913, PLR0917 - the facts of one decision
    repository: Repository,
    folder: Path,
    session: SessionId,
    snapshot: Snapshot,
    options: StoreOptions,
    removed: tuple[str, ...],
) -> OpenPoint:
    with _healed(repository, folder, options) as chain:
        found = chain.newest()
        if found is None:
            raise ChainBroken(f"chain {folder.name} has no finished point")
        keys = found[0].keys
        before = newest_of(repository.files, chain, snapshot.machine_id, is_shared=options.is_shared)
        damaged = () if before is None else lost_spans(repository.files, chain, before[1])
        lost = sum(span.length for span in damaged)
        again = f"; {lost} bytes that are damaged in it are read again" if lost else ""
        decision = (f"{why_continued(chain, options.began_of(snapshot), options.fulls)}{again}", removed)
        point = None if before is None else before[1]
        facts = (session, snapshot, options, point)
        compares = "" if point is None else why_compared(owner_of(repository.files, folder, keys), point.number)
        begun = _begin(repository, folder, keys, found, facts, decision)
        return msgspec.structs.replace(begun, damaged=damaged, compares=compares)


def _healed(repository: Repository, folder: Path, options: StoreOptions) -> Chain:
    """Open a chain whose files, which new points will rest on, are complete in both superblocks.

    One that is lost or was never written is written again.
    """
    chain = _open(repository, folder, options)
    weak = [file.path for file in chain.files if file.is_complete and file.complete_slots == 1]
    if not weak:
        return chain
    chain.close()
    for path in weak:
        with ChainWriter.resume(repository.files, path, options.passphrase) as writer:
            writer.commit_complete()
    return _open(repository, folder, options)


def _begin(  # noqa: PLR0913, PLR0917 - the facts of one decision
    repository: Repository,
    folder: Path,
    keys: ChainKeys,
    parent: tuple[ChainFile, Point] | None,
    facts: tuple[SessionId, Snapshot, StoreOptions, Point | None],
    decision: tuple[str, tuple[str, ...]],
) -> OpenPoint:
    session, snapshot, options, before = facts
    kind = FileKind.FULL if parent is None else FileKind.INCREMENT
    last = highest_lost(repository.files, folder)
    # A number of the last file that no point has any more was that of a machine that failed.
    last = max(last, 0 if parent is None else parent[0].contents.holds[1])
    point = new_point(session, snapshot, before, last + 1)
    contents = Contents(
        chain=keys.chain_id.hex(),
        file=os.urandom(16).hex(),
        kind=kind.name.lower(),
        unit_size=options.unit_size,
        created=options.began_of(snapshot),
        parent=parent_of(parent),
        holds=(point.number, point.number),
    )
    contents = with_new_point(contents, point)
    name = chain_file_name(point.number, contents.kind)
    spec = FileSpec(kind=kind, unit_size=options.unit_size, contents=contents)
    with ChainWriter.create(repository.files, folder / name, spec, keys):
        pass
    return OpenPoint(
        chain=repository.relative(folder),
        file=name,
        number=point.number,
        point_id=PointId(point.id),
        kind=contents.kind,
        parent_number=None if before is None else before.number,
        reason=decision[0],
        removed=decision[1],
        takes_files=True,
        takes_disks_at_once=True,
    )
