"""A compacted full reads as before, holds nothing dead, and takes its place in one step."""

import pytest

from holdfast.errors import ChainBusy, DataDamaged, RepositoryFull, RequestInvalid
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.spans import Span
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chain_files.rewriter import ChainRewriter
from holdfast.storage.chains.chain import Chain
from holdfast.storage.methods.compacting import COMPACTING_SUFFIX, compact, drop_remains, looseness
from holdfast.storage.methods.gathering import Needs
from holdfast.testing.chains import ProtectedMachine
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.storage.conftest import make_machine
from tests.holdfast.storage.methods.test_merging import UNIT, check, folder_of, merge
from tests.holdfast.storage.methods.test_merging_resumed import damage

FULL = "00000001-full.hfc"


def loose_machine(files: CrashFiles, passphrase: str | None = None) -> ProtectedMachine:
    """Return a machine whose full has taken increments in and lost units by that."""
    machine = make_machine({"a": 32, "b": 3}, files, passphrase)
    machine.back_up()
    for turn in range(3):
        machine.disks["a"].write(Span(turn * PIECE_SIZE, 16 * PIECE_SIZE))
        machine.back_up()
    merge(machine, 1, 2)
    merge(machine, 2, 3)
    return machine


def size_of(machine: ProtectedMachine) -> int:
    with ChainFile.open(machine.repository.files, folder_of(machine) / FULL, machine.store.passphrase) as file:
        return file.superblock.end


@pytest.mark.parametrize("passphrase", [None, "secret"])
def test_a_compacted_full_is_smaller_and_reads_the_same(passphrase: str | None, files: CrashFiles) -> None:
    machine = loose_machine(files, passphrase)
    before = size_of(machine)
    result = compact(files, folder_of(machine), passphrase, commit_bytes=UNIT)
    assert result.moved_bytes >= 32 * PIECE_SIZE
    assert before - size_of(machine) > 16 * PIECE_SIZE
    check(machine)
    with Chain.open(files, folder_of(machine), passphrase) as chain:
        found = looseness(chain)
        assert found is not None
        assert (found.name, found.dead_bytes < 30 * 4096) == (FULL, True)


def test_how_loose_a_full_is_can_be_told_before(files: CrashFiles) -> None:
    machine = loose_machine(files)
    with Chain.open(files, folder_of(machine)) as chain:
        found = looseness(chain)
    assert found is not None
    assert found.dead_bytes > 16 * PIECE_SIZE


def test_the_chain_is_continued_and_merged_as_before(files: CrashFiles) -> None:
    machine = loose_machine(files)
    compact(files, folder_of(machine), None)
    machine.disks["b"].write(Span(0, PIECE_SIZE))
    machine.back_up()
    check(machine)
    merge(machine, 3, 4)
    check(machine)
    compact(files, folder_of(machine), None)
    check(machine)


def test_who_reads_the_chain_goes_on_with_what_it_opened(files: CrashFiles) -> None:
    machine = loose_machine(files)
    with Chain.open(files, folder_of(machine)) as chain:
        disk = chain.disk(3, "a")
        before = bytes(disk.piece_digests(0, disk.pieces))
        units = {run.place // 4 for run in disk.runs(0, disk.pieces) if run.file is chain.files[0]}
        compact(files, folder_of(machine), None)
        merge(machine, 3, 4)
        assert bytes(disk.piece_digests(0, disk.pieces)) == before
        for unit in units:
            chain.files[0].read_unit(unit)


def test_a_compaction_that_was_cut_off_goes_on_behind_its_last_commit(files: CrashFiles) -> None:
    machine = loose_machine(files)

    class Enough(Exception):
        pass

    def stop(moved: int) -> None:
        if moved > 5 * UNIT:
            raise Enough

    with pytest.raises(Enough):
        compact(files, folder_of(machine), None, stop, UNIT)
    whole = 35 * PIECE_SIZE
    result = compact(files, folder_of(machine), None, commit_bytes=UNIT)
    assert result.moved_bytes < whole - 4 * UNIT
    check(machine)


def test_a_full_that_changed_meanwhile_is_compacted_anew(files: CrashFiles) -> None:
    machine = loose_machine(files)

    class Enough(Exception):
        pass

    def stop(moved: int) -> None:
        raise Enough(moved)

    with pytest.raises(Enough):
        compact(files, folder_of(machine), None, stop, UNIT)
    merge(machine, 3, 4)
    result = compact(files, folder_of(machine), None, commit_bytes=UNIT)
    assert result.moved_bytes >= 35 * PIECE_SIZE
    check(machine)


def test_remains_of_a_compaction_can_be_dropped(files: CrashFiles) -> None:
    machine = loose_machine(files)
    files.create(folder_of(machine) / (FULL + COMPACTING_SUFFIX)).close()
    assert drop_remains(files, folder_of(machine)) == (FULL + COMPACTING_SUFFIX,)
    check(machine)


def test_without_room_the_old_full_stays(files: CrashFiles) -> None:
    machine = loose_machine(files)
    files.quota = sum(len(files.content(path)) for path in files.paths()) + (4 << 20)
    with pytest.raises(RepositoryFull, match=r"may need \d+ bytes"):
        compact(files, folder_of(machine), None)
    files.quota = None
    check(machine)


def test_a_damaged_full_stays_as_it_is(files: CrashFiles) -> None:
    machine = loose_machine(files)
    path = folder_of(machine) / FULL
    with Chain.open(files, folder_of(machine)) as chain:
        place = next(run.place for run in chain.disk(3, "b").runs(0, 1))
        unit = chain.files[0].unit(place // 4)
    assert unit is not None
    data = bytearray(files.content(path))
    data[unit.offset + 200] ^= 1
    files.set_content(path, bytes(data))
    with pytest.raises(DataDamaged):
        compact(files, folder_of(machine), None)
    assert files.content(path) == bytes(data)


def test_a_chain_that_is_written_is_not_compacted(files: CrashFiles) -> None:
    machine = loose_machine(files)
    with (
        ChainRewriter.resume(files, folder_of(machine) / "00000004-increment.hfc"),
        pytest.raises(ChainBusy),
    ):
        compact(files, folder_of(machine), None)


def test_a_chain_without_a_full_has_nothing_to_compact(files: CrashFiles) -> None:
    machine = make_machine({"a": 2}, files)
    machine.sessions += 1
    opened = machine.begin()
    folder = machine.repository.chain_folder(opened.chain)
    with Chain.open(files, folder) as chain:
        assert looseness(chain) is None
    with pytest.raises(RequestInvalid, match="no complete full"):
        compact(files, folder, None)


def test_a_unit_that_is_known_to_be_damaged_is_not_shared_unread(files: CrashFiles) -> None:
    files.can_share = True
    machine = loose_machine(files)
    with Chain.open(files, folder_of(machine)) as chain:
        _, number = next(Needs(chain, 3).order())
    damage(machine, FULL, number)
    before = files.content(folder_of(machine) / FULL)
    with pytest.raises(DataDamaged, match=f"unit {number} of "):
        compact(files, folder_of(machine), None, commit_bytes=UNIT)
    assert files.content(folder_of(machine) / FULL) == before
