"""What a sweep removes, what it keeps, and why: facts in, a plan that can be printed out.

A sweep is careful: what nobody here knows may belong to another installation on the same hypervisor, and stays unless
the operator says otherwise.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

from holdfast.model.ids import MachineId, SessionId, TargetId
from holdfast.model.machine import AttachedDisk, Choice
from holdfast.model.tags import is_self_test, session_of

AGE_MIN_S: Final = 3600
"""Seconds that something stays at least: whoever made it may still be cleaning up itself."""
DIGITS: Final = 12
"""Of the id of a target, as people see it."""
_MINUTE_S: Final = 60


class LeftSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of ours that is there."""

    machine_id: MachineId
    machine_name: str
    tag: str
    created: datetime


class LeftTarget(msgspec.Struct, frozen=True, kw_only=True):
    """A restore target that was neither committed nor abandoned."""

    target_id: TargetId
    machine_name: str
    """Of the machine that the restore is for."""
    undecided: str = ""
    """Why only the operator can say what becomes of it; empty when it can simply be given up."""


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a session."""

    session_id: SessionId
    is_running: bool
    over_since: datetime | None = None
    """When it ended, or the latest moment that is known of it; None while it runs."""


class SweepFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a plan is made of."""

    snapshots: tuple[LeftSnapshot, ...] = ()
    targets: tuple[LeftTarget, ...] = ()
    attached: tuple[AttachedDisk, ...] = ()
    """Disks that are attached to proxies."""
    owners: dict[SessionId, Owner] = {}
    """The sessions that are known here."""
    target_owners: dict[TargetId, SessionId] = {}
    """Whose targets they are, as far as that is known."""


class SweepRules(msgspec.Struct, frozen=True, kw_only=True):
    """How careful the operator wants a sweep to be."""

    age_min_s: int = AGE_MIN_S
    with_unknown: bool = False
    """Remove also what no known session made."""
    choices: dict[str, Choice] = {}
    """What the operator wants machines to hold that only the operator can decide about, by name or by target."""


class Kind(StrEnum):
    """What may be left behind."""

    SNAPSHOT = "snapshot"
    TARGET = "restore target"
    ATTACHED = "attached disk"


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one thing, and why."""

    kind: Kind
    machine_name: str
    is_removed: bool
    """Planned, not done yet."""
    reason: str
    machine_id: MachineId = MachineId("")
    tag: str = ""
    """Of a snapshot."""
    target_id: TargetId = TargetId("")
    """Of a restore target."""
    attached: AttachedDisk | None = None
    """The attached disk; ``machine_name`` is then that of the proxy."""
    choice: Choice | None = None
    """How a restore target ends; None: it is given up."""
    is_undecided: bool = False
    """Whether it stays because nobody has chosen."""
    problem: str = ""
    """Why it could not be removed after all."""


def plan_sweep(facts: SweepFacts, now: datetime, rules: SweepRules) -> tuple[Decision, ...]:
    """Return a decision for each thing that is left: attached disks, snapshots, targets, each in the order given.

    A disk that stays attached keeps its snapshot or target from being removed, so they are dealt with first.
    """
    return (
        *_about_attached(facts, now, rules),
        *_about_snapshots(facts, now, rules),
        *_about_targets(facts, now, rules),
    )


def _about_attached(facts: SweepFacts, now: datetime, rules: SweepRules) -> Iterator[Decision]:
    for disk in facts.attached:
        if disk.target_id:
            session_id = facts.target_owners.get(disk.target_id)
            owner = None if session_id is None else facts.owners.get(session_id)
            is_removed, reason = _judged(session_id, owner, disk.since, now, rules)
        else:
            is_removed, reason = _judged_tagged(disk.tag, disk.since, facts, now, rules)
        yield Decision(
            kind=Kind.ATTACHED,
            machine_name=disk.machine_name,
            is_removed=is_removed,
            reason=reason,
            machine_id=disk.machine_id,
            tag=disk.tag,
            target_id=disk.target_id,
            attached=disk,
        )


def _about_snapshots(facts: SweepFacts, now: datetime, rules: SweepRules) -> Iterator[Decision]:
    for snapshot in facts.snapshots:
        is_removed, reason = _judged_tagged(snapshot.tag, snapshot.created, facts, now, rules)
        yield Decision(
            kind=Kind.SNAPSHOT,
            machine_name=snapshot.machine_name,
            is_removed=is_removed,
            reason=reason,
            machine_id=snapshot.machine_id,
            tag=snapshot.tag,
        )


def _about_targets(facts: SweepFacts, now: datetime, rules: SweepRules) -> Iterator[Decision]:
    shared = _shared_names(facts)
    rules = msgspec.structs.replace(rules, choices={k: v for k, v in rules.choices.items() if k not in shared})
    for target in facts.targets:
        session_id = facts.target_owners.get(target.target_id)
        owner = None if session_id is None else facts.owners.get(session_id)
        since = None if owner is None else owner.over_since
        is_removed, reason = _judged(session_id, owner, since, now, rules)
        decision = Decision(
            kind=Kind.TARGET,
            machine_name=target.machine_name,
            is_removed=is_removed,
            reason=reason,
            target_id=target.target_id,
        )
        yield _chosen(decision, target, rules) if is_removed and target.undecided else decision


def doubtful_choices(facts: SweepFacts, rules: SweepRules) -> Iterator[str]:
    """Yield the choices that fit nothing, or more than one machine and so none, in words."""
    undecided = [one for one in facts.targets if one.undecided]
    known = {text for one in undecided for text in (one.machine_name, one.target_id[:DIGITS])}
    for text in rules.choices:
        if text not in known:
            yield f"there is nothing to choose for {text}"
        elif text in _shared_names(facts):
            yield f"several machines are called {text}: choose by the digits of the restore target"


def _shared_names(facts: SweepFacts) -> set[str]:
    counts = Counter(one.machine_name for one in facts.targets if one.undecided)
    return {name for name, count in counts.items() if count > 1}


def _chosen(decision: Decision, target: LeftTarget, rules: SweepRules) -> Decision:
    """Return what becomes of a target that nobody needs and that cannot simply be given up."""
    choice = rules.choices.get(target.target_id[:DIGITS]) or rules.choices.get(target.machine_name)
    if choice is None:
        reason = f"{decision.reason}, but {target.undecided}; choose with `--keep` or `--go-back`"
        return msgspec.structs.replace(decision, is_removed=False, reason=reason, is_undecided=True)
    what = "what it holds now is kept" if choice is Choice.KEEP else "it goes back to what it held"
    return msgspec.structs.replace(decision, reason=f"{decision.reason}; as chosen, {what}", choice=choice)


def _judged_tagged(tag: str, since: datetime, facts: SweepFacts, now: datetime, rules: SweepRules) -> tuple[bool, str]:
    """Judge what was made under the tag of a snapshot."""
    if not tag or is_self_test(tag):
        # No session answers for these, so they always get their time, whatever the rules say.
        what = "a self-test" if tag else "switching change tracking on"
        age = now - since
        is_old = age >= timedelta(seconds=AGE_MIN_S)
        return is_old, f"{what} left it" if is_old else f"{what} may be under way, it is {_age(age)} old"
    session_id = session_of(tag)
    owner = None if session_id is None else facts.owners.get(session_id)
    return _judged(session_id, owner, since, now, rules)


def _judged(
    session_id: SessionId | None, owner: Owner | None, since: datetime | None, now: datetime, rules: SweepRules
) -> tuple[bool, str]:
    """Return whether something goes, and why. ``since`` is what its age is counted from, None when nobody knows."""
    who = "its session" if session_id is None else f"session {session_id}"
    age = None if since is None else now - since
    if owner is None:
        return _judged_unknown(who, age, rules)
    if owner.is_running:
        return False, f"{who} still runs"
    if age is not None and age < timedelta(seconds=rules.age_min_s):
        return False, f"{who} is over, but that is {_age(age)} old"
    return True, f"{who} is over"


def _judged_unknown(who: str, age: timedelta | None, rules: SweepRules) -> tuple[bool, str]:
    if not rules.with_unknown:
        return False, f"{who} is not known here; another installation may need it"
    if age is not None and age < timedelta(seconds=rules.age_min_s):
        return False, f"{who} is not known here, and it is only {_age(age)} old"
    return True, f"{who} is not known here"


def _age(age: timedelta) -> str:
    return f"{max(0, round(age.total_seconds() / _MINUTE_S))} min"
