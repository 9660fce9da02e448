"""Read plans against a model of a disk as a list of sectors.

A plan is right when the parent's pieces, overlaid with what the steps read and zero, are those of the new disk, the
last one filled up with zeros. The model makes this as hard as the facts allow: every allocated sector is not zero, and
every sector that is not sure to be as it was used to be something else.
"""

import random
from collections.abc import Iterator, Sequence
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.model.ids import ChangeId
from holdfast.model.plan import Action, PlanStep, ReadMode
from holdfast.model.spans import Span
from holdfast.planning.read_plan import changed_steps, decide_mode, whole_disk_steps

Disk = list[int]
STALE = -1


def spans_of(bits: Sequence[bool]) -> Iterator[Span]:
    """Yield the runs of true bits."""
    start = None
    for at, bit in enumerate([*bits, False]):
        if bit and start is None:
            start = at
        elif not bit and start is not None:
            yield Span(start, at - start)
            start = None


def subsets(size: int) -> Iterator[tuple[bool, ...]]:
    return product((False, True), repeat=size)


def new_disk(allocated: Sequence[bool]) -> Disk:
    return [at + 1 if bit else 0 for at, bit in enumerate(allocated)]


def parent_disk(new: Disk, changed: Sequence[bool], size: int) -> Disk:
    """Return a parent that differs wherever the facts allow it."""
    return [STALE if at >= len(new) or changed[at] else new[at] for at in range(size)]


def carry_out(steps: Sequence[PlanStep], parent: Disk, new: Disk, piece: int) -> Disk:
    """Return the pieces that a run of these steps gives the new point, joined."""
    state = filled_up(parent, piece)[: len(filled_up(new, piece))]
    state += [0] * (len(filled_up(new, piece)) - len(state))
    for step in steps:
        source = filled_up(new, piece) if step.action is Action.READ else [0] * len(state)
        cut = slice(step.span.start, -(-step.span.end // piece) * piece)
        state[cut] = source[cut]
    return state


def filled_up(disk: Disk, piece: int) -> Disk:
    return disk + [0] * (-len(disk) % piece)


def assert_well_formed(steps: Sequence[PlanStep], size: int, piece: int) -> None:
    assert all(step.span.length > 0 for step in steps)
    assert all(step.span.start % piece == 0 for step in steps)
    assert all(step.span.end % piece == 0 or step.span.end == size for step in steps)
    assert all(step.span.end <= size for step in steps)
    assert all(before.span.end <= after.span.start for before, after in pairwise(steps))


def assert_changed_steps_are_right(
    allocated: Sequence[bool], changed: Sequence[bool], sizes: tuple[int, int], piece: int
) -> None:
    new = new_disk(allocated)
    parent = parent_disk(new, changed, sizes[0])
    steps = list(changed_steps(spans_of(changed), spans_of(allocated), sizes, piece))
    assert_well_formed(steps, sizes[1], piece)
    assert carry_out(steps, parent, new, piece) == filled_up(new, piece)


@pytest.mark.parametrize("piece, size_max", [(1, 4), (2, 5), (3, 6)])
def test_changed_steps_give_the_new_disk_for_every_tiny_disk(piece: int, size_max: int) -> None:
    for before, now in product(range(1, size_max + 1), repeat=2):
        for allocated, changed in product(subsets(now), subsets(now)):
            assert_changed_steps_are_right(allocated, changed, (before, now), piece)


@pytest.mark.parametrize("piece, size_max", [(1, 7), (2, 9), (3, 9), (4, 9)])
def test_whole_disk_steps_give_every_tiny_disk_and_leave_nothing_out(piece: int, size_max: int) -> None:
    for size in range(size_max + 1):
        for allocated in subsets(size):
            new = new_disk(allocated)
            steps = list(whole_disk_steps(spans_of(allocated), size, piece))
            assert_well_formed(steps, size, piece)
            assert sum(step.span.length for step in steps) == size
            assert carry_out(steps, [STALE] * size, new, piece) == filled_up(new, piece)


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60),
    st.integers(min_value=1, max_value=60),
    st.integers(min_value=1, max_value=9),
)
def test_changed_steps_give_the_new_disk(bits: list[tuple[bool, bool]], before: int, piece: int) -> None:
    allocated, changed = [bit[0] for bit in bits], [bit[1] for bit in bits]
    assert_changed_steps_are_right(allocated, changed, (before, len(bits)), piece)


def test_changed_steps_read_no_piece_without_need(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(300):
        size, piece = rng.randrange(1, 40), rng.randrange(1, 7)
        allocated = [rng.random() < 0.5 for _ in range(size)]
        changed = [rng.random() < 0.2 for _ in range(size)]
        steps = list(changed_steps(spans_of(changed), spans_of(allocated), (size, size), piece))
        for step in steps:
            for start in range(step.span.start, step.span.end, piece):
                assert any(changed[start : start + piece])
                assert any(allocated[start : start + piece]) == (step.action is Action.READ)


@pytest.mark.parametrize(
    "sizes, expected",
    [
        ((8, 8), []),
        ((8, 12), [PlanStep(Span(8, 4), Action.READ)]),
        ((6, 12), [PlanStep(Span(4, 8), Action.READ)]),
        ((12, 8), []),
        ((12, 6), [PlanStep(Span(4, 2), Action.READ)]),
    ],
)
def test_a_resized_disk_is_read_from_the_last_shared_piece_on(sizes: tuple[int, int], expected: list[PlanStep]) -> None:
    assert list(changed_steps([], [Span(0, sizes[1])], sizes, 4)) == expected


def test_what_a_provider_says_beyond_the_end_is_ignored() -> None:
    steps = list(changed_steps([Span(4, 100)], [Span(0, 100)], (8, 8), 4))
    assert steps == [PlanStep(Span(4, 4), Action.READ)]


def test_plans_are_streams() -> None:
    """A plan for a disk of any size is begun without looking at the end of the facts."""

    def endless() -> Iterator[Span]:
        start = 0
        while True:
            yield Span(start, 1)
            start += 10

    size = 1 << 50
    assert next(changed_steps(endless(), endless(), (size, size), 4)) == PlanStep(Span(0, 4), Action.READ)
    assert next(whole_disk_steps(endless(), size, 4)) == PlanStep(Span(0, 4), Action.READ)


IDS = [None, ChangeId("17")]


@pytest.mark.parametrize("distrust", [False, True])
@pytest.mark.parametrize("change_id", IDS)
@pytest.mark.parametrize("parent_change_id", IDS)
@pytest.mark.parametrize("has_parent", [False, True])
def test_changes_are_believed_only_with_a_parent_and_two_change_ids(
    has_parent: bool, parent_change_id: ChangeId | None, change_id: ChangeId | None, distrust: bool
) -> None:
    decision = decide_mode(
        has_parent=has_parent, parent_change_id=parent_change_id, change_id=change_id, distrust=distrust
    )
    can_believe = parent_change_id is not None and change_id is not None and not distrust
    expected = ReadMode.FULL if not has_parent else ReadMode.CHANGED if can_believe else ReadMode.COMPARED
    assert decision.mode is expected


def test_every_decision_states_its_own_reason() -> None:
    known = ChangeId("17")
    decisions = [
        decide_mode(has_parent=False, parent_change_id=known, change_id=known),
        decide_mode(has_parent=True, parent_change_id=known, change_id=known, distrust=True),
        decide_mode(has_parent=True, parent_change_id=None, change_id=known),
        decide_mode(has_parent=True, parent_change_id=known, change_id=None),
        decide_mode(has_parent=True, parent_change_id=known, change_id=known),
        decide_mode(has_parent=True, parent_change_id=known, change_id=known, unlike="the disk has another size"),
    ]
    assert len({decision.reason for decision in decisions}) == 6


def test_what_no_tracking_reports_is_found_by_comparison() -> None:
    known = ChangeId("17")
    decision = decide_mode(has_parent=True, parent_change_id=known, change_id=known, unlike="the disk has another size")
    assert decision.mode is ReadMode.COMPARED
    assert decision.reason == "the disk has another size"
    assert decide_mode(has_parent=False, parent_change_id=None, change_id=None, unlike="x").mode is ReadMode.FULL


def test_trust_is_the_default() -> None:
    decision = decide_mode(has_parent=True, parent_change_id=ChangeId("1"), change_id=ChangeId("2"))
    assert decision.mode is ReadMode.CHANGED
