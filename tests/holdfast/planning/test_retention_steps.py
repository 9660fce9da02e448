"""Steps and digests of plans."""

from datetime import date

import msgspec

from holdfast.model.ids import PointId
from holdfast.planning.retention import Merge, PointVerdict, Removal, RetentionPlan, Verdict
from holdfast.planning.retention_steps import count, joined_digest, plan_digest, steps_of


def verdict(chain: str, number: int, what: Verdict) -> PointVerdict:
    return PointVerdict(
        chain=chain,
        number=number,
        point_id=PointId(f"{chain}{number}"),
        day=date(2026, 11, 1),
        verdict=what,
        reason="r",
    )


PLAN = RetentionPlan(
    points=(
        verdict("a", 1, Verdict.DELETED),
        verdict("b", 1, Verdict.MERGED),
        verdict("b", 2, Verdict.KEPT),
    ),
    merges=(Merge(chain="b", into="b1", files=("b2",), bytes_moved=5),),
    removals=(Removal(chain="a", files=("a1",), bytes_freed=7, is_whole_chain=True),),
)


def test_removals_come_before_merges_with_the_points_that_go() -> None:
    removal, merge = steps_of(PLAN)
    assert (removal.chain, removal.files, removal.into, removal.points) == ("a", ("a1",), "", (PointId("a1"),))
    assert (merge.chain, merge.files, merge.into, merge.points) == ("b", ("b2",), "b1", (PointId("b1"),))
    assert (removal.size_bytes, merge.size_bytes) == (7, 5)


def test_a_plan_that_does_the_same_for_another_reason_has_the_same_digest() -> None:
    other = msgspec.structs.replace(
        PLAN, points=tuple(msgspec.structs.replace(point, reason="later") for point in PLAN.points)
    )
    assert plan_digest(other) == plan_digest(PLAN)


def test_a_plan_that_does_something_else_has_another_digest() -> None:
    fewer = msgspec.structs.replace(PLAN, removals=())
    longer = msgspec.structs.replace(PLAN, points=PLAN.points[1:])
    assert len({plan_digest(PLAN), plan_digest(fewer), plan_digest(longer), plan_digest(RetentionPlan())}) == 4


def test_a_plan_that_lets_go_of_other_points_has_another_digest() -> None:
    steps = steps_of(PLAN)
    others = (*steps[:-1], msgspec.structs.replace(steps[-1], let_go=(PointId("b1"),)))
    assert plan_digest(PLAN, steps) == plan_digest(PLAN)
    assert plan_digest(PLAN, others) != plan_digest(PLAN)


def test_the_digest_of_several_machines_depends_on_each_and_not_on_their_order() -> None:
    assert joined_digest({"a": "1", "b": "2"}) == joined_digest({"b": "2", "a": "1"})
    assert joined_digest({"a": "1", "b": "2"}) != joined_digest({"a": "2", "b": "1"})


def test_points_are_counted_by_verdict() -> None:
    assert [count(PLAN.points, what) for what in Verdict] == [1, 1, 1]
