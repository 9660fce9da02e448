"""Carries out what retention has planned for a chain: merges, and removals that can be taken back for a while.

Each step is announced in the metadata before its first file changes, so that a chain whose upkeep was interrupted is
not taken for a damaged one. Everything may be run again after a crash; what is done already is passed over.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from holdfast.errors import ChainBroken, PointNotFound, RepositoryFull
from holdfast.faults import reach
from holdfast.formats.chain_metadata import Leaving
from holdfast.formats.contents import ParentPoint
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chain_files.rewriter import ROOM_LEAST, ChainRewriter
from holdfast.storage.chains.chain import Chain, is_chain_file_name
from holdfast.storage.chains.metadata import check_chain, refresh_metadata
from holdfast.storage.files.atomic import Files
from holdfast.storage.files.chain_lock import acquire_chain_lock, has_readers
from holdfast.storage.health.health_file import bad_units, change_health, read_health, with_reads
from holdfast.storage.methods.merging import COMMIT_BYTES, Merger, MergeResult
from holdfast.storage.methods.read_times import MergedTimes
from holdfast.storage.methods.succession import ALL_OUTDATED, Expendable

_REMOVED = re.compile(r"(?P<name>.+)\.removed-(?P<at>\d{8}T\d{6}Z)")
_STAMP = "%Y%m%dT%H%M%SZ"


class RemovedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A chain file that was removed and can be taken back."""

    name: str
    """The one it had."""
    kept_as: str
    removed: datetime


class ChainUpkeep:
    """The changes of one chain that take points away. Each takes the lock of the chain, and raises `ChainBusy`.

    Whoever has the chain open meanwhile reads it as it was; while there are readers a merge takes fresh space.
    ``check`` is called under the lock before points are taken away; what it raises leaves everything as it is.
    """

    def __init__(
        self, files: Files, folder: Path, passphrase: str | None, check: Callable[[], object] = lambda: None
    ) -> None:
        self._files = files
        self._folder = folder
        self._passphrase = passphrase
        self._check = check

    def merge(
        self, into: str, merged: str, report: Callable[[int], None] = lambda _: None, commit_bytes: int = COMMIT_BYTES
    ) -> MergeResult:
        """Merge a chain file into the one before it, and remove it; see `merge_all`."""
        return self.merge_all(into, (merged,), report, commit_bytes)

    def merge_all(
        self,
        into: str,
        merged: Sequence[str],
        report: Callable[[int], None] = lambda _: None,
        commit_bytes: int = COMMIT_BYTES,
        expendable: Expendable = ALL_OUTDATED,
    ) -> MergeResult:
        """Merge chain files, oldest first, into the one before them in one pass, and remove them.

        Of each machine the last point stays, but for those that ``expendable`` lets go: the machine is gone.
        ``report`` gets the bytes moved so far. A file that is gone already, or of which the other one holds all, was
        merged by an earlier attempt. Raises `RepositoryFull` before any unit is moved, `PlanChanged` when other points
        would go than may, `ChainBroken` when a point rests on one that is let go, and what reading damaged files
        raises.
        """
        with self._open() as chain:
            check_chain(self._files, chain)
            there = [name for name in merged if self._files.exists(self._folder / name)]
            taken_over = {path.name for path in chain.superseded}
            new = [name for name in there if name not in taken_over]
            _check_rollbacks(chain, (into, *new)[:-1])
        if not there:
            return MergeResult()
        if new:
            self._check_room(into)
        with ChainRewriter.resume(self._files, self._folder / into, self._passphrase) as writer:
            self._check()
            result = self._take_in(writer, new, (report, commit_bytes, expendable))
            for name in there:
                self._files.remove(self._folder / name)
                reach("upkeep.merged")
            self._refresh()
        return result

    def _take_in(
        self,
        writer: ChainRewriter,
        names: Sequence[str],
        how: tuple[Callable[[int], None], int, Expendable],
    ) -> MergeResult:
        """Merge files; those that were merged before may be removed then, too, for both superblocks say so."""
        if not names:
            writer.commit_whole()
            return MergeResult()
        report, commit_bytes, expendable = how
        health = read_health(self._files, self._folder)
        writer.known_bad = bad_units(health)
        with ExitStack() as stack:
            sources = [
                stack.enter_context(ChainFile.open(self._files, self._folder / name, self._passphrase, writer.keys))
                for name in names
            ]
            merger = Merger(writer, sources, commit_bytes, expendable)
            if merger.is_done:
                return merger.run(report)
            self._check_unused(expendable.let_go)
            self._prepare(writer, merger, sources)
            times = MergedTimes(health, writer, sources)
            writer.must_read = times.must_read
            return merger.run(report, lambda: self._note_times(writer, times))

    def _check_unused(self, let_go: Collection[str]) -> None:
        """Raise `ChainBroken` when a machine, of which a point is let go without a later one, has a later one."""
        if not let_go:
            return
        with self._open() as chain:
            last = {point.machine.machine_id: point for _, point in chain.points()}
            for _, point in chain.points():
                if point.id in let_go and last[point.machine.machine_id].id not in let_go:
                    raise ChainBroken(
                        f"point {point.number} of chain {self._folder.name} should go with its machine "
                        f"{point.machine.name}, which has point {last[point.machine.machine_id].number} by now"
                    )

    def _note_times(self, writer: ChainRewriter, times: MergedTimes) -> None:
        """Write down when the bytes of the merged file count as read; a scrub that opened it before does not any more.

        What it wrote down since the merge began goes: it did not read what moved in meanwhile.
        """
        reads, file_id = times.spans(), writer.contents.file
        change_health(self._files, self._folder, lambda health: with_reads(health, file_id, reads))
        reach("upkeep.times-noted")

    def _prepare(self, writer: ChainRewriter, merger: Merger, sources: Sequence[ChainFile]) -> None:
        """Announce what a merge takes away, and see to its space."""
        self._announce(
            Leaving(
                files=tuple(source.contents.file for source in sources),
                points=tuple(point.number for point in merger.going),
            )
        )
        writer.spare_readers()
        merger.drop_others()
        if not has_readers(self._files, self._folder):
            writer.reclaim()
        merger.expect()

    def remove(self, names: Sequence[str], now: datetime) -> None:
        """Take files out of the chain, in this order; they are kept under another name until `purge`.

        With a full or an increment goes, for good, what a dead reverse step began: no point is in it yet. With all
        points of a chain goes what a session began and nobody goes on with. A file that is gone already was removed by
        an earlier attempt. Raises `ChainBroken` when something that stays needs one of
        them.
        """
        with self._locked():
            self._check()
            self.remove_held(names, now)

    def remove_held(self, names: Sequence[str], now: datetime) -> None:
        """Do the same for a caller that has the lock of the chain."""
        with self._open() as chain:
            if not chain.files and not chain.unreadable:
                return  # an earlier attempt removed the whole chain
            check_chain(self._files, chain)
            going = [file for file in chain.files if file.path.name in names]
            idle = _idle_rollbacks(chain) if not all(file.is_rollback for file in going) else []
            begun = _begun(chain) if _goes_whole(chain, going) else []
            going, names = [*begun, *going], [*(file.path.name for file in begun), *names]
            _check_unneeded(chain, [*going, *idle])
            leaving = Leaving(
                files=tuple(file.contents.file for file in (*going, *idle)),
                points=tuple(point.number for file in going for point in file.contents.points),
            )
            is_whole = len(going) + len(idle) == len(chain.files)
        if going:
            self._announce(leaving)
        for file in idle:
            self._files.remove(file.path)
        for name in names:
            self._put_away(name, now)
        if going and not is_whole:
            self._refresh()

    def removed(self) -> list[RemovedFile]:
        """Return what was removed and can be taken back, by name."""
        found = []
        for name in self._files.names(self._folder):
            match = _REMOVED.fullmatch(name)
            if match and is_chain_file_name(match["name"]):
                at = datetime.strptime(match["at"], _STAMP).replace(tzinfo=UTC)
                found.append(RemovedFile(name=match["name"], kept_as=name, removed=at))
        return found

    def take_back(self) -> tuple[str, ...]:
        """Bring all removed files back, and return their names.

        Raises `PointNotFound` when there are none, and `ChainBroken` when they fit no more; nothing is changed then.
        """
        with self._locked():
            removed = self.removed()
            if not removed:
                raise PointNotFound(f"nothing was removed from chain {self._folder.name} that could be taken back")
            self._check_names(removed)
            self._check_fit(removed)
            for file in sorted(removed, key=_after_what_it_needs):
                self._files.rename(self._folder / file.kept_as, self._folder / file.name)
                reach("upkeep.taken-back")
            self._refresh()
        return tuple(file.name for file in removed)

    def _check_names(self, removed: Sequence[RemovedFile]) -> None:
        names = [file.name for file in removed]
        for name in names:
            if self._files.exists(self._folder / name):
                raise ChainBroken(f"chain {self._folder.name} has another file {name} by now")
            if names.count(name) > 1:
                raise ChainBroken(f"of chain {self._folder.name} two files {name} were removed, one may be back")

    def _check_fit(self, removed: Sequence[RemovedFile]) -> None:
        """Raise `ChainBroken` unless the chain with these files is one whose points continue each other."""
        with self._open() as chain:
            for file in removed:
                keys = chain.files[0].keys if chain.files else None
                path = self._folder / file.kept_as
                chain.files.append(ChainFile.open(self._files, path, self._passphrase, keys))
            chain.files.sort(key=lambda file: file.contents.holds)
            chain.pass_over_superseded()
            try:
                check_chain(self._files, chain)
                _check_line(chain, {file.kept_as for file in removed})
            except ChainBroken as error:
                raise ChainBroken(f"what was removed fits no more: {error.message}") from error

    def purge(self, before: datetime) -> tuple[str, ...]:
        """Delete for good what was removed before a moment; return the names it had."""
        with self._locked():
            old = [file for file in self.removed() if file.removed < before]
            for file in old:
                self._files.remove(self._folder / file.kept_as)
        return tuple(file.name for file in old)

    def _open(self) -> Chain:
        return Chain.open(self._files, self._folder, self._passphrase)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = acquire_chain_lock(self._files, self._folder)
        try:
            yield
        finally:
            lock.close()

    def _announce(self, leaving: Leaving) -> None:
        refresh_metadata(self._files, self._folder, self._passphrase, leaving)
        reach("upkeep.announced")

    def _refresh(self) -> None:
        refresh_metadata(self._files, self._folder, self._passphrase)

    def _put_away(self, name: str, now: datetime) -> None:
        path = self._folder / name
        if self._files.exists(path):
            self._files.rename(path, path.with_name(f"{name}.removed-{now.astimezone(UTC).strftime(_STAMP)}"))
            reach("upkeep.removed")

    def _check_room(self, into: str) -> None:
        """Raise `RepositoryFull` when there is not even room for tables; what units need is known later."""
        free = self._files.free_bytes(self._folder)
        if free < ROOM_LEAST:
            raise RepositoryFull(f"merging into {self._folder / into} may need {ROOM_LEAST} bytes, {free} are free")


def _after_what_it_needs(file: RemovedFile) -> tuple[bool, int]:
    """Order files by what they need: an increment needs the one before it, and a rollback file the one behind it."""
    number, is_rollback = int(file.name[:8]), file.name.endswith("-rollback.hfc")
    return is_rollback, -number if is_rollback else number


def _check_line(chain: Chain, back: Container[str]) -> None:
    """Raise `ChainBroken` when files that come back are in others by now, or stand beside others of their place."""
    for path in chain.superseded:
        if path.name in back:
            raise ChainBroken(f"another file of chain {chain.folder.name} holds what {path.name} held")
    numbers = [point.number for _, point in chain.points()]
    parents = [file.contents.parent.point for file in chain.files if file.contents.parent is not None]
    for used, words in ((numbers, "there are two points"), (parents, "two points continue point")):
        twice = [number for number, count in Counter(used).items() if count > 1]
        if twice:
            raise ChainBroken(f"in chain {chain.folder.name} {words} {twice[0]}")


def _idle_rollbacks(chain: Chain) -> list[ChainFile]:
    """Return the rollback files that stand for no point: a reverse step died before the full left it to them."""
    standing = {id(file) for file, _ in chain.points()}
    return [file for file in chain.files if file.is_rollback and id(file) not in standing]


def _goes_whole(chain: Chain, going: Sequence[ChainFile]) -> bool:
    """Return whether no point of the chain stays."""
    leaving = {id(file) for file in going}
    return bool(going) and all(id(file) in leaving for file, point in chain.points() if point.complete)


def _begun(chain: Chain) -> list[ChainFile]:
    """Return the files, the newest first, whose session has not ended; the lock says that none is at work."""
    return [file for file in reversed(chain.files) if not file.is_complete and not file.is_rollback]


def _check_unneeded(chain: Chain, going: Sequence[ChainFile]) -> None:
    gone = {file.contents.file for file in going}
    for file in chain.files:
        needed = needed_files(chain, file) if file.contents.file not in gone else set()
        if needed & gone:
            names = sorted(other.path.name for other in going if other.contents.file in needed)
            raise ChainBroken(
                f"{file.path.name} of chain {chain.folder.name} needs {names[0]}, which should be removed"
            )


def _check_rollbacks(chain: Chain, letting_go: Sequence[str]) -> None:
    """Raise `ChainBroken` when a rollback file rests on a point that goes from these files and is nowhere else then."""
    rollbacks = [file for file in chain.files if file.is_rolled_back]
    kept = {file.contents.points[0].number for file in rollbacks}
    files = [file for file in chain.files if file.path.name in letting_go]
    going = {point.number for file in files for point in file.contents.points} - kept
    for file in rollbacks:
        behind = file.contents.next
        if isinstance(behind, ParentPoint) and behind.point in going:
            raise ChainBroken(
                f"{file.path.name} of chain {chain.folder.name} needs point {behind.point}, which a merge would take"
            )


def needed_files(chain: Chain, file: ChainFile) -> set[str]:
    """Return the ids of the files that the points of a file need: those it continues, back to a full.

    A rollback file needs those of the points behind its own, up to the full.
    """
    if file.is_rolled_back:
        return {layer.contents.file for layer in chain.layers(file)[1:]}
    holders = {point.number: holder for holder in reversed(chain.files) for point in holder.contents.points}
    needed: set[str] = set()
    parent = file.contents.parent
    while parent is not None:
        holder = holders.get(parent.point)
        if holder is None or holder.contents.file in needed:
            break
        needed.add(holder.contents.file)
        parent = holder.contents.parent
    return needed
