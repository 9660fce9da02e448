"""No crash during upkeep loses a point that stays: every state that may be left is enumerated and judged.

A crash is tried after every operation of a merge, a removal, a compaction and a synthetic full; then it is run again.
"""

import random
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from holdfast.errors import HoldfastError
from holdfast.faults import set_hook
from holdfast.model.compression import Compression
from holdfast.storage.chain_files.rewriter import ChainRewriter
from holdfast.storage.chains.chain import Chain, chain_file_names
from holdfast.storage.chains.metadata import METADATA_NAME, check_chain
from holdfast.storage.chains.repository import Repository
from holdfast.storage.health.verifier import verify_chain
from holdfast.storage.methods.compacting import compact
from holdfast.storage.methods.reversing import ReverseOptions, make_newest_full
from holdfast.storage.methods.synthesis import synthesize
from holdfast.storage.methods.upkeep import ChainUpkeep
from holdfast.testing.chains import chain_differences
from holdfast.testing.crash_states import CrashState, crash_states
from holdfast.testing.crashfs import CrashFiles
from tests.fuzz.explorer import ROOT, UNIT, Story, signature, tell

NOW = datetime(2026, 11, 21, tzinfo=UTC)
FULL, SECOND, THIRD = "00000001-full.hfc", "00000002-increment.hfc", "00000003-increment.hfc"


class Place(NamedTuple):
    """Where an upkeep works."""

    files: CrashFiles
    folder: Path
    passphrase: str | None

    @property
    def chain(self) -> ChainUpkeep:
        return ChainUpkeep(*self)


class UpkeepStory:
    """A chain of a few points, and the log of an upkeep of it."""

    def __init__(self, story: Story, case: "Case") -> None:
        self.story = story
        self.upkeep = case.upkeep
        self.stay = case.stay
        self.settles = case.settles
        self.folder = story.machine.repository.chain_folder(story.machine.kept[0].summary.chain)
        self.base = story.files.copy()
        case.before(Place(self.base, self.folder, story.store.passphrase))
        self.base = self.base.copy()
        files = self.base.copy()
        self.run(files)
        self.events = files.events

    def run(self, files: CrashFiles) -> None:
        self.upkeep(Place(files, self.folder, self.story.store.passphrase))
        files.mark("done")

    def problems(self, state: CrashState) -> list[str]:
        """Return what is wrong with a state; then run the upkeep again, twice, and return what is wrong behind it."""
        try:
            found = self._read(state.files(), after=bool(state.told))
            files = state.files()
            self.run(files)
            found += self._read(files, after=True)
            once = {path: files.content(path) for path in files.paths()}
            self.run(files)
            twice = {path: files.content(path) for path in files.paths()}
            changed = {path.name for path in {**once, **twice} if once.get(path) != twice.get(path)}
            if self.settles and changed - {METADATA_NAME}:
                found.append(f"run twice, other bytes are in {sorted(changed)}")
            if changed:
                found += self._read(files, after=True, only_metadata=changed == {METADATA_NAME})
            if files.open_handles:
                found.append(f"left open: {[handle.path.name for handle in files.open_handles]}")
        except (HoldfastError, AssertionError) as error:
            found = [f"{type(error).__name__}: {error}"]
        return [f"{state.description}, told {state.told}: {words}" for words in found]

    def _read(self, files: CrashFiles, *, after: bool, only_metadata: bool = False) -> list[str]:
        repository = self.story.machine.repository.__class__.open(ROOT, files)
        passphrase, found = self.story.store.passphrase, []
        there: dict[int, str] = {}
        for folder in repository.chain_folders():
            if not chain_file_names(files, folder):
                continue
            with Chain.open(files, folder, passphrase) as chain:
                if not chain.files:
                    continue  # begun, and not committed yet
                check_chain(files, chain)
                numbers = [point.number for _, point in chain.points() if point.complete]
                found += [f"point {number} stands twice" for number in numbers if after and number in there]
                there |= dict.fromkeys(numbers, repository.relative(folder))
                if only_metadata:  # every other byte was read before
                    continue
                found += [f"verify: {damage}" for damage in verify_chain(chain, lambda _: None).damages]
                for number in numbers:
                    found += chain_differences(chain, self.story.machine.kept[number - 1])
        if not self.stay <= set(there) or (after and set(there) != self.stay):
            found.append(f"points {sorted(there)} are there, {sorted(self.stay)} have to be")
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


class Died(Exception):
    """The process is gone."""


def merge_one(place: Place) -> None:
    place.chain.merge(FULL, SECOND, commit_bytes=UNIT)


def merge_both(place: Place) -> None:
    place.chain.merge(FULL, SECOND, commit_bytes=UNIT)
    place.chain.merge(FULL, THIRD, commit_bytes=UNIT)


def merge_in_one_pass(place: Place) -> None:
    place.chain.merge_all(FULL, [SECOND, THIRD], commit_bytes=UNIT)


def merge_half_and_change(place: Place) -> None:
    """Begin to merge, and let a file have another commit, as a repair makes it, so that all of it is done anew."""

    def stop(moved: int) -> None:
        raise Died(moved)

    with suppress(Died):
        place.chain.merge_all(FULL, [SECOND, THIRD], stop, UNIT)
    with ChainRewriter.resume(place.files, place.folder / SECOND, place.passphrase) as writer:
        writer.commit_whole()


def remove_two(place: Place) -> None:
    place.chain.remove([THIRD, SECOND], NOW)


def compact_full(place: Place) -> None:
    compact(place.files, place.folder, place.passphrase, commit_bytes=UNIT)


def make_full(place: Place) -> None:
    repository = Repository.open(ROOT, place.files)
    synthesize(repository, repository.relative(place.folder), place.passphrase, commit_bytes=UNIT)


def reverse(place: Place) -> None:
    make_newest_full(*place, options=ReverseOptions(compression=Compression.NONE, commit_bytes=UNIT))


def die_when_displaced(name: str) -> None:
    if name == "reverse.displaced":
        raise Died


def begin_to_reverse(place: Place) -> None:
    set_hook(die_when_displaced)
    try:
        with suppress(Died):
            reverse(place)
    finally:
        set_hook(None)


def remove_second(place: Place) -> None:
    place.chain.remove([SECOND], NOW)


class Case(NamedTuple):
    """An upkeep, the points that stay, and of how many sessions; ``before`` is done before the log begins.

    One that ``settles`` changes nothing but the metadata when it is run again: recovery twice is recovery once.
    """

    upkeep: Callable[[Place], None]
    stay: set[int]
    sessions: int = 3
    before: Callable[[Place], None] = lambda _: None
    settles: bool = True


UPKEEPS = {
    "merge": Case(merge_one, {2, 3}),
    "merge in one pass": Case(merge_in_one_pass, {3}),
    "merge begun anew": Case(merge_in_one_pass, {3}, 3, merge_half_and_change),
    "remove": Case(remove_two, {1}),
    "compact": Case(compact_full, {2}, 2, merge_one, settles=False),
    "synthetic full": Case(make_full, {1, 2}, 2),
    "reverse step": Case(reverse, {1, 2}, 2),
    "remove in a reverse step": Case(remove_second, {1}, 2, begin_to_reverse),
}


@pytest.mark.parametrize("case", UPKEEPS.values(), ids=UPKEEPS)
def test_no_crash_during_upkeep_loses_a_point_that_stays(seed: int, case: Case) -> None:
    story = UpkeepStory(Story(seed % 1000, pieces=3 if case.sessions == 2 else 5, sessions=case.sessions), case)
    assert explore(story, seed, samples=1) > 10


LONGER = {
    "merge twice": Case(merge_both, {3}),
    "two reverse steps": Case(reverse, {1, 2, 3}),
    "synthetic full of three": Case(make_full, {1, 2, 3}),
}


# Of one disk the full has four units; of two, each has two.
SHAPES = {"one disk": (13, 1), "two disks": (5, 2)}


@pytest.mark.soak
@pytest.mark.explorer
@pytest.mark.parametrize("passphrase", [None, "correct horse"], ids=["plain", "encrypted"])
@pytest.mark.parametrize("pieces, disks", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("case", [*UPKEEPS.values(), *LONGER.values()], ids=[*UPKEEPS, *LONGER])
def test_no_crash_during_longer_upkeep_loses_a_point_that_stays(
    seed: int, case: Case, pieces: int, disks: int, passphrase: str | None
) -> None:
    """Up to three files, of which the full has four units."""
    explore(UpkeepStory(Story(seed % 1000, pieces, case.sessions, disks, passphrase), case), seed, samples=8)
