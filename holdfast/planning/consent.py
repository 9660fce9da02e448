"""Whether more would go at once than the rules until now let go, which somebody has to agree to first.

A rule that was made stricter, and the first rule of chains that had none, only hold once somebody agreed: until then
the points stay that the rules before keep. What grows old under rules that were agreed to goes without a question.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from holdfast.model.ids import PointId
from holdfast.model.retention import ChainFact, RetentionOptions
from holdfast.planning.retention import RetentionPlan, Verdict, plan_of_gone_machine, plan_retention

_HELD = "the rules until now keep it, and nobody agreed to the new ones yet"


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """A plan that may be carried out, and what waits for consent."""

    plan: RetentionPlan
    held: tuple[PointId, ...] = ()
    """Points that the new rules let go and the plan keeps."""


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What decides about the points of a machine."""

    now: RetentionOptions
    before: RetentionOptions | None
    """The rules that held last; None: there were none, so everything stayed."""
    is_gone: bool = False
    """The machine is not tried any more, for longer than the rules of now wait."""
    has_consent: bool = False
    also: Mapping[PointId, str] = {}
    """Points that stay whatever the rules say, and why."""


def judge(chains: Sequence[ChainFact], rules: Rules, now: datetime) -> Judgement:
    """Return the plan for a machine's chains, oldest first; ``now`` is in the time zone of the rules."""
    wish = _plan(chains, rules, rules.now, now, is_gone=rules.is_gone)
    going = _going(wish)
    if rules.has_consent or not going or rules.before == rules.now:
        return Judgement(plan=wish)
    gone_before = _going(_plan_before(chains, rules, now))
    held = tuple(point for point in going if point not in gone_before)
    if not held:
        return Judgement(plan=wish)
    everything = (file.point.point_id for chain in chains for file in chain.files)
    also = {**rules.also, **{point: _HELD for point in everything if point not in gone_before}}
    return Judgement(plan=plan_retention(chains, rules.now.policy, rules.now.method, now, also), held=held)


def asks_first(now: RetentionOptions, before: RetentionOptions | None) -> bool:
    """Return whether somebody has to agree before machines that are gone lose what the rules before kept."""
    return before is None or _is_sooner(now, before)


def _plan(
    chains: Sequence[ChainFact], rules: Rules, options: RetentionOptions, now: datetime, *, is_gone: bool
) -> RetentionPlan:
    if is_gone:
        return plan_of_gone_machine(chains, options.policy, now)
    return plan_retention(chains, options.policy, options.method, now, rules.also)


def _plan_before(chains: Sequence[ChainFact], rules: Rules, now: datetime) -> RetentionPlan:
    before = rules.before
    if before is None:
        return RetentionPlan()
    return _plan(chains, rules, before, now, is_gone=rules.is_gone and not _is_sooner(rules.now, before))


def _is_sooner(now: RetentionOptions, before: RetentionOptions) -> bool:
    """Return whether machines that are gone lose their points after fewer days than before."""
    if before.gone_after_days is None:
        return True
    return now.gone_after_days is not None and now.gone_after_days < before.gone_after_days


def _going(plan: RetentionPlan) -> tuple[PointId, ...]:
    return tuple([point.point_id for point in plan.points if point.verdict is not Verdict.KEPT])
