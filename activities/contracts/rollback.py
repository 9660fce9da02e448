"""Rolling one disk back in place; served by proxies. Heartbeats a `TransferCursor`, and is safe to run twice."""

import msgspec
from temporalio import activity

from holdfast.model.ids import CredentialName, DiskKey, ProviderName, RepositoryName, TargetId
from holdfast.model.plan import ReadDecision
from holdfast.model.points import MoverAccess
from holdfast.model.session import Figures


class RollBackDisk(msgspec.Struct, frozen=True, kw_only=True):
    """Make one disk of a target that was prepared in place equal to a restore point."""

    provider: ProviderName
    target_id: TargetId
    disk: DiskKey
    repository: RepositoryName
    chain: str
    number: int
    credential: CredentialName | None = None
    mover: MoverAccess | None = None
    """Where the disk is read; None when the proxy reads the files itself."""
    compare: bool = True
    """Read the whole disk back, compare it with the point's digests, and write once more what differs."""
    sample_bytes: int = 64 << 20
    """Without ``compare``: how much of what is said to be unchanged is compared all the same."""
    is_again: bool = False
    """Another transfer before this one may have written some of it, and lost its line to the repository."""


class DiskRolledBack(msgspec.Struct, frozen=True, kw_only=True):
    """A disk that is as the point has it, and durable."""

    disk: DiskKey
    decision: ReadDecision
    """How it was found what differs, and why so."""
    figures: Figures
    written_bytes: int
    """By the attempt that ended well, zeros included."""
    compared: bool
    busy: dict[str, float] = {}
    note: str = ""
    """What the operator should see, in words; empty when there was nothing."""
    slowed: str = ""
    """How long the rollback waited for its share of which limit; empty when it did not."""
    bottleneck: str = ""
    """Which stage held the others up, and how busy each was, in words; empty when that is not known."""


@activity.defn(name="transfer.roll_back_disk")
def roll_back_disk(request: RollBackDisk) -> DiskRolledBack:
    """Make one disk equal to a restore point by writing what differs."""
    raise AssertionError(request)
