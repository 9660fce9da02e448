"""A merge that was stopped goes on where it was, and begins anew when one of its files is not what it was then."""

from collections.abc import Callable

import msgspec
import pytest

from holdfast.errors import DataDamaged
from holdfast.formats.contents import Moving
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.spans import Span
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chain_files.rewriter import ChainRewriter
from holdfast.storage.chains.chain import Chain
from holdfast.storage.health.chain_repair import ChainRepair, OtherChain
from holdfast.storage.health.folder import rebuild_file
from holdfast.storage.health.health_file import change_health, with_damage
from holdfast.storage.methods.merging import SHARED_SHARE
from holdfast.storage.methods.upkeep import ChainUpkeep
from holdfast.testing.chains import ProtectedMachine, point_differences
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.storage.conftest import make_machine
from tests.holdfast.storage.methods.test_merging import FULL, SECOND, THIRD, UNIT, check, folder_of, merge_all


class Stopped(Exception):
    """The merge is over for tonight."""


def stop_behind(moved_bytes: int) -> Callable[[int], None]:
    """Return what stops a merge when this much has moved."""

    def stop(moved: int) -> None:
        if moved > moved_bytes:
            raise Stopped

    return stop


def begin_to_merge(machine: ProtectedMachine, into: str, names: list[str], moved_bytes: int) -> None:
    """Merge files until this much has moved."""
    upkeep = ChainUpkeep(machine.repository.files, folder_of(machine), machine.store.passphrase)
    with pytest.raises(Stopped):
        upkeep.merge_all(into, names, stop_behind(moved_bytes), UNIT)


def damage(machine: ProtectedMachine, name: str, number: int) -> None:
    """Damage a unit and let it be known."""
    files, path = machine.repository.files, folder_of(machine) / name
    with ChainFile.open(files, path, machine.store.passphrase) as file:
        unit, file_id = file.unit(number), file.contents.file
    assert unit is not None
    handle = files.open(path, write=True)
    handle.write(unit.offset + 4096 + 200, [b"\xff" * 9])
    handle.close()
    change_health(files, path.parent, lambda health: with_damage(health, file_id, {number: "torn"}))


def damage_and_repair(machine: ProtectedMachine, files: CrashFiles, name: str, number: int) -> None:
    """Damage a unit, and repair it from a copy of the chain."""
    folder, passphrase = folder_of(machine), machine.store.passphrase
    with Chain.open(files.copy(), folder, passphrase) as copy:
        damage(machine, name, number)
        others = [OtherChain(chain=copy, is_copy=True)]
        report = ChainRepair(machine.repository, machine.repository.relative(folder), passphrase, others).run()
    assert report.is_good
    assert report.repaired_pieces > 0


@pytest.mark.parametrize("passphrase", [None, "secret"])
@pytest.mark.parametrize("name", [FULL, SECOND, THIRD])
def test_a_file_that_is_repaired_between_two_attempts_of_a_merge_is_merged_right(
    name: str, passphrase: str | None, files: CrashFiles
) -> None:
    machine = make_machine({"a": 40}, files, passphrase)
    machine.back_up()
    for first in (0, 20):
        machine.disks["a"].write(Span(first * PIECE_SIZE, 20 * PIECE_SIZE))
        machine.back_up()
    machine.disks["a"].write(Span(0, PIECE_SIZE))
    machine.back_up()
    begin_to_merge(machine, FULL, [SECOND, THIRD], 7 * UNIT)
    damage_and_repair(machine, files, name, 1)
    assert machine.differences() == []
    merge_all(machine, FULL, [SECOND, THIRD])
    check(machine)


def test_a_full_that_is_rebuilt_between_two_attempts_of_a_merge_is_merged_right(files: CrashFiles) -> None:
    machine = make_machine({"a": 40}, files)
    machine.back_up()
    for first in (0, 8):
        machine.disks["a"].write(Span(first * PIECE_SIZE, 32 * PIECE_SIZE))
        machine.back_up()
    merge_all(machine, FULL, [SECOND])  # so that units of the full were dropped
    begin_to_merge(machine, FULL, [THIRD], 3 * UNIT)
    rebuild_file(files, folder_of(machine), FULL, None)
    with ChainFile.open(files, folder_of(machine) / FULL) as full:
        assert full.contents.moving is msgspec.UNSET
    assert machine.differences() == []
    merge_all(machine, FULL, [THIRD])
    check(machine)


def test_what_an_older_version_moved_in_is_dropped_and_its_space_used_again(files: CrashFiles) -> None:
    machine = make_machine({"a": 40}, files)
    machine.back_up()
    machine.disks["a"].write(Span(0, 32 * PIECE_SIZE))
    machine.back_up()
    begin_to_merge(machine, FULL, [SECOND], 6 * UNIT)
    path = folder_of(machine) / FULL
    with ChainRewriter.resume(files, path) as writer:
        moving = writer.contents.moving
        assert isinstance(moving, Moving)
        moving = Moving(file=moving.file, first=moving.first)  # it did not say of what state its sources were
        writer.contents = msgspec.structs.replace(writer.contents, moving=moving)
        writer.commit_whole()
    before = len(files.content(path))
    assert merge_all(machine, FULL, [SECOND]).units == 8
    check(machine)
    assert len(files.content(path)) < before + 3 * UNIT


def test_an_interrupted_merge_wants_room_for_the_rest_only(files: CrashFiles) -> None:
    machine = make_machine({"a": 40}, files)
    machine.back_up()
    machine.disks["a"].write(Span(0, 32 * PIECE_SIZE))
    machine.back_up()
    files.quota = sum(len(files.content(path)) for path in files.paths()) + 32 * PIECE_SIZE + 6 * UNIT
    begin_to_merge(machine, FULL, [SECOND], 5 * UNIT)
    assert merge_all(machine, FULL, [SECOND]).units == 3
    check(machine)


@pytest.mark.parametrize("moved_before", [0, 3 * UNIT])
def test_a_unit_that_is_known_to_be_damaged_is_not_shared_unread(moved_before: int, files: CrashFiles) -> None:
    files.can_share = True
    machine = make_machine({"a": 40}, files)
    machine.back_up()
    machine.disks["a"].write(Span(0, 32 * PIECE_SIZE))
    machine.back_up()
    if moved_before:  # among it the unit that is found damaged later
        upkeep = ChainUpkeep(files, folder_of(machine), None)
        with pytest.raises(Stopped):
            upkeep.merge_all(FULL, [SECOND], stop_behind(moved_before), UNIT // SHARED_SHARE)
    damage(machine, SECOND, 1)
    for _ in range(2):
        with pytest.raises(DataDamaged, match=r"unit 1 of .*increment"):
            merge_all(machine, FULL, [SECOND])
    assert files.exists(folder_of(machine) / SECOND)
    assert list(point_differences(machine.repository, machine.kept[0], None)) == []


def test_what_was_damaged_after_it_moved_in_is_taken_again_from_the_file_that_has_it(files: CrashFiles) -> None:
    machine = make_machine({"a": 40}, files)
    machine.back_up()
    machine.disks["a"].write(Span(0, 32 * PIECE_SIZE))
    machine.back_up()
    begin_to_merge(machine, FULL, [SECOND], 3 * UNIT)
    with ChainFile.open(files, folder_of(machine) / FULL) as full:
        assert isinstance(full.contents.moving, Moving)
        first = full.contents.moving.first
    damage(machine, FULL, first + 1)
    merge_all(machine, FULL, [SECOND])
    check(machine)
