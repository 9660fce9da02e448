"""Protected machines, their disks and snapshots, as a provider reports them."""

from datetime import datetime
from enum import StrEnum

import msgspec

from holdfast.model.ids import ChangeId, DiskKey, MachineId, SnapshotId, TargetId

DISK_SIZE_MAX = 64 << 40
"""Largest disk in bytes (64 TiB)."""
DISKS_PER_MACHINE_MAX = 256
SECTOR_SIZE = 512
"""Every disk size is a multiple of this many bytes."""


class PowerState(StrEnum):
    """Whether the machine runs."""

    ON = "on"
    OFF = "off"


class Quiesce(StrEnum):
    """Whether the guest shall bring its file systems to rest for the moment of a snapshot."""

    NEVER = "never"
    """The snapshot is as after a power failure: crash-consistent."""
    TRY = "try"
    """A guest that cannot is frozen as it is, and the session says so."""
    REQUIRE = "require"
    """A guest that cannot is not protected."""


class SnapshotOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a snapshot is taken."""

    quiesce: Quiesce = Quiesce.NEVER


AS_IT_IS = SnapshotOptions()
"""The guest is not asked for anything."""


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """One virtual disk. ``size_bytes`` is a multiple of `SECTOR_SIZE`."""

    key: DiskKey
    size_bytes: int


class SkippedDisk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk that the provider cannot protect, and why."""

    label: str
    """How its owner knows it."""
    reason: str


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """One machine. ``configuration`` is what the provider needs to make it again; opaque to everybody else."""

    machine_id: MachineId
    name: str
    power: PowerState
    disks: tuple[Disk, ...]
    configuration: dict[str, str] = {}
    skipped: tuple[SkippedDisk, ...] = ()
    """Disks that are not among ``disks``; a session that leaves them out says so."""

    @property
    def has_one_disk(self) -> bool:
        """Return whether it has one disk in all, with those that are skipped."""
        return len(self.disks) + len(self.skipped) == 1


class SnapshotDisk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk as frozen in a snapshot. ``change_id`` is None when the provider does not track changes of this disk."""

    key: DiskKey
    size_bytes: int
    change_id: ChangeId | None = None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A temporary frozen state of a machine, made by us and carrying our ``tag``."""

    snapshot_id: SnapshotId
    machine_id: MachineId
    tag: str
    created: datetime
    disks: tuple[SnapshotDisk, ...]
    machine: Machine
    """The machine as it was when the snapshot was taken."""
    notes: tuple[str, ...] = ()
    """What was done less well than asked, in words; a session shows it."""

    def disk(self, key: DiskKey) -> SnapshotDisk | None:
        """Return the frozen disk with this key, or None."""
        return next((disk for disk in self.disks if disk.key == key), None)


class Identifier(StrEnum):
    """Which identifier a machine that a restore makes gets."""

    NEW = "new"
    """Another one than the captured machine has: both can run side by side."""
    KEEP = "keep"
    """That of the captured machine, which nobody else may have then."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who a restored machine is to its networks and its guest.

    To the provider, and so to us, it is another machine in any case.
    """

    mac_addresses: Identifier = Identifier.NEW
    """Of its network cards."""
    uuid: Identifier = Identifier.NEW
    """That of its firmware, which its guest sees."""


AS_ANOTHER = Identity()
"""Everything is new."""


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """Where a restored machine shall go, and who it is there. What is empty is chosen by the provider."""

    folder: str = ""
    pool: str = ""
    datastore: str = ""
    networks: dict[str, str] = {}
    """New networks by the captured ones; what is not named stays."""
    identity: Identity = AS_ANOTHER


ANYWHERE = Placement()
"""The provider chooses everything."""


class AttachedDisk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk that we attached to a machine, which is a proxy, to read or to write it there."""

    machine_id: MachineId
    """Of the proxy."""
    machine_name: str
    file: str
    since: datetime
    tag: str = ""
    """Of the snapshot whose disk it is; empty for one of a restore target."""
    target_id: TargetId = TargetId("")
    """Of the restore target whose disk it is; empty for one of a snapshot."""
    source: MachineId = MachineId("")
    """The machine whose snapshot it is of; empty where that is not known, and for one of a restore target."""


class Choice(StrEnum):
    """What the operator wants a machine to hold whose rollback did not end and cannot be given up by itself."""

    KEEP = "keep"
    """What it holds now."""
    GO_BACK = "go-back"
    """What it held before; what was written since is lost."""


class RestoreTarget(msgspec.Struct, frozen=True, kw_only=True):
    """Where a restore writes: disks that exist beside the live machine until the target is committed."""

    target_id: TargetId
    machine_name: str
    disks: tuple[Disk, ...]
    replaces: MachineId | None
    """The machine whose disks the commit replaces; None when the commit makes a new machine."""
    is_in_place: bool = False
    """Whether its disks began with what that machine has, instead of empty."""
    notes: tuple[str, ...] = ()
    """What the machine will have less well than asked, in words; a session shows it."""
    undecided: str = ""
    """Why neither a commit nor giving it up would keep everything, so that the operator has to choose; mostly empty."""
