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
    assert {stage: seconds for stage, seconds in busy.items() if seconds} == {"source": 3.5, "encode": 0.25}
    assert set(busy) == {field.removesuffix("_s") for field in StageTimes.__struct_fields__}


def test_the_busy_seconds_add_up_over_attempts_whoever_keeps_the_counters() -> None:
    before = msgspec.structs.replace(
        previous(), figures=Figures(duration_s=4, source_s=1, proxy_s=2, network_s=3, target_s=4, throttled_s=0.5)
    )
    attempt = Figures(duration_s=2, source_s=2, proxy_s=1, network_s=1, target_s=1, throttled_s=0.25)
    for kept in (True, False):
        total = Tally(StillClock(), SUBJECT, before, 300, counters_kept=kept).figures(attempt)
        found = (total.source_s, total.proxy_s, total.network_s, total.target_s, total.throttled_s)
        assert found == (3, 3, 4, 5, 0.75)


def test_a_cursor_names_the_bottleneck_as_often_as_it_leaves() -> None:
    clock = StillClock()
    tally = Tally(clock, SUBJECT, None, 0)
    first = tally.cursor(progress(100, figures=Figures(duration_s=1.0, source_s=0.9)))
    assert first.bottleneck == "Source (Source 90 %, Proxy 0 %, Target 0 %)"
    later = progress(200, figures=Figures(duration_s=2.0, source_s=0.9, target_s=1.0))
    assert tally.cursor(later).bottleneck == first.bottleneck
    clock.seconds += 1
    assert tally.cursor(later).bottleneck == "Target (Source 45 %, Proxy 0 %, Target 50 %)"


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
