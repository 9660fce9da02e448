"""What a method wants is looked up in the chain and carried out once."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from holdfast.clock import SystemClock
from holdfast.errors import PointNotFound
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.fulls import FullDays, FullPolicy, MethodOptions
from holdfast.model.ids import MachineId
from holdfast.model.retention import Method
from holdfast.storage.files.immutable import is_immutable, set_immutable
from holdfast.storage.methods.applying import ChainWish, Change, apply_method, compact_if_due, newest_chain
from holdfast.testing.chains import KeptPoint, ProtectedMachine
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.storage.conftest import make_machine
from tests.holdfast.storage.counting import host_machine
from tests.holdfast.storage.methods.test_compacting import loose_machine
from tests.holdfast.storage.methods.test_merging import folder_of
from tests.holdfast.storage.methods.test_reversing import check as check_reversed
from tests.holdfast.storage.methods.test_synthesis import check, protected

EVERY_DAY = FullDays(weekdays=tuple(range(7)))
SYNTHETIC = MethodOptions(method=Method.FORWARD, fulls=FullPolicy(synthetic=EVERY_DAY))
LATER = timedelta(days=1)


def now() -> datetime:
    return SystemClock().now()


def apply(
    machine: ProtectedMachine, options: MethodOptions, *, after: timedelta = LATER, asked: bool = False
) -> Change:
    folder = newest(machine)
    wish = ChainWish(options=options, began=now() + after, is_asked_for=asked)
    return apply_method(machine.repository, folder, machine.store.passphrase, wish, lambda _: None)


def newest(machine: ProtectedMachine) -> Path:
    folder = machine.repository.machine_folder(MachineId("m1"), "web 01")
    return newest_chain(machine.repository, folder, machine.store.passphrase)


def test_a_synthetic_full_is_made_once_a_day(files: CrashFiles) -> None:
    machine = protected(files)
    assert apply(machine, SYNTHETIC, after=timedelta()).what == ""
    change = apply(machine, SYNTHETIC)
    assert change.what == "synthetic full"
    assert change.reason.startswith("due on monday, tuesday")
    machine.kept[-1] = KeptPoint(change.moved[0], machine.kept[-1].disks)
    check(machine)
    assert apply(machine, SYNTHETIC, after=timedelta()).reason.startswith("no full is due")


def test_whoever_asks_for_a_synthetic_full_gets_it(files: CrashFiles) -> None:
    machine = protected(files)
    change = apply(machine, MethodOptions(), after=timedelta(), asked=True)
    assert (change.what, change.reason) == ("synthetic full", "it was asked for")
    again = apply(machine, MethodOptions(), after=timedelta(), asked=True)
    assert (again.what, again.reason) == ("", "the newest point is a full already")


def test_one_that_was_not_removed_from_the_old_chain_is_found_there(files: CrashFiles) -> None:
    machine = protected(files)
    folder = folder_of(machine)
    helper, metadata = (files.content(folder / name) for name in ("00000004-increment.hfc", "chain.hfm"))
    apply(machine, SYNTHETIC)
    files.set_content(folder / "00000004-increment.hfc", helper)
    files.set_content(folder / "chain.hfm", metadata)
    change = apply(machine, SYNTHETIC, after=timedelta())
    assert (change.reason, [point.kind for point in change.moved]) == ("it was begun before", ["full"])
    assert not files.exists(folder / "00000004-increment.hfc")
    machine.kept[-1] = KeptPoint(change.moved[0], machine.kept[-1].disks)
    check(machine)


def test_an_old_chain_that_cannot_be_read_is_no_reason_to_stop(files: CrashFiles) -> None:
    machine = protected(files)
    folder = folder_of(machine)
    apply(machine, SYNTHETIC)
    for name in files.names(folder):
        files.set_content(folder / name, b"x" * 9000)
    assert apply(machine, SYNTHETIC, after=timedelta()).what == ""


def test_reverse_makes_the_newest_point_the_full_and_tells_of_both(files: CrashFiles) -> None:
    machine = protected(files, points=2)
    reverse = MethodOptions(method=Method.REVERSE)
    change = apply(machine, reverse)
    assert change.what == "the point before became a rollback"
    assert [(point.number, point.kind) for point in change.moved] == [(1, "rollback"), (2, "full")]
    check_reversed(machine)
    again = apply(machine, reverse)
    assert (again.what, again.moved) == ("", change.moved)


def test_reverse_takes_all_increments_that_are_there(files: CrashFiles) -> None:
    machine = protected(files, points=4)
    change = apply(machine, MethodOptions(method=Method.REVERSE))
    assert change.what == "3 points became rollbacks"
    assert [point.kind for point in change.moved] == ["rollback"] * 3 + ["full"]
    check_reversed(machine)


def test_a_full_is_compacted_when_it_is_asked_for(files: CrashFiles) -> None:
    machine = loose_machine(files)
    due = MethodOptions(compact=EVERY_DAY)
    wish = ChainWish(options=due, began=now())
    remains = folder_of(machine) / "00000001-full.hfc.compacting"
    files.create(remains).close()
    change = compact_if_due(machine.repository, folder_of(machine), None, wish, lambda _: None)
    assert change.reason.endswith("which is too little")
    assert not files.exists(remains)
    wish = ChainWish(options=due, began=now(), is_asked_for=True)
    change = compact_if_due(machine.repository, folder_of(machine), None, wish, lambda _: None)
    assert (change.what, change.freed_bytes > 16 * PIECE_SIZE) == ("compacted", True)
    assert [(point.number, point.kind) for point in change.moved] == [(3, "full")]


def test_files_of_locked_points_are_changed_and_stay_unchangeable(tmp_path: Path) -> None:
    machine = host_machine(tmp_path / "repository", 8, [2, 2])
    folder, full = folder_of(machine), folder_of(machine) / "00000001-full.hfc"
    is_kept = set_immutable(full, wanted=True) == ""
    try:
        wish = ChainWish(options=MethodOptions(), began=now(), is_asked_for=True)
        assert compact_if_due(machine.repository, folder, None, wish, lambda _: None).what == "compacted"
        assert is_immutable(full) == is_kept
        assert apply(machine, MethodOptions(method=Method.REVERSE)).what == "2 points became rollbacks"
        assert is_immutable(full) == is_kept
    finally:
        set_immutable(full, wanted=False)
    check_reversed(machine)


def test_a_machine_without_a_finished_point_has_no_chain(files: CrashFiles) -> None:
    machine = make_machine({"a": 2}, files)
    with pytest.raises(PointNotFound, match="no finished restore point"):
        newest(machine)
    machine.sessions += 1
    opened = machine.begin()
    with pytest.raises(PointNotFound, match="no finished restore point"):
        newest(machine)
    wish = ChainWish(options=MethodOptions(), began=now())
    folder = machine.repository.chain_folder(opened.chain)
    change = compact_if_due(machine.repository, folder, None, wish, lambda _: None)
    assert change.reason == "the chain has no complete full"
