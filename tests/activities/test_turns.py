"""Copies of one datastore begin one after another; those of others, and those that are alone, at once."""

import re
from contextlib import ExitStack

import pytest

from activities.turns import Turns
from holdfast.errors import OperationInterrupted
from holdfast.model.ids import ProviderName
from holdfast.model.latency import DatastoreLatency, LatencyLimits
from tests.activities.lab import PROVIDER, Lab
from tests.activities.test_latency import CALM, Datastore, OnADatastore, Reports
from tests.holdfast.pipeline.test_token_bucket import PausedClock

HERE, THERE = ProviderName("here"), ProviderName("there")


def store(name: str = "ds1", limits: LatencyLimits | None = None) -> DatastoreLatency:
    limits = LatencyLimits(start_max_ms=20) if limits is None else limits
    return DatastoreLatency(datastore=name, limits=limits, sample=1, latency_ms=3.0)


@pytest.fixture
def clock() -> PausedClock:
    return PausedClock()


@pytest.fixture
def turns(clock: PausedClock) -> Turns:
    return Turns(clock, clock.pause)


def test_copies_that_begin_together_are_drawn_apart(turns: Turns, clock: PausedClock) -> None:
    reports = Reports()
    with ExitStack() as stack:
        waits = [stack.enter_context(turns.taken(HERE, store(), reports)) for _ in range(3)]
        assert waits == [0.0, 40.0, 40.0]
        assert reports.waits == 80
        clock.pause(15.0)
        assert stack.enter_context(turns.taken(HERE, store(), reports)) == 25.0


def test_a_copy_does_not_wait_for_one_that_has_ended(turns: Turns) -> None:
    for _ in range(3):
        with turns.taken(HERE, store(), Reports()) as waited_s:
            assert waited_s == 0.0


@pytest.mark.parametrize(
    "provider, latency",
    [(THERE, store()), (HERE, store("ds2")), (HERE, store(limits=LatencyLimits())), (HERE, None)],
    ids=["another provider", "another datastore", "no limits", "no control"],
)
def test_a_copy_of_another_place_begins_at_once(
    turns: Turns, provider: ProviderName, latency: DatastoreLatency | None
) -> None:
    with turns.taken(HERE, store(), Reports()), turns.taken(provider, latency, Reports()) as waited_s:
        assert waited_s == 0.0


def test_who_waits_begins_as_soon_as_the_other_ends(clock: PausedClock) -> None:
    first = ExitStack()

    def pause(seconds: float) -> None:
        clock.pause(seconds)
        if clock.seconds >= 1010:
            first.close()

    turns = Turns(clock, pause)
    first.enter_context(turns.taken(HERE, store(), Reports()))
    with turns.taken(HERE, store(), Reports()) as waited_s:
        assert waited_s == 10.0


def test_who_waits_ends_with_its_worker_and_holds_up_nobody(turns: Turns, clock: PausedClock) -> None:
    stopping = Reports()
    stopping.is_stopping = True
    with turns.taken(HERE, store(), Reports()):
        with pytest.raises(OperationInterrupted), turns.taken(HERE, store(), stopping):
            pass
        clock.pause(40.0)
        with turns.taken(HERE, store(), Reports()) as waited_s:
            assert waited_s == 0.0


def test_a_disk_that_waited_for_another_says_so(lab: Lab) -> None:
    limits = LatencyLimits(slow_from_ms=30, start_pause_s=30)
    provider = OnADatastore(lab.root / "provider", lab.clock)
    provider.store = Datastore(PausedClock(), CALM, limits=limits)
    lab.provider = provider
    machine = lab.add_machine()
    with lab.turns.taken(PROVIDER, provider.store.ask(), Reports()):
        copied, point = lab.back_up(machine)
    assert re.fullmatch(r"began \d+ s later, after other copies of its datastore", copied.slowed)
    assert lab.restored(machine, point) == lab.content(machine)
