"""What is compared although nothing is said to have changed there, and which points a lie makes doubtful."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.model.spans import Span
from holdfast.planning.change_trust import SAMPLE_UNIT, doubtful_points, lie_reason, sampled_spans

MIB = 1 << 20
CHANGED = "changed: the provider tracks changes"
FULL = "full: no earlier point of this disk"
COMPARED = "compared: comparison was asked for"
LIED = f"compared: {lie_reason(4096)}"


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 20), st.integers(0, 1 << 28))
def test_samples_are_sorted_inside_the_disk_and_within_the_budget(size: int, run: int, budget: int) -> None:
    spans = list(sampled_spans(size, run, budget))
    assert all(span.length > 0 and span.start % SAMPLE_UNIT == 0 and span.end <= size for span in spans)
    assert all(before.end <= after.start for before, after in pairwise(spans))
    assert sum(span.length for span in spans) <= budget


def test_a_small_disk_is_compared_as_a_whole() -> None:
    assert list(sampled_spans(3 * MIB - 512, 7, 64 * MIB)) == [
        Span(0, MIB),
        Span(MIB, MIB),
        Span(2 * MIB, MIB - 512),
    ]


def test_without_a_budget_nothing_is_compared() -> None:
    assert list(sampled_spans(1 << 40, 1, 0)) == []


@pytest.mark.parametrize("units, places", [(100, 7), (64, 64), (1000, 1), (17, 16)])
def test_every_unit_has_its_turn(units: int, places: int) -> None:
    runs = -(-units // places)
    seen = {span.start for run in range(runs) for span in sampled_spans(units * MIB, run, places * MIB)}
    assert seen == {unit * MIB for unit in range(units)}


def test_a_lie_casts_doubt_on_the_points_that_relied_on_tracking_and_on_no_others() -> None:
    history = [
        (1, {"a": FULL, "b": FULL}),
        (2, {"a": CHANGED, "b": CHANGED}),
        (3, {"a": COMPARED, "b": CHANGED}),
        (4, {"a": CHANGED, "b": CHANGED}),
        (5, {"a": CHANGED}),
        (6, {"a": LIED, "b": CHANGED}),
        (7, {"a": CHANGED, "b": CHANGED}),
    ]
    doubts = doubtful_points(history)
    assert sorted(doubts) == [4, 5]
    assert doubts[5] == "point 6 found that change tracking left a change out of disk a"


def test_a_disk_that_was_missing_once_ends_the_doubt() -> None:
    history = [(1, {"a": FULL}), (2, {"a": CHANGED}), (3, {"b": CHANGED}), (4, {"a": CHANGED}), (5, {"a": LIED})]
    assert sorted(doubtful_points(history)) == [4]


def test_a_chain_that_begins_with_trust_is_doubted_from_its_start() -> None:
    assert sorted(doubtful_points([(1, {"a": CHANGED}), (2, {"a": CHANGED}), (3, {"a": LIED})])) == [1, 2]


def test_a_chain_without_a_lie_has_no_doubt() -> None:
    assert doubtful_points([(1, {"a": FULL}), (2, {"a": CHANGED})]) == {}
