"""No crash while a chain is changed that machines share loses a point of any of them; the same again ends it."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.spans import Span
from holdfast.storage.chains.metadata import check_chain
from holdfast.storage.chains.repository import Repository
from holdfast.storage.health.verifier import verify_chain
from holdfast.storage.methods.compacting import compact
from holdfast.storage.methods.succession import Expendable
from holdfast.storage.methods.upkeep import ChainUpkeep
from holdfast.testing.chains import chain_differences
from holdfast.testing.crash_states import CrashState, crash_states
from holdfast.testing.crashfs import CrashFiles
from tests.fuzz.explorer import UNIT, signature, tell
from tests.holdfast.storage.conftest import ROOT
from tests.holdfast.storage.jobs import Job

FULL, FILES = "00000001-full.hfc", ["00000003-increment.hfc", "00000004-increment.hfc"]


class Case(NamedTuple):
    """A change of the chain, the numbers of the points that stay, and what is done before the log begins."""

    change: Callable[[CrashFiles, Path, Job], object]
    stay: set[int]
    before: Callable[[CrashFiles, Path, Job], object] = lambda *_: None


def merge(files: CrashFiles, folder: Path, job: Job) -> None:
    ChainUpkeep(files, folder, job.store.passphrase).merge_all(FULL, FILES, commit_bytes=UNIT)


def merge_and_let_go(files: CrashFiles, folder: Path, job: Job) -> None:
    expendable = Expendable(let_go=tuple(str(kept.summary.point_id) for kept in job.b.kept))
    upkeep = ChainUpkeep(files, folder, job.store.passphrase)
    upkeep.merge_all(FULL, FILES, commit_bytes=UNIT, expendable=expendable)


def compact_full(files: CrashFiles, folder: Path, job: Job) -> None:
    compact(files, folder, job.store.passphrase, commit_bytes=UNIT)


CASES = {
    "merge": Case(merge, {2, 4}),
    "merge and let go": Case(merge_and_let_go, {4}),
    "compact": Case(compact_full, {2, 4}, merge),
}


class Story:
    """A session of two machines and two of one; the log of a change, and what every state that it may leave reads."""

    def __init__(self, case: Case, passphrase: str | None) -> None:
        self.case, files = case, CrashFiles()
        self.job = Job(files, passphrase)
        self.job.run()
        for turn in range(2):
            self.job.a.disks["disk0"].write(Span(turn * PIECE_SIZE, 2 * PIECE_SIZE))
            self.job.a.back_up()
        self.folder = self.job.repository.chain_folder(self.job.a.kept[0].summary.chain)
        case.before(files, self.folder, self.job)
        self.base = files.copy()
        after = self.base.copy()
        case.change(after, self.folder, self.job)
        after.mark("done")
        self.events = after.events

    def check(self, state: CrashState) -> None:
        files = state.files()
        self._read(files, is_over=bool(state.told))
        files = state.files()
        for _ in range(2):
            self.case.change(files, self.folder, self.job)
            self._read(files, is_over=True)
        assert not files.open_handles

    def _read(self, files: CrashFiles, *, is_over: bool) -> None:
        repository, passphrase = Repository.open(ROOT, files), self.job.store.passphrase
        with repository.open_chain(repository.relative(self.folder), passphrase) as chain:
            check_chain(files, chain)
            assert verify_chain(chain, lambda _: None).damages == ()
            there = [point.number for _, point in chain.points()]
            kept = [one for machine in self.job.machines for one in machine.kept if one.summary.number in there]
            assert [words for one in kept for words in chain_differences(chain, one)] == []
        assert self.case.stay <= set(there)
        assert not is_over or there == sorted(self.case.stay)


def explore(case: Case, passphrase: str | None, seed: int, samples: int) -> int:
    story, seen = Story(case, passphrase), set[bytes]()
    for state in crash_states(story.base, story.events, random.Random(seed), samples=samples):
        mark = signature(state.told, state.files())
        if mark not in seen:
            seen.add(mark)
            try:
                story.check(state)
            except Exception as error:
                error.add_note(f"{state.description}, told {state.told}")
                raise
    tell(f"{len(seen)} different crash states")
    return len(seen)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_no_crash_loses_a_point_of_machines_that_share_a_chain(seed: int, case: Case) -> None:
    assert explore(case, None, seed, samples=1) > 10


@pytest.mark.soak
@pytest.mark.explorer
@pytest.mark.parametrize("passphrase", [None, "correct horse"], ids=["plain", "encrypted"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_no_crash_loses_a_point_of_machines_that_share_a_chain_in_more_states(
    seed: int, case: Case, passphrase: str | None
) -> None:
    explore(case, passphrase, seed, samples=8)
