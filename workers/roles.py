"""The roles of worker processes: which activities each serves, on which queues, and how many at once.

One process may have several roles; a small installation runs all of them in one. What a role needs of the world comes
as `Tools`, so that this module knows no configuration.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

import msgspec
from temporalio.client import Client
from temporalio.worker import Worker

from activities.binding import served_by
from activities.catalog import CatalogActivities
from activities.chains import ChainActivities
from activities.extents import ExtentActivities
from activities.health import HealthActivities
from activities.machine_files import MachineFileActivities
from activities.moving import MovingActivities, RelocationActivities
from activities.openers import CatalogOpener, ClockBounds, PassphraseLookup, ProviderOpener, RepositoryOpener
from activities.point_disks import PointDisks
from activities.repository import RepositoryActivities, UpkeepActivities
from activities.resources import ProxyActivities, RepositoryReach, SchedulerActivities
from activities.retention import RetentionActivities
from activities.retention_catalog import RetentionCatalogActivities
from activities.rollback import RollbackActivities
from activities.sessions import SessionActivities
from activities.snapshot import SnapshotActivities
from activities.sweep import LeftoverActivities, OwnerActivities
from activities.target import TargetActivities
from activities.transfer import TransferActivities
from holdfast.clock import Clock
from holdfast.model.ids import RepositoryName
from holdfast.pipeline.throttle import Throttle
from workers.movers import Movers
from workflows import queues
from workflows.backup_job import BackupJob
from workflows.health import CheckHealth
from workflows.holding import HoldMachine
from workflows.limits import ShareLimits
from workflows.machine_backup import MachineBackup
from workflows.machine_upkeep import MachineUpkeep
from workflows.moving import MoveChains
from workflows.resources import GrantSlots
from workflows.restore import RestoreMachine
from workflows.retention import RetainPoints
from workflows.sweep import SweepProvider
from workflows.verify import VerifyRepository

WORKFLOWS: Final[tuple[type, ...]] = (
    BackupJob,
    MachineBackup,
    MachineUpkeep,
    RestoreMachine,
    VerifyRepository,
    SweepProvider,
    RetainPoints,
    GrantSlots,
    ShareLimits,
    CheckHealth,
    MoveChains,
    HoldMachine,
)

SHORT_TASKS: Final = 8
"""Snapshots, points and catalog lines at once; they wait for others more than they work."""
UPKEEP_TASKS: Final = 1
"""Verifications at once in one repository: a second one would only make both slower."""
FRESH_TASKS: Final = 2
"""New points read back at once in one repository, or chains repaired from them: one that is repaired, which may take
long, does not hold up the backups of the others."""
CHAIN_TASKS: Final = 2
"""Chains changed at once in one repository, by merges and removals: their reading and writing is the storage's."""
_BEHIND_A_POINT: Final = frozenset({"repository.verify", "health.repair"})
GRACE: Final = timedelta(seconds=30)
"""How long running activities may take to stop when a process ends. Transfers stop within a second of their next
report and are resumed elsewhere; the rest is short."""
_HEARTBEAT_THROTTLE: Final = timedelta(seconds=2)
"""Most a report is behind: what a killed process had read since is counted as read again, and a cancellation takes
this long to arrive."""


class Role(StrEnum):
    """What a worker process is for."""

    CONTROL = "control"
    """Workflows and the catalog."""
    PROXY = "proxy"
    """Reads source disks and writes restored ones."""
    REPOSITORY = "repository"
    """Begins, completes and verifies restore points."""


class Duty(msgspec.Struct, frozen=True, kw_only=True):
    """A role for one named thing. ``name`` is the proxy's or repository's; control has none."""

    role: Role
    name: str = ""
    tasks: int = 2
    """Disks a proxy works on at once."""

    @property
    def queue(self) -> str:
        """Return the queue the duty is known by."""
        return _shifts(self)[0].queue


class Tools(msgspec.Struct, frozen=True, kw_only=True):
    """How roles get at the world."""

    providers: ProviderOpener
    repositories: RepositoryOpener
    passphrases: PassphraseLookup
    catalog: CatalogOpener
    clock: Clock
    points: PointDisks
    """What opens disks of restore points, for all roles of the process."""
    movers: Movers
    throttle: Throttle
    reach: RepositoryReach
    """Says what keeps a proxy of this process from a repository."""
    clock_bounds: ClockBounds


class _Shift(msgspec.Struct, frozen=True, kw_only=True):
    """One queue of a duty."""

    queue: str
    tasks: int
    serves: tuple[Callable[[Tools], object], ...]
    workflows: tuple[type, ...] = ()
    only: frozenset[str] | None = None
    """The contracts that are sent to the queue, where they are not all that ``serves`` knows."""


def duty_activities(duty: Duty, tools: Tools) -> dict[str, dict[str, Callable[..., Any]]]:
    """Return what a duty serves: for each queue, the activities by contract name."""
    return {shift.queue: _activities(shift, tools) for shift in _shifts(duty)}


async def enter_workers(stack: AsyncExitStack, client: Client, duties: Sequence[Duty], tools: Tools) -> list[str]:
    """Start the workers of all duties; leaving ``stack`` drains them. Return the queues they serve."""
    shifts = [shift for duty in duties for shift in _shifts(duty)]
    for shift in shifts:
        pool = stack.enter_context(ThreadPoolExecutor(shift.tasks, thread_name_prefix=shift.queue))
        await stack.enter_async_context(_worker(client, shift, tools, pool))
    return [shift.queue for shift in shifts]


def _worker(client: Client, shift: _Shift, tools: Tools, pool: ThreadPoolExecutor) -> Worker:
    return Worker(
        client,
        task_queue=shift.queue,
        workflows=shift.workflows,
        activities=list(_activities(shift, tools).values()),
        activity_executor=pool,
        max_concurrent_activities=shift.tasks,
        graceful_shutdown_timeout=GRACE,
        max_heartbeat_throttle_interval=_HEARTBEAT_THROTTLE,
        default_heartbeat_throttle_interval=_HEARTBEAT_THROTTLE,
    )


def _activities(shift: _Shift, tools: Tools) -> dict[str, Callable[..., Any]]:
    found: dict[str, Callable[..., Any]] = {}
    for make in shift.serves:
        found |= served_by(make(tools))
    return {name: serves for name, serves in found.items() if shift.only is None or name in shift.only}


def _shifts(duty: Duty) -> tuple[_Shift, ...]:
    match duty.role:
        case Role.CONTROL:
            return (
                _Shift(
                    queue=queues.CONTROL,
                    tasks=SHORT_TASKS,
                    serves=(_catalog, _sessions, _owners, _scheduler, _retention_catalog, _relocation),
                    workflows=WORKFLOWS,
                ),
            )
        case Role.PROXY:
            return (
                _Shift(
                    queue=queues.proxy_queue(duty.name),
                    tasks=SHORT_TASKS,
                    serves=(_snapshots, _targets, _leftovers, _machine_files),
                ),
                _Shift(queue=queues.look_queue(duty.name), tasks=SHORT_TASKS, serves=(_looks,)),
                _Shift(queue=queues.transfer_queue(duty.name), tasks=duty.tasks, serves=(_transfers, _rollbacks)),
            )
        case Role.REPOSITORY:
            name = RepositoryName(duty.name)
            return (
                _Shift(queue=queues.repository_queue(name), tasks=SHORT_TASKS, serves=(_repository, _extents)),
                _Shift(queue=queues.upkeep_queue(name), tasks=UPKEEP_TASKS, serves=(_upkeep, _health)),
                _Shift(
                    queue=queues.fresh_queue(name), tasks=FRESH_TASKS, serves=(_upkeep, _health), only=_BEHIND_A_POINT
                ),
                _Shift(queue=queues.chain_queue(name), tasks=CHAIN_TASKS, serves=(_chains, _retention, _moving)),
            )


def _catalog(tools: Tools) -> object:
    return CatalogActivities(tools.catalog, tools.clock)


def _moving(tools: Tools) -> object:
    return MovingActivities(tools.repositories, tools.passphrases, tools.clock)


def _relocation(tools: Tools) -> object:
    return RelocationActivities(tools.catalog, tools.clock)


def _sessions(_: Tools) -> object:
    return SessionActivities()


def _snapshots(tools: Tools) -> object:
    return SnapshotActivities(tools.providers, tools.clock)


def _targets(tools: Tools) -> object:
    return TargetActivities(tools.providers, tools.clock)


def _leftovers(tools: Tools) -> object:
    return LeftoverActivities(tools.providers, tools.clock)


def _machine_files(tools: Tools) -> object:
    return MachineFileActivities(tools.providers, tools.points, tools.clock)


def _scheduler(_: Tools) -> object:
    return SchedulerActivities()


def _looks(tools: Tools) -> object:
    return ProxyActivities(tools.providers, tools.reach, tools.clock)


def _owners(tools: Tools) -> object:
    return OwnerActivities(tools.catalog, tools.clock)


def _transfers(tools: Tools) -> object:
    return TransferActivities(tools.providers, tools.points, tools.clock)


def _rollbacks(tools: Tools) -> object:
    return RollbackActivities(tools.providers, tools.points, tools.clock)


def _repository(tools: Tools) -> object:
    return RepositoryActivities(tools.repositories, tools.passphrases, tools.clock, tools.movers, tools.clock_bounds)


def _upkeep(tools: Tools) -> object:
    return UpkeepActivities(tools.repositories, tools.passphrases, tools.clock)


def _chains(tools: Tools) -> object:
    return ChainActivities(tools.repositories, tools.passphrases, tools.clock)


def _retention(tools: Tools) -> object:
    return RetentionActivities(tools.repositories, tools.passphrases, tools.clock, tools.clock_bounds)


def _retention_catalog(tools: Tools) -> object:
    return RetentionCatalogActivities(tools.catalog, tools.clock)


def _health(tools: Tools) -> object:
    return HealthActivities(tools.repositories, tools.passphrases, tools.clock, tools.throttle)


def _extents(tools: Tools) -> object:
    return ExtentActivities(tools.repositories, tools.clock)
