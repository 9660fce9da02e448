"""No limit is ever exceeded, the urgent go first, and nobody waits for what others do not need."""

import datetime as dt
import random

from holdfast.model.ids import RepositoryName
from holdfast.model.placement import Candidate, Claim, Held, Priority
from holdfast.planning.slots import give_slots

NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


def claim(
    ticket: str,
    *candidates: Candidate,
    repository: str = "vault",
    limit: int = 4,
    priority: int = Priority.BACKUP,
    minute: int = 0,
) -> Claim:
    return Claim(
        ticket=ticket,
        workflow_id=ticket,
        run_id="r",
        candidates=candidates,
        repository=RepositoryName(repository),
        repository_tasks=limit,
        priority=priority,
        asked=NOON + dt.timedelta(minutes=minute),
    )


def at(name: str, *, tasks: int = 1, rank: int = 0, is_preferred: bool = False) -> Candidate:
    return Candidate(name=name, tasks=tasks, rank=rank, is_preferred=is_preferred, reason=f"rank {rank}")


def given(held: list[Held], *waiting: Claim) -> dict[str, str]:
    return {grant.ticket: grant.proxy for grant in give_slots(held, waiting)}


def held(*claims: Claim) -> list[Held]:
    return [Held(claim=one, grant=grant, since=NOON) for one in claims for grant in give_slots([], [one])]


def test_a_machine_with_more_disks_than_slots_gets_what_there_is() -> None:
    proxy = at("a", tasks=2)
    assert given([], *(claim(str(disk), proxy) for disk in range(4))) == {"0": "a", "1": "a"}


def test_the_limit_of_the_repository_holds_over_all_proxies() -> None:
    proxies = [at("a", tasks=9), at("b", tasks=9)]
    first = held(claim("1", proxies[0], limit=3), claim("2", proxies[1], limit=3))
    assert given(first, *(claim(ticket, *proxies, limit=3) for ticket in "345")) == {"3": "a"}
    assert given(first, claim("x", *proxies, repository="other", limit=1)) == {"x": "a"}


def test_the_best_way_goes_before_the_least_load_and_a_full_proxy_is_passed() -> None:
    near, far = at("near", tasks=2, rank=0), at("far", tasks=2, rank=2)
    claims = [claim(str(number), far, near) for number in range(5)]
    assert given([], *claims) == {"0": "near", "1": "near", "2": "far", "3": "far"}


def test_of_equal_ways_the_least_busy_is_taken() -> None:
    a, b = at("a", tasks=4), at("b", tasks=4)
    assert given(held(claim("0", a), claim("1", a), claim("2", b)), claim("3", a, b)) == {"3": "b"}


def test_a_proxy_close_to_the_repository_goes_first_and_another_when_it_is_full() -> None:
    close, other = at("close", rank=2, is_preferred=True), at("other", rank=0)
    assert given([], claim("1", other, close), claim("2", other, close)) == {"1": "close", "2": "other"}


def test_restores_go_before_backups_and_of_equals_who_began_earlier() -> None:
    proxy = at("a", tasks=1)
    backups = [claim("late", proxy, minute=5), claim("early", proxy, minute=1)]
    assert given([], *backups) == {"early": "a"}
    assert given([], *backups, claim("restore", proxy, minute=9, priority=Priority.RESTORE)) == {"restore": "a"}


def test_who_waits_holds_up_nobody_who_needs_something_else() -> None:
    assert given(held(claim("0", at("a"))), claim("1", at("a")), claim("2", at("b"))) == {"2": "b"}


def test_a_grant_says_why() -> None:
    [grant] = give_slots(held(claim("0", at("a", tasks=3))), [claim("1", at("a", tasks=3, rank=1))])
    assert grant.reason == "rank 1; 1 of 3 slots were taken"
    assert give_slots([], [claim("1")]) == []


def test_no_limit_is_ever_exceeded_and_nothing_that_fits_waits(seed: int) -> None:
    rng = random.Random(seed)
    proxies = [at(name, tasks=rng.randrange(1, 4), rank=rng.randrange(3)) for name in "abc"]
    limits = {"vault": 3, "other": 5}
    taken: list[Held] = []
    waiting: list[Claim] = []
    for step in range(300):
        if rng.random() < 0.6:
            repository = rng.choice(list(limits))
            chosen = rng.sample(proxies, rng.randrange(1, 4))
            waiting.append(claim(str(step), *chosen, repository=repository, limit=limits[repository], minute=step))
        elif taken:
            taken.pop(rng.randrange(len(taken)))
        grants = {grant.ticket: grant for grant in give_slots(taken, waiting)}
        taken += [Held(claim=one, grant=grants[one.ticket], since=NOON) for one in waiting if one.ticket in grants]
        waiting = [one for one in waiting if one.ticket not in grants]
        for proxy in proxies:
            assert sum(one.grant.proxy == proxy.name for one in taken) <= proxy.tasks
        for name, limit in limits.items():
            assert sum(one.claim.repository == name for one in taken) <= limit
        assert give_slots(taken, waiting) == []
