"""What workflows are started with, answer, and can be asked. Fields are only ever added, with defaults."""

from datetime import datetime

import msgspec

from holdfast.model.compression import Compression
from holdfast.model.ids import CredentialName, DiskKey, JobName, MachineId, ProviderName, RepositoryName, SessionId
from holdfast.model.machine import ANYWHERE, Machine, Placement, PowerState, Quiesce
from holdfast.model.placement import Resources
from holdfast.model.points import PointSummary, VerifyReport
from holdfast.model.session import Outcome, Problem, Session, Task
from holdfast.planning.delta import Delta
from holdfast.planning.sweep import AGE_MIN_S, Decision


class BackupOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a job backs up."""

    compression: Compression = Compression.ZSTD_1
    unit_size: int = 1 << 20
    full: bool = False
    """Start new chains with fulls."""
    distrust_changes: bool = False
    """Read everything and compare by digest."""
    sample_mib: int = 64
    """MiB of each disk that are compared with the earlier point although tracking says that nothing changed there."""
    exclude_swap: bool = True
    """Leave out swap space and page files of guests."""
    exclude_deleted: bool = True
    """Leave out blocks that no file of a guest has, of volumes that were left in order."""
    exclude_files: tuple[str, ...] = ()
    """Masks of files and folders of guests that are left out, of volumes that were left in order."""
    verify: bool = False
    """Read every new point back through the restore path before the session ends."""
    quiesce: Quiesce = Quiesce.NEVER
    machines_at_once: int = 2
    excluded_disks: tuple[str, ...] = ()
    """Patterns of ``machine/disk`` that are left out, with the wildcards of a shell."""
    credential: CredentialName | None = None
    """Name of the passphrase; None stores without encryption."""


class BackupRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One session of a backup job. ``session_id`` empty: derived from the run, as scheduled starts need."""

    job: JobName
    provider: ProviderName
    proxy: str
    repository: RepositoryName
    machines: tuple[str, ...] = ()
    """References as `holdfast.model.selection` reads them; empty for all machines of the provider."""
    excluded: tuple[str, ...] = ()
    options: BackupOptions = BackupOptions()
    session_id: SessionId = SessionId("")
    resources: Resources | None = None
    """Proxies to choose from, and limits; None: ``proxy`` it is, as sessions of earlier versions have it."""


class MachineBackupRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The backup of one machine inside a session."""

    session_id: SessionId
    job: JobName
    provider: ProviderName
    proxy: str
    repository: RepositoryName
    machine: Machine
    options: BackupOptions = BackupOptions()
    resources: Resources | None = None
    """Proxies to choose from, and limits; None: ``proxy`` it is, as sessions of earlier versions have it."""


class MachineBackupResult(msgspec.Struct, frozen=True, kw_only=True):
    """How the backup of one machine ended."""

    machine_id: MachineId
    machine_name: str
    outcome: Outcome
    tasks: tuple[Task, ...] = ()
    point: PointSummary | None = None
    snapshot_open_s: float = 0.0
    """How long the machine's snapshot was there; 0 when it was not taken, or not removed as planned."""
    notes: tuple[str, ...] = ()
    problem: Problem | None = None


class RestoreRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The restore of a machine or of single disks."""

    session_id: SessionId
    repository: RepositoryName
    provider: ProviderName
    proxy: str
    point: str = "latest"
    """First digits of the point's id, or ``latest``."""
    machine: str | None = None
    """Id or name of the machine the point is of; needed with ``latest`` when there are several."""
    disks: tuple[DiskKey, ...] = ()
    """Empty for all."""
    new_name: str | None = None
    """Name of the machine to make; None restores over the original, which must be off, or into ``into``."""
    into: str | None = None
    """Id or name of another machine that gets the disks besides its own; it must be off."""
    placement: Placement = ANYWHERE
    """Where a new machine goes."""
    over: tuple[DiskKey, ...] = ()
    """Disks of ``into`` that those in ``disks`` replace, one for one; empty: they come beside what is there."""
    is_quick: bool = False
    """Roll the original back in place: write only what differs from the point."""
    delta: Delta = Delta.AUTO
    """Whether disks that are there are compared with the point, and only what differs is written."""
    power: PowerState = PowerState.OFF
    compare: bool = True
    credential: CredentialName | None = None
    job: JobName = JobName("restore")
    resources: Resources | None = None
    """Proxies to choose from, and limits; None: ``proxy`` it is, as sessions of earlier versions have it."""


class VerifyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The verification of one point, one machine's points, or a whole repository."""

    session_id: SessionId
    repository: RepositoryName
    point: str | None = None
    machine: str | None = None
    credential: CredentialName | None = None
    job: JobName = JobName("verify")


class SweepRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The removal of what dead sessions left at a provider. ``session_id`` empty: derived from the run."""

    provider: ProviderName
    proxy: str
    is_dry_run: bool = False
    """Only say what would be done."""
    age_min_s: int = AGE_MIN_S
    """Nothing younger is removed."""
    with_unknown: bool = False
    """Remove also what no known session made."""
    session_id: SessionId = SessionId("")
    job: JobName = JobName("sweep")


class SweepReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a sweep found and did."""

    decisions: tuple[Decision, ...] = ()
    """At most 200."""
    removed: int = 0
    kept: int = 0
    is_dry_run: bool = False


class SessionResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a session ended; small, the details are in the catalog."""

    session: Session
    tasks: tuple[Task, ...] = ()
    points: tuple[PointSummary, ...] = ()
    report: VerifyReport | None = None
    machine: Machine | None = None
    """The machine a restore made or changed."""
    swept: SweepReport | None = None
    """What a sweep found and did."""


class TaskProgress(msgspec.Struct, frozen=True, kw_only=True):
    """Where a disk stands, as the workflow knows it; live figures are in the heartbeats."""

    machine: str
    disk: DiskKey
    size_bytes: int
    state: str
    """Waiting, snapshot, transferring, done, failed, cancelled."""
    detail: str = ""


class SessionProgress(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to the query ``progress``."""

    session_id: SessionId
    phase: str
    started: datetime | None = None
    children: tuple[str, ...] = ()
    """Workflow ids of the machines' children."""
    tasks: tuple[TaskProgress, ...] = ()
    notes: tuple[str, ...] = ()
