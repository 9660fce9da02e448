"""Where blocks cannot be shared, upkeep reads and writes what has to move, as it is stored, and little more.

What has to move is found here by where the pieces of a point are, not by what a method says of itself.
"""

import random
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

from holdfast.clock import SystemClock
from holdfast.formats.magic import ALIGNMENT, NEVER_WRITTEN, PIECE_SIZE
from holdfast.model.compression import Compression
from holdfast.model.spans import Span
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chains.chain import Chain
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.intake.lifecycle import StoreOptions
from holdfast.storage.methods.compacting import compact
from holdfast.storage.methods.reversing import ReverseOptions, make_newest_full
from holdfast.storage.methods.synthesis import synthesize
from holdfast.storage.methods.upkeep import ChainUpkeep
from holdfast.testing.chains import ProtectedMachine
from holdfast.testing.crashfs import CrashFiles
from holdfast.testing.disks import PatternedDisk
from tests.holdfast.storage.conftest import PIPE
from tests.holdfast.storage.counting import MIB, CountedFiles
from tests.holdfast.storage.methods.test_compacting import loose_machine
from tests.holdfast.storage.methods.test_merging import FULL, SECOND, THIRD, UNIT, folder_of
from tests.holdfast.storage.methods.test_synthesis import chain_of, make_full, protected

TENTH_MORE = 1.1
TABLES = 384 << 10
"""What tables and contents of such small chains take; it does not grow with what moves."""
PLAIN = ReverseOptions(compression=Compression.NONE)

Pattern = Callable[[PatternedDisk, random.Random], None]


def in_runs(disk: PatternedDisk, rng: random.Random) -> None:
    """Write the beginning, and runs of one to four MiB anywhere: units are partly written over, some wholly."""
    disk.write(Span(0, 6 * MIB))
    for _ in range(3):
        count = rng.randrange(16, 65)
        disk.write(Span(rng.randrange(disk.size_bytes // PIECE_SIZE - count) * PIECE_SIZE, count * PIECE_SIZE))


def in_pieces(disk: PatternedDisk, rng: random.Random, count: int = 64) -> None:
    """Write single pieces all over the disk."""
    for piece in rng.sample(range(disk.size_bytes // PIECE_SIZE), count):
        disk.write(Span(piece * PIECE_SIZE, PIECE_SIZE))


def everywhere(disk: PatternedDisk, _: random.Random) -> None:
    """Write the whole disk."""
    disk.write(Span(0, disk.size_bytes))


def in_few_pieces(disk: PatternedDisk, rng: random.Random) -> None:
    """Write as many single pieces as make a small unit."""
    in_pieces(disk, rng, 4)


PATTERNS = pytest.mark.parametrize("pattern", [in_runs, in_pieces])


def make_chain(
    folder: Path, pattern: Pattern, increments: int = 3, size_mib: int = 32, unit_size: int = MIB
) -> ProtectedMachine:
    """Return a machine with a full of a disk without zeros, and increments."""
    repository = Repository.create(folder / "repository", HostFiles(), "id", SystemClock().now())
    machine = ProtectedMachine(repository, 1, {"a": size_mib * MIB}, StoreOptions(unit_size=unit_size), PIPE)
    machine.disks["a"].write(Span(0, size_mib * MIB))
    machine.back_up()
    for _ in range(increments):
        change(machine, pattern)
    return machine


def change(machine: ProtectedMachine, pattern: Pattern) -> None:
    pattern(machine.disks["a"], random.Random(machine.sessions))
    machine.back_up()


def needed_bytes(machine: ProtectedMachine, number: int, held: Collection[int] | None = None) -> int:
    """Return the stored bytes of the units that a point needs, of all files or of those that hold these points."""
    with Chain.open(HostFiles(), folder_of(machine)) as chain:
        disk = chain.disk(number, "a")
        return stored_bytes(
            (run.file, run.place + at)
            for run in disk.runs(0, disk.pieces)
            if run.file is not None and (held is None or run.file.contents.holds[0] in held)
            for at in range(run.count)
        )


def stored_bytes(places: Iterator[tuple[ChainFile, int]]) -> int:
    """Return what the units take in which these places are."""
    units = {(file.path, place // file.pieces_per_unit): file for file, place in places}
    return sum(-(-file.unit_length(unit) // ALIGNMENT) * ALIGNMENT for (_, unit), file in units.items())


def displaced_bytes(machine: ProtectedMachine) -> tuple[int, int]:
    """Return the bytes of the pieces that the newest point takes the place of, and of the units that they are in."""
    with Chain.open(HostFiles(), folder_of(machine)) as chain:
        new = chain.points()[-1][1].number
        before, after = (list(writers(chain, number)) for number in (new - 1, new))
        old = chain.disk(new - 1, "a")
        gone = [piece for piece, writer in enumerate(before) if writer not in {NEVER_WRITTEN, after[piece]}]
        runs = [run for piece in gone for run in old.runs(piece, piece + 1)]
        places = [(run.file, run.place) for run in runs if run.file is not None]
        return len(places) * PIECE_SIZE, stored_bytes(iter(places))


def writers(chain: Chain, number: int) -> Iterator[int]:
    """Yield of each piece of the disk at a point which point wrote it."""
    disk = chain.disk(number, "a")
    for _, count, writer in disk.writers(0, disk.pieces):
        yield from [writer] * count


def check_counts(counted: CountedFiles, must_read: int, must_write: int) -> None:
    assert must_write <= counted.written_bytes <= TENTH_MORE * must_write + TABLES
    # The gap behind a unit is not read.
    assert 0.9 * must_read <= counted.read_bytes <= TENTH_MORE * must_read + TABLES


@PATTERNS
def test_a_merge_moves_the_units_that_the_last_point_needs(pattern: Pattern, tmp_path: Path) -> None:
    machine, counted = make_chain(tmp_path, pattern), CountedFiles(can_share=False)
    must = needed_bytes(machine, 3, held={2, 3})
    ChainUpkeep(counted, folder_of(machine), None).merge_all(FULL, [SECOND, THIRD])
    check_counts(counted, must, must)


@PATTERNS
def test_a_synthetic_full_moves_the_units_that_the_newest_point_needs(pattern: Pattern, tmp_path: Path) -> None:
    machine, counted = make_chain(tmp_path, pattern), CountedFiles(can_share=False)
    must = needed_bytes(machine, 4)
    machine.repository.files = counted
    synthesize(machine.repository, chain_of(machine), None)
    check_counts(counted, must, must)


@PATTERNS
def test_a_compaction_moves_the_units_that_the_point_of_the_full_needs(pattern: Pattern, tmp_path: Path) -> None:
    machine, counted = make_chain(tmp_path, pattern), CountedFiles(can_share=False)
    ChainUpkeep(HostFiles(), folder_of(machine), None).merge_all(FULL, [SECOND, THIRD])
    must = needed_bytes(machine, 3)
    compact(counted, folder_of(machine), None)
    check_counts(counted, must, must)


def turn_round(machine: ProtectedMachine) -> tuple[CountedFiles, int]:
    """Make the newest increment the full, and check what that reads and writes; return the displaced bytes, too."""
    newest = machine.kept[-1].summary.number
    moved, counted = needed_bytes(machine, newest, held={newest}), CountedFiles(can_share=False)
    displaced, units = displaced_bytes(machine)
    result = make_newest_full(counted, folder_of(machine), None, options=PLAIN)
    assert result.points == 1
    check_counts(counted, moved + units, moved + displaced)
    return counted, displaced


@PATTERNS
def test_a_reverse_step_reads_the_increment_and_each_unit_once_that_displaced_pieces_are_in(
    pattern: Pattern, tmp_path: Path
) -> None:
    machine = make_chain(tmp_path, pattern, increments=0)
    for _ in range(3):
        change(machine, pattern)
        turn_round(machine)
    assert machine.differences() == []


def test_single_pieces_all_over_a_disk_let_a_reverse_step_read_several_times_what_it_writes(tmp_path: Path) -> None:
    machine = make_chain(tmp_path, in_pieces, increments=1)
    counted, displaced = turn_round(machine)
    assert counted.read_bytes > 3 * counted.written_bytes
    assert displaced == 64 * PIECE_SIZE


def test_more_than_is_cut_out_together_is_displaced_reading_each_unit_once(tmp_path: Path) -> None:
    machine = make_chain(tmp_path, everywhere, increments=1, size_mib=40)
    _, displaced = turn_round(machine)
    assert displaced == 40 * MIB
    assert machine.differences() == []


def test_a_run_of_pieces_from_many_points_is_displaced_by_reading_their_units_once(tmp_path: Path) -> None:
    machine = make_chain(tmp_path, in_few_pieces, increments=40, size_mib=12, unit_size=UNIT)
    increments = [f"{number:08d}-increment.hfc" for number in range(2, 42)]
    ChainUpkeep(HostFiles(), folder_of(machine), None).merge_all(FULL, increments)
    del machine.kept[:-1]
    change(machine, everywhere)
    turn_round(machine)
    assert machine.differences() == []


def records(files: CrashFiles, folder: Path, passphrase: str) -> set[bytes]:
    """Return the records of all units in a folder, as they are stored."""
    with Chain.open(files, folder, passphrase) as chain:
        entries = [(file, file.unit(unit)) for file in chain.files for unit in range(file.contents.units.count)]
        return {file.handle.read(entry.offset, entry.length) for file, entry in entries if entry is not None}


def test_units_move_as_they_are_stored_also_when_they_are_encrypted(files: CrashFiles) -> None:
    machine = protected(files, "secret")
    machine.repository.files = files
    before = records(files, folder_of(machine), "secret")
    ChainUpkeep(files, folder_of(machine), "secret").merge_all(FULL, [SECOND, THIRD])
    merged = records(files, folder_of(machine), "secret")
    assert merged < before
    make_full(machine)
    assert records(files, folder_of(machine), "secret") <= merged


def test_a_compaction_moves_units_as_they_are_stored_also_when_they_are_encrypted(files: CrashFiles) -> None:
    machine = loose_machine(files, "secret")
    before = records(files, folder_of(machine), "secret")
    compact(files, folder_of(machine), "secret")
    assert records(files, folder_of(machine), "secret") <= before
