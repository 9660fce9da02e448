"""No crash and no failed flush loses a finished point: every state that may be left is enumerated and judged.

A crash is tried after every operation of a story (a full with several commits, an increment, both finished, metadata
written twice). What was not flushed may be lost, kept or torn, in any order; names count once their folder was flushed.
"""

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import msgspec
import pytest
from typing_extensions import override

from holdfast.errors import RepositoryUnavailable, StoreFailed, SyncFailed
from holdfast.storage.chains.repository import Repository
from holdfast.testing.crash_states import crash_states
from holdfast.testing.crashfs import CrashFiles
from tests.fuzz.explorer import ROOT, Judge, Story, finish_session, tell


def explore(story: Story, seed: int, samples: int) -> Judge:
    judge = Judge(story)
    problems = []
    for state in crash_states(story.base, story.events, random.Random(seed), samples=samples):
        problems += judge.problems(state)
        assert len(problems) < 5, "\n".join(problems)
    assert problems == []
    tell(f"{judge.states} crash states, {judge.resumed} different ones resumed")
    return judge


def explore_twice(story: Story, rng: random.Random, first: int, second: int) -> int:
    """Crash, go on, crash again, and judge that; both at states taken at random."""
    judge = Judge(story)
    states = list(crash_states(story.base, story.events, rng, samples=2))
    for state in rng.sample(states, first):
        base, files = state.files(), state.files()
        go_on(story, files, len(state.told))
        later = list(crash_states(base, files.events, rng, samples=2))
        for crash in rng.sample(later, min(second, len(later))):
            told = state.told + crash.told
            words = f"{state.description}; then {crash.description}"
            assert judge.problems(msgspec.structs.replace(crash, told=told, description=words)) == []
    tell(f"{judge.states} states after two crashes, {judge.resumed} different ones resumed")
    return judge.states


def go_on(story: Story, files: CrashFiles, finished: int) -> None:
    repository = Repository.open(ROOT, files)
    for session in range(finished, len(story.machine.kept)):
        summary = finish_session(repository, story, session)
        files.mark(f"finished {summary.number}")


@pytest.mark.timeout(300)
def test_no_crash_loses_a_finished_point_and_every_session_goes_on(seed: int) -> None:
    judge = explore(Story(seed % 1000, pieces=5, sessions=2), seed, samples=1)
    assert judge.states > 300


@pytest.mark.timeout(300)
def test_no_crash_loses_a_point_whose_disks_are_written_at_once(seed: int) -> None:
    judge = explore(Story(seed % 1000, pieces=6, sessions=1, disks=2, at_once=True), seed, samples=1)
    assert judge.states > 500


def test_a_second_crash_while_going_on_loses_nothing_either(seed: int) -> None:
    story = Story(seed % 1000, pieces=6, sessions=2)
    assert explore_twice(story, random.Random(seed), first=8, second=8) >= 60


class Died(Exception):
    """The process is gone; what it wrote is still shown by reads."""


def die_at(number: int) -> Callable[[int], None]:
    def die(count: int) -> None:
        if count == number:
            raise Died

    return die


def explore_deaths(story: Story, rng: random.Random, steps: int, samples: int) -> Judge:
    """Let the process die after an event, another one go on, and then the power fail, mostly soon after."""
    judge = Judge(story)
    for number in range(rng.randrange(1, steps + 1), len(story.events), steps):
        files = story.base.copy()
        files.after_event = die_at(number)
        with suppress(Died):
            go_on(story, files, 0)
        assert not files.open_handles
        files.after_event = lambda _count: None
        go_on(story, files, sum(event.kind == "mark" for event in files.events))
        states = list(crash_states(story.base, files.events, rng, samples=1))
        before = sum(1 for _ in crash_states(story.base, files.events[:number], rng, samples=1))
        soon = states[before : before + 60]
        for state in [*rng.sample(soon, min(samples, len(soon))), states[-1]]:
            words = f"the process died after event {number}; {state.description}"
            assert judge.problems(msgspec.structs.replace(state, description=words)) == []
    tell(f"{judge.states} states after a death and a power failure, {judge.resumed} different ones resumed")
    return judge


def test_a_power_failure_soon_after_a_process_died_loses_nothing(seed: int) -> None:
    # What the first process left unflushed is read by the second as if it were durable.
    judge = explore_deaths(Story(seed % 1000, pieces=5, sessions=2), random.Random(seed), steps=3, samples=2)
    assert judge.states > 40


Keep: TypeAlias = Callable[[int], tuple[int, ...]]


class FailingSync:
    """Lets one flush fail; of the writes it should have made durable some, or none, reach the storage."""

    def __init__(self, number: int, keep: Keep) -> None:
        self.number = number
        self.keep = keep

    def __call__(self, number: int, waiting: int) -> tuple[int, ...] | None:
        return self.keep(waiting) if number == self.number else None


class NoRename(CrashFiles):
    """Storage that refuses to set a chain file aside."""

    @override
    def rename(self, path: Path, new: Path) -> None:
        raise StoreFailed(f"{path} cannot become {new}: Input/output error")


def nothing(waiting: int) -> tuple[int, ...]:
    del waiting
    return ()


def all_but_first(waiting: int) -> tuple[int, ...]:
    return tuple(range(1, waiting))


def only_last(waiting: int) -> tuple[int, ...]:
    return (waiting - 1,) if waiting else ()


def tell_with_a_failing_sync(story: Story, files: CrashFiles) -> list[str]:
    """Play the story, each session again after an error; return the errors."""
    errors = []
    repository = Repository.open(ROOT, files)
    for session in range(len(story.machine.kept)):
        for _ in range(3):
            try:
                summary = finish_session(repository, story, session)
            except (SyncFailed, RepositoryUnavailable) as error:
                errors.append(type(error).__name__)
            else:
                files.mark(f"finished {summary.number}")
                break
    return errors


def fail_every_flush(story: Story, rng: random.Random, aside: bool, keeps: list[Keep], samples: int) -> None:
    syncs = sum(event.kind == "sync" for event in story.events)
    # The flush of a second superblock may be the one that fails; the next session that continues the chain mends that.
    judge = Judge(story, both_slots=False)
    for number in range(1, syncs + 1):
        files = story.base.copy()
        files.__class__ = CrashFiles if aside else NoRename
        files.fail_sync = FailingSync(number, rng.choice(keeps))
        errors = tell_with_a_failing_sync(story, files)
        # How many commits a run makes depends on how long they take.
        assert errors == (["SyncFailed"] if files.syncs >= number else [])
        assert not files.open_handles
        states = list(crash_states(story.base, files.events, rng, samples=1))
        for state in [states[-1], *rng.sample(states, samples)]:
            told = msgspec.structs.replace(state, description=f"flush {number} failed; {state.description}")
            assert judge.problems(told) == []
    tell(f"{syncs} flushes failed, {judge.states} crash states after them")


@pytest.mark.parametrize("aside", [True, False], ids=["set aside", "cannot be set aside"])
def test_a_failed_flush_ends_the_attempt_and_loses_no_finished_point(seed: int, aside: bool) -> None:
    # Where the file cannot be set aside the same session goes on with it. That is safe because a resumed writer trusts
    # nothing behind the end that the superblock states, and a superblock is only written over flushed records.
    story = Story(seed % 1000, pieces=5, sessions=2)
    fail_every_flush(story, random.Random(seed), aside, [nothing, all_but_first, only_last], samples=1)


@pytest.mark.soak
@pytest.mark.parametrize("aside", [True, False], ids=["set aside", "cannot be set aside"])
@pytest.mark.parametrize("keep", [nothing, all_but_first, only_last])
def test_failed_flushes_of_longer_stories_lose_no_finished_point(seed: int, keep: Keep, aside: bool) -> None:
    fail_every_flush(Story(seed % 1000, pieces=9, sessions=3), random.Random(seed), aside, [keep], samples=12)


@pytest.mark.soak
@pytest.mark.parametrize("passphrase", [None, "correct horse"])
@pytest.mark.parametrize("pieces, sessions, disks", [(9, 3, 1), (5, 2, 2), (6, 4, 1)])
def test_no_crash_loses_a_finished_point_of_longer_stories(
    seed: int, pieces: int, sessions: int, disks: int, passphrase: str | None
) -> None:
    explore(Story(seed % 1000, pieces, sessions, disks, passphrase), seed, samples=12)


@pytest.mark.soak
@pytest.mark.parametrize("passphrase", [None, "correct horse"])
@pytest.mark.parametrize("pieces, sessions, disks", [(9, 2, 2), (5, 2, 4)])
def test_no_crash_loses_a_point_of_many_disks_at_once(
    seed: int, pieces: int, sessions: int, disks: int, passphrase: str | None
) -> None:
    explore(Story(seed % 1000, pieces, sessions, disks, passphrase, at_once=True), seed, samples=6)


@pytest.mark.soak
def test_deaths_and_power_failures_lose_no_point_of_disks_written_at_once(seed: int) -> None:
    story = Story(seed % 1000, 6, 2, disks=2, at_once=True)
    explore_deaths(story, random.Random(seed), steps=2, samples=10)


@pytest.mark.soak
@pytest.mark.parametrize("repetition", range(5))
def test_two_crashes_at_many_places_lose_nothing(seed: int, repetition: int) -> None:
    explore_twice(Story(seed % 1000, pieces=9, sessions=3), random.Random(seed + repetition), first=40, second=25)


@pytest.mark.soak
@pytest.mark.parametrize("pieces, sessions", [(9, 2), (5, 3)])
def test_power_failures_soon_after_deaths_of_longer_stories_lose_nothing(seed: int, pieces: int, sessions: int) -> None:
    explore_deaths(Story(seed % 1000, pieces, sessions), random.Random(seed), steps=1, samples=40)
