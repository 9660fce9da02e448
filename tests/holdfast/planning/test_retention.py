"""Retention: what the tables of its page say happens, and whatever the facts, nothing that is needed goes."""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.model.ids import PointId
from holdfast.model.retention import (
    CalendarMark,
    ChainFact,
    FileFact,
    KeepUnit,
    MarkKind,
    Method,
    PointFact,
    RetentionPolicy,
    WeeklyRule,
)
from holdfast.planning.retention import RetentionPlan, Verdict, is_given_up, plan_of_gone_machine, plan_retention
from tests.docs.pages import rows

PAGE = "docs/retention.md"
KINDS = {"F": "full", "I": "increment", "R": "rollback"}
LETTERS = {kind: letter for letter, kind in KINDS.items()}
FILE = re.compile(r"([FIR])(\d+)(q?)(w?)(!?)")
SIZE = 100
NOON = datetime(2026, 11, 15, 12, tzinfo=UTC)


def on(day: int) -> datetime:
    return NOON.replace(day=day)


def chains_of(text: str) -> list[ChainFact]:
    chains = [
        ChainFact(chain=f"chain-{number}", files=tuple(map(file_of, words.split())))
        for number, words in enumerate(text.split("/"))
    ]
    return [*chains[:-1], ChainFact(chain=chains[-1].chain, files=chains[-1].files, is_continued=True)]


def file_of(word: str) -> FileFact:
    found = FILE.fullmatch(word)
    assert found, word
    letter, number, quick, mark, lock = found.groups()
    day = date(2026, 11, int(number))
    point = PointFact(
        number=int(number),
        point_id=PointId(number),
        day=day,
        locked_until=on(30) if lock else None,
        marks=(CalendarMark(kind=MarkKind.WEEKLY, given=day),) if mark else (),
        is_quick=bool(quick),
    )
    return FileFact(name=f"{int(number):08d}", kind=KINDS[letter], size_bytes=SIZE, point=point)


def policy_of(keep: str) -> RetentionPolicy:
    number, unit = keep.split()
    return RetentionPolicy(keep=int(number), unit=KeepUnit(unit.rstrip("s") + "s"), weekly=WeeklyRule(weeks=52))


def carry_out(chains: Sequence[ChainFact], plan: RetentionPlan) -> list[ChainFact]:
    """Do what a plan says, file by file, and look that no step takes away what a remaining file rests on."""
    after = []
    for chain in chains:
        files = list(chain.files)
        for merge in (merge for merge in plan.merges if merge.chain == chain.chain):
            assert merge.into == files[0].name
            moved = files[1 : len(merge.files) + 1]
            assert [file.name for file in moved] == list(merge.files)
            assert merge.bytes_moved == sum(file.size_bytes for file in moved)
            files[0] = FileFact(name=files[0].name, kind="full", size_bytes=SIZE, point=moved[-1].point)
            del files[1 : len(moved) + 1]
        for removal in (removal for removal in plan.removals if removal.chain == chain.chain):
            assert removal.bytes_freed == SIZE * len(removal.files)
            for name in removal.files:
                assert files, "a file is removed twice"
                gone = files.pop(0 if files[0].kind == "rollback" else -1)
                assert gone.name == name
            assert removal.is_whole_chain == (not files)
        after.append(ChainFact(chain=chain.chain, files=tuple(files), is_continued=chain.is_continued))
    return after


def words_of(chains: Sequence[ChainFact]) -> str:
    return " / ".join(" ".join(map(word_of, chain.files)) for chain in chains if chain.files)


def word_of(file: FileFact) -> str:
    point = file.point
    signs = "q" * point.is_quick + "w" * bool(point.marks) + "!" * (point.locked_until is not None)
    return f"{LETTERS[file.kind]}{point.number}{signs}"


# -- the page --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method, keep, today, before, afterwards", rows(PAGE, "Method")[3:])
def test_the_tables_of_the_page_hold(method: str, keep: str, today: str, before: str, afterwards: str) -> None:
    chains = chains_of(before)
    plan = plan_retention(chains, policy_of(keep), Method(method), on(int(today)))
    assert words_of(carry_out(chains, plan)) == afterwards
    assert plan.is_idle == (before == afterwards)


@pytest.mark.parametrize("last_tried, days, goes_on", rows(PAGE, "Last tried"))
def test_machines_that_are_gone_are_given_up_on_the_day_of_the_page(last_tried: str, days: str, goes_on: str) -> None:
    last, limit = date.fromisoformat(last_tried), None if days == "-" else int(days)
    given_up = [day for day in range(400) if is_given_up(last, last + timedelta(days=day), limit)]
    first = None if goes_on == "never" else (date.fromisoformat(goes_on) - last).days
    assert given_up == ([] if first is None else list(range(first, 400)))


# -- the words -------------------------------------------------------------------------------------------------------


def reasons(text: str, policy: RetentionPolicy, method: Method, day: int) -> list[tuple[Verdict, str]]:
    plan = plan_retention(chains_of(text), policy, method, on(day))
    return [(point.verdict, point.reason) for point in plan.points]


def test_each_point_is_told_with_its_reason() -> None:
    policy = RetentionPolicy(keep=2, unit=KeepUnit.POINTS, weekly=WeeklyRule(weeks=4))
    assert reasons("F1w I2 I3 / F4 I5 / F6! I7 I8", policy, Method.FORWARD, 9) == [
        (Verdict.KEPT, "weekly until 2026-11-29"),
        (Verdict.DELETED, "outdated, and nothing rests on it"),
        (Verdict.DELETED, "outdated, and nothing rests on it"),
        (Verdict.DELETED, "outdated, as all points of its chain are"),
        (Verdict.DELETED, "outdated, as all points of its chain are"),
        (Verdict.KEPT, "locked until 2026-11-30T12:00+00:00"),
        (Verdict.KEPT, "one of the newest 2"),
        (Verdict.KEPT, "one of the newest 2"),
    ]


def test_the_point_of_a_quick_backup_says_with_which_it_goes() -> None:
    policy = RetentionPolicy(keep=2, unit=KeepUnit.POINTS)
    assert reasons("F1 I2q I3q I4 I5", policy, Method.FOREVER, 5) == [
        (Verdict.MERGED, "outdated"),
        (Verdict.MERGED, "outdated"),
        (Verdict.MERGED, "outdated"),
        (Verdict.KEPT, "one of the newest 2"),
        (Verdict.KEPT, "one of the newest 2"),
    ]
    assert reasons("F1 I2q I3", policy, Method.FOREVER, 5) == [
        (Verdict.KEPT, "one of the newest 2"),
        (Verdict.KEPT, "quick backup, goes with point 1"),
        (Verdict.KEPT, "one of the newest 2"),
    ]


def test_quick_points_of_a_machine_that_is_gone_stay_with_the_point_that_stays() -> None:
    plan = plan_of_gone_machine(chains_of("F1 I2! I3q I4"), RetentionPolicy(), on(9))
    assert [point.verdict for point in plan.points] == [Verdict.KEPT, Verdict.KEPT, Verdict.KEPT, Verdict.DELETED]


def test_a_point_that_others_rest_on_says_which() -> None:
    policy = RetentionPolicy(keep=1, minimum_points=1)
    assert reasons("F1 I2 I3 I4 / F5", policy, Method.FORWARD, 5) == [
        (Verdict.KEPT, "outdated, but point 4 rests on it"),
        (Verdict.KEPT, "outdated, but point 4 rests on it"),
        (Verdict.KEPT, "outdated, but point 4 rests on it"),
        (Verdict.KEPT, "not older than 2026-11-04"),
        (Verdict.KEPT, "not older than 2026-11-04"),
    ]


def test_a_merge_is_told_with_its_bytes_at_most() -> None:
    plan = plan_retention(chains_of("F1 I2 I3 I4"), policy_of("2 points"), Method.FOREVER, on(4))
    (merge,) = plan.merges
    assert (merge.into, merge.files, merge.bytes_moved) == ("00000001", ("00000002", "00000003"), 2 * SIZE)


def test_the_newest_point_of_a_continued_chain_stays_though_a_later_chain_has_enough() -> None:
    continued, marked = chains_of("F1 I2 / F3w")
    chains = [ChainFact(chain="old", files=continued.files, is_continued=True), marked]
    plan = plan_retention(chains, policy_of("0 points"), Method.FORWARD, on(9))
    assert [point.reason for point in plan.points][1] == "one of the newest 1"
    chains = [ChainFact(chain="old", files=continued.files, is_continued=True), *chains_of("F3 I4 I5 I6")]
    plan = plan_retention(chains, policy_of("1 point"), Method.FORWARD, on(9))
    assert [point.reason for point in plan.points][1] == "the newest of the chain that is continued"


def test_no_chain_needs_no_plan() -> None:
    empty = ChainFact(chain="begun", files=(), is_continued=True)
    assert plan_retention([empty], RetentionPolicy(), Method.FOREVER, NOON) == RetentionPlan()


# -- whatever the facts ----------------------------------------------------------------------------------------------


@st.composite
def any_chains(draw: st.DrawFn) -> list[ChainFact]:
    chains, number, day = [], 0, date(2026, 1, 1)
    method_is_reverse = draw(st.booleans())
    for index in range(draw(st.integers(1, 4))):
        count = draw(st.integers(1, 8))
        files = []
        for at in range(count):
            number += 1
            day += timedelta(days=draw(st.integers(0, 3)))
            kind = "full" if at == (count - 1 if method_is_reverse else 0) else "increment"
            kind = "rollback" if method_is_reverse and kind != "full" else kind
            marks = draw(st.booleans()) and kind == "full"
            locked = draw(st.integers(0, 9)) == 0
            point = PointFact(
                number=number,
                point_id=PointId(str(number)),
                day=day,
                locked_until=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=200) if locked else None,
                marks=(CalendarMark(kind=MarkKind.WEEKLY, given=day),) if marks else (),
            )
            files.append(FileFact(name=f"{number:08d}", kind=kind, size_bytes=SIZE, point=point))
        chains.append(ChainFact(chain=f"chain-{index}", files=tuple(files)))
    last = chains[-1]
    chains[-1] = ChainFact(chain=last.chain, files=last.files, is_continued=draw(st.booleans()))
    return chains


POLICIES = st.builds(
    RetentionPolicy,
    keep=st.integers(0, 12),
    unit=st.sampled_from(KeepUnit),
    minimum_points=st.integers(0, 4),
    weekly=st.none() | st.builds(WeeklyRule, weeks=st.integers(1, 10)),
)


@given(any_chains(), POLICIES, st.sampled_from(Method), st.integers(0, 300))
def test_whatever_the_facts_nothing_needed_goes_and_a_second_plan_is_idle(
    chains: list[ChainFact], policy: RetentionPolicy, method: Method, day: int
) -> None:
    now = datetime(2026, 1, 1, 12, tzinfo=UTC) + timedelta(days=day)
    plan = plan_retention(chains, policy, method, now)
    after = carry_out(chains, plan)
    points = {file.point.point_id: file.point for chain in chains for file in chain.files}
    left = {file.point.point_id for chain in after for file in chain.files}
    gone = set(points) - left

    assert [p.point_id for p in plan.points] == list(points)
    assert {p.point_id for p in plan.points if p.verdict is not Verdict.KEPT} == gone
    assert not any(points[point_id].is_locked(now) for point_id in gone)
    weeks = policy.weekly.weeks if policy.weekly else 0
    assert not any(points[p].marks and points[p].day + timedelta(weeks=weeks) > now.date() for p in gone)
    unmarked = [p for p in points.values() if not (p.marks and p.day + timedelta(weeks=weeks) > now.date())]
    newest = policy.keep if policy.unit is KeepUnit.POINTS else policy.minimum_points
    assert {p.point_id for p in unmarked[-max(newest, 1) :]} <= left
    if policy.unit is KeepUnit.DAYS:
        assert {p.point_id for p in unmarked if (now.date() - p.day).days <= policy.keep} <= left
    assert all(chain.files[0].kind == "full" or chain.files[-1].kind == "full" for chain in after if chain.files)

    assert plan_retention([c for c in after if c.files], policy, method, now).is_idle
