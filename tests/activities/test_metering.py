"""An attempt at a disk adds to the metrics while it runs, once, and tells how it ended."""

import pytest

from activities.metering import TaskMeter
from holdfast import measures
from holdfast.errors import DiskReadFailed, OperationCancelled, OperationInterrupted
from holdfast.model.ids import RepositoryName
from holdfast.model.session import Figures
from holdfast.pipeline.stages import PipeProgress, StageTimes
from tests.activities.lab import Attempt, Lab, StillClock, cursors, run
from tests.holdfast.test_measures import Taken, taken

__all__ = ["taken"]

HERE = {"kind": "backup", "repository": "main"}


def progress(figures: Figures) -> PipeProgress:
    return PipeProgress(size_bytes=1, reached_bytes=0, committed_bytes=0, figures=figures, stages=StageTimes())


def metered(clock: StillClock, work: "object") -> None:
    """Do something with a meter inside an activity."""

    def activity(_: None) -> None:
        with TaskMeter("backup", RepositoryName("main"), clock) as meter:
            assert callable(work)
            work(meter)

    run(activity, None)


def test_what_was_done_since_the_start_is_counted_about_once_a_second(taken: Taken) -> None:
    clock, reports = StillClock(), list[PipeProgress]()

    def work(meter: TaskMeter) -> None:
        meter.since(Figures(read_bytes=100, stored_bytes=5))
        report = meter.counting(reports.append)
        for read_bytes in (110, 120, 130):
            report(progress(Figures(read_bytes=read_bytes, stored_bytes=5, source_s=0.5)))
        clock.seconds += 1.5
        report(progress(Figures(read_bytes=140, stored_bytes=5, source_s=1.5)))
        meter.done(Figures(read_bytes=150, stored_bytes=9, source_s=2.0, target_s=0.25, duration_s=2.0))

    metered(clock, work)
    assert len(reports) == 4
    assert taken.of(measures.READ, **HERE) == [10, 30, 10]
    assert taken.of(measures.STORED, **HERE) == [4]
    assert taken.of(measures.READ_AGAIN) == []
    assert taken.of(measures.BUSY, **HERE, stage="Source") == [0.5, 1.0, 0.5]
    assert taken.of(measures.BUSY, **HERE, stage="Target") == [0.25]
    assert taken.of(measures.BOTTLENECKS, **HERE, stage="Source") == [1]
    assert taken.of(measures.TASK_SECONDS, **HERE, outcome="success") == [1.5]


def test_an_estimate_that_shrinks_and_grows_again_is_not_counted_twice(taken: Taken) -> None:
    clock = StillClock()

    def work(meter: TaskMeter) -> None:
        report = meter.counting(lambda _: None)
        for network_s in (2.0, 1.5, 2.5):
            report(progress(Figures(network_s=network_s)))
            clock.seconds += 2

    metered(clock, work)
    assert taken.of(measures.BUSY, stage="Network") == [2.0, 0.5]


@pytest.mark.parametrize(
    "error, outcome",
    [
        (DiskReadFailed("bad"), "failed"),
        (OperationCancelled("asked to"), "stopped"),
        (OperationInterrupted("shutting down"), "stopped"),
    ],
)
def test_an_attempt_that_fails_is_told_from_one_that_was_stopped(taken: Taken, error: Exception, outcome: str) -> None:
    def work(_: TaskMeter) -> None:
        raise error

    with pytest.raises(type(error)):
        metered(StillClock(), work)
    assert taken.of(measures.TASKS) == taken.of(measures.TASKS, **HERE, outcome=outcome) == [1]
    assert taken.of(measures.BOTTLENECKS) == []


def test_how_long_a_disk_waited_for_its_slot_is_counted_by_queue(taken: Taken) -> None:
    metered(StillClock(), lambda _: None)
    [waited_s] = taken.of(measures.TASK_WAIT, kind="backup", queue="test")
    assert waited_s >= 0


def test_without_a_recorder_nothing_is_counted() -> None:
    metered(StillClock(), lambda meter: meter.done(Figures(read_bytes=1, duration_s=1.0)))


def test_a_second_attempt_counts_only_what_it_did(lab: Lab, taken: Taken) -> None:
    machine = lab.add_machine(size_bytes=48 << 16)
    attempt, request = Attempt(), lab.begun(machine)
    copied = attempt.run(lab.transfers.copy_disk, request)
    first = sum(taken.of(measures.READ))
    assert first == copied.figures.read_bytes
    again = Attempt(cursors(attempt)[-1]).run(lab.transfers.copy_disk, request)
    assert again.figures.read_bytes == first
    assert sum(taken.of(measures.READ)) == first
    assert taken.of(measures.TASKS, outcome="success") == [1, 1]
    new = sum(taken.of(measures.PIECES, repository=str(request.repository), fate="stored"))
    known = sum(taken.of(measures.PIECES, fate="known"))
    assert (new + known) * 65536 == first
    assert taken.of(measures.COMMITS, repository=str(request.repository))
