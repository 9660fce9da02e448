"""Timeouts, retries and heartbeats of all activities: one place, each with its reason.

An activity is retried without a limit of attempts; how long is limited by its schedule-to-close timeout. Whether an
error is worth a retry is decided by its class (`HoldfastError.retryable`), never here.
"""

from datetime import timedelta
from typing import Final

from temporalio.common import RetryPolicy
from temporalio.workflow import ActivityCancellationType, ActivityConfig

from holdfast.errors import LinkLost, RepositoryFull
from holdfast.planning.latency import REMOVAL_WAIT_MAX_MINUTES
from holdfast.planning.patience import FOLDING

HEARTBEAT: Final = timedelta(seconds=10)
"""How soon a dead process is noticed. A thread beside the work keeps the heartbeat up (activities/pulse.py), so slow
storage is not taken for death, and the time can be short: a killed proxy costs ten seconds, not a backup window. A
worker sends at most one heartbeat every two seconds, which the server bears for hundreds of disks."""

_RETRY: Final = RetryPolicy(
    initial_interval=timedelta(seconds=1), backoff_coefficient=2.0, maximum_interval=timedelta(seconds=15)
)
"""A short hiccup costs a second; a lasting one is tried four times a minute, often enough for a mount that comes back
and seldom enough for a hypervisor under repair."""

RENEWABLE: Final = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=15),
    non_retryable_error_types=[LinkLost.code],
)
"""As above, of a transfer that ends when its line stays cut: who serves the repository is asked anew then."""

_UNLESS_FULL: Final = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=15),
    non_retryable_error_types=[RepositoryFull.code],
)
"""As above, of what may as well be begun another day when there is no room for it now."""

DECISION_WAIT: Final = timedelta(hours=12)
"""How long a machine whose job asks waits for somebody to say what becomes of its damaged chain: until the morning."""

OUTAGE: Final = timedelta(minutes=30)
"""How long a worker, hypervisor or repository may be away before a session gives up: the time an operator needs to
restart a host. Committed data is kept in any case."""

QUEUE_WAIT: Final = timedelta(hours=12)
"""How long transfers may wait for a slot of their proxy, on top of their own time: one night."""

RECLAIM_INTERVAL: Final = timedelta(minutes=5)
"""How long a slot may stay lost with the session that had it."""

SEEN_WITHIN: Final = timedelta(seconds=5)
"""How long a proxy may take to answer a look: a worker that is there does at once."""

LOST_AFTER: Final = timedelta(minutes=3)
"""How long a disk waits for its proxy to come back when the job may use another: a restart takes seconds."""

SLOWEST_BYTES_S: Final = 10 << 20
"""Slowest transfer that is still worth waiting for; below this a snapshot stays open for too long."""

RECORD_PATIENCE: Final = timedelta(minutes=2)
"""How long protecting a machine waits for the catalog; a machine without a record is better than no point."""

FINISH_PATIENCE: Final = timedelta(hours=1)
"""How long the end of a session waits for the catalog; nothing else waits then."""

_LONG: Final = timedelta(days=7)


def lookup(queue: str, summary: str) -> ActivityConfig:
    """Return the options of a question that changes nothing. It is dropped at once when the session is cancelled."""
    return ActivityConfig(
        task_queue=queue,
        summary=summary,
        start_to_close_timeout=timedelta(minutes=10),
        schedule_to_close_timeout=OUTAGE,
        heartbeat_timeout=HEARTBEAT,
        retry_policy=_RETRY,
    )


def change(queue: str, summary: str) -> ActivityConfig:
    """Return the options of a step that changes something and takes minutes at most: snapshots, points, targets.

    A cancelled session waits until the step has really ended, because its undo must not overtake it. The longest such
    step copies a disk inside a hypervisor that cannot share blocks, hence two hours.
    """
    return ActivityConfig(
        task_queue=queue,
        summary=summary,
        start_to_close_timeout=timedelta(hours=2),
        schedule_to_close_timeout=timedelta(hours=2) + OUTAGE,
        heartbeat_timeout=HEARTBEAT,
        retry_policy=_RETRY,
        cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )


def look(queue: str, summary: str) -> ActivityConfig:
    """Return the options of looking at a proxy: it answers soon, or is not there."""
    return ActivityConfig(
        task_queue=queue,
        summary=summary,
        schedule_to_start_timeout=SEEN_WITHIN,
        start_to_close_timeout=timedelta(minutes=1),
        schedule_to_close_timeout=timedelta(minutes=2),
        heartbeat_timeout=HEARTBEAT,
        retry_policy=RetryPolicy(maximum_attempts=1),
    )


def transfer(queue: str, summary: str, size_bytes: int, begins_within: timedelta | None = None) -> ActivityConfig:
    """Return the options of moving one disk: as long as it takes, attempt after attempt from the last commit on.

    ``begins_within`` is given where another proxy could do it: when nobody takes an attempt for so long, this one is
    lost.
    """
    bound = QUEUE_WAIT + OUTAGE + timedelta(seconds=size_bytes / SLOWEST_BYTES_S)
    return ActivityConfig(
        task_queue=queue,
        summary=summary,
        schedule_to_start_timeout=begins_within,
        start_to_close_timeout=bound,
        schedule_to_close_timeout=bound,
        heartbeat_timeout=HEARTBEAT,
        retry_policy=_RETRY,
        cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )


def verification(queue: str, summary: str) -> ActivityConfig:
    """Return the options of reading many points back; a week is the largest repository at the slowest rate."""
    return ActivityConfig(
        task_queue=queue,
        summary=summary,
        start_to_close_timeout=_LONG,
        schedule_to_close_timeout=_LONG,
        heartbeat_timeout=HEARTBEAT,
        retry_policy=_RETRY,
        cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )


def relocation(queue: str, summary: str) -> ActivityConfig:
    """Return the options of moving a chain to another repository: as long as it takes, unless there is no room."""
    return verification(queue, summary) | ActivityConfig(retry_policy=_UNLESS_FULL)


def undo(queue: str, summary: str) -> ActivityConfig:
    """Return the options of taking a step back: tried through an outage, then reported and left to the operator."""
    return ActivityConfig(
        task_queue=queue,
        summary=summary,
        start_to_close_timeout=OUTAGE,
        schedule_to_close_timeout=OUTAGE,
        heartbeat_timeout=HEARTBEAT,
        retry_policy=_RETRY,
        cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )


def removal(queue: str, summary: str) -> ActivityConfig:
    """Return the options of removing a snapshot, which may wait for a slow datastore before it begins.

    An attempt that is cut off leaves its work going on, and the next one waits for that.
    """
    longest = FOLDING + timedelta(minutes=REMOVAL_WAIT_MAX_MINUTES)
    return undo(queue, summary) | ActivityConfig(
        start_to_close_timeout=longest, schedule_to_close_timeout=longest + OUTAGE
    )


def ending(queue: str, summary: str) -> ActivityConfig:
    """Return the options of ending a restore target, which may hand disks over and fold back what was kept."""
    longest = FOLDING + timedelta(hours=2)
    return change(queue, summary) | ActivityConfig(
        start_to_close_timeout=longest, schedule_to_close_timeout=longest + OUTAGE
    )


def record(queue: str, summary: str, patience: timedelta) -> ActivityConfig:
    """Return the options of a line in the catalog."""
    return ActivityConfig(
        task_queue=queue,
        summary=summary,
        start_to_close_timeout=timedelta(minutes=1),
        schedule_to_close_timeout=patience,
        heartbeat_timeout=HEARTBEAT,
        retry_policy=_RETRY,
    )
