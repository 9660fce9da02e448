"""What was removed keeps the days that it was promised, whatever the rules say by now."""

from datetime import UTC, datetime, timedelta

import pytest

from holdfast.planning.grace import PurgeRule, RemovalFact, has_had_grace, purged_before

NOW = datetime(2026, 11, 21, 3, tzinfo=UTC)


def removed(days_ago: int, promised_days: int | None = None) -> RemovalFact:
    return RemovalFact(removed=NOW - timedelta(days=days_ago), promised_days=promised_days)


@pytest.mark.parametrize(
    "age_days, promised, grace, is_over",
    [
        (8, 7, 7, True),
        (6, 7, 7, False),
        (6, 7, 0, False),
        (8, 7, 0, True),
        (8, 7, 14, False),
        (15, 7, 14, True),
        (6, None, 7, False),
        (6, None, 0, True),
        (8, None, 7, True),
        (7, 7, 7, False),
    ],
)
def test_the_longer_of_promise_and_rule_holds(age_days: int, promised: int | None, grace: int, is_over: bool) -> None:
    fact, rule = removed(age_days, promised), PurgeRule(now=NOW, grace_days=grace)
    assert has_had_grace(fact, rule) is is_over
    assert (purged_before([fact], rule) is not None) is is_over


def test_what_was_removed_behind_a_longer_promise_waits_for_it() -> None:
    facts = [removed(20), removed(10, 14), removed(9, 1)]
    before = purged_before(facts, PurgeRule(now=NOW, grace_days=1))
    assert before is not None
    assert [fact.removed < before for fact in facts] == [True, False, False]


def test_room_at_once_is_made_whatever_was_promised() -> None:
    facts = [removed(20), removed(0, 14)]
    before = purged_before(facts, PurgeRule(now=NOW, keeps_promises=False))
    assert before is not None
    assert all(fact.removed < before for fact in facts)


def test_where_nothing_was_removed_nothing_is_deleted() -> None:
    assert purged_before([], PurgeRule(now=NOW)) is None
