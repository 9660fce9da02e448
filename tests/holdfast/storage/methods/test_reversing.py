"""The full is the newest point, and every older one reads its bytes from rollback files."""

import random
from pathlib import Path

import pytest

from holdfast.errors import ChainBroken, RepositoryFull
from holdfast.faults import set_hook
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.compression import Compression
from holdfast.model.machine_files import MachineFile
from holdfast.model.spans import Span
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.chains.chain import Chain
from holdfast.storage.chains.metadata import METADATA_NAME, check_chain
from holdfast.storage.health.verifier import verify_chain
from holdfast.storage.methods.compacting import compact
from holdfast.storage.methods.merging import TABLES_LEAST
from holdfast.storage.methods.reversing import ReverseOptions, ReverseResult, make_newest_full
from holdfast.storage.methods.upkeep import ChainUpkeep
from holdfast.storage.points.point_files import put_files, read_files
from holdfast.testing.chains import KeptPoint, ProtectedMachine
from holdfast.testing.crashfs import CrashFiles
from holdfast.testing.disks import PatternedDisk
from tests.holdfast.storage.conftest import make_machine
from tests.holdfast.storage.methods.test_merging import folder_of
from tests.holdfast.storage.methods.test_merging_resumed import Stopped, stop_behind
from tests.holdfast.storage.methods.test_synthesis import make_full
from tests.holdfast.storage.methods.test_upkeep import NOW, Died, die_when_displaced

UNIT = 256 << 10
PLAIN = ReverseOptions(compression=Compression.NONE, commit_bytes=UNIT)


def reverse(machine: ProtectedMachine) -> ReverseResult:
    files, folder = machine.repository.files, folder_of(machine)
    return make_newest_full(files, folder, machine.store.passphrase, options=ReverseOptions(commit_bytes=UNIT))


def check(machine: ProtectedMachine) -> None:
    """Every point reads its bytes, every stored byte is good, and only the newest point is in a full."""
    passphrase = machine.store.passphrase
    assert machine.differences() == []
    with Chain.open(machine.repository.files, folder_of(machine), passphrase) as chain:
        check_chain(machine.repository.files, chain)
        numbers = [point.number for _, point in chain.points()]
        assert numbers == [kept.summary.number for kept in machine.kept]
        kinds = [file.contents.kind for file, _ in chain.points()]
        assert kinds == [*["rollback"] * (len(numbers) - 1), "full"]
        assert verify_chain(chain, lambda _: None).damages == ()
        assert all(file.complete_slots == 2 for file in chain.files)


@pytest.mark.parametrize("passphrase", [None, "secret"])
def test_the_newest_point_is_the_full_after_each_session(passphrase: str | None, files: CrashFiles) -> None:
    machine = make_machine({"a": 12, "b": 5}, files, passphrase)
    machine.back_up()
    assert reverse(machine) == ReverseResult()
    for turn in range(5):
        machine.disks["a"].write(Span(turn * PIECE_SIZE, 2 * PIECE_SIZE))
        machine.disks["b"].zero(Span(turn * PIECE_SIZE, PIECE_SIZE))
        machine.back_up()
        assert machine.differences() == []
        assert reverse(machine).points == 1
        check(machine)


def test_several_increments_become_the_full_one_by_one(files: CrashFiles) -> None:
    machine = make_machine({"a": 12}, files)
    for turn in range(4):
        machine.disks["a"].write(Span(turn * PIECE_SIZE, 2 * PIECE_SIZE))
        machine.back_up()
    assert reverse(machine).points == 3
    check(machine)


def test_a_rollback_file_holds_what_was_displaced_and_no_more(files: CrashFiles) -> None:
    machine = make_machine({"a": 32}, files)
    machine.back_up()
    for piece in (0, 8, 16, 24):
        machine.disks["a"].write(Span(piece * PIECE_SIZE, PIECE_SIZE))
    machine.back_up()
    result = make_newest_full(files, folder_of(machine), None, options=PLAIN)
    assert 4 * PIECE_SIZE <= result.displaced_bytes <= 4 * PIECE_SIZE + 4096
    with Chain.open(files, folder_of(machine)) as chain:
        runs = [run for run in chain.disk(1, "a").runs(0, 32) if run.file is chain.point(1)[0]]
    assert [(run.piece, run.count) for run in runs] == [(0, 1), (8, 1), (16, 1), (24, 1)]


def test_disks_come_go_shrink_and_grow(files: CrashFiles) -> None:
    machine = make_machine({"a": 9, "gone": 3}, files)
    machine.back_up()
    del machine.disks["gone"]
    machine.disks["new"] = PatternedDisk(77, 3 * PIECE_SIZE)
    machine.disks["new"].write(Span(0, 3 * PIECE_SIZE))
    machine.disks["a"].resize(4 * PIECE_SIZE)
    machine.back_up()
    reverse(machine)
    check(machine)
    machine.disks["a"].resize(12 * PIECE_SIZE)
    machine.disks["a"].write(Span(10 * PIECE_SIZE, PIECE_SIZE))
    machine.disks["gone"] = PatternedDisk(78, 2 * PIECE_SIZE)
    machine.back_up()
    reverse(machine)
    check(machine)


def test_any_history_reads_as_before(seed: int) -> None:
    rng = random.Random(seed)
    machine = make_machine({"a": 20, "b": 6}, CrashFiles([folder_root()]), seed=seed % 1000)
    machine.back_up()
    for _ in range(8):
        for disk in machine.disks.values():
            for _ in range(rng.randrange(4)):
                piece = rng.randrange(disk.size_bytes // PIECE_SIZE)
                span = Span(
                    piece * PIECE_SIZE, min(rng.randrange(1, 4) * PIECE_SIZE, disk.size_bytes - piece * PIECE_SIZE)
                )
                rng.choice([disk.write, disk.write, disk.zero])(span)
        machine.back_up()
        if rng.random() < 0.7:
            reverse(machine)
        if rng.random() < 0.2:
            compact(machine.repository.files, folder_of(machine), None)
        assert machine.differences() == []
    reverse(machine)
    check(machine)


def folder_root() -> Path:
    return Path("/")


def test_the_oldest_points_go_one_by_one(files: CrashFiles) -> None:
    machine = make_machine({"a": 12}, files)
    for turn in range(4):
        machine.disks["a"].write(Span(turn * PIECE_SIZE, 2 * PIECE_SIZE))
        machine.back_up()
        reverse(machine)
    upkeep = ChainUpkeep(files, folder_of(machine), None)
    with pytest.raises(ChainBroken, match="needs 00000002-rollback"):
        upkeep.remove(["00000002-rollback.hfc"], NOW)
    with pytest.raises(ChainBroken, match="needs 00000001-full"):
        upkeep.remove(["00000001-full.hfc"], NOW)
    for number in (1, 2):
        upkeep.remove([f"{number:08d}-rollback.hfc"], NOW)
        del machine.kept[0]
        check(machine)
    assert upkeep.take_back() == ("00000001-rollback.hfc", "00000002-rollback.hfc")


def test_a_rollback_without_the_point_behind_it_is_not_read(files: CrashFiles) -> None:
    machine = make_machine({"a": 12}, files)
    for turn in range(3):
        machine.disks["a"].write(Span(turn * PIECE_SIZE, 2 * PIECE_SIZE))
        machine.back_up()
    reverse(machine)
    files.remove(folder_of(machine) / "00000002-rollback.hfc")
    with Chain.open(files, folder_of(machine)) as chain:
        with pytest.raises(ChainBroken, match="rests on point 2, which is missing"):
            chain.disk(1, "a")
        files.remove(folder_of(machine) / METADATA_NAME)
        with pytest.raises(ChainBroken, match="rests on point 2, which is missing"):
            check_chain(files, chain)


def test_a_rollback_of_an_increment_that_is_gone_is_made_anew(files: CrashFiles) -> None:
    machine = make_machine({"a": 12}, files)
    machine.back_up()
    machine.disks["a"].write(Span(0, PIECE_SIZE))
    machine.back_up()
    folder = folder_of(machine)
    before = files.copy()
    reverse(machine)
    stale = files.content(folder / "00000001-rollback.hfc")
    other = before.copy()
    ChainUpkeep(other, folder, None).remove(["00000002-increment.hfc"], NOW)
    other.set_content(folder / "00000001-rollback.hfc", stale)
    machine.repository.files = other
    machine.rewind(1)
    machine.disks["a"].write(Span(5 * PIECE_SIZE, PIECE_SIZE))
    machine.back_up()
    assert machine.differences() == []
    assert reverse(machine).displaced_bytes > 0
    check(machine)


def test_what_was_cut_off_goes_on_behind_its_last_commit(files: CrashFiles) -> None:
    machine = make_machine({"a": 40}, files)
    machine.back_up()
    machine.disks["a"].write(Span(0, 32 * PIECE_SIZE))
    machine.back_up()

    class Enough(Exception):
        pass

    def stop(moved: int) -> None:
        if moved > 3 * UNIT:
            raise Enough

    with pytest.raises(Enough):
        make_newest_full(files, folder_of(machine), None, stop, PLAIN)
    assert machine.differences() == []
    result = make_newest_full(files, folder_of(machine), None, options=PLAIN)
    assert result.displaced_bytes < 30 * PIECE_SIZE
    check(machine)


def test_what_is_displaced_has_room_before_any_of_it_is_written(files: CrashFiles) -> None:
    machine = make_machine({"a": 40}, files)
    machine.back_up()
    machine.disks["a"].write(Span(0, 32 * PIECE_SIZE))
    machine.back_up()
    before = used_bytes(files)
    files.quota = before + TABLES_LEAST + 16 * PIECE_SIZE
    with pytest.raises(RepositoryFull, match=r"00000001-rollback.hfc may need \d+ bytes"):
        make_newest_full(files, folder_of(machine), None, options=PLAIN)
    assert used_bytes(files) < before + UNIT
    assert machine.differences() == []
    files.quota = None
    reverse(machine)
    check(machine)


def test_what_was_cut_off_wants_room_for_the_rest_only(files: CrashFiles) -> None:
    machine = make_machine({"a": 40}, files)
    machine.back_up()
    machine.disks["a"].write(Span(0, 32 * PIECE_SIZE))
    machine.back_up()
    files.quota = used_bytes(files) + TABLES_LEAST + 32 * PIECE_SIZE + UNIT
    with pytest.raises(Stopped):
        make_newest_full(files, folder_of(machine), None, stop_behind(5 * UNIT), PLAIN)
    set_hook(die_when_displaced)
    try:
        with pytest.raises(Died):
            make_newest_full(files, folder_of(machine), None, options=PLAIN)
    finally:
        set_hook(None)
    files.quota = None
    reverse(machine)
    check(machine)


def used_bytes(files: CrashFiles) -> int:
    return sum(len(files.content(path)) for path in files.paths())


def test_files_of_the_machine_go_with_their_point(files: CrashFiles) -> None:
    machine = make_machine({"a": 3}, files)
    kept = MachineFile(name="machine.vmx", content=b"x = 1")
    for _ in range(2):
        machine.sessions += 1
        opened = machine.begin()
        with ChainWriter.resume(files, machine.repository.chain_file(opened.chain, opened.file)) as writer:
            put_files(writer, opened.number, [kept])
        machine.transfer_all(opened)
        machine.finish(opened)
    reverse(machine)
    with Chain.open(files, folder_of(machine)) as chain:
        assert [read_files(chain, number).files for number in (1, 2)] == [(kept,), (kept,)]
    check(machine)


def test_a_full_of_its_own_can_be_made_of_a_chain_of_rollbacks(files: CrashFiles) -> None:
    machine = make_machine({"a": 12}, files)
    for turn in range(3):
        machine.disks["a"].write(Span(turn * PIECE_SIZE, 2 * PIECE_SIZE))
        machine.back_up()
        reverse(machine)
    machine.disks["a"].write(Span(9 * PIECE_SIZE, PIECE_SIZE))
    machine.back_up()
    make_full(machine)
    assert machine.kept[-1].summary.kind == "full"
    assert machine.differences() == []
    assert isinstance(machine.kept[-1], KeptPoint)


def test_a_chain_without_a_full_is_refused(files: CrashFiles) -> None:
    machine = make_machine({"a": 3}, files)
    machine.back_up()
    machine.back_up()
    folder = folder_of(machine)
    files.remove(folder / METADATA_NAME)
    files.remove(folder / "00000001-full.hfc")
    with pytest.raises(ChainBroken):
        make_newest_full(files, folder, None)
