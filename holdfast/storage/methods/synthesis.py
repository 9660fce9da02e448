"""Makes the newest point of a chain a full of its own, in a new chain, of what the repository has: a synthetic full.

The point stays what it is, with its number, id and root; it moves. The new chain has the key of the old one, so units
move byte by byte. When its full is complete the increment that the point was goes from the old chain, which nothing of
the new one needs.
"""

import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import msgspec

from holdfast.errors import ChainBroken, ChainBusy, RequestInvalid
from holdfast.faults import reach
from holdfast.formats.chain_metadata import Leaving
from holdfast.formats.contents import Point
from holdfast.model.points import PointSummary
from holdfast.model.reads import ReadSpan
from holdfast.model.retention import PointNote
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chains.chain import Chain, chain_file_name
from holdfast.storage.chains.keeping import change_notes, read_notes
from holdfast.storage.chains.metadata import check_chain, refresh_metadata
from holdfast.storage.chains.owning import take_owner
from holdfast.storage.chains.repository import Repository
from holdfast.storage.chains.session_file import check_one_machine
from holdfast.storage.files.chain_lock import acquire_chain_lock, make_readers_file
from holdfast.storage.health.health_file import change_health, with_reads
from holdfast.storage.intake.finishing import summarize
from holdfast.storage.methods.building import End, Plan, build_full
from holdfast.storage.methods.gathering import GatherResult, Needs
from holdfast.storage.methods.merging import COMMIT_BYTES


def synthesize(
    repository: Repository,
    name: str,
    passphrase: str | None,
    report: Callable[[int], None] = lambda _: None,
    commit_bytes: int = COMMIT_BYTES,
) -> tuple[PointSummary, GatherResult]:
    """Make the newest point of a machine's newest chain a full; return what is to be told of it now.

    ``report`` gets the bytes moved so far. Goes on where an earlier run stopped, also behind its end; a point that is a
    full already stays as it is. Raises `ChainBusy` while the chain is written, `RequestInvalid` for a chain that is not
    the newest, `RepositoryFull` before a unit is written, and what reading damaged files raises; nothing is lost then.
    """
    repository.check_present()
    files, folder = repository.files, repository.chain_folder(name)
    lock = acquire_chain_lock(files, folder)
    try:
        with Chain.open(files, folder, passphrase) as chain:
            check_chain(files, chain)
            if any(not file.is_complete for file in chain.files):
                raise ChainBusy(f"chain {folder.name} has a point that is not finished")
            check_one_machine(chain)
            finished = _finished(repository, chain, passphrase)
            if finished is not None:
                refresh_metadata(files, folder, passphrase)
                return finished[1], GatherResult()
            helper, point = _newest(chain)
            target, result = _continued(repository, chain, passphrase), GatherResult()
            if target is None:
                target = _target(repository, chain, passphrase)
                if target is None:
                    return summarize(repository, folder, helper, point), result
                result = _build(repository, target, chain, (report, commit_bytes))
                refresh_metadata(files, target, passphrase)
            _take_notes(repository, folder, target, (helper, point))
            reach("synthesis.complete")
        _hand_over(repository, folder, helper, passphrase)
    finally:
        lock.close()
    with Chain.open(files, target, passphrase) as chain:
        check_chain(files, chain)
        return summarize(repository, target, *chain.point(point.number)), result


def _newest(chain: Chain) -> tuple[ChainFile, Point]:
    found = chain.newest()
    if found is None:
        raise ChainBroken(f"chain {chain.folder.name} has no finished point")
    return found


def _continued(repository: Repository, chain: Chain, passphrase: str | None) -> Path | None:
    """Return the chain whose full the newest point became in a run that died then, when other points rest on it since.

    It is written to by others; all that is left to do is to let the point go where it was.
    """
    _, point = _newest(chain)
    for folder in repository.job_chains(chain.folder.parent):
        if folder.name > chain.folder.name:
            with Chain.open(repository.files, folder, passphrase) as other:
                points = other.points()
                if len(points) > 1 and points[0][1].complete and points[0][1].id == point.id:
                    return folder
    return None


def _target(repository: Repository, chain: Chain, passphrase: str | None) -> Path | None:
    """Return the folder of the new chain: that of an earlier run, or another one; None when there is nothing to do.

    Raises `RequestInvalid` when a later chain has points of its own.
    """
    folder, (file, point) = chain.folder, _newest(chain)
    later = [found for found in repository.job_chains(folder.parent) if found.name > folder.name]
    begun = []
    for found in later:
        with Chain.open(repository.files, found, passphrase) as other:
            other.check_whole()
            if any(there.root != point.root for _, there in other.points()):
                raise RequestInvalid(f"chain {folder.name} is not the newest of its machine")
            if file.contents.chain.startswith(found.name[-8:]):
                begun.append(found)
    if file.contents.kind == "full":
        return None
    return begun[-1] if begun else repository.new_chain_folder(folder.parent, file.keys.chain_id)


def _finished(repository: Repository, chain: Chain, passphrase: str | None) -> tuple[Path, PointSummary] | None:
    """Return where the point is that went from the end of a chain in an earlier run, if one did."""
    _, point = _newest(chain)
    for folder in repository.job_chains(chain.folder.parent):
        if folder.name > chain.folder.name:
            with Chain.open(repository.files, folder, passphrase) as other:
                first = next(iter(other.points()), None)
                if first is not None and first[1].complete and first[1].parent_root == point.root:
                    return folder, summarize(repository, folder, *first)
    return None


def _build(repository: Repository, target: Path, chain: Chain, how: tuple[Callable[[int], None], int]) -> GatherResult:
    files, (_, point) = repository.files, _newest(chain)
    files.make_folder(target)
    make_readers_file(files, target)
    lock = acquire_chain_lock(files, target)
    try:
        take_owner(files, chain, target)
    finally:
        lock.close()
    plan = Plan(
        path=target / chain_file_name(point.number, "full"),
        file_id=os.urandom(16).hex(),
        holds=(chain.files[0].contents.holds[0], point.number),
        commit_bytes=how[1],
    )

    def note_times(file_id: str, reads: tuple[ReadSpan, ...]) -> None:
        change_health(files, target, lambda health: with_reads(health, file_id, reads))

    return build_full(files, Needs(chain, point.number), plan, how[0], End(note_times=note_times))


def _take_notes(repository: Repository, folder: Path, target: Path, moved: tuple[ChainFile, Point]) -> None:
    """Let what is noted of the point, such as a lock, go with it before it leaves the old chain.

    The new chain may have gone on since an earlier run: what is noted there stays.
    """
    files, (helper, point) = repository.files, moved
    for note in read_notes(files, folder, helper.keys).points:
        if note.point_id == point.id:
            change_notes(files, target, helper.keys, partial(_beside, note))


def _beside(note: PointNote, known: tuple[PointNote, ...]) -> Iterable[PointNote]:
    """Return notes with one more; of two of one point the longer lock counts."""
    notes = {one.point_id: one for one in known}
    there = notes.get(note.point_id, note)
    locks = [one.locked_until for one in (note, there) if one.locked_until is not None]
    notes[note.point_id] = msgspec.structs.replace(there, locked_until=max(locks, default=None))
    return notes.values()


def _hand_over(repository: Repository, folder: Path, helper: ChainFile, passphrase: str | None) -> None:
    """Remove the increment whose point has moved; the caller has the lock of the chain."""
    files = repository.files
    leaving = Leaving(files=(helper.contents.file,), points=tuple(point.number for point in helper.contents.points))
    refresh_metadata(files, folder, passphrase, leaving)
    reach("synthesis.announced")
    files.remove(helper.path)
    refresh_metadata(files, folder, passphrase)
