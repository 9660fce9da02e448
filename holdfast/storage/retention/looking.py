"""The points of a machine as retention sees them: facts of its chains, the plan, and what is noted with the points.

Looking and planning change nothing, so that a plan can be printed; `take_note` writes what the plan took for granted.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec

from holdfast.errors import HoldfastError
from holdfast.model.ids import MachineId, PointId
from holdfast.model.retention import ChainFact, FileFact, Method, PointFact, PointNote, RetentionOptions
from holdfast.planning.consent import Judgement, Rules, asks_first, judge
from holdfast.planning.point_notes import NewPoint, note_points, with_new_marks
from holdfast.planning.retention_steps import RetentionStep, plan_digest, steps_of
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chains.chain import Chain, chain_file_names
from holdfast.storage.chains.keeping import change_notes, read_notes, read_rules, write_rules
from holdfast.storage.chains.metadata import check_links
from holdfast.storage.chains.opening import open_with
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import Files
from holdfast.storage.files.immutable import set_immutable
from holdfast.storage.methods.upkeep import needed_files
from holdfast.storage.retention.shared_retention import SeenChain, SeenFile, newest_of_each, note_of, with_all_points


class SeenMachine(msgspec.Struct, frozen=True, kw_only=True):
    """The chains of a machine, oldest first, and the rules that were last applied to them."""

    folder: Path
    chains: tuple[SeenChain, ...]
    rules: RetentionOptions | None
    left_out: tuple[str, ...] = ()
    """In words what was not looked at, and why; only archives can be, which stand each for itself."""
    errors: tuple[HoldfastError, ...] = ()
    """What kept each of them from being looked at."""


class PlanWish(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be planned."""

    options: RetentionOptions
    now: datetime
    point: PointId | None = None
    """The point that a session has just made."""
    began: datetime | None = None
    """When that session began."""
    is_gone: bool = False
    has_consent: bool = False
    is_clock_sure: bool = True
    """Whether the clock can be trusted; else no lock ends, and the rules count as not applied."""
    gone: tuple[MachineId, ...] = ()
    """Of the machines of a job that shares its chain: those that it does not try any more."""


class MachinePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of the points of a machine."""

    facts: tuple[ChainFact, ...]
    judgement: Judgement
    steps: tuple[RetentionStep, ...]
    digest: str
    notes: dict[PointId, PointNote]


def look_at_machine(repository: Repository, folder: Path, passphrase: str | None) -> SeenMachine:
    """Return the chains of a machine that have points and that jobs continue.

    Raises the error of the first chain that is damaged: as long as points are hidden, nothing is planned.
    """
    chains = [see_chain(repository, chain, passphrase) for chain in repository.job_chains(folder)]
    rules = read_rules(repository.files, folder)
    return SeenMachine(folder=folder, chains=tuple(chain for chain in chains if chain is not None), rules=rules)


def plan_machine(seen: SeenMachine, wish: PlanWish) -> MachinePlan:
    """Return what becomes of the points of a machine, or of all machines that share a chain.

    What would go because machines of such a chain are gone waits for consent, too, when the rules became stricter.
    """
    plan = _planned(seen, wish)
    if wish.has_consent or not wish.gone or not asks_first(wish.options, seen.rules):
        return plan
    careful = _planned(seen, msgspec.structs.replace(wish, gone=()))
    more = tuple(point for point in _going(plan) if point not in _going(careful))
    judgement = msgspec.structs.replace(careful.judgement, held=(*careful.judgement.held, *more))
    return msgspec.structs.replace(careful, judgement=judgement)


def _going(plan: MachinePlan) -> tuple[PointId, ...]:
    return tuple(point for step in plan.steps for point in step.points)


def _planned(seen: SeenMachine, wish: PlanWish) -> MachinePlan:
    zone = ZoneInfo(wish.options.timezone)
    notes = _notes(seen, wish, zone)
    facts = tuple(_fact(chain, notes, is_continued=chain is seen.chains[-1]) for chain in seen.chains)
    rules = Rules(
        now=wish.options,
        before=seen.rules,
        is_gone=wish.is_gone,
        has_consent=wish.has_consent,
        also=newest_of_each(seen.chains, wish.gone, is_merged=wish.options.method is Method.FOREVER),
    )
    judgement = judge(facts, rules, wish.now.astimezone(zone))
    unfinished = tuple(step for chain in seen.chains for step in _finishing(chain))
    planned = tuple(with_all_points(step, seen.chains, wish.gone) for step in steps_of(judgement.plan))
    return MachinePlan(
        facts=facts,
        judgement=judgement,
        steps=unfinished + planned,
        digest=plan_digest(judgement.plan, planned),
        notes=notes,
    )


def take_note(repository: Repository, seen: SeenMachine, plan: MachinePlan, wish: PlanWish) -> str:
    """Keep what was noted with the points, and the rules when they hold from now on.

    Return in words how the locks are kept, empty without any. Raises `ChainBusy`.
    """
    told: set[str] = set()
    for chain in seen.chains:
        if not wish.options.only_archives:  # of which all was noted when they were begun
            note_chain(repository.files, chain, plan.notes)
        told |= keep_locks(chain, plan.notes, wish.now, ends=wish.is_clock_sure)
    if wish.is_clock_sure and not plan.judgement.held and not wish.options.only_archives:
        write_rules(repository.files, seen.folder, wish.options)
    return "; ".join(sorted(told))


def note_chain(files: Files, chain: SeenChain, notes: dict[PointId, PointNote]) -> None:
    """Note the points of a chain that are not noted yet, and the marks of those of which a full was made since.

    What else is noted stays, also of points that were removed: they may be taken back.
    """
    there_now = {file.point_id for file in chain.files}

    def noted(known: tuple[PointNote, ...]) -> tuple[PointNote, ...]:
        there = {note.point_id for note in known}
        kept = (with_new_marks(note, notes[note.point_id] if note.point_id in there_now else None) for note in known)
        return (*kept, *(notes[file.point_id] for file in chain.files if file.point_id not in there))

    if noted(chain.notes) != chain.notes:  # others may have noted more since
        change_notes(files, chain.folder, chain.keys, noted)


def keep_locks(chain: SeenChain, notes: dict[PointId, PointNote], now: datetime, *, ends: bool = True) -> set[str]:
    """Make the files immutable that locked points need, and those changeable that none does any more.

    The second only where locks may end, which a clock that cannot be trusted does not say.
    Return in words how the locks are kept.
    """
    locked: set[str] = set()
    for file in chain.files:
        until = note_of(chain, file, notes).locked_until
        if until is not None and until > now:
            locked |= {file.name, *file.needs}
    had_lock = any(note.locked_until is not None for note in notes.values())
    problems = set()
    for file in chain.files if had_lock else ():
        if not ends and file.name not in locked:
            continue
        problem = set_immutable(chain.folder / file.name, wanted=file.name in locked and file.is_settled)
        problems |= {problem} if problem and file.name in locked else set()
    if not locked:
        return set()
    if problems:
        return {f"locks are kept by retention alone: {sorted(problems)[0]}"}
    return {"locked files are immutable"}


def see_chain(repository: Repository, folder: Path, passphrase: str | None) -> SeenChain | None:
    """Return a chain with its files and what is noted of its points; None when it has no complete point."""
    if not chain_file_names(repository.files, folder):
        return None
    chain, _ = open_with(repository.files, folder, (passphrase, None))
    with chain:
        chain.check_whole()
        check_links(chain)
        names = {file.contents.file: file.path.name for file in chain.files}
        # By their points: the full of a chain with rollback files is the newest, whatever its name is.
        # One that several machines share has a point of each and stands once, for the newest of them.
        points = [(file, point) for file, point in chain.points() if file.is_complete]
        by_id = {file.contents.file: file for file, _ in points}
        files = [_seen(chain, file, names) for file in by_id.values()]
        if not files:
            return None
        machine = points[-1][1].machine
        return SeenChain(
            name=repository.relative(folder),
            folder=folder,
            keys=chain.files[0].keys,
            files=tuple(files),
            notes=read_notes(repository.files, folder, chain.files[0].keys).points,
            superseded=tuple((path.name, _holder(chain, path)) for path in chain.superseded),
            machine_id=machine.machine_id,
            machine_name=machine.name,
        )


def _seen(chain: Chain, file: ChainFile, names: dict[str, str]) -> SeenFile:
    point = file.contents.points[-1]
    return SeenFile(
        name=file.path.name,
        kind=file.contents.kind,
        size_bytes=file.superblock.end,
        number=point.number,
        point_id=PointId(point.id),
        created=point.created,
        members=tuple((PointId(one.id), one.machine.machine_id) for one in file.contents.points),
        needs=frozenset(names[one] for one in needed_files(chain, file)),
        is_settled=file.complete_slots != 1,
    )


def _holder(chain: Chain, superseded: Path) -> str:
    """Return the file that holds what a superseded one held: files are named by their first point."""
    number = int(superseded.name[:8])
    usual = [file for file in chain.files if not file.is_rollback]
    return next(file.path.name for file in usual if file.contents.holds[0] <= number <= file.contents.holds[1])


def _notes(seen: SeenMachine, wish: PlanWish, zone: ZoneInfo) -> dict[PointId, PointNote]:
    points = [
        NewPoint(
            point_id=file.point_id,
            is_full=file.kind == "full",
            is_made_full=file.kind == "full" and int(file.name[:8]) == file.number,  # one that moves on keeps its name
            # A host's clock may be ahead, and a lock is never taken away. One of ours that is behind ends none early.
            created=min(file.created, wish.now) if wish.is_clock_sure else file.created,
            began=wish.began if file.point_id == wish.point else None,
        )
        for chain in seen.chains
        for file in chain.files
    ]
    known = {note.point_id: note for chain in seen.chains for note in chain.notes}
    return note_points(points, known, wish.options, zone)


def _fact(chain: SeenChain, notes: dict[PointId, PointNote], *, is_continued: bool) -> ChainFact:
    return ChainFact(
        chain=chain.name, files=tuple(file_fact(chain, file, notes) for file in chain.files), is_continued=is_continued
    )


def file_fact(chain: SeenChain, file: SeenFile, notes: dict[PointId, PointNote]) -> FileFact:
    """Return a file as a plan sees it."""
    note = note_of(chain, file, notes)
    point = PointFact(
        number=file.number,
        point_id=file.point_id,
        day=note.day,
        locked_until=note.locked_until,
        marks=note.marks,
        is_quick=note.is_quick,
    )
    return FileFact(name=file.name, kind=file.kind, size_bytes=file.size_bytes, point=point)


def _finishing(chain: SeenChain) -> Iterator[RetentionStep]:
    """Yield the steps that end merges whose processes died before the merged files were gone; these go oldest first."""
    for holder in dict.fromkeys(holder for _, holder in chain.superseded):
        names = tuple(name for name, held_by in chain.superseded if held_by == holder)
        yield RetentionStep(chain=chain.name, files=names, into=holder, points=(), size_bytes=0)
