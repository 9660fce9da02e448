"""What workflows are started with, answer, and can be asked. Fields are only ever added, with defaults."""

from datetime import datetime
from enum import StrEnum
from typing import Final

import msgspec

from holdfast.model.archives import Archive
from holdfast.model.compression import Compression
from holdfast.model.fulls import FullPolicy, MethodOptions
from holdfast.model.health import BrokenChain, RepairReport, ScrubReport
from holdfast.model.ids import CredentialName, DiskKey, JobName, MachineId, ProviderName, RepositoryName, SessionId
from holdfast.model.machine import ANYWHERE, Choice, Machine, Placement, PowerState, Quiesce
from holdfast.model.owners import ChainOwner
from holdfast.model.placement import Resources
from holdfast.model.points import PointSummary, VerifyReport
from holdfast.model.retention import QuickBackup, RetentionOptions
from holdfast.model.session import Outcome, Problem, Session, SessionKind, Task
from holdfast.planning.delta import Delta
from holdfast.planning.sweep import AGE_MIN_S, Decision


class Retained(msgspec.Struct, frozen=True, kw_only=True):
    """What retention did, in points and bytes; it adds up over machines."""

    kept: int = 0
    merged: int = 0
    deleted: int = 0
    held: int = 0
    """Points that go as soon as somebody agrees: the rules until now keep them."""
    moved_bytes: int = 0
    freed_bytes: int = 0
    """Of files that were put away; the room is there when their grace period is over."""

    def __add__(self, other: "Retained") -> "Retained":
        """Return the sum field by field."""
        return Retained(**{f: getattr(self, f) + getattr(other, f) for f in self.__struct_fields__})


class BackupOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a job backs up."""

    compression: Compression = Compression.ZSTD_1
    unit_size: int = 1 << 20
    full: bool = False
    """Start new chains with fulls."""
    fulls: FullPolicy | None = None
    """When new chains are started without being asked; None: never, as in sessions of earlier versions."""
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
    verify_increments: bool = False
    """Read back what a new increment holds, and compare its maps with their roots, before the session ends."""
    on_broken_chain: BrokenChain | None = None
    """What happens when the chain of a machine is damaged and cannot be continued; None fails, without a look before,
    as sessions of earlier versions do."""
    quiesce: Quiesce = Quiesce.NEVER
    machines_at_once: int = 2
    excluded_disks: tuple[str, ...] = ()
    """Patterns of ``machine/disk`` that are left out, with the wildcards of a shell."""
    credential: CredentialName | None = None
    """Name of the passphrase; None stores without encryption."""
    owner: ChainOwner | None = None
    """Whose chain all machines go into, one after the other; None: each has its own."""
    archive: Archive | None = None
    """Make archives, which no job continues and which are kept so long; None: points of the job."""
    quick: QuickBackup | None = None
    """Make a quick backup: increments between two runs of the job, and nothing where there is no chain to continue."""

    @property
    def kind(self) -> SessionKind:
        """Return which kind of session this is of."""
        return SessionKind.BACKUP if self.archive is None else SessionKind.ARCHIVE


class ByHand(StrEnum):
    """A change of a chain that is asked for."""

    SYNTHETIC_FULL = "synthetic full"
    COMPACTION = "compaction"
    TAKING_BACK = "taking back what was removed"
    PURGE = "deleting what was removed"


class UpkeepOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What is done with a machine's chains once its point is there; what is None is not done."""

    retention: RetentionOptions | None = None
    method: MethodOptions | None = None
    owner: ChainOwner | None = None
    """Whose chains they are, where the machines have none of their own."""


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
    upkeep: UpkeepOptions | None = None
    """What follows when the machines are protected; None: nothing, as in sessions of earlier versions."""
    after: tuple[str, ...] = ()
    """Ids of workflows that are waited for when they began earlier; none in sessions of earlier versions."""


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
    began: datetime | None = None
    """When the session began; None in sessions of earlier versions."""


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
    verified_bytes: int | None = None
    """Stored bytes of the new point that were read back and are as they were written; None: it was not verified."""


class MachineUpkeepRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The upkeep of one machine's chains inside a session."""

    session_id: SessionId
    job: JobName
    repository: RepositoryName
    machine_id: MachineId
    machine_name: str
    upkeep: UpkeepOptions
    point: PointSummary | None = None
    """What the session has just made of the machine; None when it made no points."""
    began: datetime | None = None
    """When the session began that made the point."""
    is_gone: bool = False
    """The job does not try the machine any more."""
    has_consent: bool = False
    """Whether somebody agreed that more goes at once than the rules until now would have let go."""
    by_hand: ByHand | None = None
    """A change of the chain that somebody asked for, whatever the days say; nothing else is done then."""
    expected: str = ""
    """Digest of the plan that was shown; a plan that differs is refused. Empty: whatever the plan is."""
    credential: CredentialName | None = None
    gone: tuple[MachineId, ...] = ()
    """Of the machines that share the chains: those that the job does not try any more."""
    chain: str = ""
    """Of which something was removed that is taken back or deleted by hand."""
    lock_days: int = 0
    """For which the points are locked that are taken back."""
    credentials: tuple[CredentialName, ...] = ()
    """What may open what is taken back."""


class ShownPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The plan for a machine as it was shown."""

    machine_id: MachineId
    machine_name: str
    digest: str
    is_gone: bool = False
    gone: tuple[MachineId, ...] = ()
    """Of the machines that share the chain: those that are."""


class RetentionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Retention of a job without a backup. ``session_id`` empty: derived from the run, as scheduled starts need."""

    job: JobName
    repository: RepositoryName
    upkeep: UpkeepOptions
    machines: tuple[ShownPlan, ...] = ()
    """What is carried out; empty: whatever is to be done for all machines of the job."""
    has_consent: bool = False
    credential: CredentialName | None = None
    session_id: SessionId = SessionId("")
    only_shown: bool = False
    """Nothing but ``machines`` is carried out, also when they are none."""


class MachineUpkeepResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the upkeep of one machine's chains did."""

    machine_id: MachineId
    machine_name: str
    lines: tuple[tuple[str, str], ...] = ()
    """Names of the steps, and in words what each did."""
    notes: tuple[str, ...] = ()
    """What the operator should see; a step that failed is among it."""
    retained: Retained = Retained()
    problem: Problem | None = None
    """Why a change that was asked for by hand failed; not from workers of earlier versions."""


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
    credentials: tuple[CredentialName, ...] = ()
    """Of chains that are encrypted, where they are not all alike; ``credential`` is one more."""
    job: JobName = JobName("verify")


class HealthTask(StrEnum):
    """What a session for the health of a repository does."""

    CHECK = "check"
    """Read the newest point of each machine as a restore would."""
    SCRUB = "scrub"
    """Read the oldest stored bytes again, so that all are read within a number of days."""
    REPAIR = "repair"
    """Only repair what is known to be damaged."""


class HealthRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A health check, a scrub or a repair of a repository. ``session_id`` empty: derived from the run."""

    repository: RepositoryName
    task: HealthTask
    machine: str | None = None
    """Check only this machine."""
    days: int = 30
    """A scrub reads every stored byte again within so many."""
    every_s: int = 86400
    """From one scheduled scrub to the next."""
    is_deep: bool = False
    """Decode what is scrubbed, as a restore does."""
    repairs: bool = True
    """Repair what is found damaged."""
    credentials: tuple[CredentialName, ...] = ()
    """Of the chains that are encrypted."""
    copies: tuple[RepositoryName, ...] = ()
    """Other repositories on the same worker in which lost bytes are looked for."""
    session_id: SessionId = SessionId("")
    job: JobName = JobName("health")
    scrub_began: datetime | None = None
    """When the first of these runs began."""
    scrubbed: ScrubReport | None = None
    """What the runs before this one have done, where a scrub was so long that it went on as new."""


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
    choices: dict[str, Choice] = {}
    """What machines shall hold whose rollback did not end and that were switched on since, by name or by target."""
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
    retained: Retained | None = None
    """What retention did, of all machines together."""
    scrub: ScrubReport | None = None
    """What a scrub has read."""
    repair: RepairReport | None = None
    """What a repair did, and what is still damaged."""


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


_LEARNT: Final = (msgspec.json.Decoder(SessionResult), msgspec.json.Decoder(MachineBackupResult))
"""Results that failures carry: learnt when the module is imported, see `holdfast.decoding`."""
