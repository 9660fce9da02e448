"""A synthetic full is the newest point, moved with all it needs to a chain of its own."""

from datetime import timedelta
from pathlib import Path

import pytest

from holdfast.errors import ChainBusy, RepositoryFull, RequestInvalid
from holdfast.faults import set_hook
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.machine_files import MachineFile
from holdfast.model.retention import PointNote
from holdfast.model.spans import Span
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.chains.chain import Chain
from holdfast.storage.chains.keeping import change_notes, read_notes
from holdfast.storage.chains.metadata import METADATA_NAME
from holdfast.storage.health.verifier import verify_chain
from holdfast.storage.methods.gathering import GatherResult
from holdfast.storage.methods.synthesis import synthesize
from holdfast.storage.points.point_files import put_files, read_files
from holdfast.storage.retention.graveyard import lock_points
from holdfast.testing.chains import KeptPoint, ProtectedMachine, point_differences
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.storage.conftest import make_machine
from tests.holdfast.storage.methods.test_upkeep import NOW

UNIT = 256 << 10


def protected(files: CrashFiles, passphrase: str | None = None, points: int = 4) -> ProtectedMachine:
    machine = make_machine({"a": 20, "b": 5}, files, passphrase)
    machine.back_up()
    for turn in range(points - 1):
        machine.disks["a"].write(Span(turn * PIECE_SIZE, 4 * PIECE_SIZE))
        machine.disks["b"].zero(Span(turn * PIECE_SIZE, PIECE_SIZE))
        machine.back_up()
    return machine


def chain_of(machine: ProtectedMachine) -> str:
    return machine.kept[-1].summary.chain


def make_full(machine: ProtectedMachine, name: str | None = None) -> GatherResult:
    """Make the newest point a full, and remember where it is now."""
    kept = machine.kept[-1]
    summary, result = synthesize(
        machine.repository, name or kept.summary.chain, machine.store.passphrase, commit_bytes=UNIT
    )
    machine.kept[-1] = KeptPoint(summary, kept.disks)
    return result


def check(machine: ProtectedMachine) -> None:
    """Every point reads its bytes, stands once, and every stored byte is good."""
    passphrase = machine.store.passphrase
    assert machine.differences() == []
    listed = [found.point.id for found in machine.repository.points(passphrase)]
    assert sorted(listed) == sorted(kept.summary.point_id for kept in machine.kept)
    for name in {kept.summary.chain for kept in machine.kept}:
        with machine.repository.open_chain(name, passphrase) as chain:
            assert verify_chain(chain, lambda _: None).damages == ()
            assert all(file.complete_slots == 2 for file in chain.files)


@pytest.mark.parametrize("passphrase", [None, "secret"])
def test_the_newest_point_becomes_a_full_of_its_own(passphrase: str | None, files: CrashFiles) -> None:
    machine = protected(files, passphrase)
    before = machine.kept[-1].summary
    result = make_full(machine)
    now = machine.kept[-1].summary
    assert (now.kind, now.number, now.point_id, now.root) == ("full", 4, before.point_id, before.root)
    assert (now.file, now.chain != before.chain) == ("00000004-full.hfc", True)
    assert result.moved_bytes > 20 * PIECE_SIZE
    check(machine)
    machine.disks["a"].write(Span(0, 2 * PIECE_SIZE))
    following = machine.back_up()
    assert (following.chain, following.kind, following.number) == (now.chain, "increment", 5)
    check(machine)


def test_the_new_chain_needs_nothing_of_the_old_one(files: CrashFiles) -> None:
    machine = protected(files)
    old = machine.repository.chain_folder(chain_of(machine))
    make_full(machine)
    files.drop(old)
    del machine.kept[:-1]
    check(machine)


def test_a_point_that_is_a_full_already_stays_as_it_is(files: CrashFiles) -> None:
    machine = protected(files)
    make_full(machine)
    before = machine.kept[-1].summary
    assert make_full(machine) == GatherResult()
    assert machine.kept[-1].summary == before


def test_asked_again_behind_its_end_it_tells_the_same(files: CrashFiles) -> None:
    machine = protected(files)
    old = chain_of(machine)
    make_full(machine)
    before = machine.kept[-1].summary
    assert make_full(machine, old) == GatherResult()
    assert machine.kept[-1].summary == before


def test_a_chain_before_the_newest_gets_no_full(files: CrashFiles) -> None:
    machine = protected(files)
    old = machine.repository.chain_folder(chain_of(machine))
    make_full(machine)
    machine.back_up()
    files.remove(old / "00000003-increment.hfc")
    files.remove(old / METADATA_NAME)
    with pytest.raises(RequestInvalid, match="not the newest"):
        synthesize(machine.repository, machine.repository.relative(old), None)


def test_one_that_was_cut_off_goes_on_behind_its_last_commit(files: CrashFiles) -> None:
    machine = protected(files)

    class Enough(Exception):
        pass

    def stop(moved: int) -> None:
        if moved > 3 * UNIT:
            raise Enough

    with pytest.raises(Enough):
        synthesize(machine.repository, chain_of(machine), None, stop, UNIT)
    assert [found.point.number for found in machine.repository.points()] == [1, 2, 3, 4]
    whole = make_full(protected(CrashFiles([Path("/")])))
    assert make_full(machine).units == whole.units - 3
    check(machine)


def test_what_was_cut_off_is_dropped_by_the_next_point_and_made_anew_from_it(files: CrashFiles) -> None:
    machine = protected(files)

    class Enough(Exception):
        pass

    def stop(moved: int) -> None:
        raise Enough(moved)

    with pytest.raises(Enough):
        synthesize(machine.repository, chain_of(machine), None, stop, UNIT)
    machine.disks["a"].write(Span(0, PIECE_SIZE))
    assert machine.back_up().chain == machine.kept[0].summary.chain
    check(machine)
    make_full(machine)
    assert machine.kept[-1].summary.file == "00000005-full.hfc"
    check(machine)


def test_while_a_point_is_written_there_is_none(files: CrashFiles) -> None:
    machine = protected(files)
    name = chain_of(machine)
    machine.sessions += 1
    opened = machine.begin()
    with pytest.raises(ChainBusy, match="not finished"):
        synthesize(machine.repository, name, None)
    with (
        ChainWriter.resume(files, machine.repository.chain_file(name, opened.file)),
        pytest.raises(ChainBusy),
    ):
        synthesize(machine.repository, name, None)


def test_without_room_everything_stays(files: CrashFiles) -> None:
    machine = protected(files)
    files.quota = sum(len(files.content(path)) for path in files.paths()) + (4 << 20)
    with pytest.raises(RepositoryFull, match=r"may need \d+ bytes"):
        make_full(machine)
    files.quota = None
    check(machine)
    make_full(machine)
    check(machine)


def test_files_of_the_machine_go_with_it(files: CrashFiles) -> None:
    machine = protected(files)
    kept = MachineFile(name="machine.vmx", content=b"x = 1")
    machine.sessions += 1
    opened = machine.begin()
    folder = machine.repository.chain_folder(opened.chain)
    with ChainWriter.resume(files, folder / opened.file) as writer:
        put_files(writer, opened.number, [kept])
    machine.transfer_all(opened)
    machine.finish(opened)
    make_full(machine)
    summary = machine.kept[-1].summary
    with machine.repository.open_chain(summary.chain, None) as chain:
        assert read_files(chain, summary.number).files == (kept,)
    check(machine)


@pytest.mark.parametrize("passphrase", [None, "secret"])
def test_what_is_noted_of_the_point_goes_with_it(passphrase: str | None, files: CrashFiles) -> None:
    machine = protected(files, passphrase)
    old = machine.repository.chain_folder(chain_of(machine))
    notes = [PointNote(point_id=kept.summary.point_id, day=NOW.date(), locked_until=NOW) for kept in machine.kept]
    with Chain.open(files, old, passphrase) as chain:
        keys = chain.files[0].keys
    change_notes(files, old, keys, lambda _: notes)
    make_full(machine)
    assert read_notes(files, machine.repository.chain_folder(chain_of(machine)), keys).points == (notes[-1],)
    check(machine)


def test_two_copies_of_a_moving_point_are_one(files: CrashFiles) -> None:
    machine = protected(files)
    folder = machine.repository.chain_folder(chain_of(machine))
    helper = files.content(folder / "00000004-increment.hfc")
    make_full(machine)
    files.set_content(folder / "00000004-increment.hfc", helper)
    summary = machine.kept[-1].summary
    assert machine.repository.find_point(summary.point_id).chain == summary.chain
    assert machine.repository.find_point("latest").chain == summary.chain
    assert make_full(machine, machine.kept[0].summary.chain).units == 0
    check(machine)


def test_it_is_a_full_that_holds_what_all_points_before_it_wrote(files: CrashFiles) -> None:
    machine = protected(files)
    make_full(machine)
    with machine.repository.open_chain(machine.kept[-1].summary.chain, None) as chain:
        assert [file.contents.holds for file in chain.files] == [(1, 4)]
        assert chain.files[0].contents.parent is None
    assert list(point_differences(machine.repository, machine.kept[-1], None)) == []


class Died(BaseException):
    pass


def die_when_complete(place: str) -> None:
    if place == "synthesis.complete":
        raise Died


def make_full_and_die(machine: ProtectedMachine, name: str) -> None:
    """Make the newest point a full; the process dies before the point leaves the old chain."""
    set_hook(die_when_complete)
    try:
        with pytest.raises(Died):
            synthesize(machine.repository, name, None)
    finally:
        set_hook(None)


def test_one_that_died_before_its_point_left_the_old_chain_ends_also_when_the_new_one_went_on(
    files: CrashFiles,
) -> None:
    machine = protected(files)
    old = chain_of(machine)

    make_full_and_die(machine, old)
    machine.disks["a"].write(Span(9 * PIECE_SIZE, PIECE_SIZE))
    assert machine.back_up().chain != old
    for _ in range(2):
        moved, result = synthesize(machine.repository, old, None)
        assert (moved.point_id, moved.kind, result.units) == (machine.kept[3].summary.point_id, "full", 0)
        machine.kept[3] = KeptPoint(moved, machine.kept[3].disks)
        check(machine)
    with machine.repository.open_chain(old, None) as chain:
        assert [point.number for _, point in chain.points()] == [1, 2, 3]


def test_one_that_ends_late_leaves_what_is_noted_of_newer_points(files: CrashFiles) -> None:
    machine = protected(files)
    old, moving = chain_of(machine), machine.kept[-1].summary
    lock_points(machine.repository, old, [moving.point_id], None, NOW + timedelta(days=1))
    make_full_and_die(machine, old)
    machine.disks["a"].write(Span(9 * PIECE_SIZE, PIECE_SIZE))
    newer = machine.back_up()
    for point, days in ((newer.point_id, 9), (moving.point_id, 2)):
        lock_points(machine.repository, newer.chain, [point], None, NOW + timedelta(days=days))
    synthesize(machine.repository, old, None)
    with machine.repository.open_chain(newer.chain, None) as chain:
        notes = read_notes(files, chain.folder, chain.files[0].keys).points
    locks = {note.point_id: note.locked_until for note in notes}
    assert locks == {moving.point_id: NOW + timedelta(days=2), newer.point_id: NOW + timedelta(days=9)}
