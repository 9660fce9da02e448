"""Accidents that other backup programs had with chains, each as a test: none of them happens here."""

import os
import random
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from typing_extensions import override

from holdfast.errors import ChainBroken, ChainBusy, RepositoryUnavailable, StoreFailed, SyncFailed
from holdfast.formats.magic import PIECE_SIZE, SUPERBLOCK_SIZE
from holdfast.model.spans import Span
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.chains.chain import Chain
from holdfast.storage.methods.compacting import compact
from holdfast.storage.methods.synthesis import synthesize
from holdfast.storage.methods.upkeep import ChainUpkeep
from holdfast.testing.chains import point_differences
from holdfast.testing.crash_states import crash_states
from holdfast.testing.crashfs import CrashFiles
from holdfast.testing.disks import PatternedDisk
from tests.fuzz.three_points import (
    FULL,
    SECOND,
    THIRD,
    UNIT,
    Enough,
    Place,
    compact_full,
    every_change,
    lost,
    make_full,
    merge,
    place_of,
    remove_newest,
    reverse,
    three_points,
)
from tests.holdfast.storage.conftest import make_machine
from tests.holdfast.storage.counting import host_machine
from tests.holdfast.storage.methods.test_upkeep import NOW


def test_proxmox_2025_1_what_others_need_is_not_pruned_while_it_is_read() -> None:
    place = three_points()
    with pytest.raises(ChainBroken, match="needs"):
        place.upkeep.remove([FULL], NOW)

    def prune(_: int) -> None:
        with pytest.raises(ChainBusy):
            place.upkeep.remove([THIRD, SECOND, FULL], NOW)

    repository = place.machine.repository
    synthesize(repository, repository.relative(place.folder), None, prune, UNIT)
    assert lost(place) == []


def test_proxmox_5982_times_of_files_mean_nothing(tmp_path: Path) -> None:
    machine = host_machine(tmp_path / "repository", 8, [2, 2])
    folder = machine.repository.chain_folder(machine.kept[0].summary.chain)
    upkeep = ChainUpkeep(machine.repository.files, folder, None)
    upkeep.remove([THIRD], NOW)
    for path in folder.iterdir():
        os.utime(path, (0, 0))
    assert upkeep.purge(NOW) == ()
    assert upkeep.take_back() == (THIRD,)
    upkeep.merge_all(FULL, [SECOND, THIRD])
    assert list(point_differences(machine.repository, machine.kept[-1], None)) == []


class FailingRename(CrashFiles):
    """Chain files cannot be renamed."""

    @override
    def rename(self, path: Path, new: Path) -> None:
        raise StoreFailed(f"{path} cannot become {new}")


def test_xo_a_rename_that_fails_deletes_nothing() -> None:
    place = three_points(FailingRename([Path("/")]))
    merge(place)
    del place.machine.kept[:2]
    with pytest.raises(StoreFailed):
        compact_full(place)
    assert lost(place) == []
    assert place.files.exists(place.folder / FULL)


def test_xo_a_parent_and_its_child_are_not_swapped() -> None:
    place = three_points()
    for into, names in ((FULL, [THIRD, SECOND]), (SECOND, [FULL]), (THIRD, [SECOND]), (FULL, [THIRD])):
        with pytest.raises(ChainBroken, match="does not continue"):
            place.upkeep.merge_all(into, names)
    assert lost(place) == []


def test_xo_a_merge_that_is_gone_on_with_counts_neither_too_much_nor_too_little() -> None:
    whole = merge(three_points()).units
    for cut in range(1, whole):
        place = three_points()

        def stop(moved: int, cut: int = cut) -> None:
            if moved > cut * UNIT:
                raise Enough

        with pytest.raises(Enough):
            place.upkeep.merge_all(FULL, [SECOND, THIRD], stop, UNIT)
        assert merge(place).units == whole - cut
        assert lost(place) == []


def test_xo_a_merge_is_not_gone_on_with_by_another_one() -> None:
    place = three_points()

    def stop(_: int) -> None:
        raise Enough

    with pytest.raises(Enough):
        place.upkeep.merge(FULL, SECOND, stop, UNIT)
    assert merge(place).units == merge(three_points()).units
    assert lost(place) == []


def test_xo_a_torn_end_of_a_merge_neither_forces_a_full_nor_stops_the_next_one() -> None:
    place = three_points()
    merge(place)
    del place.machine.kept[:2]
    path = place.folder / FULL
    for slot in range(2):
        torn = place.at(place.files.copy())
        content = bytearray(torn.files.content(path))
        content[slot * SUPERBLOCK_SIZE + 600 : (slot + 1) * SUPERBLOCK_SIZE] = bytes(SUPERBLOCK_SIZE - 600)
        torn.files.set_content(path, bytes(content))
        summary = torn.machine.back_up()
        assert (summary.kind, torn.machine.repository.relative(torn.folder)) == ("increment", summary.chain)
        torn.upkeep.merge(FULL, summary.file)
        assert lost(torn) == []
        del torn.machine.kept[1:]


@every_change
def test_xo_and_kopia_1087_two_of_them_at_once_are_refused(change: Callable[[Place], object]) -> None:
    place = three_points()
    with (
        ChainWriter.resume(place.files, place.folder / FULL),
        pytest.raises(ChainBusy),
    ):
        change(place)
    assert lost(place) == []


def test_xo_and_virtnbdbackup_135_disks_come_go_and_grow() -> None:
    place = three_points()
    machine = place.machine
    machine.disks["a"].resize(40 * PIECE_SIZE)
    machine.disks["a"].write(Span(30 * PIECE_SIZE, 9 * PIECE_SIZE))
    machine.disks["new"] = PatternedDisk(9, 2 * PIECE_SIZE)
    del machine.disks["b"]
    machine.back_up()
    for change in (reverse, compact_full):
        change(place)
        assert lost(place) == []
    machine.disks["a"].resize(3 * PIECE_SIZE)
    machine.back_up()
    for again in (reverse, make_full):
        again(place)
        assert lost(place) == []


def test_xo_closing_twice_is_closing_once() -> None:
    place = three_points()
    chain = Chain.open(place.files, place.folder)
    writer = ChainWriter.resume(place.files, place.folder / FULL)
    for _ in range(2):
        chain.close()
        writer.close()
    assert not place.files.open_handles


@every_change
def test_virtnbdbackup_270_an_increment_without_changes_is_a_point_like_others(
    change: Callable[[Place], object],
) -> None:
    files = CrashFiles([Path("/")])
    machine = make_machine({"a": 24}, files)
    for _ in range(3):
        machine.back_up()
    place = place_of(machine)
    change(place)
    assert lost(place) == []


@every_change
def test_benji_119_nothing_is_cleaned_up_while_a_backup_runs(change: Callable[[Place], object]) -> None:
    place = three_points()
    place.machine.sessions += 1
    opened = place.machine.begin()
    with (
        ChainWriter.resume(place.files, place.folder / opened.file),
        pytest.raises(ChainBusy),
    ):
        change(place)
    place.machine.transfer_all(opened)
    place.machine.finish(opened)
    assert lost(place) == []


class FailingList(CrashFiles):
    """Folders cannot be listed, once this is asked for."""

    is_failing = False

    @override
    def names(self, path: Path) -> list[str]:
        if self.is_failing:
            raise RepositoryUnavailable(f"{path} cannot be reached: Input/output error")
        return super().names(path)


@every_change
def test_restic_4612_a_folder_that_cannot_be_listed_is_not_an_empty_one(change: Callable[[Place], object]) -> None:
    files = FailingList([Path("/")])
    place = three_points(files)
    before = {path: files.content(path) for path in files.paths()}
    files.is_failing = True
    with pytest.raises(RepositoryUnavailable):
        change(place)
    assert {path: files.content(path) for path in files.paths()} == before


def test_borg_a_repository_that_was_set_back_repeats_no_key() -> None:
    place = three_points(passphrase="secret")
    keys = set()
    for copy in (place.files.copy(), place.files.copy()):
        set_back = place.at(copy)
        compact_full(set_back)
        with ChainFile.open(copy, place.folder / FULL, "secret") as file:
            keys.add((file.superblock.generation, file.superblock.key_id))
    assert len({key for _, key in keys}) == 2


def test_borg_2023_36811_a_file_of_another_history_is_no_part_of_the_chain() -> None:
    place = three_points()
    other = place.at(place.files.copy())
    reverse(place.at(place.files))
    other.upkeep.remove([THIRD, SECOND], NOW)
    other.upkeep.purge(NOW + timedelta(days=1))  # their numbers are given again
    place.at(other.files)
    place.machine.rewind(1)
    place.machine.disks["a"].write(Span(20 * PIECE_SIZE, 2 * PIECE_SIZE))
    place.machine.back_up()
    place.machine.back_up()
    reverse(other)
    name = "00000002-rollback.hfc"
    other.files.set_content(other.folder / name, place.files.content(place.folder / name))
    with pytest.raises(ChainBroken), Chain.open(other.files, other.folder) as chain:
        chain.disk(1, "a")


def test_pgbackrest_what_was_begun_is_gone_on_with_only_from_the_same_files() -> None:
    place = three_points()

    def stop(_: int) -> None:
        raise Enough

    with pytest.raises(Enough):
        compact(place.files, place.folder, None, stop, UNIT)
    place.upkeep.merge(FULL, SECOND)
    del place.machine.kept[:1]
    compact_full(place)
    assert lost(place) == []


@every_change
def test_fsync_gate_a_flush_that_failed_once_is_never_called_a_success(change: Callable[[Place], object]) -> None:
    base = three_points()
    number = 0
    while True:
        number += 1
        place = base.at(base.files.copy())
        place.files.fail_sync = partial(_fail_at, number)
        try:
            change(place)
        except SyncFailed:
            *_, left = crash_states(base.files, place.files.events, random.Random(number))
        else:
            break
        after = base.at(left.files())
        listed = {found.point.number for found in after.machine.repository.points()}
        assert 3 in listed or (change is remove_newest and {1, 2} <= listed)
        assert lost(after) == []
        change(after)
        assert lost(after) == []
    assert number > 2


def _fail_at(wanted: int, number: int, _: int) -> tuple[int, ...] | None:
    return () if number == wanted else None
