"""Carries out one step of a retention plan on a chain: repeatable, resumed from what is in the files, past no lock.

Files that a lock of a later point keeps unchangeable are made changeable for a merge into them, which leaves all that
this point reads as it is, and unchangeable again afterwards.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

import msgspec

from holdfast.errors import PointLocked
from holdfast.formats.contents import Point
from holdfast.planning.retention_steps import RetentionStep
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chains.chain import Chain
from holdfast.storage.chains.keeping import read_notes
from holdfast.storage.chains.opening import open_with
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.immutable import is_immutable, set_immutable
from holdfast.storage.methods.succession import Expendable
from holdfast.storage.methods.upkeep import ChainUpkeep, needed_files
from holdfast.storage.retention.promises import promise

Report = Callable[[int, int], None]
"""Gets how many files are done, and the bytes of them that moved so far."""


class StepResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a step did; one that is repeated counts what it did itself."""

    moved_bytes: int = 0
    holder: str = ""
    """Name of the file that was merged into; empty after a removal."""
    holder_id: str = ""
    generation: int = 0
    kind: str = ""
    point_id: str = ""
    """Of the newest point that it holds now."""
    others: tuple[str, ...] = ()
    """Of its points of other machines."""


class StepWorker:
    """Carries out steps on the chains of a repository; what is removed is promised to stay for ``grace_days``."""

    def __init__(
        self, repository: Repository, passphrase: str | None, now: datetime, grace_days: int | None = None
    ) -> None:
        self._repository = repository
        self._passphrase = passphrase
        self._now = now
        self._grace_days = grace_days

    def run(self, step: RetentionStep, report: Report) -> StepResult:
        """Carry out a step. What ``report`` raises stops it at a commit.

        Raises `PointLocked`, and what `ChainUpkeep` raises.
        """
        folder = self._repository.chain_folder(step.chain)
        for name in (*step.files, step.into):
            if name:
                self._repository.chain_file(step.chain, name)  # refuses what is no chain file
        locked, passphrase = self._check_locks(folder, step)  # before anything is made changeable
        check = partial(self._check_locks, folder, step)
        upkeep = ChainUpkeep(self._repository.files, folder, passphrase, check)
        held = _loosen(folder, (step.into, *step.files))
        try:
            if not step.into:
                if self._grace_days is not None:
                    promise(self._repository.files, folder, step.files, self._grace_days)
                upkeep.remove(step.files, self._now)
                return StepResult()
            moved = self._merge(upkeep, step, report)
        except PointLocked:  # by somebody who came in between
            _fasten(folder, held)
            raise
        finally:
            if step.into in locked:
                set_immutable(folder / step.into, wanted=True)
        return self._result(folder, step.into, moved)

    def _merge(self, upkeep: ChainUpkeep, step: RetentionStep, report: Report) -> int:
        expendable = Expendable(points=frozenset(step.points), let_go=step.let_go)
        moved = upkeep.merge_all(step.into, step.files, partial(report, 0), expendable=expendable).moved_bytes
        report(len(step.files), moved)
        return moved

    def _check_locks(self, folder: Path, step: RetentionStep) -> tuple[set[str], str | None]:
        """Return the names of all files that a locked point needs, and the passphrase of the chain."""
        files = self._repository.files
        chain, passphrase = open_with(self._repository.files, folder, (self._passphrase, None))
        with chain:
            if not chain.files:
                return set(), passphrase
            notes = read_notes(files, folder, chain.files[0].keys).points
            locks = {note.point_id: note.locked_until for note in notes if note.locked_until is not None}
            held = [
                (file, point, until)
                for file, point in chain.points()
                if (until := locks.get(point.id)) is not None and until > self._now  # type: ignore[call-overload]
            ]
            going = {step.into, *step.files} if self._takes_points(chain, step) else set()
            for file, point, until in held:
                needs = {file.path.name} if step.into else {file.path.name, *_needs(chain, file)}
                if needs & going:
                    raise PointLocked(_words(point, folder, until))
            return {name for file, _, _ in held for name in (file.path.name, *_needs(chain, file))}, passphrase

    def _takes_points(self, chain: Chain, step: RetentionStep) -> bool:
        """Return whether a step takes points away; one that removes what was merged before takes none."""
        merged = {path.name for path in chain.superseded}
        exists = self._repository.files.exists
        return not step.into or any(exists(chain.folder / name) and name not in merged for name in step.files)

    def _result(self, folder: Path, name: str, moved: int) -> StepResult:
        chain, _ = open_with(self._repository.files, folder, (self._passphrase, None))
        with chain:
            file = next(file for file in chain.files if file.path.name == name)
            *others, newest = (point.id for point in file.contents.points)
            return StepResult(
                moved_bytes=moved,
                holder=name,
                holder_id=file.contents.file,
                generation=file.superblock.generation,
                kind=file.contents.kind,
                point_id=newest,
                others=tuple(others),
            )


def _needs(chain: Chain, file: ChainFile) -> Iterable[str]:
    needed = needed_files(chain, file)
    return [other.path.name for other in chain.files if other.contents.file in needed]


def _loosen(folder: Path, names: Sequence[str]) -> set[str]:
    """Make files changeable, and return the names of those that were not."""
    held = {name for name in names if name and is_immutable(folder / name)}
    for name in held:
        set_immutable(folder / name, wanted=False)
    return held


def _fasten(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        set_immutable(folder / name, wanted=True)


def _words(point: Point, folder: Path, until: datetime) -> str:
    return f"point {point.id[:12]} of chain {folder.name} is locked until {until.isoformat(timespec='minutes')}"
