"""Of which kind the next point of a chain is by the days of its job."""

from datetime import date, datetime
from zoneinfo import ZoneInfo

from holdfast.model.fulls import FullPolicy, PointKind
from holdfast.planning.full_days import FullDecision, FullFacts, plan_point
from holdfast.storage.chains.chain import Chain


def full_day(chain: Chain, zone: ZoneInfo) -> date:
    """Return the day on which the session of a chain's full began, of its oldest file where the full is missing."""
    file = chain.full or chain.files[0]
    return file.contents.created.astimezone(zone).date()


def full_that_is_due(chain: Chain, began: datetime, policy: FullPolicy | None) -> str:
    """Return why the point of a session is an active full by the days of a policy, or an empty string."""
    decision = None if policy is None else _next_point(chain, began, policy)
    return f"{decision.kind}: {decision.reason}" if decision and decision.kind is PointKind.ACTIVE else ""


def why_continued(chain: Chain, began: datetime, policy: FullPolicy | None) -> str:
    """Return in words why the point of a session is an increment, and what it becomes."""
    if policy is None:
        return "the newest chain is continued"
    decision = _next_point(chain, began, policy)
    follows = "" if decision.kind is PointKind.INCREMENT else f", to become a {decision.kind}"
    return f"the newest chain is continued{follows}: {decision.reason}"


def _next_point(chain: Chain, began: datetime, policy: FullPolicy) -> FullDecision:
    zone = ZoneInfo(policy.timezone)
    return plan_point(policy, FullFacts(today=began.astimezone(zone).date(), last_full=full_day(chain, zone)))
