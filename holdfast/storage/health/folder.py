"""The health of a whole chain folder: its points, its files, and what the metadata says of them.

`verifier` checks a chain whose files can all be opened. Here a file that is damaged, missing, swapped or rolled back is
reported with the points it takes along, and everything else is still checked.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from holdfast.errors import ChainBroken, DataError, FileDamaged, HoldfastError, PassphraseWrong
from holdfast.formats.chain_metadata import ChainMetadata, MetadataPoint
from holdfast.formats.keys import ChainKeys
from holdfast.model.ids import DiskKey
from holdfast.model.points import Damage, VerifyReport
from holdfast.storage.chain_files.chain_file import FILE_SUFFIX, ChainFile, is_never_committed
from holdfast.storage.chains.chain import Chain, chain_file_names
from holdfast.storage.chains.metadata import METADATA_NAME, check_against_metadata, check_links, keys_of, read_metadata
from holdfast.storage.files.atomic import Files
from holdfast.storage.files.chain_lock import acquire_chain_lock, hold_as_reader
from holdfast.storage.health.salvage import REBUILT_SUFFIX, SalvageReport, salvage_file
from holdfast.storage.health.verifier import verify_chain


class FileProblem(msgspec.Struct, frozen=True):
    """A chain file that cannot be used, and why."""

    name: str
    error: HoldfastError


def open_readable(files: Files, folder: Path, passphrase: str | None) -> tuple[Chain, list[FileProblem]]:
    """Open the chain files of a folder that can be opened; return them and what is wrong with the others.

    Raises `PassphraseWrong` when the passphrase opens none, and errors of access such as `RepositoryUnavailable`.
    """
    chain, problems = Chain(folder, [], hold_as_reader(files, folder)), []
    try:
        for name in chain_file_names(files, folder):
            try:
                keys = chain.files[0].keys if chain.files else None
                chain.files.append(ChainFile.open(files, folder / name, passphrase, keys))
            except DataError as error:
                problems.append(FileProblem(name, error))
    except BaseException:
        chain.close()
        raise
    wrong = [problem.error for problem in problems if isinstance(problem.error, PassphraseWrong)]
    if wrong and not chain.files:
        chain.close()
        raise wrong[0]
    chain.files.sort(key=lambda file: file.contents.holds)
    chain.pass_over_superseded()
    return chain, problems


def verify_folder(
    files: Files,
    folder: Path,
    passphrase: str | None,
    report: Callable[[int], None],
    *,
    numbers: Iterable[int] | None = None,
) -> VerifyReport:
    """Check all complete points of a chain folder, or those with the given numbers, whatever its state.

    ``report`` gets the stored bytes checked so far; what it raises stops the verification.
    """
    wanted = None if numbers is None else set(numbers)
    chain, problems = open_readable(files, folder, passphrase)
    with chain:
        found = verify_chain(chain, report, numbers=wanted)
        metadata, damages = _metadata_of(files, chain, passphrase)
        listed = {file.name for file in (metadata.files if metadata else ())}
        # A file that a crash left without its first commit holds nothing, and nothing is wrong with that.
        problems = [p for p in problems if p.name in listed or not is_never_committed(files, folder / p.name)]
        damages += _lost_points(chain, problems, metadata)
        damages += _broken_links(chain, problems, metadata)
    kept = [damage for damage in damages if wanted is None or damage.point in {0, *wanted}]
    return msgspec.structs.replace(found, damages=(*found.damages, *kept))


def rebuild_file(files: Files, folder: Path, name: str, passphrase: str | None) -> SalvageReport:
    """Rebuild a chain file whose structure is damaged, from its records and the chain's other files.

    Raises `ChainBusy`, and what `salvage_file` raises.
    """
    lock = acquire_chain_lock(files, folder)
    try:
        chain, _ = open_readable(files, folder, passphrase)
        with chain:
            siblings = Chain(folder, [file for file in chain.files if file.path.name != name])
            keys = keys_of(files, chain, passphrase)
            roots = _known_roots(_witness(files, folder, keys))
            return salvage_file(files, folder / name, (keys, lock), siblings, roots)
    finally:
        lock.close()


def finish_rebuilds(files: Files, folder: Path, passphrase: str | None) -> tuple[str, ...]:
    """Let rebuilt files take their places whose process died when the damaged ones had left them; return their names.

    Raises `ChainBusy` when there are such files and the chain is being written.
    """
    names = [name for name, _ in _homeless(files, folder)]
    if not names:
        return ()
    lock = acquire_chain_lock(files, folder)
    try:
        chain, _ = open_readable(files, folder, passphrase)
        with chain:
            keys = keys_of(files, chain, passphrase)
            metadata = _witness(files, folder, keys)
        done = tuple(name for name, path in _homeless(files, folder) if _is_rebuilt(files, path, keys, metadata))
        for name in done:
            files.rename(folder / (name + REBUILT_SUFFIX), folder / name)
    finally:
        lock.close()
    return done


def _homeless(files: Files, folder: Path) -> list[tuple[str, Path]]:
    """Return the rebuilt files beside which none stands that they are in place of, by the name of that."""
    names = set(files.names(folder))
    found = [name.removesuffix(REBUILT_SUFFIX) for name in sorted(names) if name.endswith(FILE_SUFFIX + REBUILT_SUFFIX)]
    return [(name, folder / (name + REBUILT_SUFFIX)) for name in found if name not in names]


def _is_rebuilt(files: Files, path: Path, keys: ChainKeys, metadata: ChainMetadata | None) -> bool:
    """Return whether a file is whole, and the one that the metadata misses, with the same points."""
    roots, listed = _known_roots(metadata), {file.file: file.name for file in (metadata.files if metadata else ())}
    with suppress(DataError), ChainFile.open(files, path, keys=keys) as file:
        is_missed = listed.get(file.contents.file) == path.name.removesuffix(REBUILT_SUFFIX)
        return file.is_complete and is_missed and all(roots.get(one.number) == one.root for one in file.contents.points)
    return False


def _known_roots(metadata: ChainMetadata | None) -> dict[int, str]:
    return {point.number: point.root for point in (metadata.points if metadata else ()) if point.root}


def _witness(files: Files, folder: Path, keys: ChainKeys) -> ChainMetadata | None:
    try:
        return read_metadata(files, folder, keys)
    except FileDamaged:
        return None  # the roots of the old contents page are then all there is to compare with


def _metadata_of(files: Files, chain: Chain, passphrase: str | None) -> tuple[ChainMetadata | None, list[Damage]]:
    try:
        keys = keys_of(files, chain, passphrase)
        return read_metadata(files, chain.folder, keys), []
    except DataError as error:
        return None, [_damage(chain, 0, "", METADATA_NAME, error.message)]


def _lost_points(chain: Chain, problems: list[FileProblem], metadata: ChainMetadata | None) -> list[Damage]:
    """Name the points whose own file cannot be opened or is missing."""
    reasons = {problem.name: problem.error.message for problem in problems}
    if metadata is None:
        return [_damage(chain, 0, "", name, reason) for name, reason in reasons.items()]
    opened = {file.contents.file for file in chain.files}
    names = {listed.file: listed.name for listed in metadata.files}
    leaving = () if metadata.leaving is msgspec.UNSET else metadata.leaving.points
    elsewhere = {(point.number, point.root) for _, point in chain.points() if point.complete}
    gone = [point for point in metadata.points if point.complete and point.file not in opened]
    # Upkeep that was cut off is no damage: a point has moved on into another file, or was let go on purpose.
    lost = [p for p in gone if p.number not in leaving and (p.number, p.root) not in elsewhere]
    damages = [_lost(chain, point, names.get(point.file, ""), reasons) for point in lost]
    told = {names.get(point.file, "") for point in lost}
    return damages + [_damage(chain, 0, "", name, reason) for name, reason in reasons.items() if name not in told]


def _lost(chain: Chain, point: MetadataPoint, name: str, reasons: dict[str, str]) -> Damage:
    return _damage(chain, point.number, point.machine_name, name, reasons.get(name, "the file is missing"))


def _broken_links(chain: Chain, problems: list[FileProblem], metadata: ChainMetadata | None) -> list[Damage]:
    try:
        if metadata is None:
            check_links(chain)
        elif not problems:
            check_against_metadata(chain, metadata)
    except ChainBroken as error:
        return [_damage(chain, 0, "", "", error.message)]
    return []


def _damage(chain: Chain, point: int, machine: str, file: str, reason: str) -> Damage:
    return Damage(
        chain=chain.folder.name,
        point=point,
        machine=machine,
        disk=DiskKey(""),
        offset=0,
        length=0,
        file=file,
        reason=reason,
    )
