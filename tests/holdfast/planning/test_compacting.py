"""A full is compacted on its days when it is loose, or when somebody asks for it."""

from datetime import date

import pytest

from holdfast.model.fulls import FullDays
from holdfast.planning.compacting import CompactDecision, CompactFacts, plan_compact

SATURDAY = date(2026, 11, 21)
DAYS = FullDays(weekdays=(5,), week=3)
GIB = 1 << 30
MIB = 1 << 20


@pytest.mark.parametrize(
    "today, file_bytes, needed_bytes, is_due, reason",
    [
        (SATURDAY, 2 * GIB, GIB, True, "today is third saturday, and nobody needs 1073741824 of 2147483648 bytes"),
        (date(2026, 11, 20), 2 * GIB, GIB, False, "today is not third saturday"),
        (SATURDAY, 20 * GIB, 19 * GIB, False, "nobody needs 1073741824 of 21474836480 bytes, which is too little"),
        (SATURDAY, 100 * MIB, 50 * MIB, False, "nobody needs 52428800 of 104857600 bytes, which is too little"),
        (SATURDAY, GIB, 2 * GIB, False, "nobody needs 0 of 1073741824 bytes, which is too little"),
    ],
)
def test_a_full_is_compacted_when_it_is_loose_on_a_day_for_that(
    today: date, file_bytes: int, needed_bytes: int, is_due: bool, reason: str
) -> None:
    facts = CompactFacts(today=today, file_bytes=file_bytes, needed_bytes=needed_bytes)
    assert plan_compact(DAYS, facts) == CompactDecision(is_due=is_due, reason=reason)


def test_a_job_without_days_compacts_nothing() -> None:
    facts = CompactFacts(today=SATURDAY, file_bytes=GIB, needed_bytes=0)
    assert plan_compact(None, facts) == CompactDecision(is_due=False, reason="the job compacts nothing")


def test_whoever_asks_for_it_gets_it() -> None:
    facts = CompactFacts(today=SATURDAY, file_bytes=9, needed_bytes=7, is_asked_for=True)
    assert plan_compact(None, facts) == CompactDecision(
        is_due=True, reason="it was asked for; nobody needs 2 of 9 bytes"
    )
