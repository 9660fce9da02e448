"""Runs a story of restore points on the model file system and judges every state a crash may leave of it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import blake3
import msgspec

from holdfast.clock import SystemClock
from holdfast.errors import HoldfastError
from holdfast.formats.magic import PIECE_SIZE, UNITS_PER_PAGE, FileState
from holdfast.model.compression import Compression
from holdfast.model.ids import SessionId
from holdfast.model.points import OpenPoint, PointSummary
from holdfast.model.spans import Span
from holdfast.pipeline.stages import PipeOptions
from holdfast.storage.chain_files.chain_file import FILE_SUFFIX, ChainFile, is_never_committed, read_states
from holdfast.storage.chains.chain import Chain
from holdfast.storage.chains.repository import Repository
from holdfast.storage.health.verifier import verify_chain
from holdfast.storage.intake.finishing import finish_point
from holdfast.storage.intake.lifecycle import StoreOptions, begin_point
from holdfast.testing.chains import CHEAP, KeptPoint, ProtectedMachine, point_differences
from holdfast.testing.crash_states import CrashState
from holdfast.testing.crashfs import CrashFiles, Event

ROOT = Path("/repository")
UNIT = 256 << 10
# One commit for each unit, and none by the clock, so that a run does the same each time; one thread, for starting
# threads would be most of the time that a state takes.
PIPE = PipeOptions(compression=Compression.NONE, commit_new_bytes=UNIT, commit_interval_s=1e9, threads=1)


class Story:
    """What the sessions of one machine see: the disks at each session, and the log of writing them all."""

    def __init__(  # noqa: PLR0917 - what makes one story differ from another
        self,
        seed: int,
        pieces: int,
        sessions: int,
        disks: int = 1,
        passphrase: str | None = None,
        at_once: bool = False,
    ) -> None:
        self.at_once = at_once
        files = CrashFiles([Path("/")])
        sizes = {f"disk{index}": pieces * PIECE_SIZE for index in range(disks)}
        repository = Repository.create(ROOT, files, "id", SystemClock().now())
        self.store = StoreOptions(unit_size=UNIT, passphrase=passphrase, passphrase_cost=CHEAP)
        self.base = files.copy()
        self.machine = ProtectedMachine(repository, seed, sizes, self.store, PIPE)
        files.events.clear()
        self.files = files
        for session in range(sessions):
            change(self.machine, session)
            summary = self.machine.back_up(at_once=at_once)
            files.mark(f"finished {summary.number}")

    @property
    def events(self) -> list[Event]:
        return self.files.events


def change(machine: ProtectedMachine, session: int) -> None:
    """Write to every disk: nearly all of it first, later a little, and zeros where something was."""
    for disk in machine.disks.values():
        size = disk.size_bytes
        if session == 0:
            disk.write(Span(0, size - PIECE_SIZE // 2))
        else:
            disk.write(Span(PIECE_SIZE * session + 1024, PIECE_SIZE))
            disk.zero(Span(size - 2 * PIECE_SIZE, PIECE_SIZE))


class Judge:
    """Says what is wrong with a crash state; nothing should be."""

    def __init__(self, story: Story, both_slots: bool = True) -> None:
        self.story = story
        self.both_slots = both_slots
        self.states = 0
        self.resumed = 0
        self._seen: set[bytes] = set()

    def problems(self, state: CrashState) -> list[str]:
        """Return what is wrong with a state, read and resumed."""
        self.states += 1
        files = state.files()
        seen = signature(state.told, files)
        if seen in self._seen:
            return []
        self._seen.add(seen)
        try:
            found = list(self._read(files, state.told))
            if not found:
                self.resumed += 1
                found = list(self._resumed(files, len(state.told)))
        except (HoldfastError, AssertionError) as error:
            found = [f"{type(error).__name__}: {error}"]
        return [f"{state.description}, told {state.told}: {words}" for words in found]

    def _read(self, files: CrashFiles, labels: tuple[str, ...]) -> Iterator[str]:
        """Every point that was finished reads its bytes; looking twice is looking once; looking changes nothing."""
        repository = Repository.open(ROOT, files)
        told = {int(label.split()[1]) for label in labels}
        yield from self._slots(files, told)
        listed = list(repository.points(self.story.store.passphrase))
        complete = {found.point.number for found in listed if found.point.complete}
        if told - complete:
            yield f"points {sorted(told - complete)} are gone"
        for kept in self.story.machine.kept:
            if kept.summary.number in complete:
                there = KeptPoint(_in_its_chain(repository, kept.summary, self.story.store.passphrase), kept.disks)
                yield from point_differences(repository, there, self.story.store.passphrase)
        if list(Repository.open(ROOT, files).points(self.story.store.passphrase)) != listed:
            yield "a second look shows something else"
        if files.events or files.open_handles:
            yield "a look left something behind"

    def _slots(self, files: CrashFiles, told: set[int]) -> Iterator[str]:
        """Whatever superblocks count, all that they name is there; a finished file says so in both."""
        for path in files.paths():
            if path.suffix != FILE_SUFFIX or is_never_committed(files, path):
                continue
            handle = files.open(path)
            states = read_states(handle, self.story.store.passphrase)
            for keys, block in states:
                read_all_pages(ChainFile(handle, keys, block, 0))
            handle.close()
            complete = sum(block.state is FileState.COMPLETE for _, block in states)
            if self.both_slots and complete < 2 and int(path.name[:8]) in told:
                yield f"{path.name} is complete in {complete} slots"

    def _resumed(self, files: CrashFiles, finished: int) -> Iterator[str]:
        """The sessions that were not finished go on, end, and every point reads its bytes."""
        repository = Repository.open(ROOT, files)
        machine = self.story.machine
        summaries = [
            _in_its_chain(repository, kept.summary, self.story.store.passphrase) for kept in machine.kept[:finished]
        ]
        for session, kept in enumerate(machine.kept[finished:], finished):
            summaries.append(finish_session(repository, self.story, session))
            there = KeptPoint(summaries[-1], kept.disks)
            yield from point_differences(repository, there, self.story.store.passphrase)
        for summary in summaries:
            with repository.open_chain(summary.chain, self.story.store.passphrase) as chain:
                report = verify_chain(chain, lambda _: None)
                yield from (f"verify: {damage}" for damage in report.damages)
        yield from self._read_all(repository, summaries)
        if files.open_handles:
            yield f"left open: {[handle.path.name for handle in files.open_handles]}"

    def _read_all(self, repository: Repository, summaries: list[PointSummary]) -> Iterator[str]:
        for summary, kept in zip(summaries, self.story.machine.kept, strict=True):
            yield from point_differences(repository, KeptPoint(summary, kept.disks), self.story.store.passphrase)


def finish_session(repository: Repository, story: Story, session: int) -> PointSummary:
    """Do what a session of the story does, from wherever it was interrupted."""
    player = player_of(repository, story, session)
    opened = begin_point(repository, SessionId(f"session-{session + 1}"), player.snapshot(), story.store)
    if not is_complete(repository, opened, story.store.passphrase):
        player.transfer_all(opened, at_once=story.at_once)
    return finish_point(repository, opened, story.store.passphrase)


def player_of(repository: Repository, story: Story, session: int) -> ProtectedMachine:
    """Return the machine as a session of the story sees it."""
    player = ProtectedMachine(repository, 0, {}, story.store, PIPE)
    player.sessions = session + 1
    kept = story.machine.kept
    if session:
        player.disks = dict(kept[session - 1].disks)
        player.keep(kept[session - 1].summary)
    player.disks = dict(kept[session].disks)
    return player


def is_complete(repository: Repository, opened: OpenPoint, passphrase: str | None) -> bool:
    """Return whether a session begins by finding its point complete."""
    with Chain.open(repository.files, repository.chain_folder(opened.chain), passphrase) as chain:
        return any(point.complete for _, point in chain.points() if point.number == opened.number)


def read_all_pages(file: ChainFile) -> None:
    """Read every page that a state of a file names. Raises `FileDamaged`."""
    contents = file.contents
    maps = [file.map_table(point.number, disk.key) for point in contents.points for disk in point.disks]
    pages = -(-contents.units.count // UNITS_PER_PAGE)
    for number in range(pages):
        file.unit(number * UNITS_PER_PAGE)
        file.digests(number * UNITS_PER_PAGE, 1)
    for index in range(len(contents.disks)):
        file.pieces_page(index, 0)
    for table in maps:
        table.page(0)


def _in_its_chain(repository: Repository, summary: PointSummary, passphrase: str | None) -> PointSummary:
    """Return the summary with the chain's name of this run, which is drawn anew by each."""
    listed = repository.points(passphrase)
    found = [f.chain for f in listed if f.point.number == summary.number and f.point.complete]
    return msgspec.structs.replace(summary, chain=found[0])


def tell(words: str) -> None:
    """Say how much was tried; shown with `pytest -rP`."""
    sys.stdout.write(f"{words}\n")


def signature(told: tuple[str, ...], files: CrashFiles) -> bytes:
    """Return a digest of all names and bytes: two states with the same one are the same."""
    hasher = blake3.blake3(repr(told).encode())
    for path in files.paths():
        hasher.update(repr(path).encode() + len(files.content(path)).to_bytes(8, "little"))
        hasher.update(files.content(path))
    return hasher.digest()
