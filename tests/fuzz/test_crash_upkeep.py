"""No crash during upkeep loses a point that stays: every state that may be left is enumerated and judged.

A crash is tried after every operation of a merge, of a removal and of taking it back; then the upkeep is run again.
"""

import random
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from holdfast.errors import HoldfastError
from holdfast.storage.chain import Chain
from holdfast.storage.metadata import check_chain
from holdfast.storage.upkeep import ChainUpkeep
from holdfast.storage.verifier import verify_chain
from holdfast.testing.chains import KeptPoint, point_differences
from holdfast.testing.crash_states import CrashState, crash_states
from holdfast.testing.crashfs import CrashFiles
from tests.fuzz.explorer import ROOT, UNIT, Story, signature, tell

NOW = datetime(2026, 11, 21, tzinfo=UTC)
FULL, SECOND, THIRD = "00000001-full.hfc", "00000002-increment.hfc", "00000003-increment.hfc"


class UpkeepStory:
    """A chain of a few points, and the log of an upkeep of it."""

    def __init__(self, story: Story, upkeep: Callable[[ChainUpkeep], None], stay: set[int]) -> None:
        self.story = story
        self.upkeep = upkeep
        self.stay = stay
        self.folder = story.machine.repository.chain_folder(story.machine.kept[0].summary.chain)
        self.base = story.files.copy()
        files = self.base.copy()
        self.run(files)
        self.events = files.events

    def run(self, files: CrashFiles) -> None:
        self.upkeep(ChainUpkeep(files, self.folder, self.story.store.passphrase))
        files.mark("done")

    def problems(self, state: CrashState) -> list[str]:
        """Return what is wrong with a state; then run the upkeep again, twice, and return what is wrong behind it."""
        try:
            found = self._read(state.files(), after=bool(state.told))
            files = state.files()
            self.run(files)
            found += self._read(files, after=True)
            once = {path: bytes(files.content(path)) for path in files.paths()}
            self.run(files)
            names = {path: bytes(files.content(path)) for path in files.paths()}
            if set(names) != set(once):
                found.append(f"run twice, other files are there: {sorted(set(names) ^ set(once))}")
            found += self._read(files, after=True)
            if files.open_handles:
                found.append(f"left open: {[handle.path.name for handle in files.open_handles]}")
        except (HoldfastError, AssertionError) as error:
            found = [f"{type(error).__name__}: {error}"]
        return [f"{state.description}, told {state.told}: {words}" for words in found]

    def _read(self, files: CrashFiles, *, after: bool) -> list[str]:
        repository = self.story.machine.repository.__class__.open(ROOT, files)
        passphrase, found = self.story.store.passphrase, []
        with Chain.open(files, self.folder, passphrase) as chain:
            check_chain(files, chain)
            there = {point.number for _, point in chain.points() if point.complete}
            found += [f"verify: {damage}" for damage in verify_chain(chain, lambda _: None).damages]
        if not self.stay <= there or (after and there != self.stay):
            found.append(f"points {sorted(there)} are there, {sorted(self.stay)} have to be")
        for kept in self.story.machine.kept:
            if kept.summary.number in there:
                found += point_differences(repository, KeptPoint(kept.summary, kept.disks), passphrase)
        return found


def explore(story: UpkeepStory, seed: int, samples: int) -> int:
    problems, states = [], set()
    for state in crash_states(story.base, story.events, random.Random(seed), samples=samples):
        seen = signature(state.told, state.files())
        if seen in states:
            continue
        states.add(seen)
        problems += story.problems(state)
        assert len(problems) < 5, "\n".join(problems)
    assert problems == []
    tell(f"{len(states)} different crash states")
    return len(states)


def merge_one(upkeep: ChainUpkeep) -> None:
    upkeep.merge(FULL, SECOND, commit_bytes=UNIT)


def merge_both(upkeep: ChainUpkeep) -> None:
    upkeep.merge(FULL, SECOND, commit_bytes=UNIT)
    upkeep.merge(FULL, THIRD, commit_bytes=UNIT)


def remove_two(upkeep: ChainUpkeep) -> None:
    upkeep.remove([THIRD, SECOND], NOW)


@pytest.mark.parametrize("upkeep, stay", [(merge_one, {2, 3}), (remove_two, {1})], ids=["merge", "remove"])
def test_no_crash_during_upkeep_loses_a_point_that_stays(
    seed: int, upkeep: Callable[[ChainUpkeep], None], stay: set[int]
) -> None:
    story = UpkeepStory(Story(seed % 1000, pieces=5, sessions=3), upkeep, stay)
    assert explore(story, seed, samples=2) > 10


@pytest.mark.soak
@pytest.mark.parametrize("passphrase", [None, "correct horse"])
@pytest.mark.parametrize("upkeep, stay", [(merge_one, {2, 3}), (merge_both, {3})], ids=["merge one", "merge both"])
@pytest.mark.parametrize("size", [(9, 3, 1), (5, 3, 2)], ids=["one disk", "two disks"])
def test_no_crash_during_longer_merges_loses_a_point_that_stays(
    seed: int, upkeep: Callable[[ChainUpkeep], None], stay: set[int], size: tuple[int, int, int], passphrase: str | None
) -> None:
    explore(UpkeepStory(Story(seed % 1000, *size, passphrase), upkeep, stay), seed, samples=8)
