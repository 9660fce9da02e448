"""Retention of a machine's chains; served by the repository's worker, on the queue of work that changes chains.

What is gone is told to the catalog by the control role, which also knows which machines a job does not try any more.
"""

from datetime import date, datetime

import msgspec
from temporalio import activity

from activities.contracts.catalog import Recorded
from holdfast.model.ids import CredentialName, FileId, JobName, MachineId, PointId, RepositoryName
from holdfast.model.retention import RetentionOptions
from holdfast.planning.retention import PointVerdict
from holdfast.planning.retention_steps import RetentionStep

POINTS_NAMED_MAX = 50
"""Points of which a plan says in a history what becomes of them and why: those that go, then the newest that stay."""


class PlanRetention(msgspec.Struct, frozen=True, kw_only=True):
    """Note what is kept with the points of a machine, and plan what becomes of them."""

    repository: RepositoryName
    machine_id: MachineId
    machine_name: str
    options: RetentionOptions
    point: PointId | None = None
    """The point that the session has just made."""
    began: datetime | None = None
    """When that session began: the day on which its point counts."""
    is_gone: bool = False
    has_consent: bool = False
    expected: str = ""
    """Digest that the plan must have; empty: any."""
    credential: CredentialName | None = None
    gone: tuple[MachineId, ...] = ()
    """Of the machines that share the chain: those that the job does not try any more."""


class RetentionPlanned(msgspec.Struct, frozen=True, kw_only=True):
    """What is done with the points of a machine."""

    digest: str
    steps: tuple[RetentionStep, ...] = ()
    kept: int = 0
    held: int = 0
    """Points that would go if somebody agreed."""
    locks: str = ""
    """In words how locks are kept; empty without any."""
    left_out: tuple[str, ...] = ()
    """In words which archives were not looked at, and why."""
    points: tuple[PointVerdict, ...] = ()
    """What becomes of each, and why; those that go come first, and of many not all are named. None from workers of
    earlier versions."""


class CarryOut(msgspec.Struct, frozen=True, kw_only=True):
    """Carry one step of a plan out."""

    repository: RepositoryName
    step: RetentionStep
    credential: CredentialName | None = None
    grace_days: int | None = None
    """For which what is removed stays, which is noted with it; None from sessions of earlier versions."""


class CarryOutCursor(msgspec.Struct, frozen=True, kw_only=True):
    """Progress of a step, heartbeated; where a merge goes on is in the files themselves."""

    files_done: int = 0
    files: int = 0
    moved_bytes: int = 0
    """Committed."""


class PointMoved(msgspec.Struct, frozen=True, kw_only=True):
    """Where the points of a merged file are now."""

    point_id: PointId
    others: tuple[PointId, ...] = ()
    """Of other machines, in a chain that they share."""
    file: str
    file_id: FileId
    generation: int
    kind: str


class CarriedOut(msgspec.Struct, frozen=True, kw_only=True):
    """What a step did. A repeated one counts what it did itself."""

    moved_bytes: int = 0
    moved: PointMoved | None = None


class PurgeRemoved(msgspec.Struct, frozen=True, kw_only=True):
    """Delete for good what was removed from the chains of a machine and has had its grace period."""

    repository: RepositoryName
    machine_id: MachineId
    machine_name: str
    grace_days: int
    """What was promised more when it was removed stays as long as that."""
    only_archives: bool = False
    """Of the archives of all machines instead of the chains of one, which no job's retention touches."""
    chain: str = ""
    """Of this chain alone, and whatever is left of its grace period, because somebody asks for the room."""


class RemovedPurged(msgspec.Struct, frozen=True, kw_only=True):
    """What was deleted for good."""

    files: int = 0
    freed_bytes: int = 0


class TakeBack(msgspec.Struct, frozen=True, kw_only=True):
    """Bring back what was removed from a chain, and lock its points."""

    repository: RepositoryName
    chain: str
    until: datetime
    """When the lock ends."""
    credentials: tuple[CredentialName, ...] = ()
    """What may open the chain; an archive says itself which one does."""


class TakeBackCursor(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt brings back, heartbeated: the next one locks what this one has brought back."""

    files: tuple[str, ...]


class TakenBack(msgspec.Struct, frozen=True, kw_only=True):
    """What is there again."""

    files: tuple[str, ...]


class SettlePoints(msgspec.Struct, frozen=True, kw_only=True):
    """Tell the catalog what became of points."""

    repository: RepositoryName
    gone: tuple[PointId, ...] = ()
    moved: PointMoved | None = None


class FindMachines(msgspec.Struct, frozen=True, kw_only=True):
    """Look up in the catalog which machines a job has points of in a repository."""

    repository: RepositoryName
    job: JobName
    now: datetime
    timezone: str
    """Whose days are counted."""
    gone_after_days: int | None = None
    """Days after which a machine is gone that was not tried; a machine that fails is tried. None: never."""
    only_gone: bool = False
    only_archives: bool = False
    """Those that archives are there of, whatever job there is."""


class JobMachine(msgspec.Struct, frozen=True, kw_only=True):
    """A machine of a job."""

    machine_id: MachineId
    machine_name: str
    last_tried: date
    is_gone: bool


class MachinesFound(msgspec.Struct, frozen=True, kw_only=True):
    """The machines of a job that have points, by name."""

    machines: tuple[JobMachine, ...] = ()


@activity.defn(name="retention.plan")
def plan(request: PlanRetention) -> RetentionPlanned:
    """Note marks and locks of new points and return the plan. Raises `PlanChanged` when another one was expected.

    This and what follows raise `ClockJumped` while the clock of the worker cannot be trusted.
    """
    raise AssertionError(request)


@activity.defn(name="retention.carry_out")
def carry_out(request: CarryOut) -> CarriedOut:
    """Merge or remove files; idempotent, and goes on behind the last commit of an earlier attempt."""
    raise AssertionError(request)


@activity.defn(name="retention.purge")
def purge(request: PurgeRemoved) -> RemovedPurged:
    """Delete removed files whose grace period is over; idempotent."""
    raise AssertionError(request)


@activity.defn(name="retention.take_back")
def take_back(request: TakeBack) -> TakenBack:
    """Bring removed files back and lock their points. Raises `PointNotFound` when nothing was removed.

    Raises `ChainBroken` when the files fit no more, and `PassphraseWrong`; nothing is changed then.
    """
    raise AssertionError(request)


@activity.defn(name="retention.settle")
def settle(request: SettlePoints) -> Recorded:
    """Forget points that are gone in the catalog, and note where one is now; idempotent."""
    raise AssertionError(request)


@activity.defn(name="retention.find_machines")
def find_machines(request: FindMachines) -> MachinesFound:
    """Return the machines that a job has points of, and which of them are gone."""
    raise AssertionError(request)
