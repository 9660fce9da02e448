"""Every payload is read within the bound of a scrub, wherever it moves, and also where it moves without being read."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typing_extensions import override

from holdfast.clock import SystemClock
from holdfast.faults import set_hook
from holdfast.formats.magic import PIECE_SIZE
from holdfast.formats.pages import UnitEntry
from holdfast.model.reads import ReadSpan
from holdfast.model.spans import Span
from holdfast.planning import scrub as planning
from holdfast.planning.scrub import ScrubRules
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chain_files.rewriter import ChainRewriter
from holdfast.storage.chains.chain import Chain, chain_file_names
from holdfast.storage.health.health_file import read_health
from holdfast.storage.health.scrub_run import RepositoryScrub
from holdfast.storage.methods.compacting import compact
from holdfast.storage.methods.synthesis import synthesize
from holdfast.storage.methods.upkeep import ChainUpkeep
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.storage.conftest import make_machine

BEGAN = datetime(2026, 1, 3, 22, tzinfo=UTC)
BOUND = 10
PIECES = 96


class Calendar(SystemClock):
    """A clock that stands until it is set."""

    at = BEGAN

    @override
    def now(self) -> datetime:
        return self.at


class Life:
    """A machine with a backup and a scrub each day, and when each payload was last read, or written from memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, can_share: bool) -> None:
        monkeypatch.setattr(planning, "RANGE_BYTES", 256 << 10)
        self.files = CrashFiles([Path("/")])
        self.files.can_share = can_share
        self.clock = Calendar()
        self.machine = make_machine({"a": PIECES}, self.files)
        self.machine.clock = self.clock
        self.machine.disks["a"].write(Span(0, (PIECES - 1) * PIECE_SIZE))
        self.read: dict[bytes, datetime] = {}
        self._watch(monkeypatch)

    def _watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """See each unit that is read, by whatever: where it lies says nothing of its payload."""
        sealed_unit = ChainFile.sealed_unit

        def watched(file: ChainFile, number: int) -> tuple[UnitEntry, bytes, bytes]:
            found = sealed_unit(file, number)
            self.read[found[1]] = self.clock.at
            return found

        monkeypatch.setattr(ChainFile, "sealed_unit", watched)

    def folders(self) -> list[Path]:
        repository = self.machine.repository
        folder = repository.machine_folder(self.machine.machine_id, self.machine.name)
        return [found for found in repository.job_chains(folder) if chain_file_names(self.files, found)]

    def live(self, days: int, upkeep: Callable[["Life", int], None]) -> None:
        for day in range(days):
            self.clock.at = BEGAN + timedelta(days=day)
            self.files.events.clear()
            self.machine.disks["a"].write(Span((day * 7 % 64) * PIECE_SIZE, 2 * PIECE_SIZE))
            self.machine.back_up()
            upkeep(self, day)
            run = RepositoryScrub(self.machine.repository, [None], self.clock)
            plan = run.plan(ScrubRules(days=BOUND))
            assert plan.overdue_bytes == 0
            run.run(plan, 1 << 60, lambda _: None)
            self.check()

    def check(self) -> None:
        """No payload of any file waits for longer than the bound."""
        for folder in self.folders():
            with Chain.open(self.files, folder) as chain:
                for file in chain.files:
                    for number in range(file.contents.units.count):
                        self._check_unit(file, number)

    def _check_unit(self, file: ChainFile, number: int) -> None:
        if file.unit(number) is not None:
            _, pieces = file.unit_header(number)
            digests = file.digests(number * file.pieces_per_unit, pieces)
            waits = self.clock.at - self.read.setdefault(digests, self.clock.at)
            assert waits <= timedelta(days=BOUND), f"unit {number} of {file.path} was not read for {waits.days} days"


def merge_oldest(life: Life, keep: int) -> None:
    [folder] = life.folders()
    while len(found := chain_file_names(life.files, folder)) > keep:
        ChainUpkeep(life.files, folder, None).merge(found[0], found[1])


def frequent_synthetic_full(life: Life, day: int) -> None:
    if day and day % 3 == 0:
        synthesize(life.machine.repository, life.machine.kept[-1].summary.chain, None)
        for folder in life.folders()[:-2]:
            upkeep = ChainUpkeep(life.files, folder, None)
            upkeep.remove(list(reversed(chain_file_names(life.files, folder))), life.clock.at)
            upkeep.purge(life.clock.at + timedelta(days=1))


def daily_merge(life: Life, _: int) -> None:
    merge_oldest(life, keep=7)


def late_merge(life: Life, _: int) -> None:
    merge_oldest(life, keep=BOUND + 2)


def merge_of_several(life: Life, day: int) -> None:
    if day % 6 == 5:
        [folder] = life.folders()
        names = chain_file_names(life.files, folder)
        ChainUpkeep(life.files, folder, None).merge_all(names[0], names[1:-1])


def weekly_compaction(life: Life, day: int) -> None:
    merge_oldest(life, keep=4)
    if day % 7 == 6:
        compact(life.files, life.folders()[0], None)


@pytest.mark.parametrize("can_share", [True, False], ids=["shared", "copied"])
@pytest.mark.parametrize(
    "upkeep",
    [frequent_synthetic_full, daily_merge, late_merge, merge_of_several, weekly_compaction],
    ids=lambda upkeep: upkeep.__name__,
)
def test_each_payload_is_read_within_the_bound(
    upkeep: Callable[[Life, int], None], can_share: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    Life(monkeypatch, can_share=can_share).live(36, upkeep)


def scrub(life: Life) -> None:
    run = RepositoryScrub(life.machine.repository, [None], life.clock)
    run.run(run.plan(ScrubRules(days=BOUND), 1 << 40), 1 << 60, lambda _: None)


def two_increments(monkeypatch: pytest.MonkeyPatch) -> tuple[Life, Path]:
    """A machine with a full and two increments, and where they are."""
    life = Life(monkeypatch, can_share=True)
    for turn in range(3):
        life.clock.at = BEGAN + timedelta(days=turn)
        life.machine.disks["a"].write(Span(turn * 9 * PIECE_SIZE, 9 * PIECE_SIZE))
        life.machine.back_up()
    return life, life.folders()[0]


def reads_of_full(life: Life, folder: Path) -> tuple[ReadSpan, ...]:
    with Chain.open(life.files, folder) as chain:
        return read_health(life.files, folder).file(chain.files[0].contents.file).reads


def test_a_scrub_during_which_a_file_changes_reads_its_places_again(monkeypatch: pytest.MonkeyPatch) -> None:
    life, folder = two_increments(monkeypatch)
    read: list[str] = []

    def merge_meanwhile(name: str) -> None:
        if name == "scrub.read":
            read.append(name)
            if len(read) == 1:
                names = chain_file_names(life.files, folder)
                ChainUpkeep(life.files, folder, None).merge(names[0], names[1])

    set_hook(merge_meanwhile)
    try:
        life.clock.at += timedelta(days=1)
        scrub(life)
    finally:
        set_hook(None)
    with Chain.open(life.files, folder) as chain:
        assert len(read) > len(chain.files)
    life.check()
    assert {span.read for span in reads_of_full(life, folder)[:-1]} == {life.clock.at}


def test_a_file_that_changes_all_the_time_is_left_to_the_next_run(monkeypatch: pytest.MonkeyPatch) -> None:
    life, folder = two_increments(monkeypatch)
    path = folder / chain_file_names(life.files, folder)[0]

    def commit(name: str) -> None:
        if name == "scrub.read":
            with ChainRewriter.resume(life.files, path) as writer:
                writer.commit_whole()

    before = reads_of_full(life, folder)
    set_hook(commit)
    try:
        scrub(life)
    finally:
        set_hook(None)
    assert reads_of_full(life, folder) == before


class Died(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("place", ["compact.places-forgotten", "compact.switched"])
def test_a_compaction_that_dies_makes_no_byte_younger(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    life, folder = two_increments(monkeypatch)
    scrub(life)
    life.clock.at += timedelta(days=3)
    with Chain.open(life.files, folder) as chain:
        size = chain.files[0].superblock.end
        newest = max(span.read for span in reads_of_full(life, folder))

    def die(name: str) -> None:
        if name == place:
            raise Died

    set_hook(die)
    try:
        with pytest.raises(Died):
            compact(life.files, folder, None)
    finally:
        set_hook(None)
    [span] = reads_of_full(life, folder)
    assert span.end >= size
    assert span.read <= newest
