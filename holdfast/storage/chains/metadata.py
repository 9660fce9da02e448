"""The chain metadata file on disk: written after every change of a chain, checked before the next, rebuilt at need."""

import os
from pathlib import Path

import msgspec

from holdfast.errors import ChainBroken, FileDamaged, FormatUnknown
from holdfast.formats.chain_metadata import (
    ChainMetadata,
    Leaving,
    MetadataFile,
    MetadataPoint,
    decode_metadata,
    encode_metadata,
    metadata_envelope,
)
from holdfast.formats.keys import ChainKeys
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chain_files.unlocking import unlock
from holdfast.storage.chains.chain import Chain
from holdfast.storage.files.atomic import Files

METADATA_NAME = "chain.hfm"


def read_metadata(files: Files, folder: Path, keys: ChainKeys) -> ChainMetadata | None:
    """Return the metadata of a chain, or None when there is none. Raises `FileDamaged`, `FormatUnknown`."""
    path = folder / METADATA_NAME
    if not files.exists(path):
        return None
    data = files.read(path)
    try:
        chain_id, _ = metadata_envelope(data)
        if chain_id != keys.chain_id:
            raise ChainBroken(f"{path} belongs to chain {chain_id.hex()}, not {keys.chain_id.hex()}")
        return decode_metadata(data, keys)
    except (FileDamaged, FormatUnknown) as error:
        raise FileDamaged(f"{path}: {error.message}", hint=_REBUILD_HINT) from error


def write_metadata(
    files: Files, chain: Chain, sequence: int, leaving: Leaving | msgspec.UnsetType = msgspec.UNSET
) -> ChainMetadata:
    """Write the metadata of an open chain as it is now, and return it."""
    keys = chain.files[0].keys
    metadata = msgspec.structs.replace(describe(chain, sequence), leaving=leaving)
    files.replace(chain.folder / METADATA_NAME, encode_metadata(metadata, keys, os.urandom(16)))
    return metadata


def refresh_metadata(
    files: Files, folder: Path, passphrase: str | None, leaving: Leaving | msgspec.UnsetType = msgspec.UNSET
) -> ChainMetadata:
    """Write the metadata anew from the chain files; a damaged one is replaced.

    ``leaving`` is what is going to be removed; the caller has the lock of the chain and refreshes again afterwards.
    """
    with Chain.open(files, folder, passphrase) as chain:
        if not chain.files:
            raise ChainBroken(f"{folder} holds no chain file")
        try:
            known = read_metadata(files, folder, chain.files[0].keys)
        except FileDamaged:
            known = None  # it is about to be replaced by what the chain files say
        return write_metadata(files, chain, 1 if known is None else known.sequence + 1, leaving)


def describe(chain: Chain, sequence: int) -> ChainMetadata:
    """Return what the metadata of an open chain should say."""
    listed = [
        MetadataFile(
            name=file.path.name,
            file=file.contents.file,
            kind=file.contents.kind,
            generation=file.superblock.generation,
            size=file.superblock.end,
            holds=file.contents.holds,
            complete=file.is_complete,
        )
        for file in chain.files
    ]
    points = [
        MetadataPoint(
            number=point.number,
            id=point.id,
            file=file.contents.file,
            machine_id=point.machine.machine_id,
            machine_name=point.machine.name,
            created=point.created,
            complete=point.complete,
            root=point.root,
        )
        for file, point in chain.points()
    ]
    chain_id = chain.files[0].contents.chain
    return ChainMetadata(chain=chain_id, sequence=sequence, files=tuple(listed), points=tuple(points))


def check_chain(files: Files, chain: Chain) -> None:
    """Raise when the files of a chain are damaged, do not belong together, or are older than the metadata says.

    Metadata that is damaged itself is no witness.
    """
    chain.check_whole()
    try:
        metadata = read_metadata(files, chain.folder, chain.files[0].keys)
    except FileDamaged:
        metadata = None
    if metadata is None:
        check_links(chain)
    else:
        check_against_metadata(chain, metadata)


def check_against_metadata(chain: Chain, metadata: ChainMetadata) -> None:
    """Raise `ChainBroken` when something that the metadata calls complete is missing, swapped or older than it was."""
    leaving = Leaving() if metadata.leaving is msgspec.UNSET else metadata.leaving
    by_id = {file.contents.file: file for file in chain.files}
    for listed in metadata.files:
        is_gone = listed.file in leaving.files and listed.file not in by_id
        if listed.complete and not is_gone:
            _check_file(chain, listed, by_id.get(listed.file))
    roots = _complete_roots(chain)
    for point in metadata.points:
        is_gone = point.number in leaving.points and point.number not in roots
        if point.complete and not is_gone and roots.get(point.number) != point.root:
            raise ChainBroken(f"point {point.number} of chain {chain.folder.name} is missing or another one")
    check_links(chain)


def _check_file(chain: Chain, listed: MetadataFile, file: ChainFile | None) -> None:
    if file is None:
        raise ChainBroken(f"file {listed.name} of chain {chain.folder.name} is missing")
    # A complete file says the same in both superblocks, so the loss of the newer one is no loss.
    oldest = listed.generation - 1 if file.is_complete else listed.generation
    if file.superblock.generation < oldest:
        raise ChainBroken(
            f"file {listed.name} of chain {chain.folder.name} is at commit {file.superblock.generation}, "
            f"it was at {listed.generation}: it was rolled back"
        )


def keys_of(files: Files, chain: Chain, passphrase: str | None) -> ChainKeys:
    """Return the keys of a chain, from a file that can be read or else from the metadata.

    Raises `ChainBroken` when there is neither, `FileDamaged` when the metadata cannot be read, and `PassphraseWrong`.
    """
    if chain.files:
        return chain.files[0].keys
    path = chain.folder / METADATA_NAME
    if not files.exists(path):
        raise ChainBroken(f"chain {chain.folder.name} has no readable file and no metadata")
    chain_id, envelope = metadata_envelope(files.read(path))
    return unlock(chain_id, envelope, passphrase)


def check_links(chain: Chain) -> None:
    """Raise `ChainBroken` when files do not continue each other."""
    roots = _complete_roots(chain)
    for file in chain.files:
        parent = file.contents.parent
        if parent is not None and roots.get(parent.point) != parent.root:
            raise ChainBroken(
                f"file {file.path.name} of chain {chain.folder.name} continues point {parent.point}, "
                "which is missing or another one"
            )
    for file in chain.files:
        if file.is_rolled_back and file.contents.points[0].number in _counting(chain, file):
            chain.layers(file)


def _counting(chain: Chain, file: ChainFile) -> set[int]:
    """Return the points that a file stands for: none of a rollback file whose point the full still has."""
    return {point.number for holder, point in chain.points() if holder is file}


def _complete_roots(chain: Chain) -> dict[int, str | None]:
    return {point.number: point.root for _, point in chain.points() if point.complete}


_REBUILD_HINT = "Run `holdfast chain rebuild-metadata`; it is made again from the chain files."
