"""Upkeep of a chain: what is removed can be taken back, what is needed stays, and nobody takes it for damage."""

import random
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from holdfast.clock import SystemClock
from holdfast.errors import ChainBroken, ChainBusy, PointNotFound, RepositoryFull
from holdfast.faults import set_hook
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.spans import Span
from holdfast.pipeline.restore import DiskRestore
from holdfast.storage.chains.chain import Chain, chain_file_names
from holdfast.storage.chains.metadata import check_chain
from holdfast.storage.files.chain_lock import acquire_chain_lock
from holdfast.storage.methods.reversing import make_newest_full
from holdfast.storage.methods.upkeep import ChainUpkeep, RemovedFile
from holdfast.testing.chains import ProtectedMachine
from holdfast.testing.crashfs import CrashFiles
from holdfast.testing.memory import MemoryDisk
from tests.holdfast.storage.conftest import make_machine

NOW = datetime(2026, 11, 21, 15, tzinfo=UTC)
FULL, SECOND, THIRD = "00000001-full.hfc", "00000002-increment.hfc", "00000003-increment.hfc"


@pytest.fixture
def machine(files: CrashFiles) -> ProtectedMachine:
    """A machine with a full and two increments."""
    machine = make_machine({"a": 9}, files)
    for turn in range(3):
        machine.disks["a"].write(Span(turn * PIECE_SIZE, PIECE_SIZE))
        machine.back_up()
    return machine


def folder_of(machine: ProtectedMachine) -> Path:
    return machine.repository.chain_folder(machine.kept[0].summary.chain)


def upkeep_of(machine: ProtectedMachine) -> ChainUpkeep:
    return ChainUpkeep(machine.repository.files, folder_of(machine), None)


def names(machine: ProtectedMachine) -> list[str]:
    return chain_file_names(machine.repository.files, folder_of(machine))


def check(machine: ProtectedMachine) -> None:
    files = machine.repository.files
    with Chain.open(files, folder_of(machine)) as chain:
        check_chain(files, chain)


def test_what_was_removed_can_be_taken_back(machine: ProtectedMachine) -> None:
    upkeep = upkeep_of(machine)
    upkeep.remove([THIRD, SECOND], NOW)
    assert names(machine) == [FULL]
    check(machine)
    assert upkeep.removed() == [
        RemovedFile(name=name, kept_as=f"{name}.removed-20261121T150000Z", removed=NOW) for name in (SECOND, THIRD)
    ]
    assert upkeep.take_back() == (SECOND, THIRD)
    check(machine)
    assert machine.differences() == []


def test_a_removal_run_again_is_no_error(machine: ProtectedMachine) -> None:
    for _ in range(2):
        upkeep_of(machine).remove([THIRD], NOW)
    assert names(machine) == [FULL, SECOND]


def test_a_whole_chain_can_go_and_come_back(machine: ProtectedMachine) -> None:
    for _ in range(2):  # again, as after a death behind the last file
        upkeep_of(machine).remove([THIRD, SECOND, FULL], NOW)
    assert names(machine) == []
    assert list(machine.repository.points()) == []
    upkeep_of(machine).take_back()
    assert machine.differences() == []


def test_what_a_session_began_and_nobody_ended_goes_with_the_whole_chain(machine: ProtectedMachine) -> None:
    """Such as the last session of a machine that is gone: it would keep all of the chain for ever."""
    machine.sessions += 1
    opened = machine.begin()
    machine.transfer_all(opened)
    fourth = "00000004-increment.hfc"
    assert names(machine) == [FULL, SECOND, THIRD, fourth]
    with pytest.raises(ChainBroken, match="needs 00000003-increment"):
        upkeep_of(machine).remove([THIRD], NOW)
    for _ in range(2):
        upkeep_of(machine).remove([THIRD, SECOND, FULL], NOW)
    assert names(machine) == []
    assert upkeep_of(machine).take_back() == (FULL, SECOND, THIRD, fourth)
    assert machine.finish(opened).number == 4
    assert machine.differences() == []


def test_what_another_file_needs_is_not_removed(machine: ProtectedMachine) -> None:
    with pytest.raises(ChainBroken, match="needs 00000002-increment"):
        upkeep_of(machine).remove([SECOND], NOW)
    assert names(machine) == [FULL, SECOND, THIRD]
    check(machine)


class Died(BaseException):
    """The process is gone."""


def die_when_displaced(name: str) -> None:
    if name == "reverse.displaced":
        raise Died


def die_when_taken_back(name: str) -> None:
    if name == "upkeep.taken-back":
        raise Died


@pytest.fixture
def half_reversed(machine: ProtectedMachine) -> Iterator[ProtectedMachine]:
    """The machine, whose reverse step died when the rollback file was there and the full still had its point."""
    set_hook(die_when_displaced)
    try:
        with pytest.raises(Died):
            make_newest_full(machine.repository.files, folder_of(machine), None)
    finally:
        set_hook(None)
    assert names(machine) == [FULL, "00000001-rollback.hfc", SECOND, THIRD]
    yield machine
    check(machine)


@pytest.mark.parametrize("gone", [(THIRD, SECOND), (THIRD, SECOND, FULL)], ids=["increments", "all"])
def test_what_a_dead_reverse_step_began_holds_up_no_removal(
    half_reversed: ProtectedMachine, gone: tuple[str, ...]
) -> None:
    for _ in range(2):
        upkeep_of(half_reversed).remove(gone, NOW)
    assert names(half_reversed) == [name for name in (FULL, SECOND, THIRD) if name not in gone]
    upkeep_of(half_reversed).take_back()
    assert half_reversed.differences() == []
    make_newest_full(half_reversed.repository.files, folder_of(half_reversed), None)
    assert half_reversed.differences() == []


def refuse_to_take_back(machine: ProtectedMachine, words: str) -> None:
    """Nothing can be taken back, for a reason in words; that changes nothing, and the chain goes on."""
    folder = folder_of(machine)
    before = {name: machine.repository.files.read(folder / name) for name in machine.repository.files.names(folder)}
    with pytest.raises(ChainBroken, match=words):
        upkeep_of(machine).take_back()
    assert before == {name: machine.repository.files.read(folder / name) for name in before}
    check(machine)
    assert machine.differences() == []
    machine.back_up()
    assert machine.differences() == []


def test_nothing_is_taken_back_over_a_file_of_the_same_name(machine: ProtectedMachine) -> None:
    files, folder = machine.repository.files, folder_of(machine)
    upkeep_of(machine).remove([THIRD], NOW)
    [removed] = upkeep_of(machine).removed()
    files.rename(folder / removed.kept_as, folder / "aside")  # as before the number of a removed file was taken
    machine.rewind(2)
    machine.back_up()
    files.rename(folder / "aside", folder / removed.kept_as)
    assert names(machine) == [FULL, SECOND, THIRD]
    refuse_to_take_back(machine, "another file 00000003-increment")


def test_of_two_files_of_one_name_none_is_taken_back_over_the_other(machine: ProtectedMachine) -> None:
    files, folder = machine.repository.files, folder_of(machine)
    upkeep_of(machine).remove([THIRD], NOW)
    [removed] = upkeep_of(machine).removed()
    other = folder / removed.kept_as.replace("T15", "T16")
    files.replace(other, files.read(folder / removed.kept_as))
    machine.rewind(2)
    refuse_to_take_back(machine, "two files 00000003-increment.hfc were removed")
    files.remove(other)
    assert upkeep_of(machine).removed() == [removed]


def test_a_point_beside_which_the_chain_went_on_is_not_taken_back(machine: ProtectedMachine) -> None:
    upkeep_of(machine).remove([THIRD], NOW)
    machine.rewind(2)
    assert machine.back_up().file == "00000004-increment.hfc"
    refuse_to_take_back(machine, "two points continue point 2")


def test_a_point_that_was_merged_over_is_not_taken_back(machine: ProtectedMachine) -> None:
    upkeep_of(machine).remove([THIRD], NOW)
    machine.rewind(2)
    machine.back_up()
    upkeep_of(machine).merge_all(FULL, (SECOND, "00000004-increment.hfc"))
    del machine.kept[:2]
    refuse_to_take_back(machine, "holds what 00000003-increment.hfc.removed-20261121T150000Z held")


def test_rollback_files_are_not_taken_back_when_the_point_behind_them_is_gone(machine: ProtectedMachine) -> None:
    make_newest_full(machine.repository.files, folder_of(machine), None)
    rollbacks = ["00000001-rollback.hfc", "00000002-rollback.hfc"]
    upkeep_of(machine).remove(rollbacks, NOW)
    machine.back_up()
    upkeep_of(machine).merge(FULL, "00000004-increment.hfc")  # as with the method forever
    del machine.kept[:3]
    refuse_to_take_back(machine, "rests on point 3")


def test_rollback_files_are_taken_back_one_after_the_other_whatever_dies(machine: ProtectedMachine) -> None:
    make_newest_full(machine.repository.files, folder_of(machine), None)
    upkeep_of(machine).remove(["00000001-rollback.hfc", "00000002-rollback.hfc"], NOW)
    set_hook(die_when_taken_back)
    try:
        with pytest.raises(Died):
            upkeep_of(machine).take_back()
    finally:
        set_hook(None)
    check(machine)
    assert upkeep_of(machine).take_back() == ("00000001-rollback.hfc",)
    assert machine.differences() == []


def test_nothing_removed_is_nothing_to_take_back(machine: ProtectedMachine) -> None:
    with pytest.raises(PointNotFound, match="nothing was removed"):
        upkeep_of(machine).take_back()


def test_only_what_was_removed_long_enough_ago_is_deleted(machine: ProtectedMachine) -> None:
    upkeep = upkeep_of(machine)
    upkeep.remove([THIRD], NOW)
    upkeep.remove([SECOND], NOW + timedelta(days=1))
    assert upkeep.purge(NOW) == ()
    assert upkeep.purge(NOW + timedelta(hours=1)) == (THIRD,)
    assert [file.name for file in upkeep.removed()] == [SECOND]


def test_upkeep_waits_for_nobody(machine: ProtectedMachine) -> None:
    lock = acquire_chain_lock(machine.repository.files, folder_of(machine))
    upkeep = upkeep_of(machine)
    try:
        for step in (
            lambda: upkeep.remove([THIRD], NOW),
            lambda: upkeep.merge(FULL, SECOND),
            upkeep.take_back,
            lambda: upkeep.purge(NOW),
        ):
            with pytest.raises(ChainBusy):
                step()
    finally:
        lock.close()


def test_a_merge_without_room_changes_nothing(machine: ProtectedMachine, files: CrashFiles) -> None:
    before = {path: bytes(files.content(path)) for path in files.paths()}
    files.quota = sum(map(len, before.values())) + PIECE_SIZE
    with pytest.raises(RepositoryFull, match=r"merging .* may need"):
        upkeep_of(machine).merge(FULL, SECOND)
    assert {path: bytes(files.content(path)) for path in files.paths()} == before


def grown_by_merges(files: CrashFiles) -> ProtectedMachine:
    """A machine with an increment of 4 MiB behind a full that has the space of another one free."""
    machine = make_machine({"a": 80}, files)
    machine.disks["a"].write(Span(0, 80 * PIECE_SIZE))
    machine.back_up()
    for _ in range(4):
        machine.disks["a"].write(Span(0, 64 * PIECE_SIZE))
        machine.back_up()
        if len(names(machine)) > 2:
            upkeep_of(machine).merge(FULL, names(machine)[1])
    return machine


def test_a_full_repository_still_merges_into_what_is_free_in_its_files(files: CrashFiles) -> None:
    machine = grown_by_merges(files)
    machine.disks["a"].write(Span(0, PIECE_SIZE))
    machine.back_up()
    size = files.open(folder_of(machine) / FULL).size()
    files.quota = sum(map(len, files.images.values())) + (3 << 20)
    upkeep_of(machine).merge(FULL, names(machine)[1])
    assert files.open(folder_of(machine) / FULL).size() - size < PIECE_SIZE
    del machine.kept[:-1]
    assert machine.differences() == []


def test_what_free_space_does_not_take_has_to_fit_on_the_file_system(files: CrashFiles) -> None:
    machine = grown_by_merges(files)
    machine.back_up()
    full = files.content(folder_of(machine) / FULL)
    files.quota = sum(map(len, files.images.values())) + (3 << 20)
    with (
        Chain.open(machine.repository.files, folder_of(machine)),  # who reads keeps it from being used
        pytest.raises(RepositoryFull, match="may need"),
    ):
        upkeep_of(machine).merge(FULL, names(machine)[1])
    assert files.content(folder_of(machine) / FULL) == full
    del machine.kept[:-1]
    assert machine.differences() == []


def test_whoever_reads_a_chain_goes_on_reading_it_as_it_was(machine: ProtectedMachine, seed: int) -> None:
    rng = random.Random(seed)
    readers = []
    for turn in range(8):
        start = rng.randrange(8)
        machine.disks["a"].write(Span(start * PIECE_SIZE, rng.randrange(1, 9 - start + 1) * PIECE_SIZE))
        machine.back_up()
        chain = Chain.open(machine.repository.files, folder_of(machine))
        readers.append((chain, [kept for kept in machine.kept if kept.summary.number > turn]))
        if turn % 3 == 2:  # some go, so that space is used again under the others
            readers.pop(rng.randrange(len(readers)))[0].close()
        upkeep_of(machine).merge(FULL, names(machine)[1])
    for chain, kept_points in readers:
        for kept in kept_points:
            disk = chain.disk(kept.summary.number, "a")
            target = MemoryDisk(bytes(disk.size_bytes))
            DiskRestore(disk, target, disk.digest_key, SystemClock()).run(0, lambda _: None)
            assert kept.disks["a"].difference(0, bytes(target.content)) is None
        chain.close()


def test_space_is_used_again_when_nobody_reads(machine: ProtectedMachine) -> None:
    sizes = []
    for is_read in [False] * 5 + [True] * 2:
        machine.disks["a"].write(Span(0, 9 * PIECE_SIZE))
        machine.back_up()
        with Chain.open(machine.repository.files, folder_of(machine)) if is_read else nullcontext():
            upkeep_of(machine).merge(FULL, names(machine)[1])
        sizes.append(machine.repository.files.open(folder_of(machine) / FULL).size())
    assert sizes[4] - sizes[3] < PIECE_SIZE
    assert sizes[6] - sizes[5] > 9 * PIECE_SIZE


def test_a_merge_run_again_is_no_error(machine: ProtectedMachine) -> None:
    assert upkeep_of(machine).merge(FULL, SECOND).units == 1
    assert upkeep_of(machine).merge(FULL, SECOND).units == 0
    check(machine)
