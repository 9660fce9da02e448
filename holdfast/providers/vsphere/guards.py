"""What keeps a snapshot from being taken: facts about a machine and its datastores in, an error or none out."""

from collections.abc import Iterable, Sequence

import msgspec

from holdfast.errors import SnapshotFailed, SnapshotRefused
from holdfast.model.latency import DatastoreLatency
from holdfast.planning.latency import reasons_to_wait

_PERCENT = 100


class DatastoreFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What matters about a datastore before a snapshot grows on it."""

    name: str
    capacity_bytes: int
    free_bytes: int
    snapshots: int = 0
    """Machines on it with a snapshot of ours."""


class GuardRules(msgspec.Struct, frozen=True, kw_only=True):
    """How careful the operator wants to be."""

    free_space_min_percent: int = 10
    snapshots_per_datastore_max: int = 4
    """0: no limit."""
    is_foreign_refused: bool = False


def check_snapshot(
    machine: str, foreign: Sequence[str], datastores: Sequence[DatastoreFacts], rules: GuardRules
) -> None:
    """Raise `SnapshotRefused` or `SnapshotFailed` when a machine must not be frozen, ever or now.

    ``foreign`` are names of snapshots of others.
    """
    if foreign and rules.is_foreign_refused:
        raise SnapshotRefused(
            f"machine {machine!r} has snapshots of others: {', '.join(foreign)}",
            hint="Remove them, or set `foreign_snapshots` of the provider to `allow`.",
        )
    for store in datastores:
        if store.free_bytes * _PERCENT < store.capacity_bytes * rules.free_space_min_percent:
            raise SnapshotFailed(
                f"machine {machine!r} is not frozen: datastore {store.name} has {store.free_bytes} of "
                f"{store.capacity_bytes} bytes free, less than {rules.free_space_min_percent} %",
                hint="Free space on the datastore, or lower `free_space_min_percent` of the provider.",
            )
        if 0 < rules.snapshots_per_datastore_max <= store.snapshots:
            raise SnapshotFailed(
                f"machine {machine!r} is not frozen: datastore {store.name} has {store.snapshots} snapshots of ours, "
                f"the most are {rules.snapshots_per_datastore_max}",
                hint="It is tried again; lower `machines_at_once` or raise `snapshots_per_datastore_max`.",
            )


def check_latency(machine: str, latencies: Iterable[DatastoreLatency]) -> None:
    """Raise `SnapshotFailed` when a machine's datastores are too slow for a snapshot now."""
    reasons = reasons_to_wait(latencies)
    if reasons:
        raise SnapshotFailed(
            f"machine {machine!r} is not frozen: {'; '.join(reasons)}",
            hint="It is tried again; find out what keeps the datastore busy, or raise `latency_start_max_ms`.",
        )


def latency_notes(latencies: Iterable[DatastoreLatency]) -> tuple[str, ...]:
    """Return, in words, which datastores with limits could not be judged."""
    unknown = (one for one in latencies if one.latency_ms is None)
    return tuple(f"the latency of datastore {one.datastore} is not watched: {one.why_unknown}" for one in unknown)
