"""Sessions and tasks: one run of a job, and the work on one disk inside it."""

from datetime import datetime
from enum import StrEnum

import msgspec

from holdfast.model.ids import DiskKey, JobName, MachineId, ProviderName, RepositoryName, SessionId


class SessionKind(StrEnum):
    """The durable verb a session carries out."""

    BACKUP = "backup"
    RESTORE = "restore"
    VERIFY = "verify"
    SWEEP = "sweep"
    RETENTION = "retention"
    HEALTH = "health"
    ARCHIVE = "archive"
    CHAINS = "chains"


class Outcome(StrEnum):
    """How a session or task stands; ``RUNNING`` is the only one that changes."""

    RUNNING = "running"
    SUCCESS = "success"
    WARNING = "warning"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of one task, in bytes and seconds; they add up over tasks."""

    size_bytes: int = 0
    """Size of the disk."""
    processed_bytes: int = 0
    """How much of the disk has been dealt with, read or known not to be needed."""
    read_bytes: int = 0
    transferred_bytes: int = 0
    """After compression."""
    stored_bytes: int = 0
    """Added to the repository, headers and alignment included."""
    resent_bytes: int = 0
    """Read again because a process died after its last commit."""
    duration_s: float = 0.0
    source_s: float = 0.0
    """Seconds in which reading was busy: the disk of a backup, the repository of a restore. Earlier versions count no
    busy seconds."""
    proxy_s: float = 0.0
    """Seconds in which digests, compression or decompression were busy."""
    network_s: float = 0.0
    """Seconds in which the line between two movers held the work up."""
    target_s: float = 0.0
    """Seconds in which storing or writing was busy."""
    throttled_s: float = 0.0
    """Seconds in which a rule or a limit held the work up."""

    def __add__(self, other: "Figures") -> "Figures":
        """Return the sum field by field."""
        return Figures(**{f: getattr(self, f) + getattr(other, f) for f in self.__struct_fields__})


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An error as it is kept and shown: stable code, message with ids, hint."""

    code: str
    message: str
    hint: str = ""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """Work on one disk of one machine."""

    session_id: SessionId
    machine_id: MachineId
    machine_name: str
    disk: DiskKey
    outcome: Outcome
    detail: str = ""
    """In words what was decided for the disk, such as how it was read and why."""
    figures: Figures = Figures()
    problem: Problem | None = None


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One run."""

    session_id: SessionId
    kind: SessionKind
    job: JobName
    repository: RepositoryName
    provider: ProviderName = ProviderName("")
    """Empty for a session that uses none; machine ids are unique inside one provider only."""
    outcome: Outcome
    started: datetime
    ended: datetime | None = None
    workflow_id: str = ""
    figures: Figures = Figures()
    problem: Problem | None = None
    notes: tuple[str, ...] = ()
    """Degraded choices and other facts the operator should see."""
