"""A run of a scrub: what is read is written down at once, so that a death costs little and the bound holds."""

from datetime import timedelta
from pathlib import Path

import pytest

from holdfast.clock import SystemClock
from holdfast.errors import OperationCancelled, PassphraseWrong
from holdfast.faults import set_hook
from holdfast.planning.scrub import ScrubRules
from holdfast.storage.health import scrub_run
from holdfast.storage.health.health_file import read_health
from holdfast.storage.health.scrub_run import RepositoryScrub, ScrubProgress
from tests.fuzz.damage import SmallChain

EVERYTHING = 1 << 62
RULES = ScrubRules(days=30)


@pytest.fixture
def small() -> SmallChain:
    return SmallChain(7)


def a_run(small: SmallChain) -> RepositoryScrub:
    return RepositoryScrub(small.repository, [None, small.store.passphrase], SystemClock())


def test_a_slice_leaves_the_rest_to_the_next(small: SmallChain) -> None:
    run = a_run(small)
    plan = run.plan(RULES, EVERYTHING)
    first = run.run(plan, 1, lambda _: None)
    assert 0 < first.done_bytes < plan.planned_bytes
    run = a_run(small)
    rest = run.run(run.plan(RULES, plan.planned_bytes - first.done_bytes), EVERYTHING, lambda _: None)
    assert first.done_bytes + rest.done_bytes == plan.planned_bytes
    assert [(one.stored_bytes, one.damages) for one in rest.read] == [(rest.checked_bytes, 0)]
    known = read_health(small.files, small.folder)
    assert [sum(span.end - span.start for span in file.reads) for file in known.files]
    left = a_run(small).plan(RULES, EVERYTHING)
    assert left.oldest is not None
    assert left.oldest > small.summaries[-1].created


def test_progress_grows_to_what_was_planned(small: SmallChain) -> None:
    told: list[ScrubProgress] = []
    run = a_run(small)
    plan = run.plan(RULES, EVERYTHING)
    run.run(plan, EVERYTHING, told.append)
    assert [one.done_bytes for one in told] == sorted(one.done_bytes for one in told)
    assert told[-1].done_bytes == plan.planned_bytes


def test_a_run_that_dies_anywhere_loses_no_more_than_it_had_not_written_down(
    small: SmallChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrub_run, "COMMIT_BYTES", 100_000)
    reached = 0

    def die(name: str) -> None:
        nonlocal reached
        reached += name == "scrub.read"
        if reached == 3:
            raise OperationCancelled("killed")

    run = a_run(small)
    plan = run.plan(RULES, EVERYTHING)
    set_hook(die)
    try:
        with pytest.raises(OperationCancelled):
            run.run(plan, EVERYTHING, lambda _: None)
    finally:
        set_hook(None)
    known = read_health(small.files, small.folder)
    read = sum(span.end - span.start for file in known.files for span in file.reads)
    assert read == 200_000
    run = a_run(small)
    again = run.plan(ScrubRules(days=1, every_s=1))
    assert all(step.read <= small.summaries[-1].created + timedelta(days=1) for step in again.steps)


def test_a_chain_that_went_away_since_the_plan_is_passed_over(small: SmallChain) -> None:
    run = a_run(small)
    plan = run.plan(RULES, EVERYTHING)
    for path in list(small.files.paths()):
        if path.parent == small.folder:
            small.files.drop(path)
    moved = Path("/repository") / "elsewhere"
    small.repository.chain_folder = lambda _: moved  # type: ignore[method-assign, assignment]
    report = run.run(plan, EVERYTHING, lambda _: None)
    assert report.done_bytes == plan.planned_bytes
    assert report.checked_bytes == 0


def test_a_chain_without_its_passphrase_is_named_and_nothing_of_it_is_planned() -> None:
    small = SmallChain(7, "correct horse")
    run = RepositoryScrub(small.repository, [None], SystemClock())
    plan = run.plan(RULES, EVERYTHING)
    assert not plan.steps
    (closed,) = plan.closed
    sizes = [len(small.files.read(path)) for path in small.files.paths() if path.suffix == ".hfc"]
    assert (closed.chain, closed.code, closed.due_bytes) == (small.summaries[0].chain, PassphraseWrong.code, sum(sizes))
    report = run.run(plan, EVERYTHING, lambda _: None)
    assert (report.closed, report.is_good, report.is_done) == ((closed,), True, True)


def test_what_was_read_of_a_chain_before_it_was_closed_is_not_due() -> None:
    small = SmallChain(7, "correct horse")
    opened = RepositoryScrub(small.repository, [None, "correct horse"], SystemClock())
    plan = opened.plan(RULES, EVERYTHING)
    assert not plan.closed
    opened.run(plan, EVERYTHING, lambda _: None)
    (closed,) = RepositoryScrub(small.repository, [None], SystemClock()).plan(RULES).closed
    assert closed.due_bytes == 0
