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
from holdfast.storage.chain_files.chain_file import SUSPECT_SUFFIX, ChainFile
from holdfast.storage.chains.chain import Chain
from holdfast.storage.chains.metadata import check_chain, refresh_metadata
from holdfast.storage.files.atomic import Files
from holdfast.storage.files.chain_lock import acquire_chain_lock
from holdfast.storage.methods.building import Plan, build_full
from holdfast.storage.methods.gathering import GatherResult, Needs
from holdfast.storage.methods.merging import COMMIT_BYTES

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
    needs = Needs(chain, file.contents.points[0].number)
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

        def switch() -> None:
            with ChainFile.open(files, path, keys=full.keys) as now:
                if (now.superblock.generation, now.superblock.key_id) != (block.generation, block.key_id):
                    raise ChainBroken(f"{path.name} of chain {folder.name} changed while it was compacted")
            files.rename(plan.path, path)
            reach("compact.switched")
            refresh_metadata(files, folder, passphrase)

        return build_full(files, Needs(chain, full.contents.points[0].number), plan, report, switch)


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
    fulls = [file for file in chain.files if file.contents.kind == "full" and file.is_complete]
    return next((file for file in fulls if len(file.contents.points) == 1), None)
