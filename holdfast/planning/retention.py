"""What retention keeps, merges and removes of one machine's chains, and why; docs/retention.md has the rules in words.

A plan is made of facts alone, so what is printed before a run is what the run does. A point goes only when the plan
names it: what the facts do not speak of is left alone.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from enum import StrEnum
from operator import attrgetter

import msgspec

from holdfast.model.ids import PointId
from holdfast.model.retention import ChainFact, FileFact, KeepUnit, Method, PointFact, RetentionPolicy
from holdfast.planning.calendar_marks import kept_until


class Verdict(StrEnum):
    """What becomes of a point."""

    KEPT = "kept"
    MERGED = "merged"
    """It goes, and what its file holds for later points moves on."""
    DELETED = "deleted"


class PointVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one point, and why, to be printed."""

    chain: str
    number: int
    point_id: PointId
    day: date
    verdict: Verdict
    reason: str


class Merge(msgspec.Struct, frozen=True, kw_only=True):
    """Increments whose units move into the full before them, which becomes the point of the last of them."""

    chain: str
    into: str
    files: tuple[str, ...]
    """In the order of their points."""
    bytes_moved: int
    """At most: the sizes of the increments."""


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """Files that are removed, in this order: nothing that stays, and nothing behind it in the list, needs one."""

    chain: str
    files: tuple[str, ...]
    bytes_freed: int
    is_whole_chain: bool


class RetentionPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is done with the chains of a machine; chains and points in the order of the facts."""

    points: tuple[PointVerdict, ...] = ()
    merges: tuple[Merge, ...] = ()
    removals: tuple[Removal, ...] = ()

    @property
    def is_idle(self) -> bool:
        """Return whether nothing is to be done."""
        return not self.merges and not self.removals


class _Needed(msgspec.Struct, frozen=True, kw_only=True):
    """The points that must stay for their own sake, with the reason."""

    reasons: Mapping[PointId, str]
    now: datetime

    def has(self, file: FileFact) -> bool:
        return file.point.point_id in self.reasons


def plan_retention(
    chains: Sequence[ChainFact],
    policy: RetentionPolicy,
    method: Method,
    now: datetime,
    also: Mapping[PointId, str] | None = None,
) -> RetentionPlan:
    """Return what is done with a machine's chains, which are given oldest first.

    ``now`` is in the time zone of the job, whose days are counted. Numbers of points grow within a chain. ``also`` are
    points that stay whatever the policy says, and why.
    """
    leaders = _leaders(chains)
    wanted = _wanted(chains, policy, now.date(), leaders)
    reasons = {**(also or {}), **wanted, **_protected(chains, policy, now)}
    needed = _Needed(now=now, reasons=_with_quick(reasons, leaders))
    return _joined([_plan_chain(chain, method, needed) for chain in chains])


def oldest_day_kept(policy: RetentionPolicy, today: date) -> date:
    """Return the first day whose points stay when days are counted: today is not one of the days."""
    return today - timedelta(days=policy.keep)


def _leaders(chains: Sequence[ChainFact]) -> dict[PointId, PointFact]:
    """Return for each point of a quick backup the one of its job before it in its chain, to which it belongs.

    One that has none before it any more, since a full was made of it, is a point like others.
    """
    leaders: dict[PointId, PointFact] = {}
    for chain in chains:
        leader: PointFact | None = None
        for file in chain.files:
            point = file.point
            if point.is_quick and leader is not None:
                leaders[point.point_id] = leader
            else:
                leader = point
    return leaders


def _with_quick(reasons: Mapping[PointId, str], leaders: Mapping[PointId, PointFact]) -> dict[PointId, str]:
    """Return the same with the quick points that stay because the point stays to which they belong."""
    quick = {
        point: f"quick backup, goes with point {leader.number}"
        for point, leader in leaders.items()
        if leader.point_id in reasons
    }
    return {**quick, **reasons}


def _wanted(
    chains: Sequence[ChainFact], policy: RetentionPolicy, today: date, leaders: Mapping[PointId, PointFact]
) -> dict[PointId, str]:
    """Return the points that the rule of days or points keeps; the newest always stays.

    Marked points and those of quick backups are not counted.
    """
    points = [file.point for chain in chains for file in chain.files]
    if leaders:
        points = [point for point in points if point.point_id not in leaders]
    # Most points have no mark: this way they cost no call.
    counted = [point for point in points if not point.marks or not _is_marked(point, policy, today)]
    counted.sort(key=attrgetter("day"))
    wanted: dict[PointId, str] = {}
    if policy.unit is KeepUnit.POINTS:
        wanted |= _named(counted[-max(policy.keep, 1) :], f"one of the newest {max(policy.keep, 1)}")
    else:
        minimum = max(policy.minimum_points, 1)
        first_day = oldest_day_kept(policy, today)
        wanted |= _named(counted[-minimum:], f"one of the newest {minimum}, which always stay")
        wanted |= _named((p for p in counted if p.day >= first_day), f"not older than {first_day}")
    for chain in chains:
        if chain.is_continued and chain.files:
            newest = chain.files[-1].point
            wanted.setdefault(newest.point_id, "the newest of the chain that is continued")
    return wanted


def _named(points: Iterable[PointFact], reason: str) -> dict[PointId, str]:
    return {point.point_id: reason for point in points}


def _is_marked(point: PointFact, policy: RetentionPolicy, today: date) -> bool:
    return any(kept_until(mark, policy) > today for mark in point.marks)


def _protected(chains: Sequence[ChainFact], policy: RetentionPolicy, now: datetime) -> dict[PointId, str]:
    """Return the points that a lock or a mark keeps."""
    reasons: dict[PointId, str] = {}
    points = [file.point for chain in chains for file in chain.files]
    for point in (point for point in points if point.marks or point.locked_until is not None):
        said = [
            f"{mark.kind} until {until}" for mark in point.marks if (until := kept_until(mark, policy)) > now.date()
        ]
        if point.locked_until is not None and point.is_locked(now):
            said.append(f"locked until {point.locked_until.isoformat(timespec='minutes')}")
        if said:
            reasons[point.point_id] = ", ".join(said)
    return reasons


def _plan_chain(chain: ChainFact, method: Method, needed: _Needed) -> RetentionPlan:
    if not any(needed.has(file) for file in chain.files):
        return _removed(chain, chain.files, "outdated, as all points of its chain are")
    if any(file.kind == "rollback" for file in chain.files):
        return _plan_rollbacks(chain, needed)
    if method is Method.FOREVER and chain.is_continued:
        return _plan_merge(chain, needed)
    return _plan_forward(chain, needed)


def _plan_rollbacks(chain: ChainFact, needed: _Needed) -> RetentionPlan:
    """Let the oldest points go one by one: nothing rests on them. The full stays, for increments may follow it."""
    rollbacks = sum(file.kind == "rollback" for file in chain.files)
    first = min(_first_index(chain, needed.has), rollbacks)
    gone, rest = chain.files[:first], chain.files[first:]
    removed = _removed(chain, gone, "outdated") if gone else RetentionPlan()
    return msgspec.structs.replace(removed, points=removed.points + _kept(chain, rest, needed))


def _plan_merge(chain: ChainFact, needed: _Needed) -> RetentionPlan:
    """Move the full forward to the first point that has to stay.

    The file of a locked increment may not be taken away, so the full stops at the point before it.
    """
    first = _first_index(chain, needed.has)
    if first and chain.files[first].point.is_locked(needed.now):
        first -= 1
    kept = _kept(chain, chain.files[first:], needed)
    if not first:
        return RetentionPlan(points=kept)
    full, moved = chain.files[0], chain.files[1 : first + 1]
    merge = Merge(
        chain=chain.chain,
        into=full.name,
        files=tuple(file.name for file in moved),
        bytes_moved=sum(file.size_bytes for file in moved),
    )
    merged = tuple(_verdict(chain, file, Verdict.MERGED, "outdated") for file in chain.files[:first])
    return RetentionPlan(points=merged + kept, merges=(merge,))


def _plan_forward(chain: ChainFact, needed: _Needed) -> RetentionPlan:
    """Keep a chain while a point of it is needed; only the increments behind the last needed one may go before."""
    last = len(chain.files) - _first_index(chain, needed.has, backwards=True)
    rest, gone = chain.files[:last], chain.files[last:]
    removed = _removed(chain, gone, "outdated, and nothing rests on it") if gone else RetentionPlan()
    return msgspec.structs.replace(removed, points=_kept(chain, rest, needed) + removed.points)


def _first_index(chain: ChainFact, is_sought: Callable[[FileFact], bool], *, backwards: bool = False) -> int:
    files = reversed(chain.files) if backwards else chain.files
    return next(index for index, file in enumerate(files) if is_sought(file))


def _kept(chain: ChainFact, files: Sequence[FileFact], needed: _Needed) -> tuple[PointVerdict, ...]:
    verdicts = []
    dependent: int | None = None
    for file in reversed(files):
        point = file.point
        reason = needed.reasons.get(point.point_id)
        if reason is None:
            reason = f"outdated, but point {dependent} rests on it"
        else:
            dependent = point.number
        verdicts.append(_verdict(chain, file, Verdict.KEPT, reason))
    return tuple(reversed(verdicts))


def _removed(chain: ChainFact, files: Sequence[FileFact], reason: str) -> RetentionPlan:
    """Return the removal of files: increments from the newest on, rollback files from the oldest, a full last."""
    order = files if any(file.kind == "rollback" for file in files) else tuple(reversed(files))
    removal = Removal(
        chain=chain.chain,
        files=tuple(file.name for file in order),
        bytes_freed=sum(file.size_bytes for file in files),
        is_whole_chain=len(files) == len(chain.files),
    )
    points = tuple(_verdict(chain, file, Verdict.DELETED, reason) for file in files)
    return RetentionPlan(points=points, removals=(removal,) if files else ())


def _verdict(chain: ChainFact, file: FileFact, verdict: Verdict, reason: str) -> PointVerdict:
    point = file.point
    return PointVerdict(
        chain=chain.chain,
        number=point.number,
        point_id=point.point_id,
        day=point.day,
        verdict=verdict,
        reason=reason,
    )


def plan_of_gone_machine(chains: Sequence[ChainFact], policy: RetentionPolicy, now: datetime) -> RetentionPlan:
    """Return what is done with the chains of a machine whose points go, given oldest first: marks and locks hold."""
    needed = _Needed(now=now, reasons=_with_quick(_protected(chains, policy, now), _leaders(chains)))
    ended = [msgspec.structs.replace(chain, is_continued=False) for chain in chains]
    return _joined([_plan_chain(chain, Method.FORWARD, needed) for chain in ended])


def _joined(plans: Sequence[RetentionPlan]) -> RetentionPlan:
    return RetentionPlan(
        points=tuple(point for plan in plans for point in plan.points),
        merges=tuple(merge for plan in plans for merge in plan.merges),
        removals=tuple(removal for plan in plans for removal in plan.removals),
    )


def is_given_up(last_tried: date, today: date, days: int | None) -> bool:
    """Return whether the points of a machine go because its job has not tried it for more than ``days`` days.

    A machine that fails is tried, and so is never given up; None keeps the points of all machines for ever.
    """
    return days is not None and (today - last_tried).days > days
