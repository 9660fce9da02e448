"""A machine is not frozen where that would do harm."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import HoldfastError, SnapshotFailed, SnapshotRefused
from holdfast.model.latency import DatastoreLatency, LatencyLimits
from holdfast.providers.vsphere.guards import (
    DatastoreFacts,
    GuardRules,
    check_latency,
    check_snapshot,
    latency_notes,
)

RULES = GuardRules(free_space_min_percent=10, snapshots_per_datastore_max=4)


def store(free: int = 50, snapshots: int = 0) -> DatastoreFacts:
    return DatastoreFacts(name="ds1", capacity_bytes=100, free_bytes=free, snapshots=snapshots)


@pytest.mark.parametrize("free, is_enough", [(0, False), (9, False), (10, True), (100, True)])
def test_space_is_left_on_every_datastore(free: int, is_enough: bool) -> None:
    assert passes([], [store(), store(free=free)], RULES) is is_enough


@pytest.mark.parametrize("count, is_allowed", [(0, True), (3, True), (4, False), (9, False)])
def test_not_too_many_snapshots_grow_on_a_datastore(count: int, is_allowed: bool) -> None:
    assert passes([], [store(snapshots=count)], RULES) is is_allowed


def test_a_limit_of_zero_is_none() -> None:
    assert passes([], [store(snapshots=999)], GuardRules(snapshots_per_datastore_max=0))


def test_snapshots_of_others_are_refused_only_where_the_operator_says_so() -> None:
    check_snapshot("web", ["theirs"], [store()], RULES)
    with pytest.raises(SnapshotRefused, match=r"'web'.*theirs") as caught:
        check_snapshot("web", ["theirs"], [store()], GuardRules(is_foreign_refused=True))
    assert not caught.value.retryable


def test_what_may_pass_by_itself_is_tried_again() -> None:
    with pytest.raises(SnapshotFailed, match="ds1 has 0 of 100 bytes free") as caught:
        check_snapshot("web", [], [store(free=0)], RULES)
    assert caught.value.retryable


@given(st.integers(0, 10**15), st.integers(0, 10**15), st.integers(0, 100))
def test_the_bound_is_exact_at_any_size(free: int, used: int, percent: int) -> None:
    facts = DatastoreFacts(name="ds", capacity_bytes=free + used, free_bytes=free)
    rules = GuardRules(free_space_min_percent=percent)
    assert passes([], [facts], rules) is (free * 100 >= (free + used) * percent)


def passes(foreign: list[str], stores: list[DatastoreFacts], rules: GuardRules) -> bool:
    try:
        check_snapshot("web", foreign, stores, rules)
    except HoldfastError:
        return False
    return True


def latency(latency_ms: float | None, name: str = "ds1") -> DatastoreLatency:
    limits = LatencyLimits(start_max_ms=20, slow_from_ms=30)
    return DatastoreLatency(datastore=name, limits=limits, sample=1, latency_ms=latency_ms, why_unknown="no host")


def test_a_slow_datastore_holds_a_machine_back_until_it_is_tried_again() -> None:
    check_latency("web", [latency(19), latency(None)])
    with pytest.raises(SnapshotFailed, match=r"'web' is not frozen: .* ds2 is 20 ms, .* from 20 ms on") as caught:
        check_latency("web", [latency(5), latency(20, "ds2")])
    assert caught.value.retryable
    assert "latency_start_max_ms" in caught.value.hint


def test_what_could_not_be_judged_is_said() -> None:
    assert latency_notes([latency(5), latency(None, "ds2")]) == (
        "the latency of datastore ds2 is not watched: no host",
    )
