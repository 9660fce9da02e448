"""Accidents that other backup programs had with merges, clean-ups and restores meanwhile, each as a test."""

import random
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from holdfast.clock import SystemClock
from holdfast.errors import DataError, HoldfastError, PointNotFound
from holdfast.formats.magic import PIECE_SIZE, RECORDS_START, SUPERBLOCK_SIZE
from holdfast.model.spans import Span
from holdfast.pipeline.restore import DiskRestore
from holdfast.storage.chains.chain import Chain, chain_file_names
from holdfast.storage.health.chain_repair import ChainRepair
from holdfast.storage.intake.finishing import finish_point
from holdfast.storage.methods.compacting import compact
from holdfast.testing.chains import KeptPoint
from holdfast.testing.crash_states import CrashState, crash_states, died, lost_power
from holdfast.testing.crashfs import CrashFiles, Event
from holdfast.testing.disks import PatternedDisk
from holdfast.testing.memory import MemoryDisk
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
from tests.holdfast.storage.methods.test_upkeep import NOW

UNREADABLE = bytes(SUPERBLOCK_SIZE - 600)
"""In place of the end of a superblock, its checksum with it."""


def chain_files(place: Place) -> list[str]:
    """Return what stands in all folders of the machine's chains, without notes and locks."""
    return [path.name for path in place.files.paths() if ".hfc" in path.name]


def is_of_chain(event: Event) -> bool:
    return ".hfc" in event.path.name


def ends(base: CrashFiles, events: Sequence[Event], rng: random.Random) -> Iterator[CrashState]:
    """Yield what a process that dies after these events may leave, and a power failure."""
    yield died(base, events)
    for _ in range(4):
        yield lost_power(base, events, rng)


def test_xo_what_a_merge_leaves_is_known_until_all_of_it_is_cleaned_up(seed: int) -> None:
    base = three_points()
    place = base.at(base.files.copy())
    merge(place)
    events, rng = place.files.events, random.Random(seed)
    gone = [number for number, event in enumerate(events) if event.kind == "unlink" and is_of_chain(event)]
    assert len(gone) == 2
    del base.machine.kept[:2]
    for count in range(gone[0] - 10, len(events) + 1):
        for state in ends(base.files, events[:count], rng):
            after = base.at(state.files())
            merge(after)
            assert chain_files(after) == [FULL], state.description
            assert lost(after) == [], state.description


@every_change
def test_xo_nothing_old_goes_before_the_new_is_in_its_place(change: Callable[[Place], object], seed: int) -> None:
    base = three_points()
    place = base.at(base.files.copy())
    change(place)
    events, rng = place.files.events, random.Random(seed)
    going = [n for n, event in enumerate(events) if event.kind in {"unlink", "rename"} and is_of_chain(event)]
    assert going
    for number in going:
        after_it = f"after event {number} "
        states = [s for s in crash_states(base.files, events[: number + 1], rng) if s.description.startswith(after_it)]
        assert len(states) > 1
        for state in [*states, died(base.files, events[: number + 1])]:
            after = base.at(state.files())
            listed = {found.point.number for found in after.machine.repository.points()}
            assert 3 in listed or (change is remove_newest and {1, 2} <= listed), state.description
            assert lost(after) == [], state.description


@pytest.mark.parametrize("turns", [[[SECOND, THIRD]], [[SECOND], [THIRD]]], ids=["in-one-pass", "one-by-one"])
def test_xo_tables_that_begin_with_a_merge_are_written(turns: list[list[str]]) -> None:
    files = CrashFiles([Path("/")])
    machine = make_machine({"a": 24}, files)
    machine.disks["a"].zero(Span(0, 24 * PIECE_SIZE))  # nothing of it is in the full
    machine.back_up()
    machine.disks["b"] = PatternedDisk(7, 9 * PIECE_SIZE)  # and of this one not even an empty table
    for turn in range(2):
        machine.disks["a"].write(Span(turn * 4 * PIECE_SIZE, 9 * PIECE_SIZE))
        machine.disks["b"].write(Span(turn * PIECE_SIZE, 5 * PIECE_SIZE))
        machine.back_up()
    place = place_of(machine)
    for names in turns:
        place.upkeep.merge_all(FULL, names, commit_bytes=UNIT)
    assert chain_files(place) == [FULL]
    assert lost(place.at(files.copy())) == []


@pytest.mark.parametrize("missing", [[FULL], [SECOND], [THIRD], [FULL, SECOND], [SECOND, THIRD]])
def test_xo_a_merge_with_missing_files_ends_and_changes_nothing(missing: list[str]) -> None:
    place = three_points()
    for name in missing:
        place.files.drop(place.folder / name)
    before = {path: place.files.content(path) for path in place.files.paths()}
    for into, names in ((FULL, [SECOND, THIRD]), (FULL, [SECOND]), (SECOND, [THIRD])):
        with pytest.raises(HoldfastError):
            place.upkeep.merge_all(into, names)
    assert {path: place.files.content(path) for path in place.files.paths()} == before
    assert not place.files.open_handles


def test_xo_a_merge_with_disks_that_are_not_in_every_file_ends() -> None:
    """Of each way to be there or not at three points there is a disk, also one that was away and came back."""
    base = _with_disks_here_and_there()
    for turns in ([[SECOND, THIRD]], [[SECOND], [THIRD]]):
        place = base.at(base.files.copy())
        for names in turns:
            place.upkeep.merge_all(FULL, names, commit_bytes=UNIT)
        assert chain_files(place) == [FULL]
        assert lost(place) == []
    for change in (compact_full, make_full, reverse):
        place = base.at(base.files.copy())
        change(place)
        assert lost(place) == []


def _with_disks_here_and_there() -> Place:
    machine = make_machine({"system": 3})
    disks = {f"{code:03b}": PatternedDisk(10 + code, 5 * PIECE_SIZE) for code in range(1, 8)}
    for disk in disks.values():
        disk.write(Span(0, disk.size_bytes))
    for point in range(3):
        there = {key: disk for key, disk in disks.items() if key[point] == "1"}
        for disk in disks.values():  # also of those that are away
            disk.zero(Span(point * PIECE_SIZE, PIECE_SIZE))
            disk.write(Span((point + 2) * PIECE_SIZE, PIECE_SIZE))
        machine.disks = {"system": machine.disks["system"], **there}
        machine.back_up(at_once=True)
    return place_of(machine)


def superblocks(*slots: int) -> Callable[[bytearray], None]:
    def harm(content: bytearray) -> None:
        for slot in slots:
            content[slot * SUPERBLOCK_SIZE + 600 : (slot + 1) * SUPERBLOCK_SIZE] = UNREADABLE

    return harm


def first_unit(content: bytearray) -> None:
    content[RECORDS_START + 200] ^= 1


def damage(place: Place, path: Path, harm: Callable[[bytearray], None]) -> None:
    content = bytearray(place.files.content(path))
    harm(content)
    place.files.set_content(path, bytes(content))


ONE_PLACE = [superblocks(0), superblocks(1), first_unit]


def leave_a_session(place: Place) -> Path:
    """Let a session die in the middle of its transfer; return its file."""
    place.machine.sessions += 1
    place.machine.disks["a"].write(Span(0, 8 * PIECE_SIZE))
    opened = place.machine.begin()
    place.machine.transfer(opened, "a")
    return place.folder / opened.file


def stop(_: int) -> None:
    raise Enough


@pytest.mark.parametrize("harm", ONE_PLACE, ids=["even-slot", "odd-slot", "unit"])
def test_kopia_5057_damaged_leftovers_of_sessions_are_cleaned_up(harm: Callable[[bytearray], None]) -> None:
    place = three_points()
    for _ in range(3):
        damage(place, leave_a_session(place), harm)
        place.machine.back_up()
    assert chain_files(place) == [
        FULL,
        *(f"{number:08d}-increment.hfc" for number in range(2, 7)),
    ]
    assert lost(place) == []


def test_kopia_5057_a_leftover_that_cannot_be_judged_is_named_piles_nothing_up_and_is_set_aside() -> None:
    place = three_points()
    left = leave_a_session(place)
    damage(place, left, superblocks(0, 1))
    before = chain_files(place)
    for _ in range(3):
        with pytest.raises(DataError, match=left.name):
            place.machine.back_up()
        with pytest.raises(DataError, match=left.name):
            merge(place)
        assert chain_files(place) == before
    ChainRepair(place.machine.repository, place.machine.repository.relative(place.folder), None).run()
    place.machine.back_up()
    merge(place)
    del place.machine.kept[:2]
    assert chain_files(place) == [FULL, f"{left.name}.damaged", "00000005-increment.hfc"]
    assert lost(place) == []


@pytest.mark.parametrize("harm", [*ONE_PLACE, superblocks(0, 1)], ids=["even-slot", "odd-slot", "unit", "both-slots"])
def test_kopia_5057_damaged_remains_of_a_compaction_hold_nothing_up(harm: Callable[[bytearray], None]) -> None:
    place = three_points()
    for _ in range(3):
        with pytest.raises(Enough):
            compact(place.files, place.folder, None, stop, UNIT)
        damage(place, place.folder / f"{FULL}.compacting", harm)
        place.machine.back_up()
        compact_full(place)
    assert chain_files(place) == [FULL, *(f"{number:08d}-increment.hfc" for number in range(2, 7))]
    assert lost(place) == []


def half_restored(chain: Chain, kept: KeptPoint) -> Callable[[], str | None]:
    """Restore the first half of a disk; return what restores the rest and tells what is wrong with the whole."""
    disk, middle = chain.disk(kept.summary.number, "a"), 12
    target = MemoryDisk(bytes(disk.size_bytes))
    DiskRestore(disk, target, disk.digest_key, SystemClock()).write([range(middle)], 0, lambda _: None)

    def rest() -> str | None:
        DiskRestore(disk, target, disk.digest_key, SystemClock()).run(middle, lambda _: None)
        return kept.disks["a"].difference(0, bytes(target.content))

    return rest


def use_free_space(place: Place) -> None:
    """Let the full take in what follows it, into space that is free."""
    full, *others = chain_file_names(place.files, place.folder)
    if any(name.endswith("-rollback.hfc") for name in (full, *others)):
        reverse(place)
    else:
        place.upkeep.merge_all(full, others, commit_bytes=UNIT)


@every_change
def test_litestream_224_a_restore_goes_on_while_retention_takes_its_files_away(
    change: Callable[[Place], object],
) -> None:
    place = three_points()
    with Chain.open(place.files, place.folder) as chain:
        rests = [half_restored(chain, kept) for kept in place.machine.kept]
        change(place)
        place.upkeep.purge(NOW + timedelta(days=1))
        for turn in range(4):  # what became free would be taken by these
            place.machine.disks["a"].write(Span(turn * PIECE_SIZE, 20 * PIECE_SIZE))
            place.machine.back_up()
            place = place_of(place.machine)
            use_free_space(place)
        assert [rest() for rest in rests] == [None, None, None]


@pytest.mark.parametrize(
    "changes, staying",
    [
        ([merge], [3]),
        ([merge, compact_full], [3]),
        ([make_full], [1, 2, 3]),
        ([reverse], [1, 2, 3]),
        ([reverse, compact_full], [1, 2, 3]),
        ([remove_newest], [1, 2]),
    ],
)
def test_litestream_1056_a_point_is_found_wherever_it_lies_by_now(
    changes: list[Callable[[Place], object]], staying: list[int]
) -> None:
    place = three_points()
    repository = place.machine.repository
    before = {found.point.number: found.point for found in repository.points()}
    for change in changes:
        change(place)
    for number in staying:
        found = repository.find_point(before[number].id)
        assert (found.point.number, found.point.created) == (number, before[number].created)
    assert repository.find_point("latest").point.id == before[staying[-1]].id
    for number in {1, 2, 3}.difference(staying):
        with pytest.raises(PointNotFound):
            repository.find_point(before[number].id)


@pytest.mark.parametrize("is_finished", [False, True], ids=["under-way", "finished"])
def test_litestream_752_what_went_on_meanwhile_never_meets_what_comes_back(*, is_finished: bool) -> None:
    """Two sessions have a point of one number: the first was given up, and one of its workers does not know it."""
    place = three_points()
    machine = place.machine
    machine.sessions += 1
    late = machine.begin()
    late_disks = {key: disk.copy() for key, disk in machine.disks.items()}
    machine.disks["a"].write(Span(3 * PIECE_SIZE, 8 * PIECE_SIZE))
    machine.sessions += 1
    opened = machine.begin()
    assert (late.file, late.number) == (opened.file, opened.number)
    if is_finished:
        machine.transfer_all(opened, at_once=True)
        machine.finish(opened)
    now, machine.disks = machine.disks, late_disks
    for step in (
        lambda: machine.transfer_all(late, at_once=True),
        lambda: finish_point(machine.repository, late, None),
    ):
        with pytest.raises(PointNotFound, match="another session"):
            step()
    machine.disks = now
    if not is_finished:
        machine.transfer_all(opened, at_once=True)
        machine.finish(opened)
    listed = [(found.point.number, found.point.id) for found in machine.repository.points()]
    assert listed == [(kept.summary.number, str(kept.summary.point_id)) for kept in machine.kept]
    assert lost(place) == []
