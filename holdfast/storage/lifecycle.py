"""The life of a restore point in a repository: begun, written by a transfer, finished or abandoned.

Every step is idempotent, because a workflow may run it again after a crash.
"""

import os
from pathlib import Path

import msgspec

from holdfast.errors import ChainBroken, PointNotFound
from holdfast.formats.contents import Contents, ParentPoint, Point, PointDisk, PointMachine
from holdfast.formats.keys import ChainKeys, PassphraseCost, new_encrypted_keys, plain_keys
from holdfast.formats.magic import FileKind
from holdfast.model.ids import ChainId, FileId, MachineId, PointId, SessionId
from holdfast.model.machine import Snapshot
from holdfast.model.points import OpenPoint, PointSummary
from holdfast.storage.chain import Chain, chain_file_name, chain_file_names
from holdfast.storage.chain_file import ChainFile, is_file_encrypted
from holdfast.storage.chain_writer import ChainWriter, FileSpec, acquire_chain_lock
from holdfast.storage.metadata import (
    check_against_metadata,
    check_links,
    read_metadata,
    refresh_metadata,
)
from holdfast.storage.point_writer import complete_point, with_new_point
from holdfast.storage.repository import Repository


class StoreOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a new point is to be kept. ``passphrase`` None means without encryption."""

    unit_size: int
    passphrase: str | None = None
    full: bool = False
    """Start a new chain with a full, whatever is there."""
    passphrase_cost: PassphraseCost = PassphraseCost()


def begin_point(repository: Repository, session: SessionId, snapshot: Snapshot, options: StoreOptions) -> OpenPoint:
    """Make the chain file for a new point of a machine, or return the one this session has begun already."""
    machine_folder = repository.machine_folder(snapshot.machine_id, snapshot.machine.name)
    folders = repository.chain_folders(machine_folder)
    newest = folders[-1] if folders else None
    removed: tuple[str, ...] = ()
    reason = "no chain of this machine yet"
    switched = "" if newest is None else _encryption_change(repository, newest, options)
    if newest is not None and switched:
        reason = switched
    elif newest is not None:
        ours = _begun_by(repository, newest, session, options)
        if ours is not None:
            return ours
        removed = _remove_unfinished(repository, newest, options)
        reason = _why_new_chain(repository, newest, snapshot, options)
    if newest is None or reason:
        return _begin_full(repository, machine_folder, session, snapshot, options, (reason, removed))
    return _begin_increment(repository, newest, session, snapshot, options, removed)


def finish_point(repository: Repository, opened: OpenPoint, passphrase: str | None) -> PointSummary:
    """Complete a point whose disks are all written, write the metadata, and read everything back."""
    folder = repository.chain_folder(opened.chain)
    path = folder / opened.file
    if not repository.files.exists(path):
        raise PointNotFound(f"file {opened.file} of chain {opened.chain} is gone")
    with ChainWriter.resume(repository.files, path, passphrase) as writer:
        written = complete_point(writer, opened.number)
    refresh_metadata(repository.files, folder, passphrase)
    with Chain.open(repository.files, folder, passphrase) as chain:
        check_links(chain)
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
    removed: list[str] = []
    for folder in repository.chain_folders(repository.machine_folder(machine_id, name)):
        with _open(repository, folder, options) as chain:
            unfinished = [
                file.path
                for file in chain.files
                if not file.is_complete and any(p.session == session for p in file.contents.points)
            ]
        removed += _remove(repository, folder, unfinished)
    return tuple(removed)


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


def _begun_by(repository: Repository, folder: Path, session: SessionId, options: StoreOptions) -> OpenPoint | None:
    with _open(repository, folder, options) as chain:
        for file, point in chain.points():
            if point.session == session and not point.complete:
                parent = file.contents.parent
                return OpenPoint(
                    chain=repository.relative(folder),
                    file=file.path.name,
                    number=point.number,
                    point_id=PointId(point.id),
                    kind=file.contents.kind,
                    parent_number=None if parent is None else parent.point,
                    reason="begun before and continued",
                )
    return None


def _open(repository: Repository, folder: Path, options: StoreOptions) -> Chain:
    return Chain.open(repository.files, folder, options.passphrase)


def _remove_unfinished(repository: Repository, folder: Path, options: StoreOptions) -> tuple[str, ...]:
    """Remove files of sessions that ended without finishing them. Only what says so of itself is removed."""
    with _open(repository, folder, options) as chain:
        unfinished = [file.path for file in chain.files if not file.is_complete]
    return _remove(repository, folder, unfinished)


def _remove(repository: Repository, folder: Path, paths: list[Path]) -> tuple[str, ...]:
    if not paths:
        return ()
    lock = acquire_chain_lock(repository.files, folder)
    try:
        for path in paths:
            repository.files.remove(path)
    finally:
        lock.close()
    return tuple(path.name for path in paths)


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
    sequence = len(repository.chain_folders(machine_folder)) + 1
    folder = machine_folder / f"{sequence:06d}-{chain_id.hex()[:8]}"
    repository.files.make_folder(folder)
    if options.passphrase is None:
        keys = plain_keys(chain_id)
    else:
        keys = new_encrypted_keys(chain_id, options.passphrase, os.urandom(60), options.passphrase_cost)
    return _begin(repository, folder, keys, None, (session, snapshot, options.unit_size), decision)


def _begin_increment(  # noqa: PLR0913, PLR0917 - the facts of one decision
    repository: Repository,
    folder: Path,
    session: SessionId,
    snapshot: Snapshot,
    options: StoreOptions,
    removed: tuple[str, ...],
) -> OpenPoint:
    with _open(repository, folder, options) as chain:
        found = chain.newest()
        if found is None:
            raise ChainBroken(f"chain {folder.name} has no finished point")
        keys = found[0].keys
        decision = ("the newest chain is continued", removed)
        return _begin(repository, folder, keys, found, (session, snapshot, options.unit_size), decision)


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
