"""A sweep removes what a dead session left, and can say of everything else why it stays."""

from datetime import UTC, datetime, timedelta

import pytest

from holdfast.model.ids import MachineId, SessionId, TargetId
from holdfast.model.machine import AttachedDisk, Choice
from holdfast.model.tags import self_test_tag, session_tag
from holdfast.planning.sweep import (
    Decision,
    Kind,
    LeftSnapshot,
    LeftTarget,
    Owner,
    SweepFacts,
    SweepRules,
    doubtful_choices,
    plan_sweep,
)

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
S1 = SessionId("s1")
TARGET = TargetId("ab" * 16)
AT_ONCE = SweepRules(age_min_s=0)
ALL = SweepRules(with_unknown=True)


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def owner(*, is_running: bool = False, minutes: float = 300) -> dict[SessionId, Owner]:
    since = None if is_running else ago(minutes)
    return {S1: Owner(session_id=S1, is_running=is_running, over_since=since)}


def snapshot_decision(tag: str, minutes: float, owners: dict[SessionId, Owner], rules: SweepRules) -> Decision:
    left = LeftSnapshot(machine_id=MachineId("m1"), machine_name="web", tag=tag, created=ago(minutes))
    [decision] = plan_sweep(SweepFacts(snapshots=(left,), owners=owners), NOW, rules)
    assert (decision.kind, decision.machine_name, decision.tag) == (Kind.SNAPSHOT, "web", tag)
    return decision


def attached_decision(
    owners: dict[SessionId, Owner], rules: SweepRules, minutes: float = 300, *, tag: str = "", is_known: bool = True
) -> Decision:
    """Judge an attached disk, of a target unless there is a tag."""
    left = AttachedDisk(
        machine_id=MachineId("p1"),
        machine_name="proxy",
        file="[a] web.vmdk",
        since=ago(minutes),
        tag=tag,
        target_id=TargetId("") if tag else TARGET,
    )
    of = {TARGET: S1} if is_known else {}
    [decision] = plan_sweep(SweepFacts(attached=(left,), owners=owners, target_owners=of), NOW, rules)
    assert (decision.kind, decision.machine_name, decision.attached) == (Kind.ATTACHED, "proxy", left)
    return decision


@pytest.mark.parametrize("tag", ["", session_tag(S1)], ids=["of-a-target", "of-a-snapshot"])
def test_an_attached_disk_goes_when_its_session_is_over(tag: str) -> None:
    gone = attached_decision(owner(), SweepRules(), tag=tag)
    assert (gone.is_removed, gone.reason) == (True, "session s1 is over")
    kept = attached_decision(owner(is_running=True), ALL, tag=tag)
    assert (kept.is_removed, kept.reason) == (False, "session s1 still runs")
    assert not attached_decision(owner(), SweepRules(), 5, tag=tag).is_removed


def test_an_attached_disk_that_nobody_knows_stays_unless_told_otherwise() -> None:
    assert not attached_decision({}, SweepRules(), is_known=False).is_removed
    assert attached_decision({}, ALL, is_known=False).is_removed


def test_what_a_self_test_attached_goes_when_it_is_old() -> None:
    tag = self_test_tag("1234")
    assert not attached_decision({}, ALL, 5, tag=tag).is_removed
    assert attached_decision({}, SweepRules(), 90, tag=tag).is_removed


def test_attached_disks_come_first() -> None:
    attached = AttachedDisk(machine_id=MachineId("p1"), machine_name="p", file="f", since=ago(300), target_id=TARGET)
    snapshot = LeftSnapshot(machine_id=MachineId("m1"), machine_name="web", tag="", created=ago(300))
    target = LeftTarget(target_id=TARGET, machine_name="web-copy")
    facts = SweepFacts(snapshots=(snapshot,), targets=(target,), attached=(attached,))
    assert [one.kind for one in plan_sweep(facts, NOW, ALL)] == [Kind.ATTACHED, Kind.SNAPSHOT, Kind.TARGET]


def target_decision(owners: dict[SessionId, Owner], rules: SweepRules, *, is_known: bool = True) -> Decision:
    left = LeftTarget(target_id=TARGET, machine_name="web-copy")
    of = {TARGET: S1} if is_known else {}
    [decision] = plan_sweep(SweepFacts(targets=(left,), owners=owners, target_owners=of), NOW, rules)
    assert (decision.kind, decision.target_id) == (Kind.TARGET, TARGET)
    return decision


@pytest.mark.parametrize(
    "minutes, owners, rules, is_removed, reason",
    [
        (600, owner(is_running=True), SweepRules(), False, "session s1 still runs"),
        (600, owner(is_running=True), AT_ONCE, False, "session s1 still runs"),
        (60, owner(), SweepRules(), True, "session s1 is over"),
        (59, owner(), SweepRules(), False, "session s1 is over, but that is 59 min old"),
        (59, owner(), AT_ONCE, True, "session s1 is over"),
        (-5, owner(), SweepRules(), False, "session s1 is over, but that is 0 min old"),
        (9999, {}, SweepRules(), False, "session s1 is not known here; another installation may need it"),
        (9999, {}, ALL, True, "session s1 is not known here"),
        (20, {}, ALL, False, "session s1 is not known here, and it is only 20 min old"),
    ],
)
def test_a_snapshot_goes_when_its_session_is_over_and_it_is_old_enough(
    minutes: float, owners: dict[SessionId, Owner], rules: SweepRules, is_removed: bool, reason: str
) -> None:
    decision = snapshot_decision(session_tag(S1), minutes, owners, rules)
    assert (decision.is_removed, decision.reason) == (is_removed, reason)


def test_a_tag_of_somebody_else_is_kept() -> None:
    decision = snapshot_decision("mine", 9999, {}, SweepRules())
    assert (decision.is_removed, decision.reason) == (
        False,
        "its session is not known here; another installation may need it",
    )


@pytest.mark.parametrize(
    "tag, minutes, is_removed, reason",
    [
        (self_test_tag("ab"), 60, True, "a self-test left it"),
        (self_test_tag("ab"), 5, False, "a self-test may be under way, it is 5 min old"),
        ("", 61, True, "switching change tracking on left it"),
        ("", 1, False, "switching change tracking on may be under way, it is 1 min old"),
    ],
)
@pytest.mark.parametrize("rules", [SweepRules(), AT_ONCE])
def test_what_belongs_to_no_session_always_gets_its_hour(
    tag: str, minutes: float, is_removed: bool, reason: str, rules: SweepRules
) -> None:
    decision = snapshot_decision(tag, minutes, {}, rules)
    assert (decision.is_removed, decision.reason) == (is_removed, reason)


@pytest.mark.parametrize(
    "owners, rules, is_removed, reason",
    [
        (owner(is_running=True), AT_ONCE, False, "session s1 still runs"),
        (owner(minutes=60), SweepRules(), True, "session s1 is over"),
        (owner(minutes=10), SweepRules(), False, "session s1 is over, but that is 10 min old"),
        (owner(minutes=10), AT_ONCE, True, "session s1 is over"),
    ],
)
def test_the_age_of_a_target_counts_from_the_end_of_its_session(
    owners: dict[SessionId, Owner], rules: SweepRules, is_removed: bool, reason: str
) -> None:
    decision = target_decision(owners, rules)
    assert (decision.is_removed, decision.reason) == (is_removed, reason)


def test_a_target_of_nobody_is_kept_unless_told_otherwise() -> None:
    assert not target_decision({}, SweepRules(), is_known=False).is_removed
    assert target_decision({}, ALL, is_known=False).is_removed
    assert target_decision({}, SweepRules()).reason.startswith("session s1 is not known here")


def test_nothing_left_is_nothing_to_do() -> None:
    assert plan_sweep(SweepFacts(), NOW, SweepRules()) == ()


def undecided(name: str = "web", target_id: TargetId = TARGET) -> LeftTarget:
    return LeftTarget(target_id=target_id, machine_name=name, undecided="it was on")


def decided(facts: SweepFacts, **choices: Choice) -> Decision:
    [decision, *_] = plan_sweep(facts, NOW, SweepRules(choices=choices))
    return decision


def test_what_only_the_operator_can_decide_stays_until_there_is_a_choice() -> None:
    facts = SweepFacts(targets=(undecided(),), owners=owner(), target_owners={TARGET: S1})
    left = decided(facts)
    assert (left.is_removed, left.is_undecided, left.choice) == (False, True, None)
    assert left.reason == "session s1 is over, but it was on; choose with `--keep` or `--go-back`"
    for text in ("web", TARGET[:12]):
        chosen = decided(facts, **{text: Choice.KEEP})
        assert (chosen.is_removed, chosen.is_undecided, chosen.choice) == (True, False, Choice.KEEP)
        assert chosen.reason == "session s1 is over; as chosen, what it holds now is kept"
    assert decided(facts, web=Choice.GO_BACK).reason.endswith("it goes back to what it held")


def test_a_choice_ends_nothing_that_a_session_still_needs() -> None:
    facts = SweepFacts(targets=(undecided(),), owners=owner(is_running=True), target_owners={TARGET: S1})
    assert decided(facts, web=Choice.KEEP).reason == "session s1 still runs"


def test_a_choice_for_a_target_that_can_simply_be_given_up_changes_nothing() -> None:
    facts = SweepFacts(
        targets=(LeftTarget(target_id=TARGET, machine_name="web"),), owners=owner(), target_owners={TARGET: S1}
    )
    decision = decided(facts, web=Choice.KEEP)
    assert (decision.is_removed, decision.choice) == (True, None)


def test_a_name_that_two_machines_have_chooses_neither() -> None:
    other = TargetId("cd" * 16)
    facts = SweepFacts(
        targets=(undecided(), undecided(target_id=other)), owners=owner(), target_owners={TARGET: S1, other: S1}
    )
    rules = SweepRules(choices={"web": Choice.KEEP, other[:12]: Choice.GO_BACK, "db": Choice.KEEP})
    assert [one.choice for one in plan_sweep(facts, NOW, rules)] == [None, Choice.GO_BACK]
    assert list(doubtful_choices(facts, rules)) == [
        "several machines are called web: choose by the digits of the restore target",
        "there is nothing to choose for db",
    ]
