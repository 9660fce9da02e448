"""Figures of a disk over all attempts."""

import msgspec

from activities.contracts.transfer import TransferCursor
from activities.tally import Tally
from holdfast.model.session import Figures
from holdfast.pipeline.stages import PipeProgress, StageTimes
from tests.activities.lab import KEY, StillClock

SUBJECT = TransferCursor(
    machine="web", disk=KEY, size_bytes=1000, committed_bytes=0, reached_bytes=0, target_id="target"
)


def progress(reached_bytes: int, committed_bytes: int = 0, figures: Figures | None = None) -> PipeProgress:
    return PipeProgress(
        size_bytes=1000,
        reached_bytes=reached_bytes,
        committed_bytes=committed_bytes,
        figures=figures or Figures(),
        stages=StageTimes(source_s=1.5),
    )


def previous() -> TransferCursor:
    figures = Figures(size_bytes=1000, processed_bytes=500, read_bytes=500, resent_bytes=10, duration_s=4)
    return msgspec.structs.replace(
        SUBJECT, committed_bytes=300, reached_bytes=500, figures=figures, busy={"source": 2.0, "other": 9.0}
    )


ATTEMPT = Figures(size_bytes=1000, processed_bytes=900, read_bytes=600, resent_bytes=0, duration_s=3)


def test_a_first_attempt_tells_its_own_figures() -> None:
    tally = Tally(StillClock(), SUBJECT, None, 0)
    cursor = tally.cursor(progress(900, 700, ATTEMPT))
    assert (cursor.machine, cursor.disk, cursor.size_bytes, cursor.target_id) == ("web", KEY, 1000, "target")
    assert (cursor.committed_bytes, cursor.reached_bytes) == (700, 900)
    assert cursor.figures == ATTEMPT
    assert cursor.busy["source"] == 1.5


def test_a_later_attempt_adds_up_and_counts_what_it_does_again() -> None:
    tally = Tally(StillClock(), SUBJECT, previous(), 300)
    total = tally.figures(ATTEMPT)
    assert (total.size_bytes, total.processed_bytes) == (1000, 900), "these do not add up over attempts"
    assert (total.read_bytes, total.duration_s) == (1100, 7)
    assert total.resent_bytes == 10 + 200


def test_nothing_is_done_again_when_all_that_was_reached_was_committed() -> None:
    assert Tally(StillClock(), SUBJECT, previous(), 600).figures(ATTEMPT).resent_bytes == 10


def test_counters_that_the_file_keeps_are_not_added_a_second_time() -> None:
    total = Tally(StillClock(), SUBJECT, previous(), 300, counters_kept=True).figures(ATTEMPT)
    assert total == msgspec.structs.replace(ATTEMPT, duration_s=7)


def test_the_seconds_of_each_stage_add_up_over_attempts() -> None:
    busy = Tally(StillClock(), SUBJECT, previous(), 300).busy(StageTimes(source_s=1.5, encode_s=0.25))
    assert busy == {"source": 3.5, "digest": 0.0, "encode": 0.25, "target": 0.0, "commit_wait": 0.0, "throttled": 0.0}


def test_the_rate_is_that_of_the_last_seconds_and_of_this_attempt_alone() -> None:
    clock = StillClock()
    tally = Tally(clock, SUBJECT, None, 300)
    assert tally.cursor(progress(400)).rate_bytes_s == 0, "no time has passed"
    rates = []
    for reached in (500, 600, 700, 800, *[900] * 7):
        clock.seconds += 1
        rates.append(tally.cursor(progress(reached)).rate_bytes_s)
    assert rates[0] == 200
    assert rates[4] == 120
    assert rates[-1] == 0
