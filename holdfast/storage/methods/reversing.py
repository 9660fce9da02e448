"""Reverse increments: the full of a chain becomes its newest point, and what that displaces goes to rollback files.

For each increment behind the full, oldest first:

1. A rollback file takes the full's point: its maps, and the pieces that the increment's point has no more. They are cut
   out of their units and packed anew, so that it holds nothing else. The file is complete before the next step, and
   counts only when the full has its point no more.
2. The increment is merged into the full. The commit that switches the full to the newer point is the moment at which
   the older one becomes a rollback; before and after it both points read their bytes.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from operator import itemgetter
from pathlib import Path

import msgspec
from isal.isal_zlib import crc32

from holdfast.errors import ChainBroken, EncodingFailed, FileDamaged, FormatUnknown
from holdfast.faults import reach
from holdfast.formats.codec import compress
from holdfast.formats.contents import Contents, Moving, ParentPoint, Point, PointDisk
from holdfast.formats.digests import disk_tag
from holdfast.formats.magic import NEVER_WRITTEN, PIECE_SIZE, RECORDS_START, FileKind
from holdfast.formats.record import PieceEntry
from holdfast.model.compression import Compression
from holdfast.pipeline.restore import checked_unit
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chain_files.chain_writer import FileSpec
from holdfast.storage.chain_files.rewriter import ChainRewriter
from holdfast.storage.chains.chain import Chain, PieceRun, StoredDisk, chain_file_name
from holdfast.storage.chains.metadata import check_chain, refresh_metadata
from holdfast.storage.chains.session_file import check_one_machine
from holdfast.storage.files.atomic import Files
from holdfast.storage.methods.merging import COMMIT_BYTES, TABLES_LEAST, TABLES_SHARE
from holdfast.storage.methods.upkeep import ChainUpkeep

_AT_ONCE_BYTES = 32 << 20
"""Pieces that are cut out together: behind many merges neighbours are of many units, each of which is decoded once."""


class ReverseOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How rollback files are written."""

    compression: Compression = Compression.ZSTD_1
    commit_bytes: int = COMMIT_BYTES


class ReverseResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was done; an interrupted and continued step counts from where it went on."""

    points: int = 0
    """That became rollbacks."""
    displaced_bytes: int = 0
    """Stored in rollback files."""
    moved_bytes: int = 0
    shared_bytes: int = 0
    """Of those that moved into the full: what was not written, because both files have its blocks in common."""


class _Piece(msgspec.Struct, frozen=True):
    """A piece that goes to the rollback file."""

    piece: int
    file: ChainFile
    place: int


def make_newest_full(
    files: Files,
    folder: Path,
    passphrase: str | None,
    report: Callable[[int], None] = lambda _: None,
    options: ReverseOptions = ReverseOptions(),  # noqa: B008 - frozen
) -> ReverseResult:
    """Make the full of a chain its newest point; all others become rollbacks. Goes on where an earlier run stopped.

    ``report`` gets bytes stored or moved so far. A chain without an increment stays as it is. Raises `ChainBusy`,
    `RepositoryFull`, and what reading damaged files raises; every point can be read then as before.
    """
    done = ReverseResult()
    while (pair := _next_pair(files, folder, passphrase)) is not None:
        before = done.displaced_bytes + done.moved_bytes
        stored = _displace(files, folder, passphrase, (partial(_add, report, before), options))
        reach("reverse.displaced")
        upkeep = ChainUpkeep(files, folder, passphrase)
        merged = upkeep.merge(*pair, partial(_add, report, before + stored), options.commit_bytes)
        done = ReverseResult(
            points=done.points + 1,
            displaced_bytes=done.displaced_bytes + stored,
            moved_bytes=done.moved_bytes + merged.moved_bytes,
            shared_bytes=done.shared_bytes + merged.shared_bytes,
        )
    return done


def _add(report: Callable[[int], None], before: int, size: int) -> None:
    report(before + size)


def _next_pair(files: Files, folder: Path, passphrase: str | None) -> tuple[str, str] | None:
    """Return the full and the increment behind it, or None when there is none; what a merge left is removed."""
    with Chain.open(files, folder, passphrase) as chain:
        check_chain(files, chain)
        full, increments = _full_and_increments(chain)
        left = [path.name for path in chain.superseded]
        if not increments and not left:
            return None
        pair = (full.path.name, increments[0].path.name if increments else left[0])
    if left:
        ChainUpkeep(files, folder, passphrase).merge_all(pair[0], left)
        return _next_pair(files, folder, passphrase)
    return pair


def _full_and_increments(chain: Chain) -> tuple[ChainFile, list[ChainFile]]:
    usual = [file for file in chain.files if not file.is_rollback and file.is_complete]
    if not usual or usual[0].superblock.kind is not FileKind.FULL:
        raise ChainBroken(f"chain {chain.folder.name} has no complete full")
    check_one_machine(chain)
    return usual[0], usual[1:]


def _displace(
    files: Files, folder: Path, passphrase: str | None, how: tuple[Callable[[int], None], ReverseOptions]
) -> int:
    """Write the rollback file of the full's point; return the bytes that were stored."""
    with Chain.open(files, folder, passphrase) as chain:
        full, increments = _full_and_increments(chain)
        old, new = full.contents.points[0], increments[0].contents.points[0]
        path = folder / chain_file_name(old.number, FileKind.ROLLBACK.name.lower())
        spec = _spec(full, increments[0])
        is_there = _is_usable(files, path, spec.contents, full)
        if not is_there:
            files.remove(path)
        with (
            ChainRewriter.resume(files, path, keys=full.keys)
            if is_there
            else ChainRewriter.create(files, path, spec, full.keys)
        ) as writer:
            stored = 0
            if not writer.contents.points:
                stored = _Displacing(writer, chain, (old, new), how).run()
            writer.commit_complete()
            reach("reverse.complete")
            refresh_metadata(files, folder, passphrase)
    return stored


def _spec(full: ChainFile, increment: ChainFile) -> FileSpec:
    old, new = full.contents.points[0], increment.contents.points[0]
    sources = tuple((file.contents.file, file.superblock.generation) for file in (full, increment))
    contents = Contents(
        chain=full.contents.chain,
        file=os.urandom(16).hex(),
        kind=FileKind.ROLLBACK.name.lower(),
        unit_size=full.contents.unit_size,
        created=old.created,
        holds=(old.number, old.number),
        moving=Moving(file=full.contents.file, first=0, sources=sources),
        next=ParentPoint(file=increment.contents.file, point=new.number, root=new.root or ""),
    )
    return FileSpec(kind=FileKind.ROLLBACK, unit_size=contents.unit_size, contents=contents)


def _is_usable(files: Files, path: Path, wanted: Contents, full: ChainFile) -> bool:
    """Return whether what an earlier run left is of the same two points, and complete or begun from the same files."""
    if not files.exists(path):
        return False
    # What cannot be read is only a copy, which is begun anew.
    with suppress(FileDamaged, FormatUnknown), ChainFile.open(files, path, keys=full.keys) as found:
        theirs = found.contents
        is_same = isinstance(theirs.next, ParentPoint) and isinstance(wanted.next, ParentPoint)
        if not is_same or theirs.next != wanted.next:
            return False
        return bool(theirs.points) or theirs.moving == wanted.moving
    return False


class _Displacing:
    """Packs the pieces that one point has and the next one not any more."""

    def __init__(
        self,
        writer: ChainRewriter,
        chain: Chain,
        points: tuple[Point, Point],
        how: tuple[Callable[[int], None], ReverseOptions],
    ) -> None:
        self._writer = writer
        self._chain = chain
        self._old, self._new = points
        self._report, self._options = how
        self._full = chain.point(self._old.number)[0]
        self._key = writer.keys.digest_key
        self._done = writer.next_unit
        self._numbered = 0

    def run(self) -> int:
        """Write the units and then the point; return the bytes of the units.

        Raises `RepositoryFull` before a unit is written.
        """
        self._writer.expect(self._room())
        stored = uncommitted = 0
        disks = []
        for disk in self._old.disks:
            index = self._writer.add_disk(self._old.machine.machine_id, disk.key)
            for batch, body in self._with_bytes(self._batches_left(disk)):
                size = self._write(index, disk.key, batch, body)
                stored, uncommitted = stored + size, uncommitted + size
                if uncommitted >= self._options.commit_bytes:
                    self._writer.commit()
                    self._report(stored)
                    uncommitted = 0
            disks.append((disk, index))
        self._complete(disks)
        self._report(stored)
        return stored

    def _batches_left(self, disk: PointDisk) -> Iterator[list[_Piece]]:
        """Yield those batches that an earlier run has not written."""
        for batch in self._batches(disk):
            self._numbered += 1
            if self._numbered > self._done:
                yield batch

    def _batches(self, disk: PointDisk) -> Iterator[list[_Piece]]:
        """Yield the pieces of each unit, in order; the same each time."""
        batch: list[_Piece] = []
        for file, run in self._runs(disk):
            for at in range(run.count):
                batch.append(_Piece(run.piece + at, file, run.place + at))
                if len(batch) == self._writer.pieces_per_unit:
                    yield batch
                    batch = []
        if batch:
            yield batch

    def _runs(self, disk: PointDisk) -> Iterator[tuple[ChainFile, PieceRun]]:
        """Yield where the displaced pieces of a disk are."""
        stored = self._chain.disk(self._old.number, disk.key)
        for piece, count in self._displaced(stored, disk.key):
            for run in stored.runs(piece, piece + count):
                assert run.file is not None, "displaced pieces are not zeros"
                yield run.file, run

    def _room(self) -> int:
        """Return the bytes by which the file grows until it has all, generously: as many as the units that it is of."""
        pieces, units = 0, {id(file): bytearray(file.contents.units.count) for file in self._chain.files}
        for disk in self._old.disks:
            for file, run in self._runs(disk):
                first, last = run.place // file.pieces_per_unit, (run.place + run.count - 1) // file.pieces_per_unit
                units[id(file)][first : last + 1] = b"\1" * (last + 1 - first)
                pieces += run.count
        size = pieces * PIECE_SIZE
        if self._options.compression is not Compression.NONE:
            files = self._chain.files
            size = min(size, sum(f.unit_length(n) for f in files for n, is_in in enumerate(units[id(f)]) if is_in))
        size = max(0, size - (self._writer.end - RECORDS_START))
        return size + max(size // TABLES_SHARE, TABLES_LEAST)

    def _displaced(self, stored: StoredDisk, key: str) -> Iterator[tuple[int, int]]:
        """Yield (piece, count) of what the next point has in another version, as zeros or not at all."""
        newer = None if self._new.disk(key) is None else self._chain.disk(self._new.number, key)
        for piece, count, writer in stored.writers(0, stored.pieces):
            if writer == NEVER_WRITTEN:
                continue
            kept = 0 if newer is None else max(0, min(piece + count, newer.pieces) - piece)
            if newer is not None and kept:
                for first, length, later in newer.writers(piece, piece + kept):
                    if later != writer:
                        yield first, length
            if kept < count:
                yield piece + kept, count - kept

    def _with_bytes(self, batches: Iterator[list[_Piece]]) -> Iterator[tuple[list[_Piece], bytes]]:
        """Yield batches with the bytes of their pieces."""
        at_once = max(1, _AT_ONCE_BYTES // self._writer.unit_size)
        while together := list(islice(batches, at_once)):
            found = self._cut_out(together)
            for batch in together:
                yield batch, b"".join(found[piece.file.contents.file, piece.place] for piece in batch)

    def _cut_out(self, batches: Sequence[list[_Piece]]) -> dict[tuple[str, int], bytes]:
        """Return the bytes of pieces, by the id of their file and their place there; decode each unit once."""
        files = {(piece.file.contents.file, piece.place): piece.file for batch in batches for piece in batch}
        found: dict[tuple[str, int], bytes] = {}
        decoded, body = ("", 0), memoryview(b"")
        for (name, place), file in sorted(files.items(), key=itemgetter(0)):
            unit, slot = divmod(place, file.pieces_per_unit)
            if decoded != (name, unit):
                decoded, body = (name, unit), memoryview(checked_unit(file, unit, self._key))
            found[name, place] = bytes(body[slot * PIECE_SIZE : (slot + 1) * PIECE_SIZE])
        return found

    def _write(self, index: int, key: str, batch: list[_Piece], body: bytes) -> int:
        writer, number = self._writer, self._writer.reserve_unit()
        digests = [found.file.digest(found.place) for found in batch]
        tag = disk_tag(self._old.machine.machine_id, key, self._key)
        entries = [PieceEntry(tag, *pair) for pair in zip((found.piece for found in batch), digests, strict=True)]
        codec, packed = compress(body, self._options.compression)
        stamp = writer.stamp(self._old.number)
        record = writer.sealer.unit(stamp, entries, codec, packed)
        found, decoded = writer.opener.sealed_unit(record)
        if found != entries or crc32(decoded) != crc32(body):
            raise EncodingFailed(f"unit {number} of point {stamp.point} does not decode to its bytes")
        size = writer.write_unit(number, stamp, digests, record)
        first = number * writer.pieces_per_unit
        writer.add_pieces(index, ((found.piece, first + slot) for slot, found in enumerate(batch)))
        return size

    def _complete(self, disks: list[tuple[PointDisk, int]]) -> None:
        writer, store = self._writer, self._full.store
        taken = tuple(
            msgspec.structs.replace(disk, disk=index, map=writer.take_table(store, disk.map)) for disk, index in disks
        )
        files = [writer.take_file(store, file) for file in self._old.machine_files]
        point = msgspec.structs.replace(self._old, disks=taken).with_files(files)
        writer.contents = msgspec.structs.replace(writer.contents, points=(point,), moving=msgspec.UNSET)
