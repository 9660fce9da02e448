"""One run of a scrub over a repository: what to read, reading it, and writing down what was read.

A chain whose passphrase is not known is named and keeps no other from being read.

What was read when stands in the health file of each chain and is written at least once in 256 MiB, so a run that dies
loses no more, and the next one needs nothing but these files.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from holdfast.clock import Clock
from holdfast.errors import ChainBroken, DataError, FileDamaged, PassphraseWrong
from holdfast.faults import reach
from holdfast.formats.chain_health import ChainHealth
from holdfast.model.health import ClosedChain, ScrubReport
from holdfast.model.points import ChainRead, Damage, PointHealth, chains_named
from holdfast.model.reads import ReadSpan
from holdfast.planning.scrub import FileFacts, ScrubPlan, ScrubRules, ScrubStep, due_unopened, plan_scrub
from holdfast.storage.chains.chain import Chain, chain_file_names
from holdfast.storage.chains.opening import open_with
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import Files
from holdfast.storage.health.health_file import (
    bad_units,
    change_health,
    is_as_opened,
    points_of,
    read_health,
    with_damage,
    with_read,
    written_at,
)
from holdfast.storage.health.marking import assess_chain, chain_damage
from holdfast.storage.health.scrubber import FileScrub, SpanRead

COMMIT_BYTES: Final = 256 << 20
"""A death costs at most what was read since the last line in the health file: this much."""
OPENED_MAX: Final = 3
"""Times that a chain is opened in one slice, for it may change while it is read."""
DAMAGES_NAMED_MAX: Final = 50
CLOSED_NAMED_MAX: Final = 50
POINTS_NAMED_MAX: Final = 1000
"""Points of one run that are told to the catalog; those beyond are told by the next."""


class ScrubProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run is."""

    chain: str = ""
    planned_bytes: int = 0
    done_bytes: int = 0
    checked_bytes: int = 0


class RepositoryScrub:
    """Scrubs a repository. ``before_read`` gets the length of each record before it is read, and may wait."""

    def __init__(
        self,
        repository: Repository,
        passphrases: Sequence[str | None],
        clock: Clock,
        before_read: Callable[[int], None] = lambda _: None,
        *,
        is_deep: bool = False,
    ) -> None:
        self._repository = repository
        self._passphrases = passphrases
        self._clock = clock
        self._before_read = before_read
        self._is_deep = is_deep
        self._lost: dict[str, str] = {}
        self._damaged: set[str] = set()
        self._closed: dict[str, PassphraseWrong] = {}

    def plan(self, rules: ScrubRules, bytes_max: int | None = None, since: datetime | None = None) -> ScrubPlan:
        """Return what a run reads now, without what was read ``since`` it began."""
        self._lost, self._damaged, self._closed = {}, set(), {}
        now = self._clock.now()
        plan = plan_scrub(self._facts(), now, rules, bytes_max, since)
        closed = tuple(self._closed_chain(name, now, rules) for name in self._closed)
        return msgspec.structs.replace(plan, closed=closed)

    def run(self, plan: ScrubPlan, slice_bytes: int, report: Callable[[ScrubProgress], None]) -> ScrubReport:
        """Read the first of what is planned, about ``slice_bytes``. What ``report`` raises ends it."""
        progress = ScrubProgress(planned_bytes=plan.planned_bytes)
        read: dict[str, int] = {}
        for chain, steps in _by_chain(plan.steps):
            if progress.done_bytes >= slice_bytes:
                break
            before = progress.checked_bytes
            progress = self._scrub_chain(chain, steps, slice_bytes, (progress, report))
            read[chain] = read.get(chain, 0) + progress.checked_bytes - before
        damages, points = self._assess()
        return ScrubReport(
            planned_bytes=plan.planned_bytes,
            done_bytes=progress.done_bytes,
            checked_bytes=progress.checked_bytes,
            stored_bytes=plan.stored_bytes,
            chains=len(read),
            damages=tuple(damages[:DAMAGES_NAMED_MAX]),
            unnamed_damages=len(damages[DAMAGES_NAMED_MAX:]),
            points=tuple(points[:POINTS_NAMED_MAX]),
            oldest=plan.oldest,
            overdue_bytes=plan.overdue_bytes,
            closed=plan.closed[:CLOSED_NAMED_MAX],
            unnamed_closed=len(plan.closed[CLOSED_NAMED_MAX:]),
            read=_chains_read(read, damages),
        )

    # -- facts ---------------------------------------------------------------------------------------------------

    def _facts(self) -> Iterable[FileFacts]:
        repository = self._repository
        for folder in repository.chain_folders():
            if not chain_file_names(repository.files, folder):
                continue
            name = repository.relative(folder)
            try:
                with open_with(repository.files, folder, self._passphrases)[0] as chain:
                    yield from self._chain_facts(name, chain)
            except PassphraseWrong as error:
                self._closed[name] = error
            except DataError as error:
                self._lost[name] = error.message

    def _chain_facts(self, name: str, chain: Chain) -> list[FileFacts]:
        health = read_health(self._repository.files, chain.folder)
        if chain.unreadable or bad_units(health) or any(known.problem for known in health.files):
            self._damaged.add(name)
        return [
            FileFacts(
                chain=name,
                file=file.contents.file,
                size=file.superblock.end,
                written=written_at(file.contents),
                reads=health.file(file.contents.file).reads,
            )
            for file in chain.files
            if file.is_complete
        ]

    def _closed_chain(self, name: str, now: datetime, rules: ScrubRules) -> ClosedChain:
        """Return what can be said of a chain from outside: how long its files are, and what was read of them when."""
        files, folder = self._repository.files, self._repository.chain_folder(name)
        reads = [span for known in read_health(files, folder).files for span in known.reads]
        size = sum(_length(files, folder / file) for file in chain_file_names(files, folder))
        error = self._closed[name]
        due = due_unopened(size, reads, now, rules)
        return ClosedChain(chain=name, code=error.code, reason=error.message, due_bytes=due)

    # -- reading -------------------------------------------------------------------------------------------------

    def _scrub_chain(
        self,
        name: str,
        steps: Sequence[ScrubStep],
        slice_bytes: int,
        told: tuple[ScrubProgress, Callable[[ScrubProgress], None]],
    ) -> ScrubProgress:
        progress, report = msgspec.structs.replace(told[0], chain=name), told[1]
        left = _in_commits(steps)
        for _ in range(OPENED_MAX):
            try:
                chain = self._open(name)
            except ChainBroken:
                # Removed since the plan was made, by retention for instance.
                return _further(progress, sum(step.length for step in left), 0)
            with chain:
                scrubs: dict[str, FileScrub] = {}
                while left and progress.done_bytes < slice_bytes:
                    report(progress)
                    checked = self._read(name, chain, scrubs, left[0])
                    if checked is None:
                        break  # the same places hold other bytes now
                    progress = _further(progress, left.pop(0).length, checked)
                else:
                    report(progress)
                    return progress
        return _further(progress, sum(step.length for step in left), 0)  # it is being merged; the next run reads it

    def _read(self, name: str, chain: Chain, scrubs: dict[str, FileScrub], step: ScrubStep) -> int | None:
        """Read a step and write it down; return the bytes of its records, None when the file was changed meanwhile."""
        file = next((file for file in chain.files if file.contents.file == step.file), None)
        if file is None:
            return 0  # merged into another one since, which counts as written then
        scrub = scrubs.get(step.file)
        if scrub is None:
            scrubs.clear()  # one at a time: each remembers where all units of its file are
            scrub = scrubs[step.file] = FileScrub(file, self._before_read, is_deep=self._is_deep)
        began = self._clock.now()
        try:
            found = scrub.read(step.start, step.end)
        except FileDamaged as error:
            found = SpanRead(checked_bytes=0, units={}, problem=error.message)
        reach("scrub.read")
        is_unchanged = True

        def after(health: ChainHealth) -> ChainHealth:
            nonlocal is_unchanged
            is_unchanged = is_as_opened(self._repository.files, file)
            span = ReadSpan(step.start, step.end, began)
            return _after(health, scrub, step, span, found) if is_unchanged else health

        change_health(self._repository.files, chain.folder, after)
        if not is_unchanged:
            return None
        reach("scrub.recorded")
        if found.units or found.problem:
            self._damaged.add(name)
        return found.checked_bytes

    # -- what it means -------------------------------------------------------------------------------------------

    def _open(self, name: str) -> Chain:
        chain, _ = open_with(self._repository.files, self._repository.chain_folder(name), self._passphrases)
        return chain

    def _assess(self) -> tuple[list[Damage], list[PointHealth]]:
        """Return what is known to be damaged, now or before, and which points that takes; write the points down."""
        damages = [chain_damage(name, reason) for name, reason in self._lost.items()]
        points: list[PointHealth] = []
        for name in sorted(self._damaged):
            with self._open(name) as chain:
                found, marks = assess_chain(self._repository.files, name, chain)
            damages += found
            points += points_of(name, marks)
        return damages, points


def _after(health: ChainHealth, scrub: FileScrub, step: ScrubStep, span: ReadSpan, found: SpanRead) -> ChainHealth:
    """Return what is known after a step: units that are fine again are forgotten, damaged ones remembered."""
    known = health.file(step.file)
    kept = tuple(mark for mark in known.units if not scrub.lies_in(mark.unit, step.start, step.end))
    health = health.with_file(msgspec.structs.replace(known, units=kept))
    return with_read(with_damage(health, step.file, found.units, found.problem), step.file, span)


def _length(files: Files, path: Path) -> int:
    handle = files.open(path)
    try:
        return handle.size()
    finally:
        handle.close()


def _by_chain(steps: Sequence[ScrubStep]) -> list[tuple[str, list[ScrubStep]]]:
    """Return the steps, those of one chain that follow each other together."""
    groups: list[tuple[str, list[ScrubStep]]] = []
    for step in steps:
        if not groups or groups[-1][0] != step.chain:
            groups.append((step.chain, []))
        groups[-1][1].append(step)
    return groups


def _chains_read(read: Mapping[str, int], damages: Sequence[Damage]) -> tuple[ChainRead, ...]:
    known = Counter(damage.chain for damage in damages)
    return chains_named(ChainRead(chain=chain, stored_bytes=size, damages=known[chain]) for chain, size in read.items())


def _in_commits(steps: Sequence[ScrubStep]) -> list[ScrubStep]:
    """Return the steps cut so that each is written down by itself."""
    return [
        msgspec.structs.replace(step, start=start, end=min(start + COMMIT_BYTES, step.end))
        for step in steps
        for start in range(step.start, step.end, COMMIT_BYTES)
    ]


def _further(progress: ScrubProgress, done: int, checked: int) -> ScrubProgress:
    return msgspec.structs.replace(
        progress, done_bytes=progress.done_bytes + done, checked_bytes=progress.checked_bytes + checked
    )
