"""What a scrub reads: the oldest first, the day's share, and never anything beyond the bound."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from holdfast.model.reads import ReadSpan, laid_over
from holdfast.planning.scrub import RANGE_BYTES, FileFacts, ScrubRules, ScrubStep, due_unopened, plan_scrub

NOW = datetime(2026, 11, 21, 3, tzinfo=UTC)
DAY = timedelta(days=1)
RULES = ScrubRules(days=30)


def facts(name: str, size: int, age_days: float, reads: tuple[ReadSpan, ...] = ()) -> FileFacts:
    return FileFacts(chain=f"machines/{name}", file=name, size=size, written=NOW - age_days * DAY, reads=reads)


def ends(steps: tuple[ScrubStep, ...]) -> list[tuple[str, int, int]]:
    return [(step.file, step.start, step.end) for step in steps]


def test_nothing_stored_needs_nothing() -> None:
    plan = plan_scrub([], NOW, RULES)
    assert (plan.steps, plan.planned_bytes, plan.oldest) == ((), 0, None)


def test_a_run_reads_its_share_of_everything_oldest_first() -> None:
    size = 60 * RANGE_BYTES
    plan = plan_scrub([facts("young", size, 1), facts("old", size, 9)], NOW, RULES)
    assert ends(plan.steps) == [("old", 0, 4 * RANGE_BYTES)]
    assert plan.stored_bytes == 2 * size
    assert plan.oldest == NOW - 9 * DAY
    assert plan.overdue_bytes == 0


def test_what_was_never_read_counts_from_when_it_was_written() -> None:
    read = (ReadSpan(RANGE_BYTES, 2 * RANGE_BYTES, NOW - 2 * DAY),)
    plan = plan_scrub([facts("file", 4 * RANGE_BYTES, 5, read)], NOW, RULES, bytes_max=4 * RANGE_BYTES)
    assert ends(plan.steps) == [
        ("file", 0, RANGE_BYTES),
        ("file", 2 * RANGE_BYTES, 4 * RANGE_BYTES),
        ("file", RANGE_BYTES, 2 * RANGE_BYTES),
    ]


def test_what_would_be_too_old_before_the_next_run_is_read_beyond_the_share() -> None:
    plan = plan_scrub([facts("file", 90 * RANGE_BYTES, 29.5)], NOW, RULES)
    assert plan.planned_bytes == 90 * RANGE_BYTES
    assert plan.overdue_bytes == 0


def test_what_is_too_old_already_is_told() -> None:
    plan = plan_scrub([facts("file", 5, 31), facts("other", 7, 3)], NOW, RULES)
    assert plan.overdue_bytes == 5
    assert ends(plan.steps) == [("file", 0, 5)]


def test_a_run_that_goes_on_reads_what_is_left_and_no_more() -> None:
    plan = plan_scrub([facts("file", 90 * RANGE_BYTES, 29.5)], NOW, RULES, bytes_max=3 * RANGE_BYTES)
    assert plan.planned_bytes == 3 * RANGE_BYTES


def test_a_run_that_goes_on_passes_over_what_it_has_read() -> None:
    read = (ReadSpan(0, RANGE_BYTES, NOW),)
    known = [facts("file", 3 * RANGE_BYTES, 5, read)]
    plan = plan_scrub(known, NOW + DAY, RULES, bytes_max=3 * RANGE_BYTES, since=NOW)
    assert ends(plan.steps) == [("file", RANGE_BYTES, 3 * RANGE_BYTES)]


def test_reads_behind_the_end_of_a_file_that_became_shorter_do_not_count() -> None:
    read = (ReadSpan(0, 9 * RANGE_BYTES, NOW), ReadSpan(9 * RANGE_BYTES, 10 * RANGE_BYTES, NOW - DAY))
    plan = plan_scrub([facts("file", 2 * RANGE_BYTES, 5, read)], NOW, RULES, bytes_max=9 * RANGE_BYTES)
    assert plan.stored_bytes == 2 * RANGE_BYTES


def test_a_day_of_reading_is_a_matter_of_days_and_interval() -> None:
    weekly = ScrubRules(days=28, every_s=7 * 86400)
    plan = plan_scrub([facts("file", 40 * RANGE_BYTES, 2)], NOW, weekly)
    assert plan.planned_bytes == 10 * RANGE_BYTES


@pytest.mark.parametrize("seed", range(20))
def test_every_byte_is_read_again_within_the_bound(seed: int) -> None:
    rng = random.Random(seed)
    rules = ScrubRules(days=rng.randrange(2, 20))
    now, reads = NOW, dict[str, tuple[ReadSpan, ...]]()
    sizes: dict[str, tuple[int, datetime]] = {}
    for day in range(rules.days * 3):
        now = NOW + day * DAY
        if rng.random() < 0.7 or not sizes:
            sizes[f"file{day}"] = (rng.randrange(1, 40 * RANGE_BYTES), now - rng.random() * DAY)
        if rng.random() < 0.2:
            sizes.pop(rng.choice(sorted(sizes)))
        files = [
            FileFacts(chain="c", file=name, size=size, written=written, reads=reads.get(name, ()))
            for name, (size, written) in sizes.items()
        ]
        plan = plan_scrub(files, now, rules)
        assert plan.overdue_bytes == 0, f"seed {seed}, day {day}"
        share = -(-plan.stored_bytes // rules.days)
        assert plan.planned_bytes <= max(share, plan.stored_bytes) + RANGE_BYTES
        for step in plan.steps:
            span = ReadSpan(step.start, step.end, now)
            reads[step.file] = laid_over(reads.get(step.file, ()), span)


@pytest.mark.parametrize("seed", range(20))
def test_a_run_that_dies_anywhere_costs_no_byte_its_bound(seed: int) -> None:
    rng = random.Random(seed)
    size = 50 * RANGE_BYTES
    reads: tuple[ReadSpan, ...] = ()
    rules = ScrubRules(days=5)
    written = NOW
    for day in range(20):
        now = NOW + day * DAY
        plan = plan_scrub([FileFacts(chain="c", file="f", size=size, written=written, reads=reads)], now, rules)
        assert plan.overdue_bytes == 0
        if rng.random() < 0.3 and day % 2:
            continue  # died before the first line was written
        for step in plan.steps:
            reads = laid_over(reads, ReadSpan(step.start, step.end, now))


def test_plans_of_many_files_are_quick() -> None:
    files = [facts(f"f{number}", RANGE_BYTES, number % 29) for number in range(20_000)]
    assert plan_scrub(files, NOW, RULES).planned_bytes >= 20_000 * RANGE_BYTES // 30


def test_of_a_closed_chain_all_is_due_that_was_not_read_lately() -> None:
    reads = (ReadSpan(0, 40, NOW - DAY), ReadSpan(40, 70, NOW - 30 * DAY), ReadSpan(70, 75, NOW - 28 * DAY))
    assert due_unopened(100, reads, NOW, RULES) == 55
    assert due_unopened(100, (), NOW, RULES) == 100
    assert due_unopened(30, reads, NOW, RULES) == 0, "a file shrank since"
