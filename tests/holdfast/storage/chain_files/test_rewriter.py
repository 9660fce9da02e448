"""A complete file that takes records in: what its superblocks name is never written over, what they forgot is."""

from pathlib import Path

from holdfast.formats.magic import ALIGNMENT, PIECE_SIZE, RECORDS_START
from holdfast.formats.pages import PieceRuns
from holdfast.model.spans import Span
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chain_files.holes import UsedSpans
from holdfast.storage.chain_files.rewriter import ChainRewriter, mark_named, needed_units
from holdfast.testing.chains import ProtectedMachine
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.storage.conftest import make_machine


def full_of(machine: ProtectedMachine) -> Path:
    return machine.repository.chain_folder(machine.kept[0].summary.chain) / machine.kept[0].summary.file


def test_records_that_are_named_do_not_overlap_and_lie_inside_the_file(files: CrashFiles) -> None:
    machine = make_machine({"a": 40, "b": 3}, files)
    machine.back_up()
    with ChainFile.open(files, full_of(machine)) as file:
        used = UsedSpans()
        mark_named(used, file.store, file.contents, set())
        refs = list(used)
        assert len(refs) > 11
        end = RECORDS_START
        for offset, length in refs:
            assert offset >= end
            assert offset % ALIGNMENT == 0
            end = offset + length
        assert end <= file.superblock.end


def test_what_earlier_commits_left_is_found_and_used_before_the_file_grows(files: CrashFiles) -> None:
    machine = make_machine({"a": 40}, files)
    machine.back_up()
    with ChainRewriter.resume(files, full_of(machine)) as writer:
        end = writer.end
        free = writer.reclaim()
        assert free >= 2 * ALIGNMENT  # what commits of the backup left behind
        for _ in range(free // ALIGNMENT - 1):
            writer.write_page(b"x", None)
        assert writer.end == end
        writer.commit_whole()
    with ChainFile.open(files, full_of(machine)) as file:
        assert file.is_complete
    assert machine.differences() == []


def test_units_are_needed_when_any_piece_of_a_run_is_in_them() -> None:
    page = PieceRuns()
    page.append(0, 6, 3)
    page.append(9, 17)
    assert needed_units(iter([page]), 4, 6) == bytearray([0, 1, 1, 0, 1, 0])


def test_a_disk_gets_one_place_among_those_of_the_file(files: CrashFiles) -> None:
    machine = make_machine({"a": 3}, files)
    machine.disks["a"].write(Span(0, PIECE_SIZE))
    machine.back_up()
    with ChainRewriter.resume(files, full_of(machine)) as writer:
        assert [writer.add_disk("m1", "a"), writer.add_disk("m1", "new"), writer.add_disk("m1", "new")] == [0, 1, 1]
        writer.commit_whole()
        assert [disk.key for disk in writer.contents.disks] == ["a", "new"]
