"""Restore targets: disks that exist beside the live machines until they are committed.

``targets/<target id>/`` holds ``target.json`` and ``machine/`` with one sparse file per disk. The
target id follows from the caller's token, so the same token finds the same folder. A target that
makes a new machine has its ``machine.json`` in ``machine/`` from the start, and the commit is one
rename of that folder. How disks of an existing machine are replaced stands in ``replacement``. The
disks of a target that is made in place are no empty files but copies of the live ones.

A committed target leaves ``target.json`` behind for `RECORD_KEPT_DAYS`, so that a repeated commit
finds its answer.
"""

import os
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from holdfast.clock import Clock
from holdfast.errors import (
    DiskNotFound,
    DiskWriteFailed,
    MachineRunning,
    RequestInvalid,
    TargetExists,
)
from holdfast.faults import reach
from holdfast.model.ids import DiskKey, MachineId, TargetId, folder_name
from holdfast.model.machine import Disk, Machine, PowerState, RestoreTarget
from holdfast.planning.rollback import unfit_for_rollback
from holdfast.providers.checks import check_disks, check_in_place, target_id_of
from holdfast.providers.local.cloning import shares_blocks
from holdfast.providers.local.files import (
    StoredFile,
    building,
    leftovers,
    os_errors,
    publish_folder,
    read_json,
    remove_tree,
    retire_folder,
    sync_folder,
    visible_folders,
    write_json,
)
from holdfast.providers.local.freezing import LiveDisk, freeze
from holdfast.providers.local.machines import (
    MACHINE_FILE,
    MachineFile,
    Machines,
    Registered,
    checked_name,
    new_uuid,
    plain_disks,
)
from holdfast.providers.local.replacement import Replacement, check_replaceable, load_intent
from holdfast.providers.local.root import Root
from holdfast.providers.raw_disks import TargetDisk

TARGET_FILE = "target.json"
CONTENT = "machine"
RECORD_KEPT_DAYS = 30

_ID = re.compile(r"[0-9a-f]{32}")


class TargetFile(StoredFile, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Content of ``target.json``."""

    target: RestoreTarget
    machine_id: MachineId
    """The machine that the commit makes or changes."""
    files: dict[DiskKey, str]
    """Names of the disks' files in the content folder."""
    committed: datetime | None = None
    """When the commit was complete; None before."""


class TargetStore:
    """The restore targets below one root; each method says which lock it needs."""

    def __init__(self, root: Root, machines: Machines, clock: Clock) -> None:
        self._root = root
        self._machines = machines
        self._clock = clock

    def prepare(self, token: str, machine: Machine, disks: Sequence[Disk], replaces: MachineId | None) -> RestoreTarget:
        """Make the disks, or return the token's target. Needs the inventory lock."""
        target = RestoreTarget(
            target_id=target_id_of(token),
            machine_name=checked_name(machine.name),
            disks=tuple(disks),
            replaces=replaces,
        )
        if self._is_prepared(target):
            return target
        check_disks(target)
        self._check_place(target)
        what = f"preparing target {target.target_id} for machine {machine.name!r}"
        with os_errors(DiskWriteFailed, what):
            self._build(target, machine)
        return target

    def prepare_in_place(
        self, token: str, machine_id: MachineId, disks: Sequence[Disk], inventory: AbstractContextManager[None]
    ) -> RestoreTarget:
        """Copy disks of a machine, or return the token's target.

        Needs the machine's lock. ``inventory`` takes that of the inventory; it is held once the disks are copied.
        """
        record = self._machines.with_id(machine_id)
        target = RestoreTarget(
            target_id=target_id_of(token),
            machine_name=record.file.name,
            disks=tuple(disks),
            replaces=machine_id,
            is_in_place=True,
        )
        if self._is_prepared(target):
            return target
        check_disks(target)
        self._check_place(target)
        check_in_place(record.file.name, self._machines.describe(record).disks, disks)
        with os_errors(DiskWriteFailed, f"copying disks of {record.label} for target {target.target_id}"):
            self._build_in_place(target, record, inventory)
        return target

    def shares_blocks(self, machine_id: MachineId, disks: Sequence[Disk]) -> bool:
        """Return whether copies of disks of a machine would share their blocks; tried with each. Needs no lock."""
        record = self._machines.with_id(machine_id)
        present = self._machines.describe(record).disks
        if unfit_for_rollback(present, disks) is not None:
            return False
        wanted = {disk.key for disk in disks}
        paths = [self._machines.disk_path(record, entry) for entry in record.file.disks if entry.key in wanted]
        with os_errors(DiskWriteFailed, f"trying whether disks of {record.label} can be shared"):
            return all(shares_blocks(path, self._root.targets) for path in paths)

    def uncommitted(self, target_id: TargetId) -> TargetFile:
        """Return the target's file. Raises `RequestInvalid` when there is none, or when it was committed."""
        file = self.required(target_id)
        if file.committed is not None:
            raise RequestInvalid(f"target {target_id} is committed already")
        return file

    def open(self, target_id: TargetId, key: DiskKey) -> TargetDisk:
        """Open a disk for writing. Needs no lock."""
        return TargetDisk(self._path(self.uncommitted(target_id), key))

    def in_place(self, target_id: TargetId, key: DiskKey) -> tuple[MachineId, Path]:
        """Return the machine whose disks a target began with, and the file of one. Needs no lock."""
        file = self.uncommitted(target_id)
        if not file.target.is_in_place:
            raise RequestInvalid(f"target {target_id} began empty, so nothing is known of its changes")
        return file.machine_id, self._path(file, key)

    def commit_new(self, file: TargetFile) -> Registered:
        """Let the new machine appear. Needs the inventory lock."""
        target_id, name = file.target.target_id, file.target.machine_name
        folder = self._root.machines / folder_name(name, file.machine_id)
        if file.committed is None and not folder.exists():
            if self._machines.name_is_taken(name):
                raise TargetExists(f"target {target_id}: a machine is called {name!r} by now")
            content = self._content(target_id)
            with os_errors(DiskWriteFailed, f"committing target {target_id}"):
                _sync_files(content, file)
                publish_folder(content, folder)
                sync_folder(content.parent)
        self._record(file)
        return self._machines.with_id(file.machine_id)

    def commit_replacing(self, file: TargetFile) -> Registered:
        """Switch the restored disks in. Needs the machine's lock."""
        if file.committed is None:
            replacement = self._replacement(file)
            with os_errors(DiskWriteFailed, f"committing target {file.target.target_id}"):
                if not replacement.has_begun():
                    _sync_files(self._content(file.target.target_id), file)
                    replacement.begin()
                replacement.finish()
        self._record(file)
        return self._machines.with_id(file.machine_id)

    def abandon(self, file: TargetFile) -> None:
        """Remove a target that was not committed. Needs the lock that its commit needs.

        A commit that has begun to change the machine cannot be taken back and is completed instead.
        """
        target_id = file.target.target_id
        with os_errors(DiskWriteFailed, f"abandoning target {target_id}"):
            if file.target.replaces is not None and self._replacement(file).has_begun():
                self.commit_replacing(file)
            elif file.committed is None:
                retire_folder(self._root.targets / target_id)

    def pending(self) -> list[RestoreTarget]:
        """Return the targets that are neither committed nor abandoned. Needs no lock."""
        return [file.target for file in self.load_all() if file.committed is None]

    def interrupted(self, machine_id: MachineId) -> TargetFile | None:
        """Return the target whose commit into the machine was interrupted, or None."""
        with os_errors(DiskWriteFailed, f"reading the intent of machine {machine_id}"):
            intent = load_intent(self._root, machine_id)
        return None if intent is None else self.required(intent.target_id)

    def load_all(self) -> list[TargetFile]:
        """Return every target file, by target id."""
        found = (self.load(TargetId(f.name)) for f in visible_folders(self._root.targets))
        return [file for file in found if file is not None]

    def load(self, target_id: TargetId) -> TargetFile | None:
        """Return the target's file, or None when there is no such target."""
        if not _ID.fullmatch(target_id):
            return None
        path = self._root.targets / target_id / TARGET_FILE
        try:
            return read_json(path, TargetFile, DiskWriteFailed, "target file")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DiskWriteFailed(f"target file {path} cannot be read: {error.strerror}") from error

    def required(self, target_id: TargetId) -> TargetFile:
        """Return the target's file. Raises `RequestInvalid` when there is no such target."""
        file = self.load(target_id)
        if file is None:
            raise RequestInvalid(f"there is no restore target {target_id!r}")
        return file

    def clean(self) -> list[Path]:
        """Remove dead attempts and old records; return which. Needs the inventory lock."""
        limit = self._clock.now() - timedelta(days=RECORD_KEPT_DAYS)
        with os_errors(DiskWriteFailed, "removing unfinished restore targets"):
            found = leftovers(self._root.targets)
            for path in found:
                remove_tree(path)
            for file in self.load_all():
                if file.committed is not None and file.committed < limit:
                    found.append(self._root.targets / file.target.target_id)
                    retire_folder(found[-1])
        return found

    def _is_prepared(self, target: RestoreTarget) -> bool:
        """Return whether a target is there already. Raises `RequestInvalid` when its id stands for another."""
        existing = self.load(target.target_id)
        if existing is not None and existing.target != target:
            raise RequestInvalid(f"target {target.target_id} was prepared for another request by the same token")
        return existing is not None

    def _build_in_place(
        self, target: RestoreTarget, record: Registered, inventory: AbstractContextManager[None]
    ) -> None:
        files = _file_names(target)
        live = {entry.key: self._machines.disk_path(record, entry) for entry in record.file.disks}
        # Where snapshots are made, because there the lock of the machine says whether an attempt is dead.
        workshop = self._root.snapshots / record.file.id
        with ExitStack() as stack, building(self._root.targets / target.target_id, workshop) as making:
            content = making / CONTENT
            content.mkdir()
            copies = [
                LiveDisk(
                    key=disk.key, size_bytes=disk.size_bytes, live=live[disk.key], frozen=content / files[disk.key]
                )
                for disk in target.disks
            ]
            freeze(copies, content)
            sync_folder(content)
            write_json(making / TARGET_FILE, TargetFile(target=target, machine_id=record.file.id, files=files))
            reach("local.copied_in_place")
            stack.enter_context(inventory)
            self._is_prepared(target)  # the token may stand for another request by now

    def _build(self, target: RestoreTarget, machine: Machine) -> None:
        files = _file_names(target)
        machine_id = target.replaces or MachineId(new_uuid())
        with building(self._root.targets / target.target_id) as making:
            content = making / CONTENT
            content.mkdir()
            for disk in target.disks:
                _make_sparse(content / files[disk.key], disk.size_bytes)
            if target.replaces is None:
                new = MachineFile(
                    id=machine_id,
                    name=target.machine_name,
                    power=PowerState.OFF,
                    disks=plain_disks(files),
                    configuration=machine.configuration,
                )
                write_json(content / MACHINE_FILE, new)
            sync_folder(content)
            file = TargetFile(target=target, machine_id=machine_id, files=files)
            write_json(making / TARGET_FILE, file)

    def _check_place(self, target: RestoreTarget) -> None:
        if target.replaces is None:
            if self._machines.name_is_taken(target.machine_name):
                raise TargetExists(f"a machine is called {target.machine_name!r} already")
            return
        record = self._machines.with_id(target.replaces)
        if record.file.power is not PowerState.OFF:
            raise MachineRunning(f"{record.label} is on, so its disks cannot be replaced")
        check_replaceable(self._machines, record, target.disks)

    def _record(self, file: TargetFile) -> None:
        """Note that the commit is complete, and drop what it no longer needs."""
        target_id = file.target.target_id
        folder = self._root.targets / target_id
        with os_errors(DiskWriteFailed, f"recording the commit of target {target_id}"):
            if file.committed is None:
                done = msgspec.structs.replace(file, committed=self._clock.now())
                write_json(folder / TARGET_FILE, done)
            if file.target.replaces is not None:
                self._replacement(file).forget()
            remove_tree(folder / CONTENT)

    def _replacement(self, file: TargetFile) -> Replacement:
        return Replacement(
            root=self._root,
            machines=self._machines,
            target=file.target,
            machine_id=file.machine_id,
            content=self._content(file.target.target_id),
            files=file.files,
        )

    def _path(self, file: TargetFile, key: DiskKey) -> Path:
        target_id = file.target.target_id
        if key not in file.files:
            raise DiskNotFound(f"target {target_id} has no disk {key!r}")
        return self._content(target_id) / file.files[key]

    def _content(self, target_id: TargetId) -> Path:
        return self._root.targets / target_id / CONTENT


def _file_names(target: RestoreTarget) -> dict[DiskKey, str]:
    return {disk.key: f"disk-{index}.raw" for index, disk in enumerate(target.disks)}


def _make_sparse(path: Path, size_bytes: int) -> None:
    with path.open("xb") as file:
        file.truncate(size_bytes)
        os.fsync(file.fileno())


def _sync_files(content: Path, file: TargetFile) -> None:
    for name in file.files.values():
        descriptor = os.open(content / name, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
