"""Stores lost pieces of a chain file again, in fresh space of the same file.

The pieces go into new units, a commit lets the piece tables name these instead of the damaged ones, and a second one
says so in the other superblock, too. Nothing that any commit names is written over, digests and roots stay as they
are, and so do maps: every point that needs the pieces reads them from then on.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from holdfast.errors import DataDamaged, FileDamaged, FormatUnknown, StoreFailed
from holdfast.faults import reach
from holdfast.formats.codec import compress
from holdfast.formats.digests import disk_tag
from holdfast.formats.pages import PieceRuns
from holdfast.formats.record import PieceEntry
from holdfast.model.compression import Compression
from holdfast.pipeline.restore import checked_unit
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chain_files.rewriter import ChainRewriter
from holdfast.storage.files.atomic import Files
from holdfast.storage.health.lost_pieces import LostPiece, PieceSource

UNITS_AT_ONCE: Final = 4096
"""Damaged units of one file that one repair deals with; those beyond are left to the next."""


class LostUnit(msgspec.Struct, frozen=True, kw_only=True):
    """A damaged unit, and what the file's piece tables have in it."""

    number: int
    point: int
    """That wrote it."""
    pieces: dict[int, LostPiece]
    """By place; of pieces that share a place the first."""


class UnitsRepaired(msgspec.Struct, frozen=True, kw_only=True):
    """What became of damaged units."""

    pieces: tuple[int, ...]
    """Stored again, by source."""
    healed: tuple[int, ...]
    """Units of which nothing is missing any more: stored again, not needed, or in order after all."""


def lost_units(file: ChainFile, bad: Mapping[int, str]) -> tuple[list[LostUnit], list[int]]:
    """Return which of some units are really lost, and those that are not: they can be read, or nobody needs them.

    Raises `FileDamaged` when the tables of the file are damaged, too.
    """
    lost: dict[int, dict[int, LostPiece]] = {number: {} for number in sorted(bad)[:UNITS_AT_ONCE]}
    fine = [number for number in lost if _is_fine(file, number)]
    for number in fine:
        del lost[number]
    for index, disk in enumerate(file.contents.disks):
        for base, runs in file.pieces_pages(index):
            for piece, count, place in runs:
                for at in range(count):
                    held = lost.get((place + at) // file.pieces_per_unit)
                    if held is not None:
                        digest = file.digest(place + at)
                        held.setdefault(place + at, LostPiece(disk.machine, disk.key, base + piece + at, digest))
    fine += [number for number, held in lost.items() if not held]
    entries = {number: file.unit(number) for number, held in lost.items() if held}
    return [
        LostUnit(
            number=number,
            point=file.contents.holds[1] if entry is None else entry.point,
            pieces=lost[number],
        )
        for number, entry in entries.items()
    ], fine


def _is_fine(file: ChainFile, number: int) -> bool:
    try:
        checked_unit(file, number, file.keys.digest_key)
    except (DataDamaged, FileDamaged, FormatUnknown, StoreFailed):
        return False
    return True


class UnitRepair:
    """Repairs one complete chain file. The sources are asked in order. Raises `ChainBusy` when the chain is written."""

    def __init__(self, files: Files, file: ChainFile, sources: list[PieceSource]) -> None:
        self._files = files
        self._file = file
        self._sources = sources

    def run(self, lost: list[LostUnit]) -> UnitsRepaired:
        """Store again what the sources have of the lost units, durably."""
        counts = [0] * len(self._sources)
        healed: list[int] = []
        file = self._file
        with ChainRewriter.resume(self._files, file.path, None, file.keys) as writer:
            writer.spare_readers()
            moved: dict[int, int] = {}
            for unit in lost:
                found = self._found(unit, counts)
                moved |= self._store(writer, unit, found)
                if len(found) == len(unit.pieces):
                    healed.append(unit.number)
            reach("repair.stored")
            if moved:
                _rename_places(writer, moved)
                # A merge that stopped goes by the numbers of units; what it moved in is dropped, and it begins anew.
                writer.contents = msgspec.structs.replace(writer.contents, moving=msgspec.UNSET)
                writer.drop_units(writer.needed_units())
                writer.commit_whole()
                reach("repair.committed")
                writer.commit_whole()
        return UnitsRepaired(pieces=tuple(counts), healed=tuple(healed))

    def _found(self, unit: LostUnit, counts: list[int]) -> dict[int, bytes]:
        """Return by place the pieces of a unit that some source has."""
        found: dict[int, bytes] = {}
        for place, piece in unit.pieces.items():
            for index, source in enumerate(self._sources):
                body = source.find(piece)
                if body is not None:
                    found[place] = body
                    counts[index] += 1
                    break
        return found

    def _store(self, writer: ChainRewriter, unit: LostUnit, found: dict[int, bytes]) -> dict[int, int]:
        """Write a unit of the pieces that were found; return their new places by the old."""
        if not found:
            return {}
        key, places = writer.keys.digest_key, sorted(found)
        pieces = [unit.pieces[place] for place in places]
        entries = [PieceEntry(disk_tag(one.machine, one.disk, key), one.piece, one.digest) for one in pieces]
        codec, packed = compress(b"".join(found[place] for place in places), Compression.ZSTD_1)
        stamp = writer.stamp(unit.point)
        number = writer.reserve_unit()
        writer.write_unit(
            number, stamp, [one.digest for one in pieces], writer.sealer.unit(stamp, entries, codec, packed)
        )
        return {place: number * writer.pieces_per_unit + slot for slot, place in enumerate(places)}


def _rename_places(writer: ChainRewriter, moved: Mapping[int, int]) -> None:
    """Let the piece tables name the new places."""
    for disk in range(len(writer.contents.disks)):
        for index in writer.pieces_indexes(disk):
            old = writer.pieces_page(disk, index)
            new = PieceRuns()
            for piece, count, place in old or ():
                for at in range(count):
                    new.append(piece + at, moved.get(place + at, place + at))
            if old is not None and not new.is_same(old):
                writer.put_pieces(disk, index, new)
