"""A merge moves what a file holds into the file before it, and every point that stays reads as before."""

import random
from pathlib import Path

import pytest

from holdfast.errors import ChainBroken, DataDamaged
from holdfast.formats.contents import Moving
from holdfast.formats.magic import PIECE_SIZE, FileState
from holdfast.model.machine_files import MachineFile
from holdfast.model.spans import Span
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.chain_files.rewriter import ChainRewriter
from holdfast.storage.chains.chain import Chain
from holdfast.storage.health.verifier import verify_chain
from holdfast.storage.methods.merging import Merger, MergeResult
from holdfast.storage.methods.upkeep import ChainUpkeep
from holdfast.storage.points.point_files import put_files, read_files
from holdfast.testing.chains import ProtectedMachine, point_differences
from holdfast.testing.crashfs import CrashFiles
from holdfast.testing.disks import PatternedDisk
from tests.holdfast.storage.conftest import make_machine
from tests.holdfast.storage.counting import MIB, CountedFiles, host_machine

UNIT = 256 << 10
FULL, SECOND, THIRD = "00000001-full.hfc", "00000002-increment.hfc", "00000003-increment.hfc"


def folder_of(machine: ProtectedMachine) -> Path:
    return machine.repository.chain_folder(machine.kept[-1].summary.chain)


def merge(machine: ProtectedMachine, into: int, number: int, *, commit_bytes: int = UNIT) -> MergeResult:
    """Merge the file of one point into that of another."""
    files, folder = machine.repository.files, folder_of(machine)
    with Chain.open(files, folder, machine.store.passphrase) as chain:
        names = {file.contents.holds[1]: file.path.name for file in chain.files}
    upkeep = ChainUpkeep(files, folder, machine.store.passphrase)
    result = upkeep.merge(names[into], names[number], commit_bytes=commit_bytes)
    machine.kept[:] = [kept for kept in machine.kept if kept.summary.number != into]
    return result


def check(machine: ProtectedMachine) -> None:
    """Every point that is left reads its bytes, and every stored byte is good."""
    repository = machine.repository
    with Chain.open(repository.files, folder_of(machine), machine.store.passphrase) as chain:
        assert [point.number for _, point in chain.points()] == [kept.summary.number for kept in machine.kept]
        assert {point.root for _, point in chain.points()} == {kept.summary.root for kept in machine.kept}
        assert verify_chain(chain, lambda _: None).damages == ()
        assert all(file.complete_slots == 2 for file in chain.files)
    for kept in machine.kept:
        assert list(point_differences(repository, kept, machine.store.passphrase)) == []


@pytest.mark.parametrize("passphrase", [None, "secret"])
def test_points_that_stay_read_as_before(passphrase: str | None, files: CrashFiles) -> None:
    machine = make_machine({"a": 9, "b": 5}, files, passphrase)
    machine.back_up()
    for turn in range(4):
        machine.disks["a"].write(Span((turn + 1) * PIECE_SIZE, PIECE_SIZE))
        machine.disks["b"].zero(Span(turn * PIECE_SIZE, PIECE_SIZE))
        machine.back_up()
    for number in range(2, 6):
        result = merge(machine, number - 1, number)
        assert result.units == 1
        check(machine)
    assert len(machine.kept) == 1


def test_units_that_no_point_needs_are_forgotten_and_their_space_is_used_again(files: CrashFiles) -> None:
    machine = make_machine({"a": 64}, files)
    machine.back_up()
    sizes = []
    for turn in range(6):
        machine.disks["a"].write(Span(0, 16 * PIECE_SIZE))
        machine.back_up()
        result = merge(machine, turn + 1, turn + 2)
        assert (result.units, result.freed_bytes > 16 * PIECE_SIZE) == (4, True)
        check(machine)
        sizes.append(machine.repository.files.open(folder_of(machine) / "00000001-full.hfc").size())
    assert sizes[-1] == sizes[2], sizes


def test_an_increment_takes_the_next_one_in(files: CrashFiles) -> None:
    machine = make_machine({"a": 9}, files)
    for turn in range(4):
        machine.disks["a"].write(Span(turn * PIECE_SIZE, 2 * PIECE_SIZE))
        machine.back_up()
    merge(machine, 2, 3)
    check(machine)
    merge(machine, 1, 3)
    check(machine)
    merge(machine, 3, 4)
    check(machine)


def merge_all(machine: ProtectedMachine, into: str, names: list[str]) -> MergeResult:
    """Merge several files in one pass."""
    files, folder = machine.repository.files, folder_of(machine)
    upkeep = ChainUpkeep(files, folder, machine.store.passphrase)
    result = upkeep.merge_all(into, names, commit_bytes=UNIT)
    last = int(names[-1][:8])
    first = int(into[:8])
    machine.kept[:] = [kept for kept in machine.kept if not first <= kept.summary.number < last]
    return result


@pytest.mark.parametrize("passphrase", [None, "secret"])
def test_several_increments_move_in_one_pass_and_only_what_the_last_needs(
    passphrase: str | None, files: CrashFiles
) -> None:
    machine = make_machine({"a": 40, "b": 5}, files, passphrase)
    machine.back_up()
    for turn in range(4):
        machine.disks["a"].write(Span(0, 16 * PIECE_SIZE))
        machine.disks["a"].write(Span((20 + turn) * PIECE_SIZE, PIECE_SIZE))
        machine.disks["b"].zero(Span(turn * PIECE_SIZE, PIECE_SIZE))
        machine.back_up()
    names = [f"{number:08d}-increment.hfc" for number in range(2, 5)]
    result = merge_all(machine, "00000001-full.hfc", names)
    assert result.units == 4 + 3  # the first four units of the others were written over
    check(machine)
    with Chain.open(files, folder_of(machine), passphrase) as chain:
        assert [file.contents.holds for file in chain.files] == [(1, 4), (5, 5)]
    assert merge_all(machine, "00000001-full.hfc", names) == MergeResult()


def test_files_that_were_merged_and_not_removed_yet_are_passed_over(files: CrashFiles) -> None:
    machine = make_machine({"a": 12}, files)
    for turn in range(4):
        machine.disks["a"].write(Span(turn * PIECE_SIZE, PIECE_SIZE))
        machine.back_up()
    folder, names = folder_of(machine), ["00000002-increment.hfc", "00000003-increment.hfc"]
    contents = {name: files.content(folder / name) for name in names}
    merge_all(machine, "00000001-full.hfc", names)
    for name, content in contents.items():
        files.set_content(folder / name, content)
        check(machine)
    merge_all(machine, "00000001-full.hfc", names)
    assert not any(files.exists(folder / name) for name in names)
    check(machine)


def test_files_that_were_merged_before_go_with_those_that_are_merged_now(files: CrashFiles) -> None:
    machine = make_machine({"a": 12}, files)
    for turn in range(4):
        machine.disks["a"].write(Span(turn * PIECE_SIZE, PIECE_SIZE))
        machine.back_up()
    path = folder_of(machine) / SECOND
    content = files.content(path)
    merge_all(machine, FULL, [SECOND])
    files.set_content(path, content)
    assert merge_all(machine, FULL, [SECOND, THIRD]).units > 0
    check(machine)
    files.set_content(path, content)  # of several it is the one that does not have the point of the full
    assert merge_all(machine, FULL, [SECOND]) == MergeResult()
    assert not files.exists(path)
    check(machine)


def test_one_that_is_missing_between_stops_a_merge(files: CrashFiles) -> None:
    machine = make_machine({"a": 12}, files)
    for turn in range(4):
        machine.disks["a"].write(Span(turn * PIECE_SIZE, PIECE_SIZE))
        machine.back_up()
    with pytest.raises(ChainBroken, match="does not continue"):
        merge_all(machine, "00000001-full.hfc", ["00000002-increment.hfc", "00000004-increment.hfc"])


def test_a_merge_reads_and_writes_little_more_than_what_has_to_move(tmp_path: Path) -> None:
    machine = host_machine(tmp_path / "repository", 96, [32, 32, 4])
    counted = CountedFiles()
    moved = ChainUpkeep(counted, folder_of(machine), None).merge_all(
        "00000001-full.hfc", ["00000002-increment.hfc", "00000003-increment.hfc"]
    )
    assert 40 * MIB < moved.moved_bytes < 56 * MIB
    assert counted.written_bytes <= 1.1 * (moved.moved_bytes - moved.shared_bytes) + 2 * MIB * (moved.shared_bytes > 0)
    assert counted.read_bytes <= 1.1 * moved.moved_bytes
    machine.kept[:] = machine.kept[2:]
    check(machine)


def test_disks_come_go_shrink_and_grow(files: CrashFiles) -> None:
    machine = make_machine({"a": 9, "gone": 3}, files)
    machine.back_up()
    del machine.disks["gone"]
    machine.disks["new"] = PatternedDisk(77, 3 * PIECE_SIZE)
    machine.disks["new"].write(Span(0, 3 * PIECE_SIZE))
    machine.disks["a"].resize(4 * PIECE_SIZE)
    machine.back_up()
    machine.disks["a"].resize(12 * PIECE_SIZE)
    machine.disks["a"].write(Span(10 * PIECE_SIZE, PIECE_SIZE))
    machine.back_up()
    merge(machine, 1, 2)
    check(machine)
    merge(machine, 2, 3)
    check(machine)


def test_a_disk_that_lost_everything_holds_nothing(files: CrashFiles) -> None:
    machine = make_machine({"a": 9}, files)
    machine.back_up()
    machine.disks["a"].zero(Span(0, 9 * PIECE_SIZE))
    machine.back_up()
    assert merge(machine, 1, 2).freed_bytes > 9 * PIECE_SIZE
    check(machine)


def test_an_interrupted_merge_goes_on_behind_its_last_commit(files: CrashFiles) -> None:
    machine = make_machine({"a": 40}, files)
    machine.back_up()
    machine.disks["a"].write(Span(0, 32 * PIECE_SIZE))
    machine.back_up()
    full, increment = (folder_of(machine) / name for name in ("00000001-full.hfc", "00000002-increment.hfc"))

    class Enough(Exception):
        pass

    def stop(moved: int) -> None:
        if moved > 3 * UNIT:
            raise Enough

    with ChainFile.open(files, increment) as source, ChainRewriter.resume(files, full) as writer:
        with pytest.raises(Enough):
            Merger(writer, [source], UNIT).run(stop)
        before = writer.next_unit
    with Chain.open(files, full.parent) as chain:
        moving = chain.files[0].contents.moving
        assert isinstance(moving, Moving)
        assert moving.file == chain.files[1].contents.file
        assert (chain.files[0].superblock.state, verify_chain(chain, lambda _: None).damages) == (
            FileState.COMPLETE,
            (),
        )
    assert list(point_differences(machine.repository, machine.kept[0], None)) == []
    result = merge(machine, 1, 2)
    assert result.units == 8 - (before - moving.first) > 0
    check(machine)


def test_a_merge_that_is_done_is_not_done_again(files: CrashFiles) -> None:
    machine = make_machine({"a": 9}, files)
    machine.back_up()
    machine.disks["a"].write(Span(0, PIECE_SIZE))
    machine.back_up()
    full, increment = (folder_of(machine) / name for name in ("00000001-full.hfc", "00000002-increment.hfc"))
    with ChainFile.open(files, increment) as source, ChainRewriter.resume(files, full) as writer:
        Merger(writer, [source]).run()
    with ChainFile.open(files, increment) as source, ChainRewriter.resume(files, full) as writer:
        assert Merger(writer, [source]).is_done
        assert Merger(writer, [source]).run() == MergeResult()


def test_files_that_do_not_follow_each_other_are_not_merged(files: CrashFiles) -> None:
    machine = make_machine({"a": 9}, files)
    for turn in range(3):
        machine.disks["a"].write(Span(turn * PIECE_SIZE, PIECE_SIZE))
        machine.back_up()
    with pytest.raises(ChainBroken, match="does not continue"):
        merge(machine, 1, 3)
    check(machine)


def test_a_damaged_unit_ends_the_merge_and_nothing_else(files: CrashFiles) -> None:
    machine = make_machine({"a": 9}, files)
    machine.back_up()
    machine.disks["a"].write(Span(0, PIECE_SIZE))
    machine.back_up()
    increment = folder_of(machine) / "00000002-increment.hfc"
    with ChainFile.open(files, increment) as source:
        unit = source.unit(0)
    assert unit is not None
    handle = files.open(increment, write=True)
    handle.write(unit.offset + 200, [b"\xff" * 9])
    handle.close()
    with pytest.raises(DataDamaged, match=r"unit 0 of .*increment"):
        merge(machine, 1, 2)
    assert list(point_differences(machine.repository, machine.kept[0], None)) == []


def test_machine_files_move_with_their_point(files: CrashFiles) -> None:
    machine = make_machine({"a": 3}, files)
    machine.back_up()
    machine.sessions += 1
    opened = machine.begin()
    machine.transfer(opened, "a")
    kept = MachineFile(name="web.nvram", content=b"kept")
    with ChainWriter.resume(files, folder_of(machine) / opened.file) as writer:
        put_files(writer, opened.number, [kept])
    machine.finish(opened)
    merge(machine, 1, 2)
    check(machine)
    with Chain.open(files, folder_of(machine)) as chain:
        assert read_files(chain, 2).files == (kept,)


def test_any_history_merged_in_any_order_reads_as_before(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(6):
        files = CrashFiles([Path("/")])
        pieces = rng.randrange(1, 80)
        machine = make_machine({"a": pieces, "b": 3}, files, rng.choice([None, "secret"]))
        for _ in range(rng.randrange(2, 7)):
            for _ in range(rng.randrange(4)):
                start = rng.randrange(pieces)
                span = Span(start * PIECE_SIZE, rng.randrange(1, pieces - start + 1) * PIECE_SIZE)
                rng.choice([machine.disks["a"].write, machine.disks["a"].zero])(span)
            machine.back_up()
        while len(machine.kept) > 1:
            at = rng.randrange(1, len(machine.kept))
            merge(machine, machine.kept[at - 1].summary.number, machine.kept[at].summary.number)
            check(machine)
            if rng.randrange(2):
                with ChainRewriter.resume(files, _first(machine), machine.store.passphrase) as writer:
                    writer.reclaim()
                check(machine)


def _first(machine: ProtectedMachine) -> Path:
    with Chain.open(machine.repository.files, folder_of(machine), machine.store.passphrase) as chain:
        return chain.files[0].path
