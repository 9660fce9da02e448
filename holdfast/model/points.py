"""Restore points as they travel between workflows, activities and the catalog."""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum

import msgspec

from holdfast.model.ids import ChainId, DiskKey, FileId, MachineId, PointId
from holdfast.model.machine import Machine


class DamagedSpan(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a disk that a point has lost."""

    disk: DiskKey
    start: int
    length: int


class DiskAccess(msgspec.Struct, frozen=True, kw_only=True):
    """What a proxy shows the repository's mover to write or read one disk."""

    disk: DiskKey
    grant: str
    """What may be done, as the repository's worker wrote it down."""
    token: str
    """Hexadecimal; proves that the grant was given to who shows it. Good for this disk of this point alone."""


class MoverAccess(msgspec.Struct, frozen=True, kw_only=True):
    """How a proxy reaches the data mover of a repository."""

    address: str
    """``host:port``."""
    has_tls: bool
    disks: tuple[DiskAccess, ...]
    patience_s: float | None = None
    """For how long a proxy dials it when it is away; None: as long as the proxy thinks right."""
    use: int = 0
    """Which use of the session's access this is; it grows with each transfer that the session begins."""
    connections: int | None = None
    """How many a proxy keeps to it for each disk on a short line; None: as many as the proxy thinks right."""

    def disk(self, key: DiskKey) -> DiskAccess | None:
        """Return the access to a disk, or None."""
        return next((access for access in self.disks if access.disk == key), None)


class OpenPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A point that has been begun and is being written. ``chain`` is relative to its repository."""

    chain: str
    file: str
    number: int
    point_id: PointId
    kind: str
    parent_number: int | None
    reason: str
    """Why the point is what it is: a full and why, or an increment."""
    removed: tuple[str, ...] = ()
    """Files of earlier sessions that were never finished and have been removed."""
    mover: MoverAccess | None = None
    """Where the disks are sent; None when proxies write the file themselves."""
    takes_files: bool = False
    """Whether the worker that began it knows machine files; one of an earlier version does not."""
    takes_disks_at_once: bool = False
    """Whether several disks may be copied into it at the same time; a worker of an earlier version has one writer."""
    damaged: tuple[DamagedSpan, ...] = ()
    """What the parent point has lost and is read from the source again."""
    compares: str = ""
    """Why disks are compared with the parent point instead of asking what changed since; empty: they need not be."""


class PointSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A point that can be restored."""

    chain: str
    chain_id: ChainId
    file: str
    file_id: FileId
    number: int
    point_id: PointId
    kind: str
    machine_id: MachineId
    machine_name: str
    created: datetime
    root: str
    """Point root, hexadecimal; it identifies content and ancestry."""
    size_bytes: int
    """Sum of the disks' sizes."""
    file_bytes: int
    generation: int
    """Commit number of the file when the point was finished; a lower one later means a rolled-back file."""


class FoundPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A point to be restored, with the machine as it was captured."""

    chain: str
    number: int
    point_id: PointId
    created: datetime
    machine: Machine
    encrypted: bool
    mover: MoverAccess | None = None
    """Where the disks are read; None when proxies read the files themselves."""
    files: tuple[str, ...] = ()
    """Names of the machine files that the point keeps."""


class Damage(msgspec.Struct, frozen=True, kw_only=True):
    """A span of a disk at a point that cannot be restored; length 0 stands for the disk or point as a whole."""

    chain: str
    point: int
    machine: str
    disk: DiskKey
    offset: int
    length: int
    file: str
    reason: str
    code: str = ""
    """Of the error, of a chain that cannot be opened."""

    @property
    def words(self) -> str:
        """Return the reason, with the code where there is one."""
        return f"{self.reason} ({self.code})" if self.code else self.reason


class Health(StrEnum):
    """What the last look at a point said."""

    USABLE = "usable"
    DAMAGED = "damaged"
    """Some of its bytes do not match their checksums or digests."""
    MISSING = "missing"
    """It was set aside with a file that cannot be read any more."""


class PointHealth(msgspec.Struct, frozen=True, kw_only=True):
    """A point that was found damaged once, and how it stands now."""

    chain: str
    """Relative to the repository."""
    number: int
    point_id: str
    machine: str
    state: Health
    reason: str = ""


class ChainRead(msgspec.Struct, frozen=True, kw_only=True):
    """What was read of one chain, by a verification or a scrub."""

    chain: str
    points: int = 0
    """That were compared with their digests; a scrub reads places of files and counts none."""
    stored_bytes: int = 0
    damages: int = 0


CHAINS_NAMED_MAX = 100
"""Chains of which a report says what was read; those beyond are in its sums."""


def chains_named(read: Iterable[ChainRead]) -> tuple[ChainRead, ...]:
    """Return the chains that a report names, those with damage first."""
    return tuple(sorted(read, key=lambda one: not one.damages)[:CHAINS_NAMED_MAX])


class VerifyReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification found."""

    chains: int = 1
    points: int = 0
    units: int = 0
    stored_bytes: int = 0
    damages: tuple[Damage, ...] = ()
    unnamed_damages: int = 0
    """Damaged spans beyond those that ``damages`` names."""
    health: tuple[PointHealth, ...] = ()
    """Points of the chains looked at that were found damaged, now or before, and how they stand."""
    read: tuple[ChainRead, ...] = ()
    """The chains, those with damage first; none from workers of earlier versions."""

    @property
    def is_good(self) -> bool:
        """Return whether nothing is damaged."""
        return not self.damages and not self.unnamed_damages
