"""Copies and removals spare a datastore while it is slow, and not for longer."""

from pathlib import Path

import pytest
from typing_extensions import override

from activities.contracts.snapshot import RemoveSnapshot
from activities.latency import Brake, Waited, wait_until_calm
from holdfast.errors import OperationInterrupted, SnapshotNotFound
from holdfast.model.ids import DiskKey, MachineId, SnapshotId
from holdfast.model.latency import DatastoreLatency, LatencyLimits
from holdfast.model.plan import Transport, TransportMode
from holdfast.model.session import Figures
from holdfast.pipeline.busy import PipeClocks
from holdfast.pipeline.stages import PipeProgress, StageTimes
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.providers.raw_disks import FrozenDisk
from tests.activities.lab import PROVIDER, Attempt, Lab, run
from tests.holdfast.pipeline.test_token_bucket import PausedClock

MIB = 1 << 20
LIMITS = LatencyLimits(start_max_ms=20, slow_from_ms=30)
CALM, SLOW = 3.0, 90.0


class Datastore:
    """Is measured every 20 seconds of a clock; the last of its latencies lasts."""

    def __init__(self, clock: PausedClock, *latencies: float | None, limits: LatencyLimits = LIMITS) -> None:
        self._clock = clock
        self._began_s = clock.seconds
        self.latencies = latencies
        self.limits = limits
        self.asked = 0

    def ask(self) -> DatastoreLatency:
        self.asked += 1
        number = int((self._clock.seconds - self._began_s) / 20)
        latency_ms = self.latencies[min(number, len(self.latencies) - 1)]
        return DatastoreLatency(
            datastore="ds1", limits=self.limits, sample=number + 1, latency_ms=latency_ms, why_unknown="no host tells"
        )


class Reports:
    """Stands where an activity reports to."""

    def __init__(self) -> None:
        self.waits = 0
        self.is_stopping = False

    def beat(self, cursor: object) -> None:
        raise AssertionError(cursor)

    def waiting(self) -> None:
        self.waits += 1
        if self.is_stopping:
            raise OperationInterrupted("the worker goes down")


@pytest.fixture
def clock() -> PausedClock:
    return PausedClock()


@pytest.fixture
def source(tmp_path: Path) -> FrozenDisk:
    file = tmp_path / "disk"
    with file.open("xb") as disk:
        disk.truncate(16 * MIB)
    return FrozenDisk(file, Transport(mode=TransportMode.DIRECT, reason="a file"))


def brake_of(source: FrozenDisk, store: Datastore, clock: PausedClock) -> tuple[Brake, Reports]:
    reports = Reports()
    return Brake(source, store.ask, reports, clock, clock.pause), reports


def read(brake: Brake, mib: int, clock: PausedClock, own_s: float = 0.0) -> float:
    """Read so many MiB, each of which takes a time of its own; return the seconds it took."""
    began_s, buffer = clock.seconds, memoryview(bytearray(MIB))
    for _ in range(mib):
        brake.disk.read_into(0, buffer)
        clock.pause(own_s)
    return clock.seconds - began_s


# -- a copy ----------------------------------------------------------------------------------------------------------


def test_without_limits_the_disk_is_left_as_it_is(source: FrozenDisk, clock: PausedClock) -> None:
    brake = Brake(source, lambda: None, Reports(), clock)
    brake.begin(PipeClocks(clock))
    assert brake.disk is source
    assert (brake.words, brake.note) == ("", "")
    progress = PipeProgress(
        size_bytes=1, reached_bytes=0, committed_bytes=0, figures=Figures(), stages=StageTimes(source_s=2.0)
    )
    assert brake.charged(progress) is progress


def test_on_a_calm_datastore_nobody_waits(source: FrozenDisk, clock: PausedClock) -> None:
    store = Datastore(clock, CALM)
    brake, reports = brake_of(source, store, clock)
    assert read(brake, 100, clock, own_s=1.0) == 100.0
    assert (reports.waits, brake.words, brake.note) == (0, "", "")
    assert brake.disk.transport == source.transport


def test_a_copy_that_begins_on_a_slow_datastore_begins_slowly(source: FrozenDisk, clock: PausedClock) -> None:
    brake, reports = brake_of(source, Datastore(clock, SLOW), clock)
    # Half of what is taken for the full speed until it is known.
    assert read(brake, 101, clock) == pytest.approx(5.0, rel=0.1)
    assert reports.waits > 0


def test_a_copy_is_slowed_down_by_parts_of_its_own_speed_and_recovers(source: FrozenDisk, clock: PausedClock) -> None:
    store = Datastore(clock, CALM, SLOW, SLOW, CALM)
    brake, _ = brake_of(source, store, clock)
    assert read(brake, 2500, clock, own_s=0.01) == pytest.approx(30.0, rel=0.1)  # 20 s of 100 MiB/s, then of 50
    assert read(brake, 575, clock, own_s=0.01) == pytest.approx(13.0, rel=0.1)  # 10 s of 50 MiB/s, then of 25
    read(brake, 6000, clock, own_s=0.01)
    assert read(brake, 1000, clock, own_s=0.01) == pytest.approx(10.0, rel=0.01)
    assert brake.words.startswith("slowed down from 00:17:00 UTC to 00:18:")
    assert "to 25 % of its speed at the least" in brake.words
    assert "ds1 was up to 90 ms, the limit is 30 ms" in brake.words


def test_waits_are_a_stage_of_their_own(source: FrozenDisk, clock: PausedClock) -> None:
    brake, _ = brake_of(source, Datastore(clock, SLOW), clock)
    before_s = read(brake, 21, clock)  # looking for lies of change tracking
    busy = PipeClocks(clock)
    brake.begin(busy)
    with busy.source:
        during_s = read(brake, 40, clock)
    assert (busy.source.seconds, busy.throttled.seconds) == pytest.approx((0.0, during_s))
    progress = PipeProgress(
        size_bytes=1,
        reached_bytes=1,
        committed_bytes=1,
        figures=Figures(),
        stages=StageTimes(source_s=during_s + 0.5, encode_s=1.0),
    )
    stages = brake.charged(progress).stages
    assert (stages.source_s, stages.encode_s) == pytest.approx((0.5, 1.0))
    assert stages.throttled_s == pytest.approx(before_s + during_s)


def test_one_measurement_counts_once_however_often_it_is_seen(source: FrozenDisk, clock: PausedClock) -> None:
    store = Datastore(clock, SLOW)
    brake, _ = brake_of(source, store, clock)
    read(brake, 300, clock)
    assert clock.seconds < 1019.0
    assert store.asked >= 3
    assert "to 50 % of its speed" in brake.words


def test_a_copy_says_that_nobody_could_tell(source: FrozenDisk, clock: PausedClock) -> None:
    brake, _ = brake_of(source, Datastore(clock, None), clock)
    read(brake, 100, clock, own_s=1.0)
    assert brake.words == ""
    assert brake.note == "not slowed down, however busy its datastore was: no host tells"


def test_a_measurement_that_failed_once_is_not_worth_a_note(source: FrozenDisk, clock: PausedClock) -> None:
    brake, _ = brake_of(source, Datastore(clock, None, CALM, None), clock)
    read(brake, 100, clock, own_s=1.0)
    assert brake.note == ""


def test_a_read_that_waits_ends_when_the_activity_shall_stop(source: FrozenDisk, clock: PausedClock) -> None:
    brake, reports = brake_of(source, Datastore(clock, SLOW), clock)
    reports.is_stopping = True
    with pytest.raises(OperationInterrupted):
        read(brake, 100, clock)


def test_an_error_of_the_question_does_not_keep_the_next_one_from_asking(
    source: FrozenDisk, clock: PausedClock
) -> None:
    store = Datastore(clock, CALM)
    is_gone = False

    def ask() -> DatastoreLatency:
        if is_gone:
            raise SnapshotNotFound("snapshot s is gone")
        return store.ask()

    brake = Brake(source, ask, Reports(), clock, clock.pause)
    clock.pause(20)
    is_gone = True
    with pytest.raises(SnapshotNotFound):
        read(brake, 1, clock)
    is_gone = False
    read(brake, 1, clock)
    assert store.asked == 2


# -- in the activities -----------------------------------------------------------------------------------------------


class OnADatastore(LocalProvider):
    """A local provider whose disks are on a datastore that is measured."""

    store: Datastore

    @override
    def disk_latency(self, machine_id: MachineId, snapshot_id: SnapshotId, key: DiskKey) -> DatastoreLatency | None:
        return self.store.ask()


@pytest.fixture
def slow_lab(lab: Lab, clock: PausedClock) -> Lab:
    provider = OnADatastore(lab.root / "provider", lab.clock)
    provider.store = Datastore(clock, SLOW)
    lab.provider = provider
    return lab


def test_a_copy_that_was_slowed_down_holds_the_same_bytes_and_says_so(slow_lab: Lab) -> None:
    machine = slow_lab.add_machine()
    copied, point = slow_lab.back_up(machine)
    assert copied.slowed.startswith("slowed down from ")
    assert (copied.note, "throttled" in copied.busy) == ("", True)
    assert slow_lab.restored(machine, point) == slow_lab.content(machine)


def test_a_copy_that_was_not_slowed_down_says_nothing(lab: Lab) -> None:
    copied, _ = lab.back_up(lab.add_machine())
    assert (copied.slowed, copied.busy["throttled"]) == ("", 0.0)


def frozen_by(lab: Lab, *latencies: float | None, wait_s: float = 900.0) -> tuple[OnADatastore, PausedClock]:
    clock = PausedClock()
    limits = LatencyLimits(start_max_ms=20, slow_from_ms=30, removal_wait_s=wait_s)
    provider = OnADatastore(lab.root / "provider", lab.clock)
    provider.store = Datastore(clock, *latencies, limits=limits)
    lab.freeze(lab.add_machine())
    return provider, clock


@pytest.mark.parametrize(
    "latencies, wait_s, waited_s",
    [
        ((CALM,), 900.0, 0.0),
        ((None,), 900.0, 0.0),
        ((SLOW,), 0.0, 0.0),
        ((SLOW, 25.0, CALM), 900.0, 40.0),
        ((SLOW,), 900.0, 900.0),
    ],
)
def test_a_removal_waits_for_a_slow_datastore_and_then_goes_on(
    lab: Lab, latencies: tuple[float | None, ...], wait_s: float, waited_s: float
) -> None:
    provider, clock = frozen_by(lab, *latencies, wait_s=wait_s)
    [snapshot] = provider.open_snapshots()
    waited = wait_until_calm(provider, snapshot, Reports(), clock, clock.pause)
    assert waited.seconds == pytest.approx(waited_s)
    assert bool(waited.reason) is (waited_s > 0)


def test_a_removal_that_waits_ends_with_its_worker(lab: Lab) -> None:
    provider, clock = frozen_by(lab, SLOW)
    [snapshot] = provider.open_snapshots()
    reports = Reports()
    reports.is_stopping = True
    with pytest.raises(OperationInterrupted):
        wait_until_calm(provider, snapshot, reports, clock, clock.pause)


def test_a_removal_does_not_wait_for_a_snapshot_that_is_gone(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    provider, clock = frozen_by(lab, SLOW)
    [snapshot] = provider.open_snapshots()

    def gone() -> DatastoreLatency:
        raise SnapshotNotFound("somebody removed it")

    monkeypatch.setattr(provider.store, "ask", gone)
    assert wait_until_calm(provider, snapshot, Reports(), clock, clock.pause) == Waited()


def test_a_removal_says_for_what_it_waited(lab: Lab) -> None:
    provider, _ = frozen_by(lab, SLOW, wait_s=5.0)
    lab.provider = provider
    [snapshot] = provider.open_snapshots()
    request = RemoveSnapshot(provider=PROVIDER, machine_id=snapshot.machine_id, tag=snapshot.tag)
    removed = run(lab.snapshots.remove_snapshot, request)
    assert (removed.removed, removed.waited_s >= 5.0) == (1, True)
    assert removed.waited_for == "the latency of datastore ds1 is 90 ms, nothing new begins from 20 ms on"


def test_only_the_first_attempt_at_a_removal_waits(lab: Lab) -> None:
    provider, _ = frozen_by(lab, SLOW)
    lab.provider = provider
    [snapshot] = provider.open_snapshots()
    request = RemoveSnapshot(provider=PROVIDER, machine_id=snapshot.machine_id, tag=snapshot.tag)
    removed = Attempt(previous="the attempt before").run(lab.snapshots.remove_snapshot, request)
    assert (removed.removed, removed.waited_s, provider.store.asked) == (1, 0.0, 0)
