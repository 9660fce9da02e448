"""Who gets a slot next: who has one and who asks in, grants with their reasons out."""

from collections import Counter
from collections.abc import Sequence

from holdfast.model.placement import Candidate, Claim, Grant, Held


def give_slots(held: Sequence[Held], waiting: Sequence[Claim]) -> list[Grant]:
    """Return the grants that can be made now, the most urgent first.

    More urgent claims go first, then those of who began earlier, then in the order of ``waiting``. One that has to wait
    holds up no other that does not need the same.
    """
    at_proxy = Counter(one.grant.proxy for one in held)
    at_repository = Counter(one.claim.repository for one in held)
    grants = []
    for claim in sorted(waiting, key=lambda claim: (-claim.priority, claim.asked)):
        if at_repository[claim.repository] >= claim.repository_tasks:
            continue
        chosen = _free(claim.candidates, at_proxy)
        if chosen is None:
            continue
        busy = f"{at_proxy[chosen.name]} of {chosen.tasks} slots were taken"
        reason = "; ".join(filter(None, (chosen.reason, busy)))
        grants.append(Grant(ticket=claim.ticket, proxy=chosen.name, reason=reason))
        at_proxy[chosen.name] += 1
        at_repository[claim.repository] += 1
    return grants


def _free(candidates: Sequence[Candidate], taken: Counter[str]) -> Candidate | None:
    """Return the best proxy with a free slot; of equally good ones the one with the fewest tasks."""
    free = [candidate for candidate in candidates if taken[candidate.name] < candidate.tasks]
    return min(free, key=lambda one: (not one.is_preferred, one.rank, taken[one.name]), default=None)
