"""Snapshots: one folder each, with a frozen copy of every disk.

``snapshots/<machine id>/<snapshot id>/`` holds ``snapshot.json`` and one file per disk. The
folder is built under a dotted name and appears complete, with every byte on stable storage, or
not at all. The machine's lock is held meanwhile, so whatever stands there under a dotted name is
a dead attempt.
"""

import hashlib
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from holdfast.clock import Clock
from holdfast.errors import (
    ChangeTrackingLost,
    DiskChanged,
    DiskNotFound,
    RequestInvalid,
    SnapshotFailed,
    SnapshotNotFound,
)
from holdfast.model.ids import ChangeId, DiskKey, MachineId, SnapshotId
from holdfast.model.machine import Machine, Snapshot, SnapshotDisk
from holdfast.model.spans import Span
from holdfast.providers.local import tracking
from holdfast.providers.local.files import (
    StoredFile,
    building,
    leftovers,
    os_errors,
    read_json,
    remove_tree,
    retire_folder,
    visible_folders,
    write_json,
)
from holdfast.providers.local.freezing import LiveDisk, freeze
from holdfast.providers.local.root import Root
from holdfast.providers.raw_disks import FrozenDisk

SNAPSHOT_FILE = "snapshot.json"
TAG_LENGTH_MAX = 1024

_ID = re.compile(r"[0-9a-f-]{32,36}")


class SnapshotFile(StoredFile, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Content of ``snapshot.json``."""

    number: int
    """Counts the snapshots of a machine, so that their order needs no clock."""
    snapshot: Snapshot
    files: dict[DiskKey, str]
    """Names of the frozen disks."""


class SnapshotStore:
    """The snapshots below one root; only `create` needs the machine's lock."""

    def __init__(self, root: Root, clock: Clock, *, change_tracking: bool) -> None:
        self._root = root
        self._clock = clock
        self._change_tracking = change_tracking

    def create(
        self, machine: Machine, paths: Mapping[DiskKey, Path], tag: str, notes: tuple[str, ...] = ()
    ) -> Snapshot:
        """Freeze the machine's disks. No snapshot of the machine has the tag yet."""
        what = f"snapshot {_checked_tag(tag)!r} of machine {machine.name!r} ({machine.machine_id})"
        existing = self._load_all(machine.machine_id)
        self._clean(machine.machine_id)
        snapshot_id = SnapshotId(secrets.token_hex(16))
        folder = self._root.snapshots / machine.machine_id / snapshot_id
        with os_errors(SnapshotFailed, what), building(folder) as making:
            file = SnapshotFile(
                number=max((file.number for file in existing), default=0) + 1,
                snapshot=Snapshot(
                    snapshot_id=snapshot_id,
                    machine_id=machine.machine_id,
                    tag=tag,
                    created=self._clock.now(),
                    disks=self._freeze(making, machine, paths),
                    machine=machine,
                    notes=notes,
                ),
                files=_file_names(machine),
            )
            write_json(making / SNAPSHOT_FILE, file)
        return file.snapshot

    def tagged(self, machine_id: MachineId, tag: str) -> Snapshot | None:
        """Return the snapshot that carries the tag, or None."""
        return next((s for s in self.of_machine(machine_id) if s.tag == tag), None)

    def of_machine(self, machine_id: MachineId) -> list[Snapshot]:
        """Return the complete snapshots of a machine, oldest first."""
        return [file.snapshot for file in self._load_all(machine_id)]

    def all(self) -> Iterator[Snapshot]:
        """Yield the complete snapshots of all machines."""
        if not self._root.snapshots.exists():
            return
        for folder in visible_folders(self._root.snapshots):
            yield from self.of_machine(MachineId(folder.name))

    def remove(self, machine_id: MachineId, snapshot_id: SnapshotId) -> None:
        """Remove a snapshot; nothing happens when it is gone already."""
        with os_errors(SnapshotFailed, f"removing snapshot {snapshot_id} of machine {machine_id}"):
            if _are_ids(machine_id, snapshot_id):
                retire_folder(self._root.snapshots / machine_id / snapshot_id)

    def open_disk(self, machine_id: MachineId, snapshot_id: SnapshotId, key: DiskKey) -> FrozenDisk:
        """Open a frozen disk. Raises `SnapshotNotFound`, `DiskNotFound` or `DiskReadFailed`."""
        file, frozen = self._disk(machine_id, snapshot_id, key)
        folder = self._root.snapshots / machine_id / snapshot_id
        disk = FrozenDisk(folder / file.files[key])
        if disk.size_bytes != frozen.size_bytes:
            disk.close()
            raise DiskChanged(
                f"disk {key!r} of snapshot {snapshot_id} of machine {machine_id} has "
                f"{disk.size_bytes} bytes instead of {frozen.size_bytes}"
            )
        return disk

    def changed_spans(
        self, machine_id: MachineId, snapshot_id: SnapshotId, key: DiskKey, since: ChangeId
    ) -> Iterator[Span]:
        """Return what may differ since then, or raise `ChangeTrackingLost`."""
        _, frozen = self._disk(machine_id, snapshot_id, key)
        if frozen.change_id is None:
            raise ChangeTrackingLost(f"disk {key!r} of snapshot {snapshot_id} was frozen without change tracking")
        path = self._map_path(machine_id, key)
        return tracking.changed_spans(path, since, frozen.change_id, frozen.size_bytes)

    def changes_of(self, machine_id: MachineId, key: DiskKey, disk: FrozenDisk, since: ChangeId) -> Iterator[Span]:
        """Return what may differ on a copy of a disk since then, or raise `ChangeTrackingLost`.

        The caller has the machine's lock. The copy's state is recorded as if it had been the disk's, so what the disk
        itself holds later counts as changed where the two differ.
        """
        if not self._change_tracking:
            raise ChangeTrackingLost(f"changes of disk {key!r} of machine {machine_id} are not tracked")
        path = self._map_path(machine_id, key)
        with os_errors(SnapshotFailed, f"looking for changes of disk {key!r} of machine {machine_id}"):
            now = tracking.record_state(disk, path)
        return tracking.changed_spans(path, since, now, disk.size_bytes)

    def forget_tracking(self, machine_id: MachineId) -> None:
        """Remove the change tracking of all disks of a machine; the caller has its lock."""
        with os_errors(SnapshotFailed, f"resetting the change tracking of machine {machine_id}"):
            remove_tree(self._root.tracking / machine_id)

    def _clean(self, machine_id: MachineId) -> None:
        """Remove what dead attempts left behind."""
        with os_errors(SnapshotFailed, f"removing unfinished snapshots of machine {machine_id}"):
            for path in leftovers(self._root.snapshots / machine_id):
                remove_tree(path)

    def _freeze(self, making: Path, machine: Machine, paths: Mapping[DiskKey, Path]) -> tuple[SnapshotDisk, ...]:
        names = _file_names(machine)
        disks = [
            LiveDisk(
                key=disk.key,
                size_bytes=disk.size_bytes,
                live=paths[disk.key],
                frozen=making / names[disk.key],
            )
            for disk in machine.disks
        ]
        freeze(disks, making)
        return tuple(
            SnapshotDisk(
                key=disk.key,
                size_bytes=disk.size_bytes,
                change_id=self._track(machine.machine_id, disk),
            )
            for disk in disks
        )

    def _track(self, machine_id: MachineId, disk: LiveDisk) -> ChangeId | None:
        if not self._change_tracking:
            return None
        with FrozenDisk(disk.frozen) as frozen:
            return tracking.record_state(frozen, self._map_path(machine_id, disk.key))

    def _map_path(self, machine_id: MachineId, key: DiskKey) -> Path:
        # A key may be any text, so the file is called after its hash.
        name = hashlib.sha256(key.encode()).hexdigest()[:32]
        return self._root.tracking / machine_id / f"{name}.map"

    def _load_all(self, machine_id: MachineId) -> list[SnapshotFile]:
        place = self._root.snapshots / machine_id
        if not _are_ids(machine_id) or not place.exists():
            return []
        found = []
        for folder in visible_folders(place):
            file = _load(folder)
            if file is not None:  # else it was removed since the folder was listed
                found.append(file)
        return sorted(found, key=lambda file: file.number)

    def _disk(self, machine_id: MachineId, snapshot_id: SnapshotId, key: DiskKey) -> tuple[SnapshotFile, SnapshotDisk]:
        file = None
        if _are_ids(machine_id, snapshot_id):
            file = _load(self._root.snapshots / machine_id / snapshot_id)
        if file is None:
            raise SnapshotNotFound(f"machine {machine_id} has no snapshot {snapshot_id}")
        frozen = file.snapshot.disk(key)
        if frozen is None:
            raise DiskNotFound(f"snapshot {snapshot_id} of machine {machine_id} has no disk {key!r}")
        return file, frozen


def _load(folder: Path) -> SnapshotFile | None:
    path = folder / SNAPSHOT_FILE
    try:
        return read_json(path, SnapshotFile, SnapshotFailed, "snapshot file")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SnapshotFailed(f"snapshot file {path} cannot be read: {error.strerror}") from error


def _file_names(machine: Machine) -> dict[DiskKey, str]:
    return {disk.key: f"disk-{index}.raw" for index, disk in enumerate(machine.disks)}


def _are_ids(*texts: str) -> bool:
    """Return whether the ids are of our making, and so are safe as names of files."""
    return all(_ID.fullmatch(text) for text in texts)


def _checked_tag(tag: str) -> str:
    if not 0 < len(tag) <= TAG_LENGTH_MAX:
        raise RequestInvalid(f"a snapshot's tag has 1 to {TAG_LENGTH_MAX} characters")
    return tag
