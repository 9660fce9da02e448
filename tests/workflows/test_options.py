"""Options of activities: every family notices a dead worker soon and ends some day."""

from datetime import timedelta

import pytest
from temporalio.workflow import ActivityCancellationType, ActivityConfig

from holdfast.planning.patience import FOLDING, FOLDING_BY_OTHERS
from holdfast.providers.vsphere.snapshots import CREATE_PATIENCE_S, REMOVE_PATIENCE_S
from workflows import options

FAMILIES = [
    options.lookup("q", "s"),
    options.change("q", "s"),
    options.transfer("q", "s", 1 << 40),
    options.verification("q", "s"),
    options.undo("q", "s"),
    options.removal("q", "s"),
    options.ending("q", "s"),
    options.record("q", "s", options.RECORD_PATIENCE),
]


@pytest.mark.parametrize("config", FAMILIES)
def test_a_dead_worker_is_noticed_within_seconds(config: ActivityConfig) -> None:
    heartbeat = config["heartbeat_timeout"]
    assert heartbeat is not None
    assert heartbeat <= timedelta(seconds=10)


@pytest.mark.parametrize("config", FAMILIES)
def test_attempts_are_unlimited_and_time_is_not(config: ActivityConfig) -> None:
    retry, bound = config["retry_policy"], config["schedule_to_close_timeout"]
    assert retry is not None
    assert retry.maximum_attempts == 0
    assert bound is not None
    assert bound <= timedelta(days=7)


@pytest.mark.parametrize("config", FAMILIES[1:7])
def test_an_undo_never_overtakes_what_it_takes_back(config: ActivityConfig) -> None:
    assert config["cancellation_type"] is ActivityCancellationType.WAIT_CANCELLATION_COMPLETED


def test_neither_folding_nor_waiting_for_a_slow_datastore_is_cut_off() -> None:
    removal, ending = (family("q", "s")["start_to_close_timeout"] for family in (options.removal, options.ending))
    assert removal is not None
    assert ending is not None
    assert removal == FOLDING + timedelta(minutes=60)
    assert ending > timedelta(seconds=REMOVE_PATIENCE_S)


def test_an_attempt_at_a_snapshot_ends_before_it_is_cut_off() -> None:
    change = options.change("q", "s")["start_to_close_timeout"]
    assert change is not None
    # Quiesced and then as it is, after change tracking was switched on.
    assert FOLDING_BY_OTHERS + 4 * timedelta(seconds=CREATE_PATIENCE_S) < change


def test_a_larger_disk_may_take_longer() -> None:
    small, large = (options.transfer("q", "s", size)["schedule_to_close_timeout"] for size in (1 << 30, 1 << 42))
    assert small is not None
    assert large is not None
    assert small < timedelta(hours=13)
    assert large > timedelta(days=4)
