"""The life of a restore point in a repository: begun, written by a transfer, finished or abandoned.

Every step is idempotent, because a workflow may run it again after a crash.
"""

import os
from contextlib import suppress
from pathlib import Path

import msgspec

from holdfast.errors import ChainBroken, DataError, LimitExceeded, PassphraseWrong, PointNotFound, RequestInvalid
from holdfast.faults import reach
from holdfast.formats.contents import Contents, ParentPoint, Point, PointDisk, PointMachine
from holdfast.formats.keys import ChainKeys, PassphraseCost, plain_keys
from holdfast.formats.magic import FileKind
from holdfast.model.ids import ChainId, FileId, MachineId, PointId, SessionId
from holdfast.model.machine import DISK_SIZE_MAX, DISKS_PER_MACHINE_MAX, SECTOR_SIZE, Snapshot
from holdfast.model.points import OpenPoint, PointSummary
from holdfast.storage.chain import Chain, chain_file_name, chain_file_names
from holdfast.storage.chain_file import ChainFile, is_file_encrypted
from holdfast.storage.chain_lock import make_readers_file
from holdfast.storage.chain_writer import ChainWriter, FileSpec
from holdfast.storage.leftovers import remove_leftovers
from holdfast.storage.metadata import check_against_metadata, check_chain, check_links, read_metadata, refresh_metadata
from holdfast.storage.point_writer import complete_point, with_new_point
from holdfast.storage.repository import Repository
from holdfast.storage.unlocking import make_encrypted_keys


class StoreOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a new point is to be kept. ``passphrase`` None means without encryption."""

    unit_size: int
    passphrase: str | None = None
    full: bool = False
    """Start a new chain with a full, whatever is there."""
    passphrase_cost: PassphraseCost = PassphraseCost()


def begin_point(repository: Repository, session: SessionId, snapshot: Snapshot, options: StoreOptions) -> OpenPoint:
    """Make the chain file for a new point of a machine, or return the one this session has begun already.

    Files that earlier sessions did not finish are removed. A chain that is damaged is not continued: its error is
    raised, unless a full was asked for.
    """
    _check_snapshot(snapshot)
    repository.check_present()
    machine_folder = repository.machine_folder(snapshot.machine_id, snapshot.machine.name)
    removed: tuple[str, ...] = ()
    for folder in reversed(repository.chain_folders(machine_folder)):
        found = _look_at(repository, folder, session, snapshot, options)
        removed += found.removed
        if found.ours is not None:
            return found.ours
        if not found.is_empty:
            break
    else:
        found = _ChainFound(is_empty=True, reason="no chain of this machine yet")
        folder = machine_folder
    if found.reason:
        return _begin_full(repository, machine_folder, session, snapshot, options, (found.reason, removed))
    return _begin_increment(repository, folder, session, snapshot, options, removed)


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
        ours = _begun_by(repository, folder, session, snapshot, options)
        if ours is not None:
            return _ChainFound(ours=ours)
        removed = remove_leftovers(repository.files, folder, options.passphrase)
        if not chain_file_names(repository.files, folder):
            return _ChainFound(removed=removed, is_empty=True)
        return _ChainFound(removed=removed, reason=_why_new_chain(repository, folder, snapshot, options))
    except DataError as error:
        if not options.full:
            raise
        return _ChainFound(reason=f"a full was asked for; the chain before it is damaged: {error.message}")


def finish_point(repository: Repository, opened: OpenPoint, passphrase: str | None) -> PointSummary:
    """Complete a point whose disks are all written, write the metadata, and read everything back.

    The chain is looked at first: a point that hangs on a missing or rolled-back file is never called complete.
    """
    repository.check_present()
    files, folder = repository.files, repository.chain_folder(opened.chain)
    path = repository.chain_file(opened.chain, opened.file)
    if not files.exists(path):
        raise PointNotFound(f"file {opened.file} of chain {opened.chain} is gone")
    with Chain.open(files, folder, passphrase) as chain:
        check_chain(files, chain)
    with ChainWriter.resume(files, path, passphrase) as writer:
        written = complete_point(writer, opened.number)
        reach("finish.completed")
        refresh_metadata(files, folder, passphrase)  # still under the lock of the chain, which upkeep takes, too
    with Chain.open(files, folder, passphrase) as chain:
        check_chain(files, chain)
        file, point = chain.point(opened.number)
        if point != written:
            raise ChainBroken(f"point {opened.number} of chain {opened.chain} does not read back as written")
        return _summary(opened, file, point)


def abandon_session(
    repository: Repository, session: SessionId, machine_id: MachineId, name: str, options: StoreOptions
) -> tuple[str, ...]:
    """Remove the files that a session began for a machine and did not finish; return their names.

    A complete file is never removed. Raises `ChainBusy` while a transfer still runs.
    """
    repository.check_present()
    removed: list[str] = []
    for folder in repository.chain_folders(repository.machine_folder(machine_id, name)):
        if _encryption_change(repository, folder, options):
            continue
        # A chain of this session opens with its passphrase.
        with suppress(PassphraseWrong):
            removed += remove_leftovers(repository.files, folder, options.passphrase, session)
    return tuple(removed)


def _check_snapshot(snapshot: Snapshot) -> None:
    keys = [disk.key for disk in snapshot.disks]
    if len(set(keys)) < len(keys):
        raise RequestInvalid(f"snapshot {snapshot.snapshot_id} names a disk twice")
    if len(keys) > DISKS_PER_MACHINE_MAX:
        raise LimitExceeded(f"snapshot {snapshot.snapshot_id} has {len(keys)} disks")
    for disk in snapshot.disks:
        if disk.size_bytes % SECTOR_SIZE:
            raise RequestInvalid(f"disk {disk.key} has {disk.size_bytes} bytes, not a multiple of {SECTOR_SIZE}")
        if disk.size_bytes > DISK_SIZE_MAX:
            raise LimitExceeded(f"disk {disk.key} has {disk.size_bytes} bytes, the most is {DISK_SIZE_MAX}")


def _summary(opened: OpenPoint, file: ChainFile, point: Point) -> PointSummary:
    return PointSummary(
        chain=opened.chain,
        chain_id=ChainId(file.contents.chain),
        file=opened.file,
        file_id=FileId(file.contents.file),
        number=point.number,
        point_id=PointId(point.id),
        kind=opened.kind,
        machine_id=MachineId(point.machine.machine_id),
        machine_name=point.machine.name,
        created=point.created,
        root=point.root or "",
        size_bytes=sum(disk.size for disk in point.disks),
        file_bytes=file.superblock.end,
        generation=file.superblock.generation,
    )


def _begun_by(
    repository: Repository, folder: Path, session: SessionId, snapshot: Snapshot, options: StoreOptions
) -> OpenPoint | None:
    """Return the point of this session; an unfinished one of another snapshot would mix two states of the disks."""
    with _open(repository, folder, options) as chain:
        for file, point in chain.points():
            if point.session == session and (point.complete or point.snapshot == snapshot.snapshot_id):
                parent = file.contents.parent
                return OpenPoint(
                    chain=repository.relative(folder),
                    file=file.path.name,
                    number=point.number,
                    point_id=PointId(point.id),
                    kind=file.contents.kind,
                    parent_number=None if parent is None else parent.point,
                    reason="begun before and continued",
                    takes_files=True,
                    takes_disks_at_once=True,
                )
    return None


def _open(repository: Repository, folder: Path, options: StoreOptions) -> Chain:
    return Chain.open(repository.files, folder, options.passphrase)


def _encryption_change(repository: Repository, folder: Path, options: StoreOptions) -> str:
    """Return in words how the wanted encryption differs from the chain's, or an empty string."""
    for name in chain_file_names(repository.files, folder):
        is_encrypted = is_file_encrypted(repository.files, folder / name)
        if is_encrypted is not None and is_encrypted != (options.passphrase is not None):
            return "encryption was switched off" if is_encrypted else "encryption was switched on"
    return ""


def _why_new_chain(repository: Repository, folder: Path, snapshot: Snapshot, options: StoreOptions) -> str:
    """Return why the newest chain cannot be continued, or an empty string."""
    if options.full:
        return "a full was asked for"
    with _open(repository, folder, options) as chain:
        found = chain.newest(snapshot.machine_id)
        if found is None:
            return "the newest chain has no finished point"
        file, _ = found
        if file.superblock.unit_size != options.unit_size:
            return f"the unit size changed to {options.unit_size} bytes"
        metadata = read_metadata(repository.files, folder, file.keys)
        chain.check_whole()
        if metadata is None:
            check_links(chain)
        else:
            check_against_metadata(chain, metadata)
    return ""


def _begin_full(  # noqa: PLR0913, PLR0917 - the facts of one decision
    repository: Repository,
    machine_folder: Path,
    session: SessionId,
    snapshot: Snapshot,
    options: StoreOptions,
    decision: tuple[str, tuple[str, ...]],
) -> OpenPoint:
    chain_id = os.urandom(16)
    folder = repository.new_chain_folder(machine_folder, chain_id)
    repository.files.make_folder(folder)
    make_readers_file(repository.files, folder)
    if options.passphrase is None:
        keys = plain_keys(chain_id)
    else:
        keys = make_encrypted_keys(chain_id, options.passphrase, options.passphrase_cost)
    return _begin(repository, folder, keys, None, (session, snapshot, options.unit_size), decision)


def _begin_increment(  # noqa: PLR0913, PLR0917 - the facts of one decision
    repository: Repository,
    folder: Path,
    session: SessionId,
    snapshot: Snapshot,
    options: StoreOptions,
    removed: tuple[str, ...],
) -> OpenPoint:
    _heal(repository, folder, options)
    with _open(repository, folder, options) as chain:
        found = chain.newest()
        if found is None:
            raise ChainBroken(f"chain {folder.name} has no finished point")
        keys = found[0].keys
        decision = ("the newest chain is continued", removed)
        return _begin(repository, folder, keys, found, (session, snapshot, options.unit_size), decision)


def _heal(repository: Repository, folder: Path, options: StoreOptions) -> None:
    """Make files that new points will rest on complete in both superblocks, should one be lost or never written."""
    with _open(repository, folder, options) as chain:
        weak = [file.path for file in chain.files if file.is_complete and file.complete_slots == 1]
    for path in weak:
        with ChainWriter.resume(repository.files, path, options.passphrase) as writer:
            writer.commit_complete()


def _begin(  # noqa: PLR0913, PLR0917 - the facts of one decision
    repository: Repository,
    folder: Path,
    keys: ChainKeys,
    parent: tuple[ChainFile, Point] | None,
    facts: tuple[SessionId, Snapshot, int],
    decision: tuple[str, tuple[str, ...]],
) -> OpenPoint:
    session, snapshot, unit_size = facts
    kind = FileKind.FULL if parent is None else FileKind.INCREMENT
    point = _new_point(session, snapshot, parent)
    contents = Contents(
        chain=keys.chain_id.hex(),
        file=os.urandom(16).hex(),
        kind=kind.name.lower(),
        unit_size=unit_size,
        created=snapshot.created,
        parent=_parent_of(parent),
        holds=(point.number, point.number),
    )
    contents = with_new_point(contents, point)
    name = chain_file_name(point.number, contents.kind)
    spec = FileSpec(kind=kind, unit_size=unit_size, contents=contents)
    with ChainWriter.create(repository.files, folder / name, spec, keys):
        pass
    return OpenPoint(
        chain=repository.relative(folder),
        file=name,
        number=point.number,
        point_id=PointId(point.id),
        kind=contents.kind,
        parent_number=None if parent is None else parent[1].number,
        reason=decision[0],
        removed=decision[1],
        takes_files=True,
        takes_disks_at_once=True,
    )


def _parent_of(parent: tuple[ChainFile, Point] | None) -> ParentPoint | None:
    if parent is None:
        return None
    file, point = parent
    return ParentPoint(file=file.contents.file, point=point.number, root=point.root or "")


def _new_point(session: SessionId, snapshot: Snapshot, parent: tuple[ChainFile, Point] | None) -> Point:
    machine = snapshot.machine
    return Point(
        number=1 if parent is None else parent[1].number + 1,
        id=os.urandom(16).hex(),
        session=session,
        machine=PointMachine(
            machine_id=machine.machine_id,
            name=machine.name,
            power=machine.power,
            configuration=machine.configuration,
        ),
        created=snapshot.created,
        parent_root=None if parent is None else parent[1].root,
        snapshot=snapshot.snapshot_id,
        disks=tuple(
            PointDisk(disk=0, key=disk.key, size=disk.size_bytes, change_id=disk.change_id) for disk in snapshot.disks
        ),
    )
