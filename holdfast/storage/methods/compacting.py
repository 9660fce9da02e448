"""Writes a full anew without what it does not need any more, and puts it in the place of the old one.

The new file grows beside the old one, under a name that no reader looks at, and appears by a rename when complete:
so at every moment the name leads to a complete file. It has the id of the old one and goes on with its commits, so that
nothing else of the chain changes. Who has the old file open reads on in it; its space is free when all are done.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec

from holdfast.errors import ChainBroken, RequestInvalid
from holdfast.faults import reach
from holdfast.formats.magic import RECORDS_START
from holdfast.model.reads import ReadSpan
from holdfast.storage.chain_files.chain_file import SUSPECT_SUFFIX, ChainFile
from holdfast.storage.chains.chain import Chain
from holdfast.storage.chains.metadata import check_chain, refresh_metadata
from holdfast.storage.files.atomic import Files
from holdfast.storage.files.chain_lock import acquire_chain_lock
from holdfast.storage.health.health_file import change_health, is_as_opened, read_health, with_reads
from holdfast.storage.methods.building import End, Plan, build_full
from holdfast.storage.methods.gathering import GatherResult, Needs
from holdfast.storage.methods.merging import COMMIT_BYTES
from holdfast.storage.methods.read_times import oldest_time

COMPACTING_SUFFIX = ".compacting"


class Looseness(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a full nobody needs."""

    name: str
    file_bytes: int
    needed_bytes: int

    @property
    def dead_bytes(self) -> int:
        """Return what compacting would give back, but for what tables take."""
        return max(0, self.file_bytes - self.needed_bytes)


def looseness(chain: Chain) -> Looseness | None:
    """Return how loose the full of a chain is, or None when there is none that could be compacted."""
    file = _full(chain)
    if file is None:
        return None
    needs = Needs(chain, *_numbers(file))
    return Looseness(
        name=file.path.name, file_bytes=file.superblock.end - RECORDS_START, needed_bytes=needs.stored_bytes()
    )


def compact(
    files: Files,
    folder: Path,
    passphrase: str | None,
    report: Callable[[int], None] = lambda _: None,
    commit_bytes: int = COMMIT_BYTES,
) -> GatherResult:
    """Compact the full of a chain; ``report`` gets the bytes moved so far. Goes on where an earlier run stopped.

    Raises `ChainBusy`, `RepositoryFull` before a unit is written, `RequestInvalid` when the chain has no complete full,
    and what reading a damaged one raises; the old file stays then.
    """
    with Chain.open(files, folder, passphrase) as chain:
        check_chain(files, chain)
        full = _full(chain)
        if full is None:
            raise RequestInvalid(f"chain {folder.name} has no complete full that could be compacted")
        path, block = full.path, full.superblock
        plan = Plan(
            path=path.with_name(path.name + COMPACTING_SUFFIX),
            file_id=full.contents.file,
            holds=full.contents.holds,
            commit_bytes=commit_bytes,
            after_generation=block.generation,
        )

        times = _Times(files, full)

        def switch() -> None:
            if not is_as_opened(files, full):
                raise ChainBroken(f"{path.name} of chain {folder.name} changed while it was compacted")
            times.forget_places()
            files.rename(plan.path, path)
            reach("compact.switched")
            times.note()
            refresh_metadata(files, folder, passphrase)

        needs, end = Needs(chain, *_numbers(full)), End(note_times=times.keep, finish=switch)
        return build_full(files, needs, plan, report, end)


class _Times:
    """When the bytes of a full were last read, which come to other places under the same id.

    What is known of places is true of the old file until the rename and of the new one from then on. So it is put aside
    before it: a death between the two leaves everything as old as the oldest, and is read again early.
    """

    def __init__(self, files: Files, full: ChainFile) -> None:
        self._files, self._full = files, full
        self._reads: tuple[ReadSpan, ...] | None = None

    def keep(self, _: str, reads: tuple[ReadSpan, ...]) -> None:
        """Keep what is to be said of the new file; when nothing is, all of it was written anew and the old words do."""
        self._reads = reads

    def forget_places(self) -> None:
        """Say of every place that it is as old as the oldest."""
        if self._reads is not None:
            oldest = oldest_time(read_health(self._files, self._full.path.parent), self._full)
            self._put((ReadSpan(0, 1 << 62, oldest),))
            reach("compact.places-forgotten")

    def note(self) -> None:
        """Say what is known of the places of the new file."""
        if self._reads is not None:
            self._put(self._reads)

    def _put(self, reads: tuple[ReadSpan, ...]) -> None:
        file_id = self._full.contents.file
        change_health(self._files, self._full.path.parent, lambda health: with_reads(health, file_id, reads))


def drop_remains(files: Files, folder: Path) -> tuple[str, ...]:
    """Remove what compactions left that nobody is going to finish, and return the names. Raises `ChainBusy`."""
    endings = (COMPACTING_SUFFIX, COMPACTING_SUFFIX + SUSPECT_SUFFIX)
    found = tuple(name for name in files.names(folder) if name.endswith(endings))
    if found:
        lock = acquire_chain_lock(files, folder)
        try:
            for name in found:
                files.remove(folder / name)
        finally:
            lock.close()
    return found


def _full(chain: Chain) -> ChainFile | None:
    fulls = (file for file in chain.files if file.contents.kind == "full" and file.is_complete)
    return next((file for file in fulls if file.contents.points), None)


def _numbers(file: ChainFile) -> list[int]:
    return [point.number for point in file.contents.points]
