"""Nothing goes at once that the rules until now keep, before somebody agreed; what grows old goes by itself."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.model.ids import PointId
from holdfast.model.retention import (
    ChainFact,
    FileFact,
    KeepUnit,
    Method,
    PointFact,
    RetentionOptions,
    RetentionPolicy,
)
from holdfast.planning.consent import Judgement, Rules, asks_first, judge
from holdfast.planning.retention import Verdict

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def chain(points: int) -> ChainFact:
    """A full and increments, one each day until today."""
    files = []
    for number in range(points):
        point = PointFact(number=number, point_id=PointId(str(number)), day=day_of(points - 1 - number))
        files.append(FileFact(name=str(number), kind="increment" if number else "full", size_bytes=1, point=point))
    return ChainFact(chain="c", files=tuple(files), is_continued=True)


def day_of(age: int) -> date:
    return NOW.date() - timedelta(days=age)


def days(keep: int, gone_after_days: int | None = None) -> RetentionOptions:
    return RetentionOptions(policy=RetentionPolicy(keep=keep), gone_after_days=gone_after_days)


def gone(judgement: Judgement) -> int:
    return sum(point.verdict is not Verdict.KEPT for point in judgement.plan.points)


def judged(
    points: int,
    now: RetentionOptions,
    before: RetentionOptions | None,
    *,
    has_consent: bool = False,
    is_gone: bool = False,
) -> tuple[int, int]:
    """Return how many points go, and how many wait."""
    rules = Rules(now=now, before=before, has_consent=has_consent, is_gone=is_gone)
    found = judge([chain(points)], rules, NOW)
    return gone(found), len(found.held)


def test_the_first_rules_of_a_long_chain_wait_for_consent() -> None:
    assert judged(30, days(7), None) == (0, 22)
    assert judged(30, days(7), None, has_consent=True) == (22, 0)


def test_the_first_rules_of_a_young_chain_hold_at_once() -> None:
    assert judged(8, days(7), None) == (0, 0)


def test_stricter_rules_wait_and_what_the_earlier_ones_let_go_goes() -> None:
    assert judged(30, days(7), days(20)) == (9, 13)
    assert judged(30, days(7), days(20), has_consent=True) == (22, 0)


def test_rules_that_keep_more_need_no_consent() -> None:
    assert judged(30, days(20), days(7)) == (9, 0)


def test_what_grows_old_goes_without_a_question() -> None:
    assert judged(30, days(7), days(7)) == (22, 0)


def test_a_machine_that_is_gone_goes_when_the_rules_said_so_before() -> None:
    assert judged(5, days(7, 14), days(7, 14), is_gone=True) == (5, 0)
    assert judged(5, days(7, 30), days(7, 14), is_gone=True) == (5, 0)


@pytest.mark.parametrize("before", [None, days(7), days(7, 30)])
def test_a_machine_that_is_gone_earlier_than_the_rules_said_waits(before: RetentionOptions | None) -> None:
    assert judged(5, days(7, 14), before, is_gone=True) == (0, 5)
    assert judged(5, days(7, 14), before, is_gone=True, has_consent=True) == (5, 0)


POLICIES = st.builds(
    lambda keep, unit, minimum: RetentionOptions(
        policy=RetentionPolicy(keep=keep, unit=unit, minimum_points=minimum), method=Method.FOREVER
    ),
    st.integers(1, 20),
    st.sampled_from(KeepUnit),
    st.integers(1, 6),
)


def test_a_rule_for_who_is_gone_asks_first_when_there_was_none_or_a_later_one() -> None:
    assert asks_first(days(1, 5), None)
    assert asks_first(days(1, 5), days(1))
    assert asks_first(days(1, 5), days(1, 9))
    assert not asks_first(days(1, 5), days(1, 5))
    assert not asks_first(days(1, 9), days(1, 5))


@given(st.integers(1, 25), POLICIES, POLICIES)
def test_without_consent_only_goes_what_both_rules_let_go(
    points: int, now: RetentionOptions, before: RetentionOptions
) -> None:
    def going(rules: Rules) -> set[PointId]:
        plan = judge([chain(points)], rules, NOW).plan
        return {point.point_id for point in plan.points if point.verdict is not Verdict.KEPT}

    without = going(Rules(now=now, before=before))
    agreed = going(Rules(now=now, before=before, has_consent=True))
    earlier = going(Rules(now=before, before=None, has_consent=True))
    assert without <= agreed & earlier
