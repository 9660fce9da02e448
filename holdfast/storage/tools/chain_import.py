"""Brings a chain that was found somewhere into a repository, where the next run of its machine may continue it.

The files are copied into a folder that no reader takes for a chain, flushed, and read back whole; then the folder gets
its name. So a crash leaves a repository without the chain or with all of it, and an import run again begins anew. One
that fails leaves nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from holdfast.errors import ChainBroken, DataDamaged, RepositoryError, RepositoryFull, RequestInvalid
from holdfast.faults import reach
from holdfast.formats.contents import Point
from holdfast.model.archives import is_archive
from holdfast.model.ids import MachineId
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chains.chain import Chain, chain_file_names
from holdfast.storage.chains.keeping import KEEP_NAME, is_noted_archive, write_owner
from holdfast.storage.chains.metadata import check_chain, refresh_metadata
from holdfast.storage.chains.owning import seen_by, shown_owner
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import Files
from holdfast.storage.files.chain_lock import LOCK_NAME, acquire_chain_lock, make_readers_file
from holdfast.storage.health.folder import verify_folder

_COPY_BYTES: Final = 4 << 20
_OLDEST: Final = 0
_BESIDE: Final = (KEEP_NAME,)
"""Small files of a chain that go with it as they are: what says how long points are kept. Metadata is made anew."""

Report = Callable[[str, int, int], None]
"""Gets what is being done, how many bytes are done, and of how many; what it raises ends the import."""


class ImportedChain(msgspec.Struct, frozen=True, kw_only=True):
    """A chain as it is in the repository now."""

    chain: str
    machine_id: str
    machine_name: str
    points: int
    size_bytes: int
    is_continued: bool
    """Whether the next run of the machine continues it; otherwise another chain has newer points."""
    left_out: tuple[str, ...]
    """Files of the source that hold no complete point."""


def import_chain(repository: Repository, source: Path, passphrase: str | None, report: Report) -> ImportedChain:
    """Copy the chain in ``source``, which stays as it is, into a repository.

    Raises `RequestInvalid` when the repository has it or it is of several machines, `ChainBroken` and `FileDamaged`
    when it is not whole, `DataDamaged` when its copy does not read back, `RepositoryFull`, `ChainBusy`.
    """
    repository.check_present()
    files = repository.files
    with Chain.open(files, source, passphrase) as chain:
        owner = shown_owner(files, chain)
        newest = seen_by(_newest(chain), owner)
        check_chain(files, chain)
        whole = [file for file in chain.files if file.is_complete]
        _check_new(repository, chain)
        size = sum(file.handle.size() for file in whole)
        machine_folder = repository.machine_folder(MachineId(newest.machine.machine_id), newest.machine.name)
        folder, is_continued = _place(repository, machine_folder, chain, newest)
        _check_space(files, repository.root, size)
        with _unfinished(files, machine_folder, chain.files[0].contents.chain) as unfinished:
            _copy(files, whole, unfinished, report)
            for name in _BESIDE:
                if files.exists(source / name):
                    files.replace(unfinished / name, files.read(source / name))
            if owner is not None:
                here = msgspec.structs.replace(owner, folder=machine_folder.name)
                write_owner(files, unfinished, chain.files[0].keys, here)
            points = _read_back(files, unfinished, passphrase, lambda done: report("reading back", done, size))
            refresh_metadata(files, unfinished, passphrase)
            make_readers_file(files, unfinished)
            reach("import.read_back")
            files.rename(unfinished, folder)
        kept = {file.path.name for file in whole}
        return ImportedChain(
            chain=repository.relative(folder),
            machine_id=newest.machine.machine_id,
            machine_name=newest.machine.name,
            points=points,
            size_bytes=size,
            is_continued=is_continued,
            left_out=tuple(name for name in chain_file_names(files, source) if name not in kept),
        )


def _newest(chain: Chain) -> Point:
    """Return the newest complete point. Raises `RequestInvalid` when there is none, or points of several machines."""
    found = chain.newest()
    if found is None:
        raise RequestInvalid(f"{chain.folder} holds no complete point")
    machines = sorted({point.machine.machine_id for _, point in chain.points()})
    if len(machines) > 1:
        raise RequestInvalid(f"{chain.folder} holds points of several machines: {', '.join(machines)}")
    return found[1]


def _check_new(repository: Repository, chain: Chain) -> None:
    """Raise `RequestInvalid` when the repository has the chain: two of one id would take each other's keys."""
    tail = f"-{chain.files[0].contents.chain[:8]}"
    there = next((folder for folder in repository.chain_folders() if folder.name.endswith(tail)), None)
    if there is not None and chain_file_names(repository.files, there):
        raise RequestInvalid(f"the repository has this chain already, as {repository.relative(there)}")


def _place(repository: Repository, machine_folder: Path, chain: Chain, newest: Point) -> tuple[Path, bool]:
    """Return the folder of the chain, and whether it is the one that is continued: the chain with the newest point.

    An archive stays one, whatever its folder was called.
    """
    chain_id = bytes.fromhex(chain.files[0].contents.chain)
    if is_archive(chain.folder.name) or is_noted_archive(repository.files, chain.folder):
        return repository.new_archive_folder(machine_folder, chain_id), False
    surveyed = [found for found in repository.survey() if found.machine_folder == machine_folder.name]
    surveyed = [found for found in surveyed if not is_archive(found.chain)]
    known = [stored.point.created for found in surveyed for stored in found.points if stored.point.complete]
    # A chain that cannot be read here, as without its passphrase, may be newer: it keeps its place.
    if all(found.problem is None for found in surveyed) and all(created < newest.created for created in known):
        return repository.new_chain_folder(machine_folder, chain_id), True
    return machine_folder / f"{_OLDEST:06d}-{chain_id.hex()[:8]}", False


def _check_space(files: Files, folder: Path, wanted: int) -> None:
    free = files.free_bytes(folder)
    if free < wanted:
        raise RepositoryFull(f"the chain has {wanted} bytes, {free} are free")


@contextmanager
def _unfinished(files: Files, machine_folder: Path, chain_id: str) -> Iterator[Path]:
    """Make the folder of a chain that is being copied, empty and locked; on an error it is removed with all in it."""
    is_new, folder = not files.exists(machine_folder), machine_folder / f"import-{chain_id[:8]}"
    files.make_folder(folder)
    lock = acquire_chain_lock(files, folder)
    try:
        _clear(files, folder)
        yield folder
    except BaseException:
        with suppress(RepositoryError):  # what stays is removed by the next import of the chain
            _clear(files, folder)
            files.remove(folder / LOCK_NAME)
            files.remove_folder(folder)
            if is_new:
                files.remove_folder(machine_folder)
        raise
    finally:
        lock.close()


def _clear(files: Files, folder: Path) -> None:
    """Remove what an import that was killed has left; the lock, which is held, stays."""
    for name in files.names(folder):
        if name != LOCK_NAME:
            files.remove(folder / name)


def _copy(files: Files, whole: list[ChainFile], folder: Path, report: Report) -> None:
    size = sum(file.handle.size() for file in whole)
    done = 0
    for file in whole:
        target = files.create(folder / file.path.name)
        try:
            length = file.handle.size()
            for offset in range(0, length, _COPY_BYTES):
                data = file.handle.read(offset, min(_COPY_BYTES, length - offset))
                target.write(offset, [data])
                done += len(data)
                report("copying", done, size)
            target.sync()
        finally:
            target.close()
        reach("import.copied")


def _read_back(files: Files, folder: Path, passphrase: str | None, report: Callable[[int], None]) -> int:
    """Read every stored byte of the copy and return how many points it has. Raises `DataDamaged`, `ChainBroken`."""
    found = verify_folder(files, folder, passphrase, report)
    if not found.is_good:
        first = next(iter(found.damages), None)
        raise DataDamaged(f"the chain is damaged: {first.reason if first is not None else 'see verify'}")
    if not found.points:
        raise ChainBroken(f"the copy in {folder} has no points")
    return found.points
