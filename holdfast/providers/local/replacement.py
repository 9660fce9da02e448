"""Replacing disks of an existing machine by restored ones, all or none.

First everything that can fail is tried, and the way for each disk is chosen:

- ``switch``: the restored file takes the place of the live one by rename; the live one keeps a
  second name until all are in place. This is what happens to a file on the provider's file
  system.
- ``copy``: what differs is written into the live disk in place. This is the only way for a block
  device or a file on another file system.

Then an intent file is written, ``commits/<machine id>.json``. From there on the commit only goes
forward: each step can be repeated, and until the last one is done the machine can neither be
switched on nor frozen, so nobody sees some disks old and some new.
"""

import errno
import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path

import msgspec

from holdfast.errors import (
    DiskWriteFailed,
    LimitExceeded,
    MachineRunning,
    ProviderUnavailable,
    RequestInvalid,
    SourceError,
)
from holdfast.model.ids import DiskKey, MachineId, TargetId
from holdfast.model.machine import DISKS_PER_MACHINE_MAX, Disk, PowerState, RestoreTarget
from holdfast.model.spans import Span
from holdfast.providers.local.cloning import clear, copy_differences
from holdfast.providers.local.files import StoredFile, os_errors, read_json, sync_folder, write_json
from holdfast.providers.local.machines import (
    DiskEntry,
    Machines,
    Registered,
)
from holdfast.providers.local.root import Root
from holdfast.providers.raw_disks import disk_size

_KEPT = "replaced"


class Way(StrEnum):
    """How a restored disk takes the place of the live one."""

    SWITCH = "switch"
    COPY = "copy"


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One disk. Paths are absolute."""

    key: DiskKey
    way: Way
    restored: str
    live: str
    entry: str | None = None
    """Path to add to the machine file, for a disk that the machine no longer had; else None."""


class Intent(StoredFile, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Content of the intent file."""

    target_id: TargetId
    machine_id: MachineId
    steps: tuple[Step, ...]


class Replacement(msgspec.Struct, frozen=True, kw_only=True):
    """The commit of one target. Its methods need the machine's lock and raise `OSError` too."""

    root: Root
    machines: Machines
    target: RestoreTarget
    machine_id: MachineId
    content: Path
    files: dict[DiskKey, str]

    def has_begun(self) -> bool:
        """Return whether the commit is past the point of no return and not complete."""
        intent = load_intent(self.root, self.machine_id)
        return intent is not None and intent.target_id == self.target.target_id

    def begin(self) -> None:
        """Choose the way of each disk, try what can be tried, and write the intent file."""
        record = self.machines.with_id(self.machine_id)
        refuse_unfinished(self.root, self.machine_id)
        if record.file.power is not PowerState.OFF:
            raise MachineRunning(f"{record.label} is on, so its disks cannot be replaced")
        check_replaceable(self.machines, record, self.target.disks)
        kept = self.content.parent / _KEPT
        kept.mkdir(exist_ok=True)
        intent = Intent(
            target_id=self.target.target_id,
            machine_id=self.machine_id,
            steps=tuple(self._step(record, disk.key) for disk in self.target.disks),
        )
        sync_folder(kept)
        write_json(intent_path(self.root, self.machine_id), intent)

    def finish(self) -> None:
        """Carry out every step that is not done yet."""
        intent = load_intent(self.root, self.machine_id)
        assert intent is not None
        for step in intent.steps:
            if step.way is Way.SWITCH:
                _switch(step)
            else:
                _copy(step)
        self._add_entries(intent.steps)

    def forget(self) -> None:
        """Remove the intent and the replaced files; the commit must be recorded already."""
        if self.has_begun():
            path = intent_path(self.root, self.machine_id)
            path.unlink()
            sync_folder(path.parent)
        kept = self.content.parent / _KEPT
        for name in self.files.values():
            (kept / name).unlink(missing_ok=True)
        if kept.exists():
            kept.rmdir()

    def _step(self, record: Registered, key: DiskKey) -> Step:
        restored = self.content / self.files[key]
        kept = self.content.parent / _KEPT / self.files[key]
        entry = next((entry for entry in record.file.disks if entry.key == key), None)
        added = None
        if entry is None:
            added = f"restored-{self.target.target_id[:8]}-{self.files[key]}"
            live = record.folder / added
        else:
            live = self.machines.disk_path(record, entry)
        way = Way.SWITCH if _can_switch(self.root, live, kept) else Way.COPY
        if way is Way.SWITCH:
            _take_over_owner(restored, live)
        else:
            _try_copy(restored, live)
        return Step(key=key, way=way, restored=str(restored), live=str(live), entry=added)

    def _add_entries(self, steps: Iterable[Step]) -> None:
        record = self.machines.with_id(self.machine_id)
        known = {entry.key for entry in record.file.disks}
        new = tuple(
            DiskEntry(key=step.key, path=step.entry)
            for step in steps
            if step.entry is not None and step.key not in known
        )
        if new:
            file = msgspec.structs.replace(record.file, disks=(*record.file.disks, *new))
            self.machines.save(Registered(record.folder, file))


def intent_path(root: Root, machine_id: MachineId) -> Path:
    """Return where the intent of a machine's commit stands."""
    return root.commits / f"{machine_id}.json"


def load_intent(root: Root, machine_id: MachineId) -> Intent | None:
    """Return the unfinished commit of a machine, or None."""
    try:
        return read_json(intent_path(root, machine_id), Intent, DiskWriteFailed, "intent file")
    except FileNotFoundError:
        return None


def pending_intents(root: Root) -> list[MachineId]:
    """Return the machines whose disks were being replaced when a process died, or are right now."""
    with os_errors(ProviderUnavailable, f"listing {root.commits}"):
        return sorted(MachineId(p.stem) for p in root.commits.iterdir() if p.suffix == ".json")


def refuse_unfinished(root: Root, machine_id: MachineId) -> None:
    """Raise `SourceError` while a commit has replaced only some disks of the machine."""
    with os_errors(SourceError, f"reading the intent of machine {machine_id}"):
        intent = load_intent(root, machine_id)
    if intent is not None:
        raise SourceError(
            f"machine {machine_id}: the commit of target {intent.target_id} was interrupted",
            hint="Run the restore again, or `sweep` the provider; both complete the switch.",
        )


def check_replaceable(machines: Machines, record: Registered, disks: Sequence[Disk]) -> None:
    """Raise `RequestInvalid` when the restored disks do not fit the machine.

    A block device keeps its size, so the restored disk must not be larger.
    """
    sizes = {disk.key: disk.size_bytes for disk in disks}
    keys = {entry.key for entry in record.file.disks} | set(sizes)
    if len(keys) > DISKS_PER_MACHINE_MAX:
        raise LimitExceeded(f"{record.label} would have {len(keys)} disks")
    for entry in record.file.disks:
        path = machines.disk_path(record, entry)
        if entry.key not in sizes or not path.is_block_device():
            continue
        with os_errors(DiskWriteFailed, f"measuring disk {entry.key!r} of {record.label}"):
            size_bytes = _device_size(path)
        if size_bytes < sizes[entry.key]:
            raise RequestInvalid(
                f"disk {entry.key!r} of {record.label}: {path} has {size_bytes} bytes and the "
                f"restored disk {sizes[entry.key]}"
            )


def _device_size(path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return disk_size(descriptor)
    finally:
        os.close(descriptor)


def _can_switch(root: Root, live: Path, kept: Path) -> bool:
    """Return whether a rename can bring a file of the provider's folder to the place of ``live``.

    Where it can, the live file then has ``kept`` as its second name.
    """
    kept.unlink(missing_ok=True)
    if live.is_block_device():
        return False
    if not live.exists():
        return live.is_relative_to(root.path.resolve())
    try:
        kept.hardlink_to(live)
    except OSError as error:
        if error.errno == errno.EXDEV:
            return False
        raise
    return True


def _take_over_owner(restored: Path, live: Path) -> None:
    if live.exists():
        wanted, found = live.stat(), restored.stat()
        if (wanted.st_uid, wanted.st_gid) != (found.st_uid, found.st_gid):
            os.chown(restored, wanted.st_uid, wanted.st_gid)
        restored.chmod(stat.S_IMODE(wanted.st_mode))


def _try_copy(restored: Path, live: Path) -> None:
    """Raise `OSError` unless the live disk can be opened for writing and nobody else has it."""
    with ExitStack() as opened:
        _open_for_copy(restored, live, opened)


def _open_for_copy(restored: Path, live: Path, opened: ExitStack) -> tuple[int, int]:
    source = os.open(restored, os.O_RDONLY | os.O_CLOEXEC)
    opened.callback(os.close, source)
    # On a block device O_EXCL fails while it is mounted or part of something else.
    flags = os.O_EXCL if live.is_block_device() else os.O_CREAT
    target = os.open(live, os.O_RDWR | os.O_CLOEXEC | flags, 0o600)
    opened.callback(os.close, target)
    return source, target


def _switch(step: Step) -> None:
    restored, live = Path(step.restored), Path(step.live)
    if restored.exists():
        restored.replace(live)
    # A step that was done before a crash may not have reached the disk yet.
    sync_folder(live.parent)
    sync_folder(restored.parent)


def _copy(step: Step) -> None:
    with ExitStack() as opened:
        live = Path(step.live)
        source, target = _open_for_copy(Path(step.restored), live, opened)
        size_bytes = disk_size(source)
        if live.is_block_device():
            clear(target, Span(size_bytes, disk_size(target) - size_bytes))
        else:
            os.ftruncate(target, size_bytes)
        copy_differences(source, target, size_bytes)
        os.fsync(target)
    sync_folder(live.parent)
