"""Limits over several processes: equal parts in the end, and never too much on the way there."""

import datetime as dt
import math
import random

import msgspec
import pytest

from holdfast.model.limit_shares import Member, Report, Share, Shares, Want
from holdfast.planning.limit_shares import LAPSE, decide, lowest_limits, still_there, wants_of
from holdfast.planning.throttling import Claim

NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
RULE, WRITE = "throttling rule office", "write limit of repository vault"


def want(count: int = 1, *limits: str, demand: float | None = None) -> Want:
    return Want(limits=limits or (RULE,), count=count, demand_bytes_s=demand)


class Process:
    """A process with transfers, and what it may use."""

    def __init__(self, name: str, *wants: Want, limit: float = 8.0) -> None:
        self.name = name
        self.wants = wants
        self.limit = limit
        self.shares: dict[str, Share] = {}
        self.sequence = 0

    def uses(self, limit: str) -> float:
        share = self.shares.get(limit)
        return 0.0 if share is None else share.rate_bytes_s

    def report(self) -> Report:
        self.sequence += 1
        names = {name for each in self.wants for name in each.limits}
        self.shares = {name: share for name, share in self.shares.items() if name in names}
        return Report(
            process=self.name,
            label=self.name,
            sequence=self.sequence,
            limits=dict.fromkeys(sorted(names), self.limit),
            wants=self.wants,
            holds={name: share.rate_bytes_s for name, share in self.shares.items()},
        )


class Keeper:
    """Who decides, and knows what was said so far."""

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}

    def hear(self, report: Report) -> Shares:
        others = [member for name, member in self.members.items() if name != report.process]
        member, shares = decide(others, report, NOON)
        if report.wants:
            self.members[report.process] = member
        else:
            self.members.pop(report.process, None)
        return shares

    def serve(self, *processes: Process) -> list[bool]:
        """Hear processes and answer each; return who of them is settled."""
        settled = []
        for process in processes:
            answer = self.hear(process.report())
            process.shares = dict(answer.shares)
            settled.append(answer.is_settled)
        return settled


# -- what is reported ------------------------------------------------------------------------------------------------


def test_transfers_that_are_alike_are_counted() -> None:
    both, one = {WRITE: 9.0, RULE: 8.0}, {RULE: 8.0}
    claims = [
        Claim(pools=both),
        Claim(pools=one),
        Claim(pools={}),
        Claim(pools=both),
        Claim(pools=one, demand_bytes_s=33),
        Claim(pools=one, demand_bytes_s=60),
    ]
    assert wants_of(claims) == (want(2, demand=64.0), want(), want(2, RULE, WRITE))


# -- shares ----------------------------------------------------------------------------------------------------------


def test_one_process_has_the_whole_limit() -> None:
    keeper, one = Keeper(), Process("one", want(3))
    assert keeper.serve(one) == [True]
    assert one.uses(RULE) == 8


def test_a_second_process_gets_its_part_when_the_first_has_let_go_of_it() -> None:
    keeper, one, two = Keeper(), Process("one", want(3)), Process("two", want())
    keeper.serve(one)
    assert keeper.serve(two) == [False]
    assert two.uses(RULE) == 0
    assert keeper.serve(one) == [False], "it has to say that it lets go"
    assert one.uses(RULE) == 6
    keeper.serve(two)
    assert two.uses(RULE) == 0, "the answer may not have come"
    assert keeper.serve(one, two) == [True, True]
    assert (one.uses(RULE), two.uses(RULE)) == (6, 2)


def test_what_a_process_gives_up_the_others_get() -> None:
    keeper, one, two = Keeper(), Process("one", want()), Process("two", want())
    for _ in range(3):
        keeper.serve(one, two)
    one.wants = ()
    keeper.serve(one, two)
    assert two.uses(RULE) == 8
    assert list(keeper.members) == ["two"]


def test_what_a_process_does_not_use_the_others_may() -> None:
    keeper, one, two = Keeper(), Process("one", want(demand=1.0)), Process("two", want(3))
    for _ in range(3):
        keeper.serve(one, two)
    assert (one.uses(RULE), two.uses(RULE)) == pytest.approx((1, 7))


def test_a_transfer_under_two_limits_gets_the_lesser_and_the_rest_goes_to_others() -> None:
    keeper, one, two = Keeper(), Process("one", want(2, RULE, WRITE)), Process("two", want(2))
    for _ in range(3):
        keeper.serve(one, two)
    assert (one.uses(RULE), one.uses(WRITE), two.uses(RULE)) == (4, 4, 4)


def test_the_lowest_of_what_processes_were_told_is_the_limit() -> None:
    keeper, one, two = Keeper(), Process("one", want()), Process("two", want(), limit=4.0)
    for _ in range(4):
        keeper.serve(one, two)
    assert lowest_limits(keeper.members.values()) == {RULE: 4.0}
    assert (one.uses(RULE), two.uses(RULE)) == (2, 2)


def test_a_limit_that_was_lowered_takes_no_more_from_a_process_than_it_must() -> None:
    keeper, one, two = Keeper(), Process("one", want()), Process("two", want())
    for _ in range(3):
        keeper.serve(one, two)
    one.limit, one.shares = 4.0, {RULE: Share(rate_bytes_s=2.0, limit_bytes_s=4.0)}
    keeper.serve(one)
    assert one.uses(RULE) == 2


@pytest.mark.parametrize("lost", ["report", "answer"])
def test_what_was_lost_on_the_way_makes_nobody_use_too_much(lost: str) -> None:
    keeper, one, two = Keeper(), Process("one", want()), Process("two", want())
    keeper.serve(one)
    report = one.report()
    if lost == "answer":
        keeper.hear(report)
    keeper.serve(two)
    assert one.uses(RULE) + two.uses(RULE) <= 8
    keeper.serve(one, two, one, two)
    assert (one.uses(RULE), two.uses(RULE)) == (4, 4)


def test_whatever_happens_limits_hold_and_shares_are_equal_in_the_end(seed: int) -> None:
    for run in range(200):
        rng = random.Random(seed + run)
        keeper, alive = Keeper(), [Process(str(number)) for number in range(4)]
        for step in range(60):
            happen(rng, keeper, alive, step)
            for name in (RULE, WRITE):
                assert sum(process.uses(name) for process in alive) <= 8 + 1e-9, (seed + run, step)
        for _ in range(6):
            keeper.serve(*alive)
        expect_fair(alive, seed + run)


def happen(rng: random.Random, keeper: Keeper, alive: list[Process], step: int) -> None:
    """Let a process report, want something else, die, not be heard, or not hear."""
    one = rng.choice(alive)
    if rng.random() < 0.3:
        one.wants = random_wants(rng)
    report = one.report()
    if rng.random() < 0.8:
        answer = keeper.hear(report)
        if rng.random() < 0.8:
            one.shares = dict(answer.shares)
    if rng.random() < 0.05:  # it dies, and is found out
        keeper.members.pop(one.name, None)
        alive[alive.index(one)] = Process(f"{one.name} after {step}")


def random_wants(rng: random.Random) -> tuple[Want, ...]:
    choices = [want(), want(1, WRITE), want(1, RULE, WRITE), want(demand=2.0)]
    return tuple(msgspec.structs.replace(each, count=rng.randrange(1, 4)) for each in choices if rng.random() < 0.4)


def expect_fair(processes: list[Process], seed: int) -> None:
    """Everybody has what he would if all of it were decided at once, and no limit that somebody wants is left over."""
    keeper = Keeper()
    fresh = [Process(process.name, *process.wants) for process in processes]
    for _ in range(10):
        keeper.serve(*fresh)
    for process, other in zip(processes, fresh, strict=True):
        for name in (RULE, WRITE):
            assert math.isclose(process.uses(name), other.uses(name), abs_tol=1e-6), (seed, process.name, name)


# -- who is there ----------------------------------------------------------------------------------------------------


def member(name: str, heard: dt.datetime) -> Member:
    return Member(report=Report(process=name, label=name, sequence=1), heard=heard, holds={RULE: 4.0})


def test_who_was_not_heard_for_a_while_is_gone() -> None:
    members = [member("dead", NOON), member("alive", NOON + LAPSE / 2)]
    assert still_there(members, NOON, NOON + LAPSE) == members[1:]


def test_while_nobody_listened_nobody_could_be_heard() -> None:
    members = [member("one", NOON), member("two", NOON)]
    back = NOON + 10 * LAPSE
    assert still_there(members, back, back) == members
    assert still_there(members, back, back + LAPSE) == []
