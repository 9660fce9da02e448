"""Who is held back by what, when, and how limits are shared."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.model.ids import RepositoryName
from holdfast.planning.throttling import (
    IDLE_BYTES_S,
    AddressRange,
    Allotment,
    Claim,
    Direction,
    Ends,
    Hours,
    Limits,
    RepositoryLimits,
    Rule,
    Transfer,
    Use,
    allot,
    pools_of,
    rule_for,
    use_after,
)

VAULT = RepositoryName("vault")
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)  # a Monday
MB = 1_000_000
HERE, THERE = "10.1.0.5", "10.2.0.7"
MON, TUE, WED, SAT, SUN = 0, 1, 2, 5, 6
EVERY_DAY = frozenset(range(7))


def rule(
    limit: int = 8 * MB,
    source: str = "10.1.0.0/16",
    target: str = "10.2.0.0/16",
    hours: Hours | None = None,
    *,
    restores: bool = False,
) -> Rule:
    return Rule(
        name=f"{limit}",
        source=AddressRange.parse(source),
        target=AddressRange.parse(target),
        limit_bytes_s=limit,
        hours=hours,
        holds_restores=restores,
    )


def transfer(near: str = HERE, far: str = THERE, direction: Direction = Direction.WRITE) -> Transfer:
    return Transfer(repository=VAULT, direction=direction, ends=Ends.parse(near, far))


def hours(text: str, days: Sequence[int] = tuple(EVERY_DAY), zone: str = "UTC") -> Hours:
    start, end = (int(part[:2]) * 60 + int(part[3:]) for part in text.split("-"))
    return Hours(days=frozenset(days), start=start, end=end, zone=ZoneInfo(zone))


# -- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, first, last",
    [
        ("10.0.0.5", "10.0.0.5", "10.0.0.5"),
        ("10.0.0.0/30", "10.0.0.0", "10.0.0.3"),
        (" 10.0.0.5 - 10.0.1.2 ", "10.0.0.5", "10.0.1.2"),
        ("128.0.0.0/1", "128.0.0.0", "255.255.255.255"),
        ("fd00::/126", "fd00::", "fd00::3"),
    ],
)
def test_a_range_is_a_network_a_span_or_an_address(text: str, first: str, last: str) -> None:
    found = AddressRange.parse(text)
    assert (str(found.first), str(found.last)) == (first, last)


@pytest.mark.parametrize(
    "text", ["", "web", "10.0.0.1/8", "10.0.0.9-10.0.0.5", "10.0.0.1-fd00::1", "10.0.0.256", "1-2", "-"]
)
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        AddressRange.parse(text)


def test_both_ends_of_a_range_are_in_it_and_the_other_family_is_not() -> None:
    found = AddressRange.parse("10.0.0.5-10.0.0.9")
    ends = [Ends.parse(text, "::1").near for text in ("10.0.0.4", "10.0.0.5", "10.0.0.9", "10.0.0.10", "::a00:5")]
    assert [found.has(address) for address in ends] == [False, True, True, False, False]


def test_ends_are_taken_as_sockets_say_them() -> None:
    assert Ends.parse("::ffff:10.1.0.5", "fe80::1%eth0") == Ends.parse("10.1.0.5", "fe80::1")


# -- which rule ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "near, far, is_held",
    [
        (HERE, THERE, True),
        (THERE, HERE, True),
        (HERE, "10.3.0.1", False),
        ("10.3.0.1", THERE, False),
        (HERE, "10.1.0.6", False),
    ],
)
def test_a_rule_holds_in_both_directions_and_nobody_else(near: str, far: str, *, is_held: bool) -> None:
    assert (rule_for([rule()], transfer(near, far), NOON) is not None) is is_held


def test_nothing_holds_what_stays_on_one_host_or_crosses_no_network() -> None:
    everywhere = rule(source="0.0.0.0/0", target="0.0.0.0/0")
    assert rule_for([everywhere], transfer(HERE, HERE), NOON) is None
    assert rule_for([everywhere], Transfer(repository=VAULT, direction=Direction.WRITE), NOON) is None
    assert rule_for([everywhere], transfer("127.0.0.1", "127.0.0.2"), NOON) is everywhere


@given(st.lists(st.tuples(st.integers(1, 100), st.booleans()), max_size=8))
def test_the_lowest_of_the_rules_that_match_is_good(made: list[tuple[int, bool]]) -> None:
    rules = [rule(limit, HERE if matches else "10.9.9.9") for limit, matches in made]
    found = rule_for(rules, transfer(), NOON)
    lowest = min((limit for limit, matches in made if matches), default=None)
    assert (None if found is None else found.limit_bytes_s) == lowest


def test_restores_are_held_only_when_the_rule_says_so() -> None:
    reading = transfer(direction=Direction.READ)
    assert rule_for([rule()], reading, NOON) is None
    assert rule_for([rule(restores=True)], reading, NOON) is not None
    assert rule_for([rule(restores=True)], transfer(), NOON) is not None


def test_a_transfer_is_under_one_rule_and_the_limit_of_its_direction() -> None:
    own = {VAULT: RepositoryLimits(read_bytes_s=3 * MB, write_bytes_s=5 * MB)}
    limits = Limits(rules=(rule(9 * MB), rule(8 * MB)), repositories=own)
    assert pools_of(limits, transfer(), NOON) == {
        "throttling rule 8000000": 8 * MB,
        "write limit of repository vault": 5 * MB,
    }
    assert pools_of(limits, transfer(direction=Direction.READ), NOON) == {"read limit of repository vault": 3 * MB}
    assert pools_of(Limits(), transfer(), NOON) == {}


# -- when ------------------------------------------------------------------------------------------------------------


def test_a_rule_without_hours_always_holds() -> None:
    assert rule().is_on(NOON)


@pytest.mark.parametrize(
    "text, days, moment, holds",
    [
        ("08:00-18:00", [MON], "2026-01-05T07:59:59", False),
        ("08:00-18:00", [MON], "2026-01-05T08:00:00", True),
        ("08:00-18:00", [MON], "2026-01-05T17:59:59", True),
        ("08:00-18:00", [MON], "2026-01-05T18:00:00", False),
        ("08:00-18:00", [MON], "2026-01-06T12:00:00", False),
        ("22:00-06:00", [MON], "2026-01-05T05:00:00", False),
        ("22:00-06:00", [MON], "2026-01-05T22:00:00", True),
        ("22:00-06:00", [MON], "2026-01-06T05:59:00", True),
        ("22:00-06:00", [MON], "2026-01-06T06:00:00", False),
        ("22:00-06:00", [MON], "2026-01-06T23:00:00", False),
        ("22:00-06:00", [SUN], "2026-01-05T05:00:00", True),
        ("00:00-24:00", [MON], "2026-01-05T23:59:59", True),
        ("00:00-24:00", [MON], "2026-01-06T00:00:00", False),
    ],
)
def test_hours_begin_on_their_days(text: str, days: list[int], moment: str, *, holds: bool) -> None:
    assert hours(text, days).has(datetime.fromisoformat(moment).replace(tzinfo=UTC)) is holds


def test_hours_are_those_of_the_time_zone() -> None:
    office = hours("08:00-18:00", [MON], "Asia/Tokyo")
    assert office.has(datetime(2026, 1, 4, 23, 30, tzinfo=UTC))  # it is Monday there
    assert not office.has(NOON)


def minutes_held(found: Hours, first: datetime, last: datetime) -> list[str]:
    """Return when, by UTC, the hours begin and end between two moments."""
    moments = [first + timedelta(minutes=at) for at in range(int((last - first).total_seconds() // 60) + 1)]
    states = [found.has(moment) for moment in moments]
    edges = [
        (moment, now) for moment, (before, now) in zip(moments[1:], pairwise(states), strict=True) if now != before
    ]
    return [f"{'on' if now else 'off'} {moment:%d %H:%M}" for moment, now in edges]


def test_hours_follow_the_clock_on_the_wall_when_summer_time_begins() -> None:
    # In Zurich 02:00 became 03:00 on 29 March 2026, at 01:00 UTC.
    first, last = datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 3, 30, 12, tzinfo=UTC)
    night = hours("22:00-06:00", zone="Europe/Zurich")
    assert minutes_held(night, first, last) == ["on 28 21:00", "off 29 04:00", "on 29 20:00", "off 30 04:00"]
    lost = hours("02:15-02:45", zone="Europe/Zurich")
    assert minutes_held(lost, first, last) == ["on 30 00:15", "off 30 00:45"]
    half_lost = hours("01:30-02:30", zone="Europe/Zurich")
    assert minutes_held(half_lost, first, last) == ["on 29 00:30", "off 29 01:00", "on 29 23:30", "off 30 00:30"]


def test_hours_follow_the_clock_on_the_wall_when_summer_time_ends() -> None:
    # In Zurich 03:00 became 02:00 on 25 October 2026, at 01:00 UTC.
    first, last = datetime(2026, 10, 24, 12, tzinfo=UTC), datetime(2026, 10, 25, 12, tzinfo=UTC)
    night = hours("22:00-06:00", zone="Europe/Zurich")
    assert minutes_held(night, first, last) == ["on 24 20:00", "off 25 05:00"]
    twice = hours("02:15-02:45", zone="Europe/Zurich")
    assert minutes_held(twice, first, last) == ["on 25 00:15", "off 25 00:45", "on 25 01:15", "off 25 01:45"]


def test_a_day_that_begins_at_one_o_clock_is_a_whole_day() -> None:
    # In Havana 00:00 became 01:00 on Sunday, 8 March 2026, at 05:00 UTC.
    sunday = hours("00:00-24:00", [SUN], "America/Havana")
    first, last = datetime(2026, 3, 7, 12, tzinfo=UTC), datetime(2026, 3, 9, 12, tzinfo=UTC)
    assert minutes_held(sunday, first, last) == ["on 08 05:00", "off 09 04:00"]
    saturday_night = hours("23:00-01:30", [SAT], "America/Havana")
    assert minutes_held(saturday_night, first, last) == ["on 08 04:00", "off 08 05:30"]


# -- shares ----------------------------------------------------------------------------------------------------------


def rates(*claims: Claim) -> list[float | None]:
    return [found.rate_bytes_s for found in allot(claims)]


def at(**pools: float) -> Claim:
    return Claim(pools=pools)


def test_a_limit_is_divided_equally_and_reads_and_writes_do_not_know_of_each_other() -> None:
    write, read = at(write=8), at(read=8)
    assert rates(write) == [8]
    assert rates(write, write) == [4, 4]
    assert rates(write, write, read) == [4, 4, 8]
    assert rates(write, write, read, read) == [4, 4, 4, 4]


def test_what_one_limit_keeps_a_transfer_from_others_get_from_another_limit() -> None:
    assert rates(at(write=9, rule=2), at(write=9), at(write=9, other=100)) == [2, 3.5, 3.5]
    assert [found.because for found in allot([at(write=9, rule=2), at(write=9)])] == ["rule", "write"]


def test_what_somebody_does_not_use_others_get_and_he_gets_what_is_left_by_all() -> None:
    slow, fast = Claim(pools={"write": 8}, demand_bytes_s=1), at(write=8)
    assert rates(slow, fast) == [1, 7]
    assert rates(slow) == [8]
    assert rates(slow, slow) == [4, 4]


def test_without_a_limit_there_is_no_rate() -> None:
    assert allot([]) == []
    assert allot([at(), at(write=8)]) == [Allotment(None, ""), Allotment(8, "write")]


@st.composite
def claims(draw: st.DrawFn) -> list[Claim]:
    limits = draw(st.dictionaries(st.sampled_from("abcde"), st.floats(1, 1e10), min_size=1))
    pools = st.sets(st.sampled_from(sorted(limits)), max_size=2)
    demands = st.one_of(st.just(math.inf), st.floats(1, 1e10))
    made = draw(st.lists(st.tuples(pools, demands), max_size=12))
    return [
        Claim(pools={name: limits[name] for name in sorted(names)}, demand_bytes_s=demand) for names, demand in made
    ]


@given(claims())
def test_no_limit_is_exceeded_and_nobody_could_get_more_alone(made: list[Claim]) -> None:
    found = allot(made)
    used: dict[str, float] = {}
    limits = {name: limit for claim in made for name, limit in claim.pools.items()}
    for claim, one in zip(made, found, strict=True):
        for name in claim.pools:
            assert one.rate_bytes_s is not None
            assert one.rate_bytes_s > 0
            used[name] = used.get(name, 0.0) + one.rate_bytes_s
    for name, total in used.items():
        assert total <= limits[name] * (1 + 1e-9)
    for claim, one in zip(made, found, strict=True):
        assert bool(one.because) is bool(claim.pools)
        if claim.pools:
            assert used[one.because] == pytest.approx(limits[one.because])


@given(claims())
def test_among_those_who_want_all_nobody_gets_more_at_the_cost_of_one_who_has_less(made: list[Claim]) -> None:
    """At the limit that stops somebody he has as much as everybody else there."""
    busy = [Claim(pools=claim.pools) for claim in made]
    found = allot(busy)
    for claim, one in zip(busy, found, strict=True):
        if not claim.pools:
            continue
        others = [o.rate_bytes_s for c, o in zip(busy, found, strict=True) if one.because in c.pools]
        assert one.rate_bytes_s == pytest.approx(max(rate for rate in others if rate is not None))


@given(claims())
def test_who_wants_less_than_his_share_gets_it_and_more_never_costs_the_others_theirs(made: list[Claim]) -> None:
    equal = allot([Claim(pools=claim.pools) for claim in made])
    for claim, one, plain in zip(made, allot(made), equal, strict=True):
        if claim.pools:
            names = [
                limit / sum(name in other.pools for other in made) for name, limit in claim.pools.items()
            ]  # what simple division would give him
            assert one.rate_bytes_s is not None
            assert one.rate_bytes_s >= min(claim.demand_bytes_s, *names) * (1 - 1e-9)
            assert plain.rate_bytes_s is not None
            assert plain.rate_bytes_s >= min(names) * (1 - 1e-9)


# -- use -------------------------------------------------------------------------------------------------------------

MIB = 1 << 20
STEP_S = 0.2


class Sender:
    """Sends as fast as it may and can, in messages, and is looked at several times a second."""

    def __init__(self, speed_bytes_s: float, message: int = MIB) -> None:
        self.speed = speed_bytes_s
        self.message = message
        self.now_s = 0.0
        self.sent = 0
        self.ready = float(message if speed_bytes_s else 0)  # the first one passes whatever the rate is
        self.use = Use(since_s=0.0, seen_s=0.0)

    def go_on(self, seconds: float, rate_bytes_s: float) -> float:
        """Return the demand after some time at a rate."""
        for _ in range(round(seconds / STEP_S)):
            self.now_s += STEP_S
            self.ready += min(self.speed, rate_bytes_s) * STEP_S
            while self.ready >= self.message:
                self.ready -= self.message
                self.sent += self.message
            self.use = use_after(self.use, self.now_s, self.sent, self.message if self.sent else 0, rate_bytes_s)
        return self.use.demand_bytes_s


@pytest.mark.parametrize("rate", [10e3, 100e3, 1e6, 10e6, 1e9])
@pytest.mark.parametrize("message", [64 << 10, MIB, 4 * MIB])
def test_who_uses_all_he_may_wants_more(rate: float, message: int) -> None:
    sender = Sender(1e12, message)
    for _ in range(200):
        assert sender.go_on(STEP_S, rate) == math.inf
    assert sender.go_on(40 * message / rate, rate) == math.inf


def test_who_uses_less_is_known_within_seconds_and_keeps_more_than_twice_as_much() -> None:
    sender = Sender(2e6)
    assert sender.go_on(2.0, 10e6) == math.inf
    assert sender.go_on(3.0, 10e6) == pytest.approx(5e6, rel=0.3)
    assert sender.go_on(10.0, 5e6) == pytest.approx(5e6, rel=0.3)


def test_who_does_nothing_keeps_little_and_gets_his_share_with_the_first_message() -> None:
    sender = Sender(0)
    assert sender.go_on(4.0, 10e6) == IDLE_BYTES_S
    sender.speed, sender.ready = 1e9, MIB
    assert sender.go_on(STEP_S, IDLE_BYTES_S) == math.inf


def test_a_rate_that_rises_while_it_is_looked_at_makes_nobody_slow() -> None:
    sender = Sender(1e12)
    for rate in (1e6, 8e6, 100e3, 1e9):
        for _ in range(50):
            assert sender.go_on(STEP_S, rate) == math.inf


def test_without_a_limit_the_demand_is_not_known() -> None:
    slow = Use(since_s=0, seen_s=0, demand_bytes_s=5)
    assert use_after(slow, 7.0, 100, 10, None) == Use(since_s=7.0, seen_s=7.0, bytes_before=100)
