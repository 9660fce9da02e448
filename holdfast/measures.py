"""What is measured while Holdfast works: every metric with its kind, unit, labels and meaning.

Whoever works records; who runs the process says where to. Without a recorder that costs one comparison. Nothing is
decided by these figures, and a repeated step may count twice.

Labels are bounded by the configuration: names of jobs and repositories, of queues, and words of a fixed set. There is
no machine, disk, session or point among them: each would make a series of its own that is kept for ever by who
collects them. These stand in the session, in the catalog and in the traces.
"""

from enum import StrEnum
from typing import Final, Protocol

import msgspec


class Kind(StrEnum):
    """How a metric behaves."""

    COUNTER = "counter"
    """Only ever grows."""
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


class Recorder(Protocol):
    """Takes figures. Methods may be called from any thread, and raise nothing."""

    def record(self, measure: "Measure", value: float, labels: dict[str, str]) -> None:
        """Add a value to a counter or a histogram, or set a gauge."""
        ...


_recorders: tuple[Recorder, ...] = ()


def record_with(*recorders: Recorder) -> None:
    """Give figures to these from now on, and to no others."""
    global _recorders  # noqa: PLW0603 - one process-wide switch is the point
    _recorders = recorders


def is_recording() -> bool:
    """Return whether somebody takes figures."""
    return bool(_recorders)


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """A metric."""

    name: str
    kind: Kind
    unit: str
    """By, s, or what is counted; the unit stands in the name too."""
    labels: tuple[str, ...]
    meaning: str
    """One sentence."""
    buckets: tuple[float, ...] = ()
    """Upper bounds of a histogram."""

    def record(self, value: float, **labels: str) -> None:
        """Add to a counter or a histogram, or set a gauge; every label of the metric has to be given."""
        if not _recorders:
            return
        assert tuple(labels) == self.labels, f"{self.name} has the labels {self.labels}, in this order"
        for recorder in _recorders:
            recorder.record(self, value, labels)


_SHORT: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_LONG: Final = (1.0, 10.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 43200.0, 86400.0)
_WAIT: Final = (0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0)
_TASK: Final = ("kind", "repository")


def _bytes(name: str, meaning: str) -> Measure:
    return Measure(name=name, kind=Kind.COUNTER, unit="By", labels=_TASK, meaning=meaning)


# -- sessions, from workers of the role control ----------------------------------------------------------------------

SESSIONS: Final = Measure(
    name="holdfast_sessions_total",
    kind=Kind.COUNTER,
    unit="sessions",
    labels=("kind", "job", "outcome"),
    meaning="Sessions that ended.",
)
SESSION_SECONDS: Final = Measure(
    name="holdfast_session_duration_seconds",
    kind=Kind.HISTOGRAM,
    unit="s",
    labels=("kind", "job", "outcome"),
    meaning="How long a session took from its start to its end.",
    buckets=_LONG,
)
SESSION_END: Final = Measure(
    name="holdfast_session_last_end_timestamp_seconds",
    kind=Kind.GAUGE,
    unit="s",
    labels=("kind", "job", "outcome"),
    meaning="When a session ended last, in seconds since 1970; a job that goes well has a recent one of `success`.",
)

# -- tasks, from workers of the role proxy ---------------------------------------------------------------------------

TASKS: Final = Measure(
    name="holdfast_tasks_total",
    kind=Kind.COUNTER,
    unit="attempts",
    labels=("kind", "repository", "outcome"),
    meaning="Attempts at a disk that ended: `success`, `failed`, or `stopped` when the session or the worker was.",
)
TASK_SECONDS: Final = Measure(
    name="holdfast_task_duration_seconds",
    kind=Kind.HISTOGRAM,
    unit="s",
    labels=("kind", "repository", "outcome"),
    meaning="How long an attempt at a disk took.",
    buckets=_LONG,
)
TASK_WAIT: Final = Measure(
    name="holdfast_task_wait_seconds",
    kind=Kind.HISTOGRAM,
    unit="s",
    labels=("kind", "queue"),
    meaning="How long a disk waited for a free slot of its proxy.",
    buckets=_WAIT,
)
READ: Final = _bytes("holdfast_read_bytes_total", "Read: from disks by backups, from repositories by restores.")
TRANSFERRED: Final = _bytes("holdfast_transferred_bytes_total", "Brought to the target, after compression.")
STORED: Final = _bytes("holdfast_stored_bytes_total", "By which chain files grew, or what was written to disks.")
READ_AGAIN: Final = _bytes(
    "holdfast_read_again_bytes_total", "Done again because an attempt died after its last commit."
)
BUSY: Final = Measure(
    name="holdfast_stage_busy_seconds_total",
    kind=Kind.COUNTER,
    unit="s",
    labels=("kind", "repository", "stage"),
    meaning="For how long a stage of the data pipe was busy, of all disks together.",
)
BOTTLENECKS: Final = Measure(
    name="holdfast_task_bottlenecks_total",
    kind=Kind.COUNTER,
    unit="tasks",
    labels=("kind", "repository", "stage"),
    meaning="Disks that were done, by the stage that held them up.",
)
LIMIT_SHARE: Final = Measure(
    name="holdfast_limit_share_bytes_per_second",
    kind=Kind.GAUGE,
    unit="By/s",
    labels=("limit",),
    meaning="What the disks of a worker may have together of a rule or a limit that workers share; 0 while none of "
    "them is under it.",
)

# -- repositories: from workers of the role repository over movers, else from those of the role proxy ----------------

COMMITS: Final = Measure(
    name="holdfast_commit_duration_seconds",
    kind=Kind.HISTOGRAM,
    unit="s",
    labels=("repository",),
    meaning="How long a commit took, from the first flush to the last; its count is that of commits.",
    buckets=_SHORT,
)
PIECES: Final = Measure(
    name="holdfast_pieces_total",
    kind=Kind.COUNTER,
    unit="pieces of 64 KiB",
    labels=("repository", "fate"),
    meaning="Pieces that were offered: `stored`, or `known` because the chain had them.",
)

SCRUBBED: Final = Measure(
    name="holdfast_scrubbed_bytes_total",
    kind=Kind.COUNTER,
    unit="By",
    labels=("repository",),
    meaning="Stored bytes that scrubs have read again and compared.",
)
OLDEST_UNREAD: Final = Measure(
    name="holdfast_scrub_oldest_age_seconds",
    kind=Kind.GAUGE,
    unit="s",
    labels=("repository",),
    meaning="Age of the stored bytes that have not been read for longest, since they were read or written; "
    "as of the last scrub.",
)
DAMAGED_POINTS: Final = Measure(
    name="holdfast_damaged_points",
    kind=Kind.GAUGE,
    unit="points",
    labels=("repository",),
    meaning="Restore points that are damaged or missing, as of the last scrub.",
)

# -- movers: sessions from the side of the repository, frames from both --------------------------------------------

MOVER_SESSIONS: Final = Measure(
    name="holdfast_mover_sessions_total",
    kind=Kind.COUNTER,
    unit="sessions",
    labels=("repository", "direction", "outcome"),
    meaning="Sessions that a repository's mover served to their end: `write`, `read` or `files`.",
)
RESENT: Final = Measure(
    name="holdfast_mover_resent_frames_total",
    kind=Kind.COUNTER,
    unit="frames",
    labels=("side",),
    meaning="Frames, of a unit at most, that had to be sent again, by the side that sent them.",
)

# -- retention: from workers of the role repository -----------------------------------------------------------------

RETENTION_POINTS: Final = Measure(
    name="holdfast_retention_points_total",
    kind=Kind.COUNTER,
    unit="points",
    labels=("repository", "verdict"),
    meaning="Points that retention took away: `merged` into the full behind them, `deleted`, or `expired` archives.",
)
RETENTION_MOVED: Final = Measure(
    name="holdfast_retention_moved_bytes_total",
    kind=Kind.COUNTER,
    unit="By",
    labels=("repository",),
    meaning="Moved by merges from one chain file to another.",
)
CHAINS_MOVED: Final = Measure(
    name="holdfast_chain_move_bytes_total",
    kind=Kind.COUNTER,
    unit="By",
    labels=("repository", "to"),
    meaning="Copied and read back because chains moved to another repository.",
)
RETENTION_FREED: Final = Measure(
    name="holdfast_retention_freed_bytes_total",
    kind=Kind.COUNTER,
    unit="By",
    labels=("repository",),
    meaning="Of removed files that were deleted for good when their grace period was over.",
)
ALL: Final = (
    SESSIONS, SESSION_SECONDS, SESSION_END,
    TASKS, TASK_SECONDS, TASK_WAIT, READ, TRANSFERRED, STORED, READ_AGAIN, BUSY, BOTTLENECKS, LIMIT_SHARE,
    COMMITS, PIECES, SCRUBBED, OLDEST_UNREAD, DAMAGED_POINTS,
    MOVER_SESSIONS, RESENT,
    RETENTION_POINTS, RETENTION_MOVED, RETENTION_FREED, CHAINS_MOVED,
)  # fmt: skip
