"""A machine's chains as retention sees them, and what is kept with the points."""

from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from holdfast.errors import DataError, FileDamaged
from holdfast.model.retention import MarkKind, PointNote, RetentionOptions, RetentionPolicy, WeeklyRule
from holdfast.planning.retention import Verdict
from holdfast.storage.chains.begun_notes import note_begun
from holdfast.storage.chains.keeping import KEEP_NAME
from holdfast.storage.files.immutable import is_immutable
from holdfast.storage.methods.synthesis import synthesize
from holdfast.storage.methods.upkeep import ChainUpkeep
from holdfast.storage.retention.graveyard import lock_points
from holdfast.storage.retention.looking import PlanWish, plan_machine, take_note
from holdfast.testing.chains import ProtectedMachine
from tests.holdfast.storage.aging import FIRST_DAY, age, look, on_disk, planned, points_rule
from tests.holdfast.storage.conftest import make_machine


def note(machine: ProtectedMachine, **wish: object) -> str:
    seen = look(machine)
    asked = PlanWish(now=machine.clock.now(), **wish)  # type: ignore[arg-type]
    return take_note(machine.repository, seen, plan_machine(seen, asked), asked)


def test_a_chain_is_seen_file_by_file_oldest_first() -> None:
    machine = make_machine({"disk0": 6})
    age(machine, 3)
    [chain] = look(machine).chains
    assert [(file.kind, file.number, len(file.needs)) for file in chain.files] == [
        ("full", 1, 0),
        ("increment", 2, 1),
        ("increment", 3, 2),
    ]


def test_what_is_being_written_is_not_seen() -> None:
    machine = make_machine({"disk0": 6})
    age(machine, 2)
    machine.sessions += 1
    machine.begin()
    [chain] = look(machine).chains
    assert len(chain.files) == 2


def test_a_plan_names_files_points_and_days() -> None:
    machine = make_machine({"disk0": 6})
    age(machine, 4)
    found = planned(machine, points_rule(2))
    [step] = found.steps
    assert (step.into, step.files) == ("00000001-full.hfc", ("00000002-increment.hfc", "00000003-increment.hfc"))
    assert step.points == tuple(kept.summary.point_id for kept in machine.kept[:2])
    verdicts = [(point.day.day, point.verdict) for point in found.judgement.plan.points]
    assert verdicts == [(1, Verdict.MERGED), (2, Verdict.MERGED), (3, Verdict.KEPT), (4, Verdict.KEPT)]


def test_a_plan_changes_nothing() -> None:
    machine = make_machine({"disk0": 6})
    age(machine, 4)
    files, folder = machine.repository.files, look(machine).chains[0].folder
    before = files.names(folder)
    assert planned(machine, points_rule(2)).digest == planned(machine, points_rule(2)).digest
    assert files.names(folder) == before


def test_a_noted_point_keeps_its_mark_when_the_rule_changes() -> None:
    machine = make_machine({"disk0": 6})
    age(machine, 4)
    weekly = points_rule(2)
    weekly = msgspec.structs.replace(weekly, policy=msgspec.structs.replace(weekly.policy, weekly=WeeklyRule(weeks=4)))
    note(machine, options=weekly)
    [chain] = look(machine).chains
    assert [len(one.marks) for one in chain.notes] == [1, 0, 0, 0]
    assert planned(machine, weekly).steps == ()  # a marked full takes nothing in
    assert len(planned(machine, points_rule(2)).steps) == 1


def test_what_was_noted_stays_when_points_are_out_of_sight() -> None:
    machine = make_machine({"disk0": 6})
    age(machine, 3)
    note(machine, options=points_rule(9))
    folder = look(machine).chains[0].folder
    machine.repository.files.remove(folder / "00000003-increment.hfc")
    note(machine, options=points_rule(9, lock_days=1))
    assert len(look(machine).chains[0].notes) == 3


def test_a_point_of_which_a_full_is_made_later_gets_its_mark_and_no_merged_one_does() -> None:
    machine = make_machine({"disk0": 6})
    age(machine, 3)
    plain, weekly = points_rule(9), RetentionOptions(policy=RetentionPolicy(weekly=WeeklyRule(weeks=4)))
    note(machine, options=plain)  # by these rules the full of the week is not marked
    assert [one.is_increment for one in look(machine).chains[0].notes] == [False, True, True]
    summary, _ = synthesize(machine.repository, look(machine).chains[0].name, None)
    note(machine, options=weekly)
    [_, made] = look(machine).chains
    [kept] = [one for one in made.notes if one.point_id == summary.point_id]
    assert ([mark.kind for mark in kept.marks], kept.is_increment) == ([MarkKind.WEEKLY], False)
    other = make_machine({"disk0": 6}, seed=2)
    age(other, 3)
    note(other, options=plain)
    [chain] = look(other).chains
    first, second = (file.name for file in chain.files[:2])
    ChainUpkeep(other.repository.files, chain.folder, None).merge(first, second)
    note(other, options=weekly)
    assert not any(one.marks for one in look(other).chains[0].notes)


def test_what_others_noted_between_looking_and_noting_stays() -> None:
    machine = make_machine({"disk0": 6})
    clock = age(machine, 2)
    seen, wish = look(machine), PlanWish(options=points_rule(9), now=clock.now())
    [chain] = seen.chains
    machine.sessions += 1
    begun, until = machine.begin(), clock.now() + timedelta(days=4)
    quick = PointNote(point_id=begun.point_id, day=FIRST_DAY.date(), is_quick=True)
    note_begun(machine.repository, begun, None, quick)
    lock_points(machine.repository, chain.name, [chain.files[0].point_id], None, until)
    take_note(machine.repository, seen, plan_machine(seen, wish), wish)
    [chain] = look(machine).chains
    assert quick in chain.notes
    locks = {one.point_id: one.locked_until for one in chain.notes}
    assert locks == {begun.point_id: None, chain.files[0].point_id: until, chain.files[1].point_id: None}


def test_rules_are_kept_once_nothing_waits_for_consent() -> None:
    machine = make_machine({"disk0": 6})
    age(machine, 4)
    strict = points_rule(2)
    note(machine, options=strict)
    assert look(machine).rules is None
    note(machine, options=strict, has_consent=True)
    assert look(machine).rules == strict


def test_rules_that_were_judged_by_a_clock_that_jumped_count_as_not_applied() -> None:
    machine = make_machine({"disk0": 6})
    age(machine, 1)
    note(machine, options=points_rule(2), is_clock_sure=False)
    assert look(machine).rules is None


def test_a_lock_is_no_shorter_for_a_clock_that_went_back() -> None:
    machine = make_machine({"disk0": 6})
    clock = age(machine, 1)
    created = look(machine).chains[0].files[0].created
    clock.moment -= timedelta(days=400)
    note(machine, options=points_rule(9, lock_days=5), is_clock_sure=False)
    assert [one.locked_until for one in look(machine).chains[0].notes] == [created + timedelta(days=5)]


def test_a_damaged_chain_is_planned_nothing_for() -> None:
    machine = make_machine({"disk0": 6})
    age(machine, 3)
    folder = look(machine).chains[0].folder
    files = machine.repository.files
    files.set_content(folder / "00000002-increment.hfc", b"\0" * 65536)  # type: ignore[attr-defined]
    with pytest.raises(DataError):
        look(machine)


def test_damaged_notes_stop_retention() -> None:
    machine = make_machine({"disk0": 6})
    age(machine, 2)
    note(machine, options=points_rule(9))
    folder = look(machine).chains[0].folder
    machine.repository.files.replace(folder / KEEP_NAME, b"{")
    with pytest.raises(FileDamaged, match=KEEP_NAME):
        look(machine)


def test_chains_with_and_without_encryption_are_seen_together() -> None:
    machine = make_machine({"disk0": 6})
    age(machine, 2)
    machine.store = msgspec.structs.replace(machine.store, passphrase="open sesame")
    machine.back_up()
    first, second = look(machine).chains
    assert (len(first.files), len(second.files)) == (2, 1)
    assert note(machine, options=points_rule(9)) == ""


def test_a_locked_point_makes_its_files_immutable_until_the_lock_ends(tmp_path: Path) -> None:
    machine = on_disk(tmp_path / "repository")
    clock = age(machine, 3)
    told = note(machine, options=points_rule(1, lock_days=2))
    [chain] = look(machine).chains
    paths = [chain.folder / file.name for file in chain.files]
    try:
        is_kept = told == "locked files are immutable"
        assert is_kept or told.startswith("locks are kept by retention alone: ")
        assert [is_immutable(path) for path in paths] == [is_kept] * 3
        assert planned(machine, points_rule(1)).steps == ()
        clock.moment += timedelta(days=3)
        note(machine, options=points_rule(1), is_clock_sure=False)
        assert [is_immutable(path) for path in paths] == [is_kept] * 3, "no lock ends by a clock that jumped"
    finally:
        note(machine, options=points_rule(1))
    assert not any(is_immutable(path) for path in paths)
    assert len(planned(machine, points_rule(1)).steps) == 1


def test_days_are_those_of_the_time_zone_of_the_job() -> None:
    machine = make_machine({"disk0": 6})
    age(machine, 1)
    options = msgspec.structs.replace(points_rule(9), timezone="Asia/Tokyo")
    [point] = planned(machine, options).judgement.plan.points
    assert (FIRST_DAY.day, point.day.day) == (1, 2)


def test_a_default_policy_is_seven_days() -> None:
    assert RetentionPolicy().keep == 7
