"""Moving the bytes of one disk; served by proxies.

Both activities heartbeat a `TransferCursor`, continue from what is committed, and are safe to run twice.
"""

import msgspec
from temporalio import activity

from holdfast.model.compression import Compression
from holdfast.model.ids import CredentialName, DiskKey, MachineId, ProviderName, RepositoryName, SnapshotId, TargetId
from holdfast.model.plan import ReadDecision, Transport
from holdfast.model.points import MoverAccess, OpenPoint
from holdfast.model.session import Figures


class TransferCursor(msgspec.Struct, frozen=True, kw_only=True):
    """Progress of a disk. Only ``committed_bytes`` of the disk are safe; the rest is for people to look at."""

    machine: str
    disk: DiskKey
    size_bytes: int
    committed_bytes: int
    reached_bytes: int
    figures: Figures = Figures()
    busy: dict[str, float] = {}
    """Seconds each stage was busy."""
    rate_bytes_s: float = 0.0
    """Of the disk, over the last seconds."""
    target_id: str = ""
    """Target of a restore: a cursor is only good for the target it was made with."""
    compared_because: str = ""
    """Why a rollback compares instead of going by change tracking; the next attempt does so, too. Empty: no news."""
    repaired_bytes: int = 0
    """What differed behind a rollback and was written once more, so far."""
    bottleneck: str = ""
    """Which stage held the others up, and how busy each was, in words; empty when that is not known."""


class CopyDisk(msgspec.Struct, frozen=True, kw_only=True):
    """Copy one frozen disk into a point that has been begun."""

    provider: ProviderName
    machine_id: MachineId
    snapshot_id: SnapshotId
    disk: DiskKey
    repository: RepositoryName
    point: OpenPoint
    compression: Compression = Compression.ZSTD_1
    credential: CredentialName | None = None
    distrust_changes: bool = False
    """Read everything and compare by digest, whatever the provider says changed."""
    sample_bytes: int = 64 << 20
    """How much of what is said to be unchanged is compared all the same; 0 believes it."""
    exclude_swap: bool = False
    """Leave out swap space and page files of the guest; False, as earlier versions ask for it, reads them."""
    exclude_deleted: bool = False
    """Leave out blocks that no file of the guest has, of volumes that were left in order."""
    exclude_files: tuple[str, ...] = ()
    """Masks of files and folders of the guest that are left out, of volumes that were left in order."""
    is_only_disk: bool = False
    """The machine has no other disk; False, as earlier versions ask, is the careful answer. A machine that is off may
    sleep in one disk and have swap that belongs to its memory on another."""


class DiskCopied(msgspec.Struct, frozen=True, kw_only=True):
    """A disk that is durable in the repository."""

    disk: DiskKey
    decision: ReadDecision
    figures: Figures
    busy: dict[str, float] = {}
    transport: Transport | None = None
    """How it was read; None from a worker of an earlier version."""
    note: str = ""
    """A degraded choice the operator should see, in words; empty when there was none."""
    slowed: str = ""
    """When, why and how much the copy was slowed down to spare its datastore, and how long it waited for its share of
    which limit; empty when it was not and did not."""
    left_out: str = ""
    """What of the guest was not read, and of which volumes everything was and why, in words; empty without any."""
    bottleneck: str = ""
    """Which stage held the others up, and how busy each was, in words; empty when that is not known."""


class RestoreDisk(msgspec.Struct, frozen=True, kw_only=True):
    """Write one disk of a restore point to a prepared target."""

    provider: ProviderName
    target_id: TargetId
    disk: DiskKey
    repository: RepositoryName
    chain: str
    number: int
    credential: CredentialName | None = None
    target_disk: DiskKey | None = None
    """Key of the disk at the target when it is another one than at the point."""
    mover: MoverAccess | None = None
    """Where the disk is read; None when the proxy reads the files itself."""
    compare: bool = True
    """Read the target back and compare it with the point's digests."""
    begins_with_content: bool = False
    """The target's disk began with what a machine had: compare first, and write only what differs."""
    is_again: bool = False
    """Another transfer before this one may have written some of it, and lost its line to the repository."""


class DiskRestored(msgspec.Struct, frozen=True, kw_only=True):
    """A disk that is durable at the target."""

    disk: DiskKey
    figures: Figures
    compared: bool
    busy: dict[str, float] = {}
    transport: Transport | None = None
    """How it was written; None where there is one way only, and from a worker of an earlier version."""
    note: str = ""
    """A degraded choice the operator should see, in words; empty when there was none."""
    slowed: str = ""
    """How long the restore waited for its share of which limit; empty when it did not."""
    bottleneck: str = ""
    """Which stage held the others up, and how busy each was, in words; empty when that is not known."""
    compared_bytes: int = 0
    """Read of the target to find what differs, by the attempt that ended well; 0 when the target began empty."""
    equal_bytes: int = 0
    """Of these, what needed no writing."""
    written_bytes: int = 0
    """By the attempt that ended well, zeros included."""


@activity.defn(name="transfer.copy_disk")
def copy_disk(request: CopyDisk) -> DiskCopied:
    """Copy one disk from its snapshot into the repository."""
    raise AssertionError(request)


@activity.defn(name="transfer.restore_disk")
def restore_disk(request: RestoreDisk) -> DiskRestored:
    """Restore one disk from the repository to a target."""
    raise AssertionError(request)
